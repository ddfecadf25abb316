//! The kernel with a real Jupyter client (nbclient).

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::setup::{GUESTS, Place, ROOT, python};

/// The media type of the machine-readable output of `:run`.
const RUN_TYPE: &str = "application/vnd.lockstep.run+json";

/// Installs the kernel in `place` as `name`. Returns the `JUPYTER_PATH`.
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

/// Executes `cells` in a new kernel with the store of `place`. Returns the executed code cells. With `allow_errors`, errors
/// stay in the cells' outputs; otherwise they fail the test.
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

/// Returns the digest of the record that `:run` showed for `step`.
pub fn record_of(cells: &[Value], step: &str) -> Option<Value> {
    let outputs = cells.iter().flat_map(|cell| cell["outputs"].as_array().into_iter().flatten());
    let mut runs = outputs.map(|output| &output["data"][RUN_TYPE]);
    runs.find(|run| run["run"]["entry"]["name"] == step)
        .map(|run| run["record"].clone())
}

/// Returns all text of a cell: streams, results and errors.
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
fn errors_point_into_the_cell_and_lose_no_variables() {
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

/// Executes the notebook that evcxr's kernel comes with, as it is. Only the cell with version 0.23 of the crate `image` is left out: it changes
/// the features of a crate below Arrow, so that Arrow is compiled again, which takes minutes.
#[test]
fn the_tour_of_evcxr_runs_but_for_what_the_sandbox_does_not_have() {
    let tour = std::fs::read(format!("{ROOT}/target/notebooks/evcxr_jupyter_tour.ipynb")).expect("run `make test`");
    let tour: Value = serde_json::from_slice(&tour).unwrap();
    let cells = tour["cells"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|cell| cell["cell_type"] == "code");
    let code = |cell: &Value| -> String {
        let lines = cell["source"].as_array().unwrap();
        lines.iter().map(|line| line.as_str().unwrap()).collect()
    };
    let codes: Vec<String> = cells.map(code).filter(|code| !code.contains("evcxr_image")).collect();
    assert_eq!(codes.len(), 23);
    let ran = execute(&Place::new(), &codes, true);
    let shown = |start: &str| {
        let found = ran.iter().filter(|cell| cell["source"].as_str().unwrap().starts_with(start));
        found.map(text).collect::<Vec<_>>()
    };
    assert!(shown("!wget")[0].contains("a Rust cell can't run commands of a shell"));
    assert_eq!(shown("println!"), ["Hello world\nHello error\n\"Hello world\""]);
    assert_eq!(shown("message"), ["", "\"Hello world!\""]);
    assert_eq!(shown("(1..13)"), ["[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"]);
    assert_eq!(shown("let values"), ["[1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144]"]);
    assert!(shown("use std::sync")[0].contains("there are no threads in the sandbox"));
    assert!(shown(":dep base64")[0].ends_with("\"AQIDBA==\""));
    let matrix = ran
        .iter()
        .find(|cell| cell["source"].as_str().unwrap().starts_with("let m "))
        .unwrap();
    let html = matrix["outputs"][0]["data"]["text/html"].as_str().unwrap();
    assert!(html.starts_with("<table><tr><td>1</td><td>2</td>"), "{html}");
    assert!(shown("let mut s ")[0].contains("mismatched types"));
    let tokio = shown(":dep tokio");
    assert!(tokio[0].contains("failed to compile for wasm32-wasip1"), "{tokio:?}");
    assert!(shown(":vars")[0].contains("mut message"));
    assert!(shown(":help")[0].contains(":dep name"));
}

#[test]
fn a_notebook_is_verified_against_its_digests() {
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
    assert_eq!(place.json(&["verify", "a.ipynb", "--on", "pulley"]), checked);

    // The notebook's digests no longer match its cells.
    ran[0]["source"] = json!("let x: i64 = 7;");
    save(&ran);
    let output = place.lockstep(&["verify", "a.ipynb"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("3 of 3 digests differ"), "{text}");
}

/// Executes and writes a notebook with parameters whose cells read a table, use a module with `:run` and `:use`, and define
/// a closure.
fn analysis(place: &Place) -> Vec<Value> {
    std::fs::write(place.path("rows.csv"), "x\n1\n2\n3\n").unwrap();
    let guests = GUESTS.display();
    let codes = [
        "let times: i64 = 2;\nlet words = vec![\"a\".to_owned()];".to_owned(),
        ":input rows = rows.csv".to_owned(),
        "//! name: double\nlet add = |x: i64| x + 1;\nlet doubled: Vec<i64> = rows.table()?.f64(\"x\")?.iter().flatten().map(|x| x as i64 * times).collect();"
            .to_owned(),
        "println!(\"only shown: {}\", doubled.len());".to_owned(),
        "let mut sum = add(doubled.iter().sum());\nsum += words.len() as i64;".to_owned(),
        format!(":use {guests} as guests\nlet counted = guests::count(&rows)?;"),
        format!(":run {guests}#make rows=3 -> made"),
        format!(":run {guests}#count lines=rows -> lines"),
    ];
    let mut ran = execute(place, &cells(&codes.each_ref().map(String::as_str)), false);
    ran[0]["metadata"]["tags"] = json!(["parameters"]);
    let notebook = json!({ "nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": &ran });
    std::fs::write(place.path("analysis.ipynb"), notebook.to_string()).unwrap();
    ran
}

/// Returns the accounts in a cell's outputs.
pub fn accounts(cell: &Value) -> Vec<Value> {
    let outputs = cell["outputs"].as_array().into_iter().flatten();
    let accounts = outputs.filter_map(|output| output["data"].get("application/vnd.lockstep.cell+json"));
    accounts.cloned().collect()
}

/// Returns the digests of a run's outputs, by task and output.
pub fn digests(ran: &Value) -> BTreeMap<String, Value> {
    let tasks = ran["tasks"].as_array().unwrap().iter();
    let outputs = tasks.flat_map(|task| {
        let outputs = task["outputs"].as_object().unwrap().iter();
        outputs.map(|(name, artifact)| {
            (
                format!("{}.{name}", task["task"].as_str().unwrap()),
                artifact["digest"].clone(),
            )
        })
    });
    outputs.collect()
}

#[test]
fn a_notebook_is_a_pipeline() {
    let place = Place::new();
    let cells = analysis(&place);
    // The notebook has already executed every task as the same run.
    let ran = place.json(&["run", "analysis.ipynb"]);
    let names: Vec<_> = ran["tasks"].as_array().unwrap().iter().map(|task| &task["task"]).collect();
    assert_eq!(names, ["counted", "double", "lines", "made", "sum"]);
    for task in ran["tasks"].as_array().unwrap() {
        assert_eq!(task["cached"], true, "{task:#}");
    }
    let made = digests(&ran);
    assert_eq!(made["double.doubled"], accounts(&cells[2])[0]["variables"]["doubled"]);
    assert_eq!(made["sum.sum"], accounts(&cells[4])[0]["variables"]["sum"]);

    // The plan shows this, and what another parameter changes.
    let fates = |arguments: &[&str]| {
        let planned = place.json(arguments);
        let tasks = planned["tasks"].as_array().unwrap().iter();
        let fates = tasks.map(|task| format!("{} {}", task["task"].as_str().unwrap(), task["fate"].as_str().unwrap()));
        fates.collect::<Vec<_>>()
    };
    let all = ["counted hit", "double hit", "lines hit", "made hit", "sum hit"];
    assert_eq!(fates(&["plan", "analysis.ipynb"]), all);
    let other = fates(&["plan", "analysis.ipynb", "-p", "times=5"]);
    assert_eq!(other, ["counted hit", "double miss", "lines hit", "made hit", "sum waits"]);

    // The exported files give the same results elsewhere. They contain the notebook's modules, so nothing is compiled.
    place.json(&["export", "analysis.ipynb", "-o", "exported"]);
    let elsewhere = Place::new();
    let exported = place.path("exported/pipeline.yaml").display().to_string();
    let again = elsewhere.json(&["run", &exported]);
    let records = |ran: &Value| {
        let tasks = ran["tasks"].as_array().unwrap().iter();
        tasks.map(|task| task["record"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(records(&again), records(&ran));
    assert_eq!(again["tasks"][0]["cached"], false);
    let with = ["-p", "times=5", "-p", "words=[\"a\", \"b\"]"];
    let here = place.json(&[&["run", "analysis.ipynb"], &with[..]].concat());
    let there = elsewhere.json(&[&["run", exported.as_str()], &with[..]].concat());
    assert_eq!(records(&here), records(&there));
    // 1 + (1 + 2 + 3) * 5 + 2 = 33, which is 0x18 0x21 in CBOR
    let sum = digests(&there)["sum.sum"].as_str().unwrap().to_owned();
    let shown = elsewhere.lockstep(&["show", &sum, "--raw"]).output().unwrap();
    assert_eq!(shown.stdout, [0x18, 0x21]);
    let cell = std::fs::read_to_string(place.path("exported/cells/sum.rs")).unwrap();
    assert!(cell.starts_with("let mut sum"), "{cell}");
}

#[test]
fn changes_behind_shared_references_are_kept() {
    let ran = execute(
        &Place::new(),
        &cells(&[
            "use std::cell::RefCell;\nuse std::sync::{Arc, Mutex};\nlet log = RefCell::new(vec![1]);\nlet n = Arc::new(Mutex::new(3));",
            "log.borrow_mut().push(2);\n*n.lock().unwrap() += 4;",
            "log",
            "*n.lock().unwrap()",
            "struct Counter { calls: std::cell::Cell<u32> }\nimpl Counter { fn call(&self) { self.calls.set(self.calls.get() + 1); } }\n\
             let counter = Counter { calls: Default::default() };",
            "counter.call();",
            "counter.call();\ncounter.calls.get()",
            "let once: std::cell::OnceCell<i32> = std::cell::OnceCell::new();",
            "once.set(5).unwrap();",
            "once",
        ]),
        false,
    );
    assert_eq!(text(&ran[2]), "RefCell { value: [1, 2] }");
    assert_eq!(text(&ran[3]), "7");
    assert_eq!(text(&ran[6]), "2");
    assert_eq!(text(&ran[9]), "OnceCell(5)");
}

#[test]
fn what_can_not_be_kept_is_named_where_it_is_made() {
    let ran = execute(
        &Place::new(),
        &cells(&[
            "use std::sync::atomic::{AtomicU32, Ordering};\nstatic CALLS: AtomicU32 = AtomicU32::new(0);\nCALLS.fetch_add(1, Ordering::SeqCst)",
            "use std::rc::Rc;\nuse std::cell::RefCell;\nlet a = Rc::new(RefCell::new(1));\nlet b = a.clone();",
            "let data = std::sync::Mutex::new(vec![1]);\nlet guard = data.lock().unwrap();",
            "let data = std::sync::Mutex::new(vec![1]);\nlet mut guard = data.lock().unwrap();\nguard.push(2);\ndrop(guard);",
            "data.lock().unwrap().len()",
            "let threads = std::thread::spawn(|| 2 + 2);",
            "struct Log(RefCell<Vec<u8>>);\nlet log = Rc::new(Log(Default::default()));",
            "let same = log.clone();",
        ]),
        true,
    );
    let said: Vec<String> = ran.iter().map(text).collect();
    assert!(
        said[7].contains("warning: `same` shares its value with another variable"),
        "{said:?}"
    );
    assert!(
        said[0].contains("warning: the static `CALLS` starts anew in each cell"),
        "{said:?}"
    );
    assert!(
        said[1].contains("warning: `a` shares its value with another variable"),
        "{said:?}"
    );
    assert!(said[2].contains("end the cell with `drop(guard);`"), "{said:?}");
    assert_eq!((said[3].as_str(), said[4].as_str()), ("", "2"));
    assert!(said[5].contains("there are no threads in the sandbox"), "{said:?}");
    let traceback = ran[5]["outputs"][0]["traceback"].to_string();
    assert!(traceback.contains("[6]:1:28"), "{traceback}");
}

#[test]
fn options_of_nothing_carry_over() {
    let ran = execute(
        &Place::new(),
        &cells(&[
            "#[derive(Debug)]\nstruct Done;\nlet a: Option<Option<i32>> = Some(None);\nlet b = Some(());\nlet c = Some(Done);\n\
             let d = Some(serde_json::Value::Null);\nlet e = vec![Some(f32::NAN), None];",
            "(a, b, c, d, a.is_some(), e)",
        ]),
        false,
    );
    assert_eq!(
        text(&ran[1]),
        "(Some(None), Some(()), Some(Done), Some(Null), true, [Some(NaN), None])"
    );
}

#[test]
fn methods_are_replaced_one_by_one() {
    let ran = execute(
        &Place::new(),
        &cells(&[
            "struct Square { side: i64 }\nimpl Square {\n    const SIDES: i64 = 4;\n    fn area(&self) -> i64 { self.side * self.side }\n    \
             fn edge(&self) -> i64 { Self::SIDES * self.side }\n}",
            "impl Square { fn area(&self) -> i64 { 7 } }",
            "let square = Square { side: 3 };\n(square.area(), square.edge())",
        ]),
        false,
    );
    assert_eq!(text(&ran[2]), "(7, 12)");
}

#[test]
fn names_and_methods_are_those_of_the_user() {
    let ran = execute(
        &Place::new(),
        &cells(&[
            "let X = vec![vec![1, 2]];\nlet (N, K) = (2, 3);\nlet _rate = 6;",
            "(X, N, K, _rate)",
            "const LIMIT: i32 = 3;\nlet value = match 3 { LIMIT => \"limit\", _ => \"other\" };",
            "(LIMIT, value)",
            "use std::io::Write;\nlet mut bytes: Vec<u8> = Vec::new();\nbytes.write(b\"abc\")?;\nlet lock = std::sync::RwLock::new(1);\n\
             *lock.write().unwrap() += 1;\n(&bytes, *lock.read().unwrap())",
            "#[derive(Serialize)]\nstruct V { n: i32 }\nimpl V { fn write(&self) -> i32 { self.n } }\nV { n: 4 }.write()",
            "let a = std::",
            "let x: Vec<",
            "let parsed = \"5\".parse().unwrap();\n\"after\"",
        ]),
        true,
    );
    let said: Vec<String> = ran.iter().map(text).collect();
    assert_eq!(said[1], "([[1, 2]], 2, 3, 6)");
    assert_eq!(said[3], "(3, \"limit\")");
    assert_eq!(said[4], "([97, 98, 99], 2)");
    assert_eq!(said[5], "4");
    assert!(said[8].contains("type annotations needed"), "{said:?}");
    for (cell, place) in [(6, "[7]:1:14"), (7, "[8]:1:12")] {
        let traceback = ran[cell]["outputs"][0]["traceback"].to_string();
        assert!(
            traceback.contains(place) && traceback.contains("unexpected end of input"),
            "{traceback}"
        );
    }
}
