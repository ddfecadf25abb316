//! Bundles replayed without network and compiler.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::setup::{Place, ROOT, binary, build};

/// Replays a bundle with an empty home, no `PATH` and, if possible, no network.
fn replay(bundle: &Path) -> Value {
    let home = tempfile::tempdir().unwrap();
    let unplugged = || {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["-r", "-n", "--"]).env_clear();
        command
    };
    let may = unplugged().arg("/bin/true").stderr(Stdio::null()).status();
    let mut command = match may.is_ok_and(|status| status.success()) {
        true => {
            let mut command = unplugged();
            command.arg(binary());
            command
        }
        false => {
            eprintln!("can't create a network namespace: replaying with network access");
            Command::new(binary())
        }
    };
    let replayed = command
        .args(["bundle", "replay", "--json"])
        .arg(bundle)
        .env_clear()
        .env("HOME", home.path())
        .current_dir(home.path())
        .output()
        .unwrap();
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stderr));
    serde_json::from_slice(&replayed.stdout).unwrap()
}

/// Returns the digests of the replay, by task and output.
fn got(replayed: &Value) -> Vec<(String, Value)> {
    let compared = replayed["compared"].as_array().unwrap();
    let outputs = compared.iter().filter(|row| row["what"] != "(log)");
    outputs
        .map(|row| {
            let name = format!("{}.{}", row["task"].as_str().unwrap(), row["what"].as_str().unwrap());
            (name, row["got"].clone())
        })
        .collect()
}

#[test]
fn the_penguins_are_replayed_without_network_and_compiler() {
    let place = Place::new();
    for file in ["penguins.yaml", "penguins.csv"] {
        fs::copy(Path::new(ROOT).join("examples/penguins").join(file), place.path(file)).unwrap();
    }
    fs::copy(build("examples/penguins", "penguins.wasm"), place.path("penguins.wasm")).unwrap();
    let ran = place.json(&["run", "penguins.yaml"]);
    place.json(&["bundle", "create", "penguins.yaml", "-o", "penguins.tar"]);
    let replayed = replay(&place.path("penguins.tar"));
    assert_eq!(replayed["equal"], true);
    let mut made = Vec::new();
    for task in ran["tasks"].as_array().unwrap() {
        for (name, artifact) in task["outputs"].as_object().unwrap() {
            made.push((
                format!("{}.{name}", task["task"].as_str().unwrap()),
                artifact["digest"].clone(),
            ));
        }
    }
    assert_eq!(got(&replayed), made);
}

#[test]
fn a_notebook_is_replayed_without_network_and_compiler() {
    let place = Place::new();
    let cell = |id: &str, source: &str| json!({ "cell_type": "code", "id": id, "metadata": {}, "execution_count": null, "outputs": [], "source": source });
    let cells = [
        cell("a", "let masses = vec![3750.0, 3800.0, 3250.0];"),
        cell("b", "let mean = masses.iter().sum::<f64>() / masses.len() as f64;\nmean"),
    ];
    let notebook = json!({ "nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells });
    fs::write(place.path("mean.ipynb"), notebook.to_string()).unwrap();
    place.json(&["bundle", "create", "mean.ipynb", "-o", "mean.tar"]);
    let inspected = place.json(&["bundle", "inspect", "mean.tar"]);
    let modules: Vec<_> = inspected["modules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|module| &module["name"])
        .collect();
    assert!(
        modules.iter().any(|name| name.as_str().unwrap().starts_with("base of ")),
        "{modules:?}"
    );
    let replayed = replay(&place.path("mean.tar"));
    assert_eq!(replayed["equal"], true);
    assert!(!got(&replayed).is_empty(), "{replayed:#}");
}
