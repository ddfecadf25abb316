use lockstep::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index;
use smartcore::ensemble::random_forest_classifier::{RandomForestClassifier, RandomForestClassifierParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

/// What the forest goes by.
const FEATURES: [&str; 9] = [
    "month",
    "hour",
    "distance",
    "age",
    "temp",
    "humid",
    "wind_speed",
    "precip",
    "visib",
];

/// Rows to learn from, and as many others to be judged by.
#[derive(Debug, Outputs)]
pub struct Halves {
    /// the rows to learn from
    pub train: Table,
    /// the rows to be judged by
    pub test: Table,
}

/// Draw flights at random, half of them late: so that a model which only says "on time" is no better than a coin.
#[step]
pub fn sample(
    /// flights, joined
    rows: Table,
    /// how many, for learning and for judging together
    #[default = 8000]
    size: Param<usize>,
    /// another seed draws others
    #[default = 0]
    seed: Param<u64>,
) -> Result<Halves> {
    let mut random = StdRng::seed_from_u64(*seed);
    let late = rows.f64("late")?;
    let mut halves = [Vec::new(), Vec::new()];
    for class in [0.0, 1.0] {
        let of_class: Vec<usize> = (0..rows.rows()).filter(|row| late.value(*row) == class).collect();
        ensure!(
            of_class.len() >= *size / 2,
            "there are only {} flights of a kind",
            of_class.len()
        );
        let drawn: Vec<usize> = index::sample(&mut random, of_class.len(), *size / 2)
            .iter()
            .map(|at| of_class[at])
            .collect();
        for (half, rows) in halves.iter_mut().zip(drawn.chunks(drawn.len().div_ceil(2).max(1))) {
            half.extend_from_slice(rows);
        }
    }
    Ok(Halves {
        train: rows.take(&halves[0])?,
        test: rows.take(&halves[1])?,
    })
}

/// A random forest that tells which flights will be late.
#[derive(Debug, Serialize, Deserialize)]
pub struct Forest(RandomForestClassifier<f64, u32, DenseMatrix<f64>, Vec<u32>>);

/// Grow a random forest that tells which flights will be late.
#[step(output = "forest")]
pub fn train(
    /// the rows to learn from
    rows: Table,
    /// how many trees it has
    #[default = 30]
    trees: Param<u16>,
    /// how deep they are
    #[default = 8]
    depth: Param<u16>,
    /// another seed grows another forest
    #[default = 0]
    seed: Param<u64>,
) -> Result<Forest> {
    let parameters = RandomForestClassifierParameters::default()
        .with_n_trees(*trees)
        .with_max_depth(*depth)
        .with_seed(*seed);
    Ok(Forest(RandomForestClassifier::fit(
        &matrix(&rows)?,
        &late(&rows)?,
        parameters,
    )?))
}

/// Judge a forest by flights that it has not seen.
#[step(output = "metrics")]
pub fn score(
    /// the forest
    forest: Forest,
    /// flights of which it is known whether they were late
    rows: Table,
) -> Result<Metrics> {
    let (actual, predicted) = (late(&rows)?, forest.0.predict(&matrix(&rows)?)?);
    let count = |is: u32, said: u32| {
        let pairs = actual.iter().zip(&predicted);
        pairs.filter(|pair| *pair == (&is, &said)).count() as f64
    };
    let mut metrics = Metrics::new();
    metrics.set("accuracy", (count(0, 0) + count(1, 1)) / actual.len() as f64);
    metrics.set("precision", count(1, 1) / (count(1, 1) + count(0, 1)).max(1.0));
    metrics.set("recall", count(1, 1) / (count(1, 1) + count(1, 0)).max(1.0));
    Ok(metrics)
}

fn late(rows: &Table) -> Result<Vec<u32>> {
    Ok(rows.f64("late")?.iter().map(|late| late.unwrap_or_default() as u32).collect())
}

fn matrix(rows: &Table) -> Result<DenseMatrix<f64>> {
    let mut matrix = vec![Vec::with_capacity(FEATURES.len()); rows.rows()];
    for name in FEATURES {
        for (row, value) in matrix.iter_mut().zip(&rows.f64(name)?) {
            row.push(value.with_context(|| format!("a row has no `{name}`: join them first"))?);
        }
    }
    Ok(DenseMatrix::from_2d_vec(&matrix)?)
}
