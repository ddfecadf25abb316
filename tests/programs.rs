//! Plain programs in C, Go and Python (CPython is the module) have the same record in the sandbox, at two optimisation
//! levels, and on the command line. `make test` installs the compilers from PyPI.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use lockstep_runtime::run::{Entry, Input, Ran, Reuse, Run, Runtime};
use lockstep_runtime::sandbox::{EngineOptions, Interrupt, Target};
use lockstep_runtime::step::{Failure, GuestPath, Limits, MediaType, Outcome};
use serde_json::json;

use crate::setup::{Place, ROOT, python, runtime};

/// A plain program with its arguments and inputs.
struct Program {
    wasm: Vec<u8>,
    args: Vec<String>,
    /// Name, text, and path in the guest.
    inputs: Vec<(&'static str, String, &'static str)>,
    stdin: bool,
}

fn source(name: &str) -> PathBuf {
    Path::new(ROOT).join("tests/programs").join(name)
}

/// Compiles a source file with one of the compilers that `make test` installs.
fn compiled(command: &mut Command, name: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let wasm = directory.path().join("program.wasm");
    let output = command.arg("-o").arg(&wasm).arg(source(name)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(wasm).unwrap()
}

fn c() -> Vec<u8> {
    let mut zig = Command::new(python());
    zig.args(["-m", "ziglang", "cc", "--target=wasm32-wasi", "-Os", "-g"]);
    compiled(&mut zig, "count.c")
}

impl Program {
    fn run(&self, runtime: &Runtime) -> Run {
        let put = |text: &String| runtime.store.put_artifact(text.clone(), &MediaType::default()).unwrap();
        let inputs = self.inputs.iter().map(|(name, text, at)| {
            let at = Some(GuestPath::try_from(at.to_string()).unwrap());
            (name.to_string(), Input { artifact: put(text), at })
        });
        let text = MediaType::new(MediaType::TEXT);
        Run {
            module: runtime.store.put(self.wasm.clone()).unwrap(),
            entry: Entry::Program {
                args: self.args.clone(),
                env: BTreeMap::from([("LABEL".to_owned(), "words".to_owned())]),
                stdin: self.stdin.then(|| "text".to_owned()),
                stdout: Some("printed".to_owned()),
            },
            inputs: inputs.collect(),
            outputs: BTreeMap::from([("made".to_owned(), text.clone()), ("printed".to_owned(), text)]),
            modules: BTreeMap::new(),
            seed: 7,
        }
    }

    fn sandboxed(&self, options: &EngineOptions) -> (Runtime, Ran) {
        let runtime = runtime(options);
        let run = self.run(&runtime);
        let ran = runtime.run(
            &run,
            Reuse::Records,
            &Limits::default(),
            &Interrupt::default(),
            &mut |_, _| (),
        );
        (runtime, ran.unwrap())
    }

    fn on_command_line(&self, place: &Place) -> serde_json::Value {
        std::fs::write(place.path("program.wasm"), &self.wasm).unwrap();
        let mut arguments: Vec<String> = [
            "run",
            "program.wasm",
            "--seed=7",
            "--env=LABEL=words",
            "--output=made:text/plain",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push("--stdout=printed:text/plain".to_owned());
        for (name, text, at) in &self.inputs {
            std::fs::write(place.path(name), text).unwrap();
            arguments.push(format!("--input={name}={name}@{at}"));
        }
        arguments.extend(self.stdin.then(|| "--stdin=text".to_owned()));
        // like `Place::json`, but with the program's arguments last
        arguments.push("--json".to_owned());
        arguments.push("--".to_owned());
        arguments.extend(self.args.iter().cloned());
        let output = place
            .lockstep(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }
}

fn text(runtime: &Runtime, ran: &Ran, output: &str) -> String {
    assert!(ran.record.outcome.succeeded(), "{}", ran.record.outcome);
    let bytes = runtime.store.get(&ran.record.outputs[output].digest).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unoptimised() -> EngineOptions {
    EngineOptions {
        optimise: false,
        ..EngineOptions::default()
    }
}

fn on_pulley() -> EngineOptions {
    EngineOptions {
        target: Target::Pulley,
        ..EngineOptions::default()
    }
}

#[test]
fn a_program_in_c() {
    let mut program = Program {
        wasm: c(),
        args: vec!["/usr/share/words".into()],
        inputs: vec![
            ("text", "one two\nthree".into(), "/data/text"),
            ("words", " a b  c d\n".into(), "/usr/share/words"),
        ],
        stdin: true,
    };
    let (store, ran) = program.sandboxed(&EngineOptions::default());
    assert_eq!(text(&store, &ran, "printed"), "words: stdin 3\nwords: /usr/share/words 4\n");
    assert_eq!(text(&store, &ran, "made"), "made by C\n");
    assert_eq!(program.sandboxed(&on_pulley()).1.record, ran.record);
    let on_command_line = program.on_command_line(&Place::new());
    assert_eq!(on_command_line["record"], json!(ran.digest), "{on_command_line:#}");

    program.args.push("0".into());
    let (_, ran) = program.sandboxed(&EngineOptions::default());
    let rule = "integer divide by zero".to_owned();
    assert_eq!(ran.record.outcome, Outcome::Failed(Failure::Trap { rule }));
    let backtrace = ran.observed.backtrace.unwrap();
    assert!(backtrace.contains("programs/count.c:23"), "{backtrace}");
}

#[test]
fn a_program_in_go() {
    let mut go = Command::new(python().with_file_name("go"));
    go.args(["build", "-trimpath"]).env("GOOS", "wasip1").env("GOARCH", "wasm");
    let program = Program {
        wasm: compiled(&mut go, "probe.go"),
        args: vec!["an argument".into()],
        inputs: vec![("text", "some text".into(), "/in/text")],
        stdin: false,
    };
    let (store, ran) = program.sandboxed(&EngineOptions::default());
    let printed = text(&store, &ran, "printed");
    assert!(
        printed.contains("[an argument] [LABEL=words]") && printed.contains("some text <nil>"),
        "{printed}"
    );
    assert_eq!(text(&store, &ran, "made"), "made by Go\n");
    assert_eq!(program.sandboxed(&unoptimised()).1.record, ran.record);
    assert_eq!(program.sandboxed(&on_pulley()).1.record, ran.record);
    let on_command_line = program.on_command_line(&Place::new());
    assert_eq!(on_command_line["record"], json!(ran.digest), "{on_command_line:#}");
}

#[test]
fn a_script_in_python() {
    let site = Command::new(python())
        .args(["-c", "import site; print(site.getsitepackages()[0])"])
        .output()
        .unwrap();
    let site = String::from_utf8(site.stdout).unwrap();
    let program = Program {
        wasm: std::fs::read(Path::new(site.trim_end()).join("bin/python.wasm")).unwrap(),
        args: vec!["/data/probe.py".into(), "an argument".into()],
        inputs: vec![
            (
                "script",
                std::fs::read_to_string(source("probe.py")).unwrap(),
                "/data/probe.py",
            ),
            ("text", "some text\n".into(), "/data/text"),
        ],
        stdin: false,
    };
    let on_command_line = program.on_command_line(&Place::new());
    let (store, ran) = program.sandboxed(&unoptimised());
    assert_eq!(text(&store, &ran, "printed"), "SOME TEXT\n");
    assert_eq!(on_command_line["record"], json!(ran.digest), "{on_command_line:#}");
}
