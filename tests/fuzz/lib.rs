//! Fuzz targets. Each takes any bytes, and panics where the product has a fault.
//!
//! `make fuzz` fuzzes them with libFuzzer. Their corpora are in `corpus/`, a directory for each; the integration tests replay them.

// the same source is compiled for the sandbox
mod calls;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::LazyLock;
use std::time::SystemTime;

use arbitrary::Unstructured;
use lockstep_kernel::cell::{Rust, parse};
use lockstep_kernel::jupyter::of_rust;
use lockstep_kernel::wire::decode_unsigned;
use lockstep_kubeflow::local;
use lockstep_registry::Reference;
use lockstep_runtime::bundle::{Bundle, oci::blob_name};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Arguments, Pipeline, Plan};
use lockstep_runtime::run::{Entry, Input, Machine, Ran, Reuse, Run, Runtime};
use lockstep_runtime::sandbox::{Engine, EngineOptions, Interrupt, SandboxError, Target as Code};
use lockstep_runtime::step::{Failure, Limits, Outcome};
use lockstep_runtime::store::Store;
use wasm_smith::Config;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("message", message),
    ("cell", cell),
    ("pipeline", pipeline),
    ("kubeflow", kubeflow),
    ("bundle", bundle),
    ("files", files),
    ("module", module),
];

/// Decodes a message of Jupyter. A byte 0xff separates its frames.
pub fn message(data: &[u8]) {
    decode_unsigned(data.split(|byte| *byte == 0xff));
}

/// Parses a cell.
pub fn cell(data: &[u8]) {
    let Ok(code) = std::str::from_utf8(data) else { return };
    of_rust(code);
    if let Ok(parsed) = parse(code) {
        assert_eq!(parsed.rust.len(), code.len());
        let _ = Rust::parse(&parsed.rust);
    }
}

/// Parses a pipeline or a plan, and resolves a pipeline that names no files but a program and a table.
pub fn pipeline(data: &[u8]) {
    if let Ok(plan) = Plan::read(data) {
        let again = serde_json::to_vec(&plan).expect("a plan is JSON");
        let again = Plan::read(&again).expect("a plan that was read can be read again");
        assert_eq!(plan.digest().ok(), again.digest().ok());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("step.wasm"), PROGRAM.as_slice()).expect("a file");
    fs::write(directory.path().join("rows.csv"), "a,b\n1,x\n2,y\n").expect("a file");
    let file = directory.path().join("pipeline.yaml");
    let Ok(parsed) = Pipeline::parse(&file, text.to_owned()) else {
        return;
    };
    if !text.contains(['/', '\\']) && !text.contains("..") {
        let _ = parsed.resolve(&runtime(Code::Native), &Arguments::default());
    }
}

/// Parses a pipeline of Kubeflow, and makes a plan of it.
pub fn kubeflow(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(Some(spec)) = local::parse(text) else { return };
    let runtime = runtime(Code::Native);
    let module = runtime.store.put(PROGRAM.clone()).expect("a temporary store");
    let bind = |_: &[String], _| Ok((program(module, BTreeMap::new()), Default::default()));
    let _ = local::plan(&runtime, &spec, Default::default(), &bind);
}

/// Opens a bundle. The input is its blobs, separated by lines `%%`; the last is its index. `{N}` is the digest of blob N, and `{#N}` its size.
/// Without such lines, the input is a reference to a registry.
pub fn bundle(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut blobs: Vec<(String, usize)> = Vec::new();
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, content).expect("a file");
    };
    let mut sections = text.split("\n%%\n").peekable();
    while let Some(section) = sections.next() {
        let mut content = section.to_owned();
        for (number, (digest, size)) in blobs.iter().enumerate() {
            content = content.replace(&format!("{{{number}}}"), digest);
            content = content.replace(&format!("{{#{number}}}"), &size.to_string());
        }
        if sections.peek().is_none() {
            write("index.json", &content);
        } else {
            let digest = Digest::of(content.as_bytes());
            write(&blob_name(&digest), &content);
            blobs.push((digest.to_string(), content.len()));
        }
    }
    if blobs.is_empty() {
        if let Ok(reference) = text.parse::<Reference>() {
            assert_eq!(reference.to_string().parse().ok(), Some(reference));
        }
        return;
    }
    write("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    if let Ok(bundle) = Bundle::open(directory.path())
        && bundle.verify(&mut |_| ()).is_ok()
    {
        let store = Store::temporary().expect("a temporary store");
        bundle.take(&store, &mut |_| ()).expect("a verified bundle can be taken");
    }
}

/// Plays calls of `std::fs` here and in the sandbox, which must return the same.
pub fn files(data: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let here = calls::play(data, directory.path());
    let runtime = runtime(Code::Native);
    let module = runtime.store.put(GUEST.clone()).expect("a temporary store");
    let input = runtime.store.put_artifact(data.to_vec(), &Default::default());
    let input = Input {
        artifact: input.expect("a temporary store"),
        at: None,
    };
    let run = program(module, BTreeMap::from([("calls".to_owned(), input)]));
    let (ran, said) = execute(&runtime, &run);
    assert_eq!(ran.record.outcome, Outcome::Succeeded, "{said}");
    for (number, (sandboxed, native)) in said.lines().zip(here.lines()).enumerate() {
        assert_eq!(
            sandboxed, native,
            "line {number}: the sandbox (left) differs from this machine (right):\n{here}"
        );
    }
    assert_eq!(said, here);
}

/// Runs a generated module with each code generator, which must end in the same way.
pub fn module(data: &[u8]) {
    let config = Config {
        available_imports: Some(IMPORTS.clone()),
        exports: Some(EXPORTS.clone()),
        max_memory32_bytes: 1 << 24,
        max_table_elements: 1 << 12,
        // what the engine does not have
        compact_imports_enabled: false,
        custom_page_sizes_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        memory64_enabled: false,
        // the engine has no collector, so no `externref`
        reference_types_enabled: false,
        shared_everything_threads_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        max_memories: 1,
        ..Config::default()
    };
    let Ok(generated) = wasm_smith::Module::new(config, &mut Unstructured::new(data)) else {
        return;
    };
    let wasm = generated.to_bytes();
    let mut ends = Vec::new();
    for code in [Code::Native, Code::Pulley] {
        let runtime = runtime(code);
        let digest = runtime.store.put(wasm.clone()).expect("a temporary store");
        match runtime.engine.load(&wasm, &digest) {
            Ok(_) => {}
            Err(SandboxError::Budget { .. }) => return,
            Err(error) => panic!("{error}"),
        }
        let (ran, said) = execute(&runtime, &program(digest, BTreeMap::new()));
        ends.push((ran.record.outcome.clone(), ran.record.usage.map(|usage| usage.fuel), said));
    }
    // the maximum depth of a stack depends on the code generator
    let overflows = ends.iter().any(|(outcome, ..)| *outcome == Outcome::Failed(Failure::Stack));
    assert!(overflows || ends[0] == ends[1], "{ends:?}");
}

/// The guest of [`files`].
static GUEST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let (source, module) = (
        concat!(env!("CARGO_MANIFEST_DIR"), "/guest.rs"),
        directory.path().join("guest.wasm"),
    );
    let flags = ["--edition=2024", "--target=wasm32-wasip1", "-Copt-level=s", source, "-o"];
    let done = Command::new("rustc").args(flags).arg(&module).status();
    assert!(done.is_ok_and(|status| status.success()), "rustc did not compile {source}");
    fs::read(module).expect("the guest")
});

/// A program that does nothing.
static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let text = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
    wat::parse_str(text).expect("a module")
});

/// What a generated module exports.
static EXPORTS: LazyLock<Vec<u8>> = LazyLock::new(|| wat::parse_str(r#"(module (func (export "_start")))"#).expect("a module"));

/// The functions that a generated module may import.
static IMPORTS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let functions = [
        ("args_sizes_get", "i32 i32"),
        ("clock_time_get", "i32 i64 i32"),
        ("environ_get", "i32 i32"),
        ("fd_close", "i32"),
        ("fd_fdstat_get", "i32 i32"),
        ("fd_prestat_get", "i32 i32"),
        ("fd_read", "i32 i32 i32 i32"),
        ("fd_readdir", "i32 i32 i32 i64 i32"),
        ("fd_seek", "i32 i64 i32 i32"),
        ("fd_write", "i32 i32 i32 i32"),
        ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
        ("poll_oneoff", "i32 i32 i32 i32"),
        ("random_get", "i32 i32"),
    ];
    let import = |(name, parameters): (&str, &str)| {
        format!(r#"(import "wasi_snapshot_preview1" "{name}" (func (param {parameters}) (result i32)))"#)
    };
    wat::parse_str(format!("(module {})", functions.map(import).concat())).expect("a module")
});

/// Returns a runtime with an empty store in memory. The engines are shared.
fn runtime(code: Code) -> Runtime {
    static ENGINES: LazyLock<[Engine; 2]> = LazyLock::new(|| {
        [Code::Native, Code::Pulley].map(|target| {
            let options = EngineOptions {
                target,
                ..EngineOptions::default()
            };
            Engine::new(&options).expect("an engine")
        })
    });
    let machine = Machine {
        name: "fuzz".to_owned(),
        version: "fuzz".to_owned(),
        clock: SystemTime::now,
    };
    let engine = ENGINES[usize::from(code == Code::Pulley)].clone();
    Runtime::new(engine, Store::temporary().expect("a temporary store"), machine)
}

fn program(module: Digest, inputs: BTreeMap<String, Input>) -> Run {
    Run {
        module,
        entry: Entry::Program {
            args: vec!["program".to_owned()],
            env: BTreeMap::new(),
            stdin: None,
            stdout: None,
        },
        inputs,
        outputs: BTreeMap::new(),
        modules: BTreeMap::new(),
        seed: 0,
    }
}

/// Executes a run within small limits. Returns also what it wrote to stdout and stderr.
fn execute(runtime: &Runtime, run: &Run) -> (Ran, String) {
    let limits = Limits {
        memory: 64 << 20,
        fuel: 20_000_000,
        output: 16 << 20,
        ..Limits::default()
    };
    let mut said = Vec::new();
    let ran = runtime.run(run, Reuse::Nothing, &limits, &Interrupt::default(), &mut |_, bytes| {
        said.extend_from_slice(bytes);
    });
    (ran.expect("a run has a record"), String::from_utf8_lossy(&said).into_owned())
}
