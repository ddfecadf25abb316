//! Tests of the interfaces of steps, and of running them.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use lockstep::Io;
use lockstep::prelude::*;
use lockstep::step::{Step, inventory};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A generic user-defined type with serde attributes.
#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Default)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Model<T> {
    weight_of_it: T,
    #[serde(default)]
    next: Vec<Choice>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug, Clone, Default)]
enum Choice {
    #[default]
    None,
    Some(u8),
    Named {
        r#type: String,
    },
}

#[derive(Outputs)]
struct Cut {
    /// those "kept"
    kept: Table,
    count: Metrics,
}

/// Keeps the first rows.
///
/// No more.
#[step]
fn top(
    /// all of them
    rows: Table,
    /// how many
    #[default = 2]
    count: Param<usize>,
    word: Param<Option<String>>,
    #[default = [-0.5, 1.0]] list: Param<Vec<f64>>,
) -> Result<Cut> {
    ensure!(*count < 100, "too many");
    let kept = rows.head(*count);
    let word = f64::from(u8::from(word.is_some()));
    let count = Metrics::from([("rows", kept.rows() as f64), ("word", word), ("list", list.iter().sum())]);
    Ok(Cut { kept, count })
}

#[step(output = "model")]
fn learn() -> Model<f64> {
    let next = vec![Choice::None, Choice::Some(3), Choice::Named { r#type: "t".into() }];
    Model { weight_of_it: 0.5, next }
}

#[step]
fn check(model: Model<f64>) {
    assert_eq!(model, learn());
}

#[step(output = "rows")]
fn stream(rows: TableReader) -> TableReader {
    TableReader::new(rows.map(|table| table?.select(["b"])))
}

#[step(output = "words")]
fn scatter(text: Text) -> Parts<Text> {
    text.split_whitespace()
        .map(|word| (word, Text(word.to_uppercase())))
        .collect()
}

#[step(output = "text")]
fn gather(words: Parts<Text>) -> Result<Text> {
    let count = words.len();
    let words = words.map(|part| part.map(|(name, word)| format!("{name}={word}")));
    Ok(Text(format!("{count}: {}", words.collect::<Result<Vec<_>>>()?.join(" "))))
}

fn declared(name: &str) -> Value {
    let step = inventory::iter::<Step>().find(|step| step.interface.step == name).unwrap();
    let json = step.interface.json::<2048>();
    serde_json::from_slice(&json[..step.interface.json_len()]).unwrap()
}

fn io(parameters: Value) -> (TempDir, Io) {
    let dir = tempfile::tempdir().unwrap();
    let (inputs, outputs) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::create_dir(&inputs).unwrap();
    std::fs::create_dir(&outputs).unwrap();
    let parameters = parameters.as_object().unwrap().clone();
    (
        dir,
        Io {
            inputs,
            outputs,
            parameters,
        },
    )
}

#[test]
fn steps_declare_what_they_are() {
    let table = "application/vnd.apache.arrow.stream";
    assert_eq!(
        declared("top"),
        json!({
            "lockstep": 1,
            "step": "top",
            "doc": "Keeps the first rows.\n\nNo more.",
            "inputs": [{"name": "rows", "doc": "all of them", "media_type": table, "type": "Table"}],
            "parameters": [
                {"name": "count", "doc": "how many", "kind": "integer", "default": 2},
                {"name": "word", "doc": "", "kind": "string", "default": null},
                {"name": "list", "doc": "", "kind": "list", "default": [-0.5, 1.0]},
            ],
            "outputs": [
                {"name": "kept", "doc": "those \"kept\"", "media_type": table, "type": "Table"},
                {"name": "count", "doc": "", "media_type": "application/vnd.lockstep.metrics+json", "type": "Metrics"},
            ],
        })
    );
    let model = json!([{"name": "model", "doc": "", "media_type": "application/cbor", "type": "Model<f64>"}]);
    assert_eq!(declared("learn")["outputs"], model);
    assert_eq!(declared("check")["inputs"], model);
    assert_eq!(declared("check")["outputs"], json!([]));
}

#[test]
fn steps_run_on_files() {
    let (_dir, io) = io(json!({"count": 1, "word": null, "list": [2.0]}));
    std::fs::write(io.inputs.join("rows"), "a,b\n1,x\n2,y\n").unwrap();
    io.run("top").unwrap();
    assert_eq!(Table::read(&io.outputs.join("kept")).unwrap().rows(), 1);
    let count = std::fs::read_to_string(io.outputs.join("count")).unwrap();
    assert_eq!(count, r#"{"list":2.0,"rows":1.0,"word":0.0}"#);

    io.run("stream").unwrap();
    let rows = Table::read(&io.outputs.join("rows")).unwrap();
    assert_eq!((rows.rows(), rows.columns()), (2, vec!["b"]));

    io.run("learn").unwrap();
    std::fs::rename(io.outputs.join("model"), io.inputs.join("model")).unwrap();
    io.run("check").unwrap();
}

#[test]
fn a_directory_is_parts() {
    let (_dir, io) = io(json!({}));
    let directory = "application/vnd.lockstep.directory+json";
    assert_eq!(declared("scatter")["outputs"][0]["media_type"], directory);
    assert_eq!(
        declared("gather")["inputs"],
        json!([{"name": "words", "doc": "", "media_type": directory, "type": "Parts<Text>"}])
    );
    std::fs::write(io.inputs.join("text"), "b a c").unwrap();
    io.run("scatter").unwrap();
    std::fs::rename(io.outputs.join("words"), io.inputs.join("words")).unwrap();
    io.run("gather").unwrap();
    assert_eq!(std::fs::read_to_string(io.outputs.join("text")).unwrap(), "3: a=A b=B c=C");

    std::fs::write(io.inputs.join("words/b"), [0xff]).unwrap();
    let error = format!("{:#}", io.run("gather").unwrap_err());
    assert!(error.starts_with("part `b`: "), "{error}");
    std::fs::write(io.inputs.join("text"), "a/b").unwrap();
    let error = format!("{:#}", io.run("scatter").unwrap_err());
    assert_eq!(error, "\"a/b\" can't be the name of a part: use a plain file name");
    let last: Parts<Text> = [("a", Text("1".into())), ("a", Text("2".into()))].into();
    assert_eq!(last.map(|part| part.unwrap().1.0).collect::<Vec<_>>(), ["2"]);
}

#[test]
fn errors_name_the_culprit() {
    let text = |io: &Io, step: &str| format!("{:#}", io.run(step).unwrap_err());
    let (_dir, io) = io(json!({"count": "x", "word": null, "list": []}));
    assert_eq!(text(&io, "nothing"), "there is no step `nothing`");
    assert!(text(&io, "top").starts_with("input `rows`: can't open "));
    std::fs::write(io.inputs.join("rows"), "a\n1\n").unwrap();
    assert!(text(&io, "top").starts_with("parameter `count` can't be \"x\": invalid type"));
}
