//! The kernel with Jupyter's own clients: the conformance suite, papermill, nbconvert and the console.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::notebook::install;
use crate::setup::{Place, ROOT, binary, build, python};

const EXAMPLE: &str = "examples/penguins";

/// The module of the example's notebook.
static PENGUINS: LazyLock<PathBuf> = LazyLock::new(|| build(EXAMPLE, "penguins.wasm"));

/// Returns a Python command with the kernel `lockstep` and the wheel's papermill extensions installed.
fn client(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command
        .args(arguments)
        .current_dir(place.directory.path())
        .env("JUPYTER_PATH", install(place, "lockstep"))
        .env("JUPYTER_CONFIG_DIR", place.path("config"))
        .env("JUPYTER_RUNTIME_DIR", place.path("runtime"))
        .env("LOCKSTEP_STORE", place.store())
        .env("PYTHONPATH", installed_package(place))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PROMPT_TOOLKIT_NO_CPR", "1")
        .env("TERM", "xterm");
    command
}

/// Installs the wheel's Python from source, with the entry points of its `pyproject.toml`. Returns the `PYTHONPATH`.
fn installed_package(place: &Place) -> String {
    let wheel = Path::new(ROOT).join("deploy/wheel");
    let project = fs::read_to_string(wheel.join("pyproject.toml")).unwrap();
    let (_, declared) = project.split_once("[project.entry-points.\"papermill.engine\"]").unwrap();
    let (declared, _) = declared.split_once("\n[").unwrap();
    let installed = place.path("packages");
    let described = installed.join("lockstep-0.dist-info");
    fs::create_dir_all(&described).unwrap();
    let entries = format!("[papermill.engine]{}", declared.replace('"', ""));
    fs::write(described.join("entry_points.txt"), entries).unwrap();
    format!("{}:{}", wheel.join("python").display(), installed.display())
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// Runs the classes `names` of `clients/conformance.py`.
fn conforms(names: &[&str]) {
    let script = format!("{ROOT}/tests/clients/conformance.py");
    succeeds(client(&Place::new(), &[&[script.as_str()], names].concat()));
}

/// Writes a notebook of code cells to `place`, with the first cell tagged `parameters`.
fn notebook(place: &Place, name: &str, codes: &[&str]) {
    let cell = |(at, code): (usize, &&str)| {
        let tags: &[&str] = if at == 0 { &["parameters"] } else { &[] };
        json!({
            "cell_type": "code", "id": format!("cell-{at}"), "metadata": { "tags": tags },
            "execution_count": null, "outputs": [], "source": code,
        })
    };
    let notebook = json!({
        "nbformat": 4, "nbformat_minor": 5,
        "metadata": { "kernelspec": { "name": "lockstep", "language": "rust", "display_name": "Lockstep (Rust)" } },
        "cells": codes.iter().enumerate().map(cell).collect::<Vec<_>>(),
    });
    fs::write(place.path(name), notebook.to_string()).unwrap();
}

/// Returns the code cells of an executed notebook, with sources and outputs.
fn executed(place: &Place, name: &str) -> Vec<Value> {
    // papermill records parameters with infinities, which are not valid JSON
    let text = fs::read_to_string(place.path(name)).unwrap().replace("-Infinity", "null");
    let notebook: Value = serde_json::from_str(&text).unwrap();
    let cells = notebook["cells"].as_array().unwrap().iter();
    cells.filter(|cell| cell["cell_type"] == "code").cloned().collect()
}

/// Joins the lines of a text in a notebook.
fn joined(text: &Value) -> String {
    text.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Copies the example's notebook and its inputs to `place`.
fn penguins(place: &Place) {
    for file in ["penguins.ipynb", "penguins.csv"] {
        fs::copy(Path::new(ROOT).join(EXAMPLE).join(file), place.path(file)).unwrap();
    }
    fs::copy(&*PENGUINS, place.path("penguins.wasm")).unwrap();
}

#[test]
fn the_kernel_conforms_to_jupyters_suite() {
    conforms(&["Suite", "Welcome"]);
}

#[test]
fn interrupts_keep_variables_and_errors_abort_queued_cells() {
    conforms(&["Interrupt"]);
}

#[test]
fn cells_read_stdin() {
    conforms(&["Stdin"]);
}

#[test]
fn a_kernel_killed_at_any_moment_loses_no_finished_cell() {
    let place = Place::new();
    println!(
        "{}",
        succeeds(client(&place, &[&format!("{ROOT}/tests/clients/chaos.py"), "100", "7"]))
    );
    let check = place.json(&["fsck"]);
    assert_eq!(check["findings"], json!([]), "{check}");
}

#[test]
fn history_outlives_the_session() {
    conforms(&["History"]);
}

#[test]
fn subshells_answer_while_a_cell_runs() {
    conforms(&["Subshells"]);
}

#[test]
fn values_of_python_become_rust() {
    succeeds(client(&Place::new(), &[&format!("{ROOT}/tests/clients/translator.py")]));
}

#[test]
fn papermill_gives_parameters_of_the_declared_types() {
    let place = Place::new();
    let declared =
        "let trees: usize = 100; // how many\nlet mut alpha: f64 = 0.5;\nlet word = \"none\";\nlet depth: Option<u8> = None;";
    let used = "alpha += 1.0;\nformat!(\"{} {alpha:?} {word} {depth:?}\", vec![0; trees].len())";
    notebook(&place, "in.ipynb", &[declared, used]);
    let help = succeeds(client(&place, &["-m", "papermill", "--help-notebook", "in.ipynb"]));
    assert!(
        help.contains("trees: usize (default 100)") && help.contains("how many"),
        "{help}"
    );

    let mut arguments = vec!["-m", "papermill", "in.ipynb", "out.ipynb"];
    for (name, value) in [("trees", "5"), ("alpha", "2"), ("word", "Öl \"{}\""), ("depth", "3")] {
        arguments.extend(["-p", name, value]);
    }
    succeeds(client(&place, &arguments));
    let ran = executed(&place, "out.ipynb");
    let injected = "// Parameters\nlet trees: usize = 5;\nlet mut alpha: f64 = 2.0;\nlet word: &str = \"Öl \\\"{}\\\"\";\nlet depth: Option<u8> = Some(3);\n";
    assert_eq!(joined(&ran[1]["source"]), injected);
    let result = joined(&ran[2]["outputs"][0]["data"]["text/plain"]);
    assert_eq!(result, format!("{:?}", "5 3.0 Öl \"{}\" Some(3)"));
}

#[test]
fn papermill_gives_parameters_of_every_kind() {
    let place = Place::new();
    let names = [
        "whether", "whole", "huge", "part", "tiny", "endless", "text", "none", "list", "gaps", "empty", "nested", "map",
        "no_entry", "any",
    ];
    let shown: String = names.iter().map(|name| format!("println!(\"{{{name}:?}}\");\n")).collect();
    notebook(&place, "in.ipynb", &["// all are given", &shown, "any[\"b\"][1].as_f64()"]);
    let given = r#"{whether: true, whole: -5, huge: 18446744073709551615, part: 0.1, tiny: 1.0e-300, endless: -.inf, text: "a\n\u202e", none: null,
        list: [1, 2.5], gaps: [1, null], empty: [], nested: [[], [x]], map: {a: 1, b: 2}, no_entry: {}, any: {a: 1, b: [x, 0.1]}}"#;
    succeeds(client(&place, &["-m", "papermill", "in.ipynb", "out.ipynb", "-y", given]));
    let ran = executed(&place, "out.ipynb");
    let printed = "true\n-5\n18446744073709551615\n0.1\n1e-300\n-inf\n\"a\\n\\u{202e}\"\nNone\n[1.0, 2.5]\n[Some(1), None]\n[]\n[[], [\"x\"]]\n\
                   {\"a\": 1, \"b\": 2}\n{}\nObject {\"a\": Number(1), \"b\": Array [String(\"x\"), Number(0.1)]}\n";
    assert_eq!(joined(&ran[2]["outputs"][0]["text"]), printed);
    assert_eq!(joined(&ran[3]["outputs"][0]["data"]["text/plain"]), "Some(0.1)");
}

#[test]
fn papermill_stops_at_a_cell_that_fails() {
    for (fails, why) in [
        ("let x: i64 = \"text\";", "mismatched types"),
        ("Vec::<i64>::new()[1]", "index out of bounds"),
    ] {
        let place = Place::new();
        notebook(&place, "in.ipynb", &["let first = 1;", fails, "println!(\"never\");"]);
        let output = client(&place, &["-m", "papermill", "in.ipynb", "out.ipynb"])
            .output()
            .unwrap();
        assert!(!output.status.success() && said(&output).contains(why), "{}", said(&output));
        let ran = executed(&place, "out.ipynb");
        assert_eq!(ran[1]["outputs"][0]["output_type"], "error");
        assert_eq!(ran[2]["outputs"], json!([]));
    }
}

#[test]
fn papermill_runs_the_example() {
    let place = Place::new();
    penguins(&place);
    succeeds(client(&place, &["-m", "papermill", "penguins.ipynb", "out.ipynb"]));
    let outputs = executed(&place, "out.ipynb").pop().unwrap()["outputs"].clone();
    assert!(outputs[0]["data"]["image/svg+xml"].is_array(), "{outputs:#}");
}

#[test]
fn nbconvert_writes_the_example_with_its_table_and_its_figure() {
    let place = Place::new();
    penguins(&place);
    succeeds(client(
        &place,
        &["-m", "nbconvert", "--execute", "--to", "html", "penguins.ipynb"],
    ));
    let html = fs::read_to_string(place.path("penguins.html")).unwrap();
    assert!(html.contains("344 penguins"));
    assert!(html.contains(">Torgersen</td>"));
    assert!(html.contains("src=\"data:image/svg+xml;base64,"));
    assert!(html.contains("<span class=\"kd\">let</span>"), "the cells are not coloured");
}

#[test]
fn a_relocatable_kernel_runs_where_its_prefix_was_moved() {
    let place = Place::new();
    let prefix = place.path("built");
    fs::create_dir_all(prefix.join("bin")).unwrap();
    fs::copy(binary(), prefix.join("bin/lockstep")).unwrap();
    let mut install = place.lockstep(&["kernel", "install", "--relocatable", "--prefix"]);
    assert!(install.arg(&prefix).status().unwrap().success());
    fs::rename(&prefix, place.path("moved")).unwrap();
    notebook(&place, "in.ipynb", &["1 + 1"]);
    let mut papermill = client(&place, &["-m", "papermill", "in.ipynb", "out.ipynb"]);
    papermill.env("JUPYTER_PATH", place.path("moved/share/jupyter"));
    succeeds(papermill);
    assert_eq!(
        joined(&executed(&place, "out.ipynb")[0]["outputs"][0]["data"]["text/plain"]),
        "2"
    );
}

#[test]
fn the_console_runs_the_example() {
    let place = Place::new();
    penguins(&place);
    let script = format!("{ROOT}/tests/clients/console.py");
    succeeds(client(&place, &[&script, "penguins.ipynb"]));
}
