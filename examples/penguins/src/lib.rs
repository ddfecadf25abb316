//! Palmer penguins: clean, split, train, score, plot.
