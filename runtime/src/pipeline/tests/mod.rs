mod execute;
mod explain;
mod resolve;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::*;
use crate::run::{Machine, Runtime};
use crate::sandbox::{Engine, EngineOptions, Interrupt};
use crate::store::Store;

/// The imports, memory and helper functions of the test modules.
const PRELUDE: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func $write (param $fd i32) (param $at i32) (param $len i32)
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $len))
        (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
    (func $read (param $fd i32) (result i32)
        (i32.store (i32.const 0) (i32.const 4096))
        (i32.store (i32.const 4) (i32.const 4096))
        (if (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (i32.load (i32.const 8)))
    (func $open (param $path i32) (param $len i32) (param $flags i32) (param $rights i64) (result i32)
        (if (call $path_open (i32.const 3) (i32.const 0) (local.get $path) (local.get $len) (local.get $flags)
                (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
        (i32.load (i32.const 16)))
"#;

/// A program with the body `body`.
fn program(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {PRELUDE} (func (export \"_start\") {body}))")).unwrap()
}

/// A program that writes its stdin to stdout.
fn cat() -> Vec<u8> {
    program("(call $write (i32.const 1) (i32.const 4096) (call $read (i32.const 0)))")
}

/// A module with a step `copy` that copies the input `rows` to the output `rows` and ignores its parameter `depth`, and with steps that
/// declare other types. `note` changes the module's digest but not its behavior.
fn steps(note: &str) -> Vec<u8> {
    let step = |name: &str, reads: &str, makes: &str| {
        let step = json!({
            "lockstep": 1, "step": name,
            "inputs": [{"name": "rows", "media_type": reads}],
            "parameters": [{"name": "depth", "kind": "integer", "default": 3}],
            "outputs": [{"name": "rows", "media_type": makes}],
        });
        format!("{step}\n")
    };
    let directory = "application/vnd.lockstep.directory+json";
    let section = step("copy", "text/csv", "text/csv")
        + &step("json", "application/json", "application/json")
        + &step("draw", "image/svg+xml", "image/svg+xml")
        + &step("join", directory, "text/csv");
    let body = "(local $len i32)
        (local.set $len (call $read (call $open (i32.const 1024) (i32.const 7) (i32.const 0) (i64.const 2))))
        (call $write (call $open (i32.const 1031) (i32.const 8) (i32.const 9) (i64.const 64)) (i32.const 4096) (local.get $len))";
    wat::parse_str(format!(
        "(module {PRELUDE} (data (i32.const 1024) \"in/rowsout/rows\") (func (export \"_start\") {body})
            (@custom \"lockstep:interface\" {section:?}) (@custom \"note\" {note:?}))"
    ))
    .unwrap()
}

/// A clock that advances with each reading.
fn tick() -> SystemTime {
    static TICKS: AtomicU64 = AtomicU64::new(1);
    SystemTime::UNIX_EPOCH + Duration::from_secs(TICKS.fetch_add(1, Ordering::Relaxed))
}

/// A directory with modules and files, and a runtime.
struct Case {
    directory: tempfile::TempDir,
    runtime: Runtime,
}

impl Case {
    fn new() -> Self {
        let machine = Machine {
            name: "test".into(),
            version: "0".into(),
            clock: tick,
        };
        let engine = Engine::new(&EngineOptions::default()).unwrap();
        let case = Self {
            directory: tempfile::tempdir().unwrap(),
            runtime: Runtime::new(engine, Store::temporary().unwrap(), machine),
        };
        case.write("m.wasm", steps(""));
        case.write("cat.wasm", cat());
        case.write("trap.wasm", program("unreachable"));
        case.write("endless.wasm", program("(loop br 0)"));
        case.write("raw.csv", "x\n1\n");
        case
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn resolve_with(&self, yaml: &str, given: &Arguments) -> Result<Plan, PipelineError> {
        let file = self.directory.path().join("p.yaml");
        Pipeline::parse(&file, yaml.to_owned())?.resolve(&self.runtime, given)
    }

    /// Returns the plan of these tasks, one per line.
    fn plan(&self, tasks: &str) -> Plan {
        let tasks: Vec<_> = tasks.lines().map(|line| format!("  {}\n", line.trim_start())).collect();
        self.resolve_with(&format!("name: p\ntasks:\n{}", tasks.concat()), &Arguments::default())
            .unwrap()
    }

    fn error(&self, yaml: &str) -> String {
        let text = self.resolve_with(yaml, &Arguments::default()).unwrap_err().to_string();
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }

    /// Returns the first line of the error for a pipeline with one task `a`, whose text starts at column 6 of line 3.
    fn head(&self, task: &str) -> String {
        let text = self.error(&format!("name: p\ntasks:\n  a: {task}\n"));
        text.lines().next().unwrap().to_owned()
    }

    fn execute(&self, plan: &Plan, execution: &Execution) -> Executed {
        execute(&self.runtime, plan, execution, &Interrupt::default(), &mut |_| ()).unwrap()
    }

    /// Executes the plan, and returns the result of each task.
    fn ends(&self, plan: &Plan, execution: &Execution) -> Vec<(String, String)> {
        let tasks = self.execute(plan, execution).tasks.into_iter();
        tasks.map(|done| (done.task, word(&done.end))).collect()
    }

    /// Returns the content of a task's output.
    fn text(&self, executed: &Executed, task: &str, output: &str) -> String {
        let done = executed.tasks.iter().find(|done| done.task == task).unwrap();
        let End::Ran(ran) = &done.end else {
            panic!("{task}: {:?}", done.end)
        };
        let bytes = self.runtime.store.get(&ran.record.outputs[output].digest).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }
}

fn word(end: &End) -> String {
    match end {
        End::Ran(ran) if ran.cached => format!("cached, {}", ran.record.outcome),
        End::Ran(ran) => ran.record.outcome.to_string(),
        End::Skipped(Skipped::When(when)) => format!("not {when}"),
        End::Skipped(Skipped::After(task)) => format!("after {task}"),
        End::Error(error) => error.to_string(),
        End::Empty => "no instances".to_owned(),
        End::NotStarted => "not started".to_owned(),
    }
}

fn jobs(jobs: usize) -> Execution {
    Execution {
        jobs: jobs.try_into().unwrap(),
        backoff: Duration::from_millis(1),
        ..Execution::default()
    }
}

fn named(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(task, end)| (task.as_str(), end.as_str())).collect()
}

/// Returns a task that runs `cat` with its input from `source`.
fn cat_of(name: &str, source: &str) -> String {
    format!("{name}: {{ program: cat.wasm, stdin: i, stdout: o, inputs: {{ i: {source} }}, outputs: {{ o: text/plain }} }}")
}
