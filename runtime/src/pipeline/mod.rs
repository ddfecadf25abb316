//! Named tasks in a file, resolved and run.
