//! Tables as pyarrow, polars, pandas and DuckDB write them are read value for value: by a step and by `lockstep show`.

use std::collections::BTreeMap;
use std::process::Command;

use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::Limits;
use serde_json::Value;

use crate::setup::{Guest, Place, ROOT, python, runtime};

type Texts = Vec<Option<String>>;

#[test]
fn tables_of_other_programs_are_read_value_for_value() {
    let (place, memory) = (Place::new(), runtime(&EngineOptions::default()));
    let files = place.path("files");
    std::fs::create_dir(&files).unwrap();
    let script = std::path::Path::new(ROOT).join("tests/clients/formats.py");
    let written = Command::new(python()).arg(script).arg(&files).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let expected: BTreeMap<String, BTreeMap<String, Texts>> = serde_json::from_slice(&written.stdout).unwrap();
    assert!(expected.len() > 30);

    for (file, columns) in &expected {
        let bytes = std::fs::read(files.join(file)).unwrap();
        let ran = Guest::new("texts").input("raw", bytes).sandboxed(&memory, &Limits::default());
        assert!(ran.record.outcome.succeeded(), "{file}: {:?}", ran.record.outcome);
        let read = memory.store.get(&ran.record.outputs["columns"].digest).unwrap();
        let read: Vec<BTreeMap<String, Value>> = serde_json::from_slice(&read).unwrap();
        let texts = |column: &BTreeMap<String, Value>| {
            let name = column["name"].as_str().unwrap().to_owned();
            (name, serde_json::from_value(column["texts"].clone()).unwrap())
        };
        let read: BTreeMap<String, Texts> = read.iter().map(texts).collect();
        assert_eq!(read, *columns, "{file}");

        // what the step writes is the same table
        let table = memory.store.get(&ran.record.outputs["table"].digest).unwrap();
        let again = Guest::new("texts")
            .input("raw", table.to_vec())
            .sandboxed(&memory, &Limits::default());
        assert_eq!(again.record.outputs["columns"], ran.record.outputs["columns"], "{file}");

        let shown = place.json(&["show", files.join(file).to_str().unwrap()]);
        let names = shown["columns"].as_array().unwrap_or_else(|| panic!("{file}: {shown}"));
        for (row, values) in shown["rows"].as_array().unwrap().iter().enumerate() {
            for (column, value) in names.iter().zip(values.as_array().unwrap()) {
                let text = match value {
                    Value::Null => None,
                    Value::String(text) => Some(text.clone()),
                    Value::Number(number) => Some(number.to_string()),
                    _ => continue,
                };
                let name = column["name"].as_str().unwrap();
                assert_eq!(text, columns[name][row], "{file}: row {row} of `{name}`");
            }
        }
    }
}

#[test]
fn one_file_is_converted_once_and_replayed_from_its_record() {
    let place = Place::new();
    let files = place.path("files");
    std::fs::create_dir(&files).unwrap();
    let script = std::path::Path::new(ROOT).join("tests/clients/formats.py");
    assert!(
        Command::new(python())
            .arg(script)
            .arg(&files)
            .output()
            .unwrap()
            .status
            .success()
    );
    let raw = files.join("zstd.parquet");
    let bytes = std::fs::read(&raw).unwrap();
    let arguments = Guest::new("texts").input("raw", bytes).arguments(&place);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let first = place.json(&arguments);
    assert_eq!(first["called"].as_array().map(Vec::len), Some(1), "{first:#}");
    let record = first["record"].as_str().unwrap();
    let verified: Value = place.json(&["verify", record]);
    assert_eq!(verified["good"], Value::from(true), "{verified:#}");
}
