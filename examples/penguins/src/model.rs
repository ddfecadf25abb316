use std::collections::BTreeSet;

use lockstep::prelude::*;
use smartcore::ensemble::random_forest_classifier::{RandomForestClassifier, RandomForestClassifierParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

/// A random forest that names the class of a row by its measurements.
#[derive(Debug, Serialize, Deserialize)]
pub struct Model {
    /// The column that it was taught.
    pub target: String,
    /// The columns that it looks at.
    pub features: Vec<String>,
    /// The classes, in the order of their numbers.
    pub classes: Vec<String>,
    forest: RandomForestClassifier<f64, u32, DenseMatrix<f64>, Vec<u32>>,
}

/// Grow a random forest that tells the classes apart.
#[step(output = "model")]
pub fn train(
    /// the rows to learn from
    rows: Table,
    /// the column that holds the class
    #[default = "species"]
    target: Param<String>,
    /// the columns to tell it by; all must be numbers
    #[default = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]]
    features: Param<Vec<String>>,
    /// how many trees the forest has
    #[default = 100]
    trees: Param<u16>,
    /// another seed grows another forest
    #[default = 0]
    seed: Param<u64>,
) -> Result<Model> {
    ensure!(rows.rows() > 0, "there are no rows to learn from");
    let labels = labels(&rows, &target)?;
    let classes: Vec<String> = labels.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let numbers: Vec<u32> = labels.iter().map(|label| number(&classes, label)).collect();
    let parameters = RandomForestClassifierParameters::default()
        .with_n_trees(*trees)
        .with_seed(*seed);
    let forest = RandomForestClassifier::fit(&matrix(&rows, &features)?, &numbers, parameters)?;
    Ok(Model {
        target: target.into_inner(),
        features: features.into_inner(),
        classes,
        forest,
    })
}

impl Model {
    /// The class of each row.
    pub fn predict(&self, rows: &Table) -> Result<Vec<&str>> {
        if rows.rows() == 0 {
            return Ok(Vec::new());
        }
        let numbers = self.forest.predict(&matrix(rows, &self.features)?)?;
        Ok(numbers
            .into_iter()
            .map(|number| self.classes[number as usize].as_str())
            .collect())
    }
}

/// How good a model is.
#[derive(Debug, Outputs)]
pub struct Scores {
    /// `accuracy`, and for each class its `precision`, `recall` and `f1`
    pub metrics: Metrics,
    /// how many rows of each class (a row) were taken for which (a column)
    pub confusion: Table,
}

/// Judge a model by rows that it has not seen.
#[step]
pub fn score(
    /// the model to judge
    model: Model,
    /// rows whose class is known
    rows: Table,
) -> Result<Scores> {
    ensure!(rows.rows() > 0, "there are no rows to judge the model by");
    let (actual, predicted) = (labels(&rows, &model.target)?, model.predict(&rows)?);
    let pairs: Vec<(&str, &str)> = actual.iter().map(String::as_str).zip(predicted).collect();
    let count = |pick: &dyn Fn(&(&str, &str)) -> bool| pairs.iter().filter(|pair| pick(pair)).count() as f64;

    let mut metrics = Metrics::new();
    metrics.set(
        "accuracy",
        count(&|(actual, predicted)| actual == predicted) / pairs.len() as f64,
    );
    let mut confusion = Table::new([(format!("actual {}", model.target), model.classes.clone())])?;
    for class in &model.classes {
        let right = count(&|pair| *pair == (class, class));
        let (is, taken) = (count(&|pair| pair.0 == class), count(&|pair| pair.1 == class));
        if is > 0.0 && taken > 0.0 {
            metrics.set(format!("{class} precision"), right / taken);
            metrics.set(format!("{class} recall"), right / is);
            metrics.set(format!("{class} f1"), 2.0 * right / (is + taken));
        }
        let column = model
            .classes
            .iter()
            .map(|actual| count(&|pair| *pair == (actual, class)) as i64);
        confusion = confusion.with(class, column.collect::<Vec<_>>())?;
    }
    Ok(Scores { metrics, confusion })
}

fn number(classes: &[String], label: &str) -> u32 {
    classes.iter().position(|class| class == label).unwrap_or_default() as u32
}

/// The texts of the column `name`, none of which may be empty.
pub(crate) fn labels(rows: &Table, name: &str) -> Result<Vec<String>> {
    let column = rows.str(name)?;
    let labels = column.iter().enumerate().map(|(row, label)| {
        let label = label.with_context(|| format!("row {row} has no `{name}`: clean the rows first"))?;
        Ok(label.to_string())
    });
    labels.collect()
}

/// The numbers of the columns `names`, row by row, none of which may be empty.
fn matrix(rows: &Table, names: &[String]) -> Result<DenseMatrix<f64>> {
    let mut matrix = vec![Vec::with_capacity(names.len()); rows.rows()];
    for name in names {
        for (index, (row, value)) in matrix.iter_mut().zip(&rows.f64(name)?).enumerate() {
            row.push(value.with_context(|| format!("row {index} has no `{name}`: clean the rows first"))?);
        }
    }
    Ok(DenseMatrix::from_2d_vec(&matrix)?)
}
