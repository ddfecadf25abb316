//! Every kind of input, parameter and output.

use std::collections::BTreeMap;
use std::io::BufRead;

use lockstep::prelude::*;

/// A value of one's own.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
pub struct Model {
    weights: Vec<f64>,
    names: BTreeMap<String, Option<i64>>,
}

/// Several outputs.
#[derive(Outputs)]
pub struct All {
    /// a table
    table: Table,
    /// the same, as Parquet
    parquet: Parquet,
    /// text
    text: Text,
    /// bytes
    bytes: Bytes,
    /// comma-separated values
    csv: Csv,
    /// JSON
    json: Json<Vec<u32>>,
    /// a serde value
    model: Model,
    /// metrics
    metrics: Metrics,
    /// a figure
    figure: Figure,
}

/// Makes one of each kind.
#[step]
pub fn make(
    /// how many rows
    #[default = 5]
    rows: Param<u32>,
    /// what the text says
    #[default = "hello"]
    word: Param<String>,
    /// a number
    #[default = 0.1]
    scale: Param<f64>,
    /// a switch
    #[default = false]
    loud: Param<bool>,
    /// a list
    list: Param<Option<Vec<u32>>>,
) -> Result<All> {
    let numbers: Vec<f64> = (0..*rows).map(|i| f64::from(i) * *scale).collect();
    let text = if *loud { word.to_uppercase() } else { word.to_string() };
    println!("making {} rows", *rows);
    for i in 0..*rows {
        progress(u64::from(i) + 1, u64::from(*rows));
    }
    let table = Table::new([("x", numbers.clone())])?;
    Ok(All {
        parquet: Parquet(table.clone()),
        table,
        bytes: Bytes(text.bytes().rev().collect()),
        csv: Csv(format!("word,length\n{text},{}\n", text.len())),
        json: Json(list.into_inner().unwrap_or_else(|| vec![1, 2, 3])),
        model: Model {
            names: BTreeMap::from([(text.clone(), Some(-1)), ("none".into(), None)]),
            weights: numbers,
        },
        metrics: [("rows", f64::from(*rows)), ("scale", *scale)].into_iter().collect(),
        figure: Figure::svg(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1 1\"><rect width=\"1\" height=\"1\"/></svg>",
        ),
        text: text.into(),
    })
}

/// Learns nothing, but reports how.
#[step(output = "metrics")]
pub fn learn(
    /// how fast
    #[default = 0.1]
    rate: Param<f64>,
    /// for how long
    #[default = 20]
    rounds: Param<u32>,
) -> Result<Metrics> {
    let mut metrics = Metrics::from([("rate", *rate)]);
    for round in 1..=*rounds {
        metrics.set(format!("loss/{round}"), 1.0 / (1.0 + *rate * f64::from(round)));
    }
    Ok(metrics)
}

/// Takes one of each kind and gives the sum of it all.
#[expect(clippy::too_many_arguments, reason = "a step has an argument for each input")]
#[step(output = "sum")]
pub fn take(
    table: Table,
    parquet: Parquet,
    text: Text,
    bytes: Bytes,
    csv: Csv,
    json: Json<Vec<u32>>,
    model: Model,
    metrics: Metrics,
) -> Result<f64> {
    let rows = csv.rows::<(String, usize)>()?;
    eprintln!("{text}: {rows:?}");
    ensure!(parquet.0 == table, "the table came out of Parquet as {:?}", parquet.0);
    Ok(table.rows() as f64
        + bytes.len() as f64
        + json.iter().sum::<u32>() as f64
        + model.weights.iter().sum::<f64>()
        + metrics["rows"])
}

/// Counts lines and bytes without holding the input in memory.
#[step(output = "counts")]
pub fn count(mut lines: Reader) -> Result<BTreeMap<String, u64>> {
    let (mut count, mut bytes, mut line) = (0, 0, Vec::new());
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line)? as u64;
        if read == 0 {
            return Ok(BTreeMap::from([("lines".into(), count), ("bytes".into(), bytes)]));
        }
        (count, bytes) = (count + 1, bytes + read);
    }
}

/// Makes a part of each line.
#[step(output = "parts")]
pub fn scatter(lines: Text) -> Parts<Text> {
    let lines = lines.lines().enumerate();
    lines
        .map(|(at, line)| (format!("{at:03}"), Text(format!("{line}\n"))))
        .collect()
}

/// Puts parts together.
#[step(output = "text")]
pub fn gather(parts: Parts<Text>) -> Result<Text> {
    let named = parts.map(|part| part.map(|(name, text)| format!("{name}: {}", text.0)));
    Ok(Text(named.collect::<Result<String>>()?))
}

/// Writes a text, after it was busy for a while.
#[step(output = "text")]
pub fn busy(
    text: Text,
    /// how many times it goes round
    #[default = 0]
    rounds: Param<u64>,
) -> Text {
    let rounds = (0..*rounds).fold(0u64, |sum, round| std::hint::black_box(sum.wrapping_mul(31) ^ round));
    Text(format!("{} {rounds}\n", text.trim_end()))
}

/// Does nothing: what a run costs at the least.
#[step]
pub fn nothing() {}

/// Returns the type and the texts of every column of a table, and writes the table as it is.
#[step]
pub fn texts(
    /// a table in any format
    raw: Table,
) -> Result<Texts> {
    let mut columns = Vec::new();
    for name in raw.columns() {
        let of = raw.column(name)?.data_type().to_string();
        let texts = raw.str(name)?;
        let texts = texts.iter().map(|text| text.map(str::to_owned)).collect();
        columns.push(ColumnTexts {
            name: name.to_owned(),
            of,
            texts,
        });
    }
    Ok(Texts {
        columns: Json(columns),
        table: raw,
    })
}

/// The texts of a column.
#[derive(Serialize, Deserialize, Debug)]
pub struct ColumnTexts {
    name: String,
    #[serde(rename = "type")]
    of: String,
    texts: Vec<Option<String>>,
}

/// A table and the texts of its columns.
#[derive(Outputs)]
pub struct Texts {
    /// its columns
    columns: Json<Vec<ColumnTexts>>,
    /// the table
    table: Table,
}
