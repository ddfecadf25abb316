//! The examples with data from PyPI. Pipeline and notebook must have the same digests.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::notebook;
use crate::setup::{Place, ROOT, build, python};

/// Returns a place with the files of an example: data, module, pipeline, notebook. Prints a message and returns `None` if
/// the data can't be fetched.
pub fn example(name: &str) -> Option<Place> {
    let directory = Path::new(ROOT).join("examples").join(name);
    let data = directory.join("data");
    if !data.is_dir() {
        let fetched = Command::new(python())
            .arg(directory.with_file_name("data.py"))
            .arg(name)
            .status()
            .unwrap();
        if !fetched.success() {
            println!("skipped: can't fetch the data of {name}");
            return None;
        }
    }
    let place = Place::new();
    std::os::unix::fs::symlink(data, place.path("data")).unwrap();
    std::fs::copy(
        build(&format!("examples/{name}"), &format!("{name}.wasm")),
        place.path(&format!("{name}.wasm")),
    )
    .unwrap();
    for file in [format!("{name}.yaml"), format!("{name}.ipynb")] {
        std::fs::copy(directory.join(&file), place.path(&file)).unwrap();
    }
    Some(place)
}

/// Runs the pipeline with an empty store. Returns the digests of outputs, by task and output.
fn pipeline(place: &Place, name: &str) -> BTreeMap<String, Value> {
    let ran = place.json(&["run", &format!("{name}.yaml")]);
    for task in ran["tasks"].as_array().unwrap() {
        assert_eq!(
            (&task["outcome"]["is"], &task["cached"]),
            (&"succeeded".into(), &false.into()),
            "{task:#}"
        );
    }
    notebook::digests(&ran)
}

/// Executes the notebook with a separate store. Returns the digests of its variables.
fn variables(place: &Place, name: &str) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(place.path(&format!("{name}.ipynb"))).unwrap();
    let notebook: Value = serde_json::from_str(&text).unwrap();
    let code = notebook["cells"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|cell| cell["cell_type"] == "code");
    let source = |cell: &Value| {
        let lines = cell["source"].as_array().unwrap().iter();
        lines.map(|line| line.as_str().unwrap()).collect::<String>()
    };
    let cells: Vec<String> = code.map(source).collect();
    let alone = Place {
        directory: tempfile::tempdir_in(place.directory.path()).unwrap(),
    };
    for entry in place.directory.path().read_dir().unwrap().flatten() {
        let name = entry.file_name();
        if name == "data" || name.to_string_lossy().ends_with(".wasm") {
            std::os::unix::fs::symlink(entry.path(), alone.directory.path().join(name)).unwrap();
        }
    }
    let ran = notebook::execute(&alone, &cells, false);
    let accounts = ran.iter().flat_map(notebook::accounts);
    let all = accounts.flat_map(|account| account["variables"].as_object().cloned().unwrap_or_default());
    all.collect()
}

fn compare(place: &Place, name: &str, pairs: &[(&str, &str)]) {
    let (made, variables) = (pipeline(place, name), variables(place, name));
    for (output, variable) in pairs {
        assert_eq!(made[*output], variables[*variable], "{output} and {variable}");
    }
}

#[test]
fn flights() {
    let Some(place) = example("flights") else { return };
    compare(
        &place,
        "flights",
        &[
            ("join.rows", "rows"),
            ("carriers.carriers", "carriers"),
            ("plot-carriers.figure", "carriers_figure"),
            ("gather.hours", "hours"),
            ("plot-hours.figure", "hours_figure"),
            ("train.forest", "forest"),
            ("score.metrics", "metrics"),
        ],
    );
}

#[test]
fn tweets_with_a_step_in_c() {
    let Some(place) = example("tweets") else { return };
    let zig = Command::new(python())
        .args(["-m", "ziglang", "cc", "--target=wasm32-wasi", "-Os", "-s", "-o"])
        .arg(place.path("words.wasm"))
        .arg(Path::new(ROOT).join("examples/tweets/words.c"))
        .output()
        .unwrap();
    assert!(zig.status.success(), "{}", String::from_utf8_lossy(&zig.stderr));
    compare(
        &place,
        "tweets",
        &[
            ("read.rows", "rows"),
            ("rate.rated", "rated"),
            ("judge.metrics", "metrics"),
            ("plot.figure", "figure"),
            ("words.words", "words"),
            ("top.top", "top"),
        ],
    );
}
