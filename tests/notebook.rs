//! The real kernel, driven by a real Jupyter client (nbclient).

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::setup::{Place, ROOT, python};

/// What `:run` shows for machines.
const RUN_TYPE: &str = "application/vnd.lockstep.run+json";

/// Installs the kernel in `place` as `name`; returns what goes into `JUPYTER_PATH`.
pub fn install(place: &Place, name: &str) -> PathBuf {
    let prefix = place.path("prefix");
    let installed = place
        .lockstep(&["kernel", "install", "--name", name, "--prefix"])
        .arg(&prefix)
        .output()
        .unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    prefix.join("share/jupyter")
}

/// Executes `cells` in a fresh kernel whose store is that of `place`; returns the executed notebook's code cells. Errors of cells
/// stay in their outputs when `allow_errors`, else they fail the test.
pub fn execute(place: &Place, cells: &[String], allow_errors: bool) -> Vec<Value> {
    let mut child = Command::new(python())
        .arg(format!("{ROOT}/tests/execute.py"))
        .env("JUPYTER_PATH", install(place, "lockstep-test"))
        .env("LOCKSTEP_STORE", place.store())
        .current_dir(place.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = json!({"cells": cells, "allow_errors": allow_errors}).to_string();
    child.stdin.take().unwrap().write_all(asked.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The record's digest that a `:run` of `step` showed.
pub fn record_of(cells: &[Value], step: &str) -> Option<Value> {
    let outputs = cells.iter().flat_map(|cell| cell["outputs"].as_array().into_iter().flatten());
    let mut runs = outputs.map(|output| &output["data"][RUN_TYPE]);
    runs.find(|run| run["run"]["entry"]["name"] == step)
        .map(|run| run["record"].clone())
}

/// All text of a cell: streams, results and errors.
pub fn text(cell: &Value) -> String {
    let outputs = cell["outputs"].as_array().into_iter().flatten();
    let piece = |output: &Value| {
        let fields = [
            &output["text"],
            &output["data"]["text/plain"],
            &output["ename"],
            &output["evalue"],
        ];
        fields
            .iter()
            .filter_map(|field| field.as_str())
            .collect::<Vec<_>>()
            .join(": ")
    };
    outputs.map(piece).collect()
}

fn cells(codes: &[&str]) -> Vec<String> {
    codes.iter().map(|code| code.to_string()).collect()
}

#[test]
fn variables_and_items_carry_over() {
    let ran = execute(
        &Place::new(),
        &cells(&[
            "fn double(x: i64) -> i64 { x * 2 }\nlet mut numbers: Vec<i64> = vec![1, 2, 3];\nlet add = |x: i64| x + 1;",
            "numbers.push(4);",
            "numbers.iter().map(|x| add(double(*x))).collect::<Vec<_>>()",
            "#[derive(Debug, Serialize, Deserialize)]\nstruct Point { x: f64 }\nlet point = Point { x: 0.5 };",
            "println!(\"{}\", point.x);\npoint",
        ]),
        false,
    );
    assert_eq!(text(&ran[2]), "[3, 5, 7, 9]");
    assert_eq!(text(&ran[4]), "0.5\nPoint { x: 0.5 }");
}

#[test]
fn failures_are_failures_with_the_cells_own_lines_and_lose_nothing() {
    let ran = execute(
        &Place::new(),
        &cells(&[
            "let kept: usize = 7;",
            "let a = 1;\nlet b: i32 = \"text\";",
            "let empty: Vec<i32> = vec![];\nempty[kept]",
            "kept + 1",
        ]),
        true,
    );
    let errors: Vec<_> = ran.iter().map(|cell| cell["outputs"][0]["traceback"].to_string()).collect();
    assert!(
        errors[1].contains("[2]:2:14") && errors[1].contains("mismatched types"),
        "{}",
        errors[1]
    );
    assert!(
        errors[2].contains("[3]:2") && errors[2].contains("index out of bounds"),
        "{}",
        errors[2]
    );
    assert_eq!(text(&ran[3]), "8");
}

#[test]
fn a_notebook_is_verified_against_the_digests_that_it_keeps() {
    let place = Place::new();
    let codes = ["let x: i64 = 6;", "println!(\"{x}\");\nlet y = x * 7;", "y"];
    let mut ran = execute(&place, &cells(&codes), false);
    let save = |cells: &[Value]| {
        let notebook = json!({ "nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells });
        std::fs::write(place.path("a.ipynb"), notebook.to_string()).unwrap();
    };
    save(&ran);
    let checked = place.json(&["verify", "a.ipynb"]);
    let what: Vec<_> = checked["compared"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["what"])
        .collect();
    assert_eq!(what, ["x", "what it printed", "y"]);
    assert_eq!(checked["equal"], true, "{checked}");

    // The state that the notebook keeps is not that of its cells any more.
    ran[0]["source"] = json!("let x: i64 = 7;");
    save(&ran);
    let output = place.lockstep(&["verify", "a.ipynb"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("3 of 3 digests differ"), "{text}");
}
