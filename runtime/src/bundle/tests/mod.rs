mod hostile;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::digest::{Digest, canonical_json};
use crate::pipeline::{End, Executed, Execution, Plan, execute};
use crate::run::{Entry, Input, Machine, Reuse, Run, Runtime};
use crate::sandbox::{Engine, EngineOptions, Interrupt};
use crate::step::MediaType;
use crate::store::{Runs, Store};

/// A program that writes its stdin to stdout.
const CAT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\00\10\00\00\00\10\00\00")
    (func (export "_start")
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))))"#;

fn runtime() -> Runtime {
    let machine = Machine {
        name: "test".into(),
        version: "0".into(),
        clock: || UNIX_EPOCH,
    };
    let engine = Engine::new(&EngineOptions::default()).unwrap();
    Runtime::new(engine, Store::temporary().unwrap(), machine)
}

/// A plan with one task: `cat` of a text, with an unused directory input.
fn plan(runtime: &Runtime) -> Plan {
    let store = &runtime.store;
    let text = MediaType::new(MediaType::TEXT);
    let a = store.put_artifact("a file of the directory", &text).unwrap();
    let directory = store.put_directory(&BTreeMap::from([("sub/a.txt".to_owned(), a)])).unwrap();
    let inputs = [
        ("directory", directory),
        ("text", store.put_artifact("hello\n", &text).unwrap()),
    ];
    let run = Run {
        module: store.put(wat::parse_str(CAT).unwrap()).unwrap(),
        entry: Entry::Program {
            args: vec![],
            env: BTreeMap::new(),
            stdin: Some("text".to_owned()),
            stdout: Some("copy".to_owned()),
        },
        inputs: inputs.map(|(name, artifact)| (name.to_owned(), Input::from(artifact))).into(),
        outputs: BTreeMap::from([("copy".to_owned(), text)]),
        modules: BTreeMap::new(),
        seed: 0,
    };
    Plan::of_run("cat", run)
}

fn carry_out(runtime: &Runtime, plan: &Plan) -> Executed {
    let execution = Execution {
        reuse: Reuse::Nothing,
        ..Execution::default()
    };
    execute(runtime, plan, &execution, &Interrupt::default(), &mut |_| ()).unwrap()
}

fn contents(outputs: bool) -> Contents {
    let runtime = runtime();
    let plan = plan(&runtime);
    Contents::gather(&runtime, &plan, &carry_out(&runtime, &plan), outputs).unwrap()
}

#[test]
fn the_same_plan_gives_the_same_bytes_as_tar_and_as_directory() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    contents(true).write(&path("a.tar")).unwrap();
    contents(true).write(&path("b.tar")).unwrap();
    contents(true).write(&path("c")).unwrap();
    Bundle::open(&path("c")).unwrap().write(&path("d.tar")).unwrap();
    let a = std::fs::read(path("a.tar")).unwrap();
    assert!(a == std::fs::read(path("b.tar")).unwrap());
    assert!(a == std::fs::read(path("d.tar")).unwrap());
    let error = contents(true).write(&path("c")).unwrap_err();
    assert!(matches!(error, BundleError::Exists { path: at } if at == path("c")));
    let error = contents(true).write(&path("c.tar.gz")).unwrap_err();
    assert!(matches!(error, BundleError::Compressed { .. }));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 4, "no other files remain");
}

#[test]
fn what_is_in_it_is_what_its_plan_needs() {
    let place = tempfile::tempdir().unwrap();
    let items = |outputs: bool| {
        let path = place.path().join(format!("{outputs}.tar"));
        contents(outputs).write(&path).unwrap();
        let bundle = Bundle::open(&path).unwrap();
        bundle.verify(&mut |_| ()).unwrap();
        let items = bundle.items().iter();
        items
            .map(|item| format!("{} {}", item.role.word(), item.name))
            .collect::<Vec<_>>()
    };
    let needed = [
        "module cat",
        "input cat.directory",
        "input cat.directory/sub/a.txt",
        "input cat.text",
    ];
    assert_eq!(items(false), needed);
    // the output `copy` equals the input `text`, so only the log is new
    assert_eq!(items(true), [&needed[..], &["output cat.(log)"]].concat());
}

#[test]
fn a_replay_in_another_store_comes_to_the_same_and_claims_stay_claims() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("bundle.tar");
    contents(false).write(&path).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    let other = runtime();
    bundle.take(&other.store, &mut |_| ()).unwrap();
    assert_eq!(
        other.runs(&Runs::newest(10)).unwrap(),
        [],
        "records of a bundle answer no runs"
    );
    let compared = compare(bundle.expected(), &carry_out(&other, bundle.plan())).unwrap();
    let names: Vec<_> = compared.iter().map(|row| (row.what.as_str(), row.is_equal())).collect();
    assert_eq!(names, [("(log)", true), ("copy", true)]);
}

/// A plan with one task, which calls the step `hello` of another module. The step writes `hello` to its log.
fn calling_plan(runtime: &Runtime) -> Plan {
    let step = json!({ "lockstep": 1, "step": "hello", "inputs": [], "parameters": [], "outputs": [] });
    let section = format!("{step}\n");
    let steps = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00")
            (data (i32.const 16) "hello\n")
            (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))))
            (@custom "lockstep:interface" {section:?}))"#
    );
    let calls = r#"(module
        (import "lockstep" "call" (func $call (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "{\"module\":\"steps\",\"step\":\"hello\"}")
        (func (export "_start") (if (call $call (i32.const 16) (i32.const 33) (i32.const 0)) (then unreachable))))"#;
    let store = &runtime.store;
    let run = Run {
        module: store.put(wat::parse_str(calls).unwrap()).unwrap(),
        entry: Entry::Program {
            args: vec![],
            env: BTreeMap::new(),
            stdin: None,
            stdout: None,
        },
        inputs: BTreeMap::new(),
        outputs: BTreeMap::new(),
        modules: BTreeMap::from([("steps".to_owned(), store.put(wat::parse_str(steps).unwrap()).unwrap())]),
        seed: 0,
    };
    Plan::of_run("calls", run)
}

#[test]
fn a_run_that_calls_steps_is_replayed_with_the_modules_that_it_calls() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("bundle.tar");
    let here = runtime();
    let plan = calling_plan(&here);
    let executed = carry_out(&here, &plan);
    Contents::gather(&here, &plan, &executed, false)
        .unwrap()
        .write(&path)
        .unwrap();
    let bundle = Bundle::open(&path).unwrap();
    let items: Vec<_> = bundle
        .items()
        .iter()
        .map(|item| (item.role.word(), item.artifact.digest))
        .collect();
    let run = &plan.tasks()[0].run;
    let mut modules = [("module", run.module), ("module", run.modules["steps"])];
    let mut found = items;
    modules.sort();
    found.sort();
    assert_eq!(found, modules);

    let other = runtime();
    bundle.take(&other.store, &mut |_| ()).unwrap();
    let replayed = carry_out(&other, bundle.plan());
    let compared = compare(bundle.expected(), &replayed).unwrap();
    let names: Vec<_> = compared.iter().map(|row| (row.what.as_str(), row.is_equal())).collect();
    assert_eq!(names, [("(log)", true)]);
    let End::Ran(ran) = &replayed.tasks[0].end else {
        panic!("{:?}", replayed.tasks[0].end)
    };
    let [called] = ran.record.called[..] else {
        panic!("{:?}", ran.record.called)
    };
    let (called, _) = other.record(&called).unwrap().unwrap();
    assert_eq!((called.run.module, called.outcome.succeeded()), (run.modules["steps"], true));
}

#[test]
fn modules_are_artifacts_of_their_own() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("layout");
    contents(false).write(&path).unwrap();
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(path.join(name)).unwrap()).unwrap() };
    let blob = |digest: &Value| {
        read(&format!(
            "blobs/sha256/{}",
            digest.as_str().unwrap().trim_start_matches("sha256:")
        ))
    };
    let manifest = blob(&read("index.json")["manifests"][1]["digest"]);
    let module = Digest::of(wat::parse_str(CAT).unwrap());
    assert_eq!(manifest["layers"][0]["digest"], json!(module));
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    let config = json!({
        "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip1", "layerDigests": [module],
    });
    assert_eq!(blob(&manifest["config"]["digest"]), config);
}
