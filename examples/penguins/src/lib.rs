//! Palmer penguins: clean, split, train, score, plot.
//!
//! Each step is a plain function: called by the tests below, by a pipeline, from the command line and from a notebook.

mod model;
mod plot;

use lockstep::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

pub use model::{Model, Scores, score, train};
pub use plot::plot;

/// Drop rows whose given columns are empty.
///
/// Empty are `NA`, a field with nothing in it and a null.
#[step(output = "rows")]
pub fn clean(
    /// the rows as they were collected
    raw: Table,
    /// the columns that must not be empty; all of them if none are given
    columns: Param<Option<Vec<String>>>,
) -> Result<Table> {
    let all = || raw.columns().into_iter().map(String::from).collect();
    let columns = columns.into_inner().unwrap_or_else(all);
    let mut keep = vec![true; raw.rows()];
    for name in &columns {
        for (keep, value) in keep.iter_mut().zip(&raw.str(name)?) {
            *keep &= !matches!(value, None | Some("" | "NA"));
        }
    }
    raw.filter(keep)
}

/// Rows to learn from, and rows to be judged by.
#[derive(Debug, Outputs)]
pub struct Parts {
    /// the rows to learn from
    pub train: Table,
    /// the rows to be judged by, in none of which the model was trained
    pub test: Table,
}

/// Part the rows at random into some to learn from and some to be judged by.
#[step]
pub fn split(
    /// the rows to part
    rows: Table,
    /// how much of the rows is kept for the test, between 0 and 1
    #[default = 0.25]
    fraction: Param<f64>,
    /// another seed parts them in another way
    #[default = 0]
    seed: Param<u64>,
) -> Result<Parts> {
    ensure!(
        (0.0..=1.0).contains(&*fraction),
        "`fraction` is {fraction}, but must be between 0 and 1"
    );
    let mut order: Vec<usize> = (0..rows.rows()).collect();
    order.shuffle(&mut StdRng::seed_from_u64(*seed));
    let (test, train) = order.split_at((rows.rows() as f64 * *fraction).round() as usize);
    Ok(Parts {
        train: rows.take(train)?,
        test: rows.take(test)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEASUREMENTS: [&str; 4] = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"];

    fn penguins() -> Table {
        Csv::from(include_str!("../penguins.csv")).table().unwrap()
    }

    fn cleaned() -> Table {
        clean(penguins(), Some(MEASUREMENTS.map(String::from).to_vec()).into()).unwrap()
    }

    fn parts() -> Parts {
        split(cleaned(), 0.25.into(), 7.into()).unwrap()
    }

    fn model() -> Model {
        train(
            parts().train,
            "species".into(),
            MEASUREMENTS.map(String::from).to_vec().into(),
            100.into(),
            7.into(),
        )
        .unwrap()
    }

    #[test]
    fn rows_with_empty_fields_are_dropped() {
        assert_eq!(penguins().rows(), 344);
        assert_eq!(cleaned().rows(), 342);
        assert_eq!(clean(penguins(), None.into()).unwrap().rows(), 333);
        let kept = Csv::from("sex\nNA\nmale\n").table_with_nulls(&[]).unwrap();
        assert_eq!(clean(kept, None.into()).unwrap().rows(), 1);
    }

    #[test]
    fn every_row_is_in_one_part() {
        let Parts { train, test } = parts();
        assert_eq!((train.rows(), test.rows()), (256, 86));
        let again = parts();
        assert_eq!((train, test), (again.train, again.test));
        assert!(split(cleaned(), 2.0.into(), 0.into()).is_err());
    }

    #[test]
    fn the_forest_knows_penguins_that_it_never_saw() {
        let Scores { metrics, confusion } = score(model(), parts().test).unwrap();
        assert!(metrics["accuracy"] > 0.95, "{metrics}");
        assert_eq!(confusion.rows(), 3);
        let counted: f64 = ["Adelie", "Chinstrap", "Gentoo"]
            .iter()
            .flat_map(|species| confusion.f64(species).unwrap().iter().flatten().collect::<Vec<_>>())
            .sum();
        assert_eq!(counted, 86.0);
    }

    #[test]
    fn the_figure_shows_every_penguin() {
        let figure = plot(cleaned(), model(), "bill_length_mm".into(), "bill_depth_mm".into()).unwrap();
        assert!(figure.as_svg().matches("<circle").count() >= 342);
        assert!(figure.as_svg().contains("Chinstrap"));
    }
}
