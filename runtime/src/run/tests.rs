use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use super::*;
use crate::sandbox::EngineOptions;
use crate::step::{Artifact, Failure, Limit, MediaType, Outcome};

/// A program with this `_start`. Its function `$hello` writes `hello` to stdout.
fn module(body: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00")
            (data (i32.const 16) "hello\n")
            (func $hello (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))))
            (func (export "_start") {body}))"#
    ))
    .unwrap()
}

fn runtime() -> Runtime {
    let machine = Machine {
        name: "test".into(),
        version: "0".into(),
        clock: || UNIX_EPOCH,
    };
    Runtime::new(
        Engine::new(&EngineOptions::default()).unwrap(),
        Store::temporary().unwrap(),
        machine,
    )
}

fn program(runtime: &Runtime, body: &str, stdout: Option<&str>) -> Run {
    let stdout = stdout.map(str::to_owned);
    Run {
        module: runtime.store.put(module(body)).unwrap(),
        outputs: stdout
            .iter()
            .map(|name| (name.clone(), MediaType::new(MediaType::TEXT)))
            .collect(),
        entry: Entry::Program {
            args: vec![],
            env: BTreeMap::new(),
            stdin: None,
            stdout,
        },
        inputs: BTreeMap::new(),
        modules: BTreeMap::new(),
        seed: 0,
    }
}

fn run(runtime: &Runtime, run: &Run, limits: &Limits) -> (Ran, String) {
    let mut text = String::new();
    let mut log = |_: Stream, bytes: &[u8]| text.push_str(&String::from_utf8_lossy(bytes));
    let ran = runtime
        .run(run, Reuse::Records, limits, &Interrupt::default(), &mut log)
        .unwrap();
    (ran, text)
}

#[test]
fn the_second_time_it_is_found_with_its_log() {
    let runtime = runtime();
    let hello = program(&runtime, "call $hello", None);
    let (first, text) = run(&runtime, &hello, &Limits::default());
    assert!(first.record.outcome.succeeded() && !first.cached);
    let (second, again) = run(&runtime, &hello, &Limits::default());
    assert!(second.cached);
    assert_eq!((text.as_str(), again.as_str()), ("hello\n", "hello\n"));
    assert_eq!((second.record, second.digest), (first.record, first.digest));
}

/// A program that writes `hello` to stdout, as bytes, so that no assembler can change it.
const HELLO: &[u8] =
    b"\x00asm\x01\x00\x00\x00\x01\x0c\x02`\x04\x7f\x7f\x7f\x7f\x01\x7f`\x00\x00\x02#\x01\x16wasi_snapshot_preview1\x08\
    fd_write\x00\x00\x03\x02\x01\x01\x05\x03\x01\x00\x01\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x01\x0a\x0f\x01\
    \x0d\x00A\x01A\x00A\x01A\x0c\x10\x00\x1a\x0b\x0b\x1c\x01\x00A\x00\x0b\x16\x10\x00\x00\x00\x06\x00\x00\x00\x00\x00\
    \x00\x00\x00\x00\x00\x00hello\x0a";

/// Results are found by these digests. If one changes, the changelog must say so: earlier results are then not found.
#[test]
fn the_same_as_ever() {
    let runtime = runtime();
    let hello = |entry, outputs: &[(&str, &str)]| Run {
        module: runtime.store.put(HELLO).unwrap(),
        outputs: outputs
            .iter()
            .map(|(name, of)| ((*name).to_owned(), MediaType::new(*of)))
            .collect(),
        entry,
        inputs: BTreeMap::new(),
        modules: BTreeMap::new(),
        seed: 7,
    };
    let program = |stdout: Option<&str>| Entry::Program {
        args: vec!["-l".to_owned()],
        env: BTreeMap::from([("LANG".to_owned(), "C".to_owned())]),
        stdin: None,
        stdout: stdout.map(str::to_owned),
    };
    let text = runtime.store.put_artifact("a,b\n", &MediaType::new(MediaType::CSV)).unwrap();
    let directory = BTreeMap::from([("b".to_owned(), text.clone()), ("a/c".to_owned(), text.clone())]);
    let directory = runtime.store.put_directory(&directory).unwrap();
    let (logged, _) = run(&runtime, &hello(program(None), &[]), &Limits::default());
    let (kept, _) = run(
        &runtime,
        &hello(program(Some("said")), &[("said", MediaType::TEXT)]),
        &Limits::default(),
    );
    let step = Run {
        inputs: BTreeMap::from([("raw".to_owned(), text.into()), ("tree".to_owned(), directory.clone().into())]),
        ..hello(
            Entry::Step {
                name: "clean".to_owned(),
                parameters: serde_json::from_str(r#"{"depth": 3, "name": "größe", "rate": 0.1}"#).unwrap(),
            },
            &[("rows", MediaType::TABLE)],
        )
    };
    let digests = [
        ("module", logged.record.run.module),
        ("key of a program", logged.record.key.0),
        ("record", logged.digest),
        ("log", logged.record.log.unwrap().digest),
        ("record with an output", kept.digest),
        ("key of a step", step.key().unwrap().0),
        ("directory", directory.digest),
    ];
    let expected = [
        ("module", "bf3b592c4f4b"),
        ("key of a program", "968745b6e828"),
        ("record", "c1bd37b08721"),
        ("log", "2457fd8ad98f"),
        ("record with an output", "102abc62885c"),
        ("key of a step", "5fd2a24a8944"),
        ("directory", "4dbbf58edfc7"),
    ];
    assert_eq!(
        digests.map(|(what, digest)| (what, digest.short())),
        expected.map(|(what, digest)| (what, digest.to_owned()))
    );
    assert_eq!(logged.record.usage.unwrap().fuel, 6);
}

#[test]
fn stdout_can_be_an_output() {
    let runtime = runtime();
    let (ran, text) = run(&runtime, &program(&runtime, "call $hello", Some("said")), &Limits::default());
    assert_eq!(ran.record.outputs["said"].digest, Digest::of("hello\n"));
    assert_eq!(text, "");
}

#[test]
fn a_record_answers_under_all_limits_that_change_nothing() {
    let runtime = runtime();
    let endless = program(&runtime, "(loop br 0)", None);
    let fuel = |fuel| Limits {
        fuel,
        ..Limits::default()
    };
    let (ran, _) = run(&runtime, &endless, &fuel(1000));
    assert_eq!(
        ran.record.outcome,
        Outcome::Failed(Failure::Limit {
            limit: Limit::Fuel,
            value: 1000
        })
    );
    assert!(run(&runtime, &endless, &fuel(1000)).0.cached);
    assert!(!run(&runtime, &endless, &fuel(2000)).0.cached);
    let hello = program(&runtime, "call $hello", None);
    let used = run(&runtime, &hello, &Limits::default()).0.record.usage.unwrap().fuel;
    assert!(run(&runtime, &hello, &fuel(used)).0.cached);
    assert!(!run(&runtime, &hello, &fuel(used - 1)).0.cached);
}

#[test]
fn an_interrupted_run_is_recorded_and_never_found() {
    let runtime = runtime();
    let endless = program(&runtime, "(loop br 0)", None);
    let limits = Limits {
        time: Some(std::time::Duration::from_millis(20)),
        ..Limits::default()
    };
    for _ in 0..2 {
        let (ran, _) = run(&runtime, &endless, &limits);
        assert_eq!(ran.record.outcome.to_string(), "interrupted: the time limit was reached");
        assert!(!ran.cached);
    }
}

#[test]
fn every_field_is_part_of_the_key() {
    let runtime = runtime();
    let base = program(&runtime, "call $hello", Some("a"));
    let program = |args: &[&str], env: &[(&str, &str)], stdout: &str| Entry::Program {
        args: args.iter().map(|arg| arg.to_string()).collect(),
        env: env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        stdin: None,
        stdout: Some(stdout.into()),
    };
    let artifact = |text: &str, media_type| Artifact {
        digest: Digest::of(text),
        media_type,
        size: text.len() as u64,
    };
    let with_input = |name: &str, text: &str, media_type: &str| Run {
        inputs: BTreeMap::from([(name.to_owned(), artifact(text, MediaType::new(media_type)).into())]),
        ..base.clone()
    };
    let different = [
        base.clone(),
        Run {
            module: Digest::of("other"),
            ..base.clone()
        },
        Run { seed: 1, ..base.clone() },
        Run {
            entry: program(&["x"], &[], "a"),
            ..base.clone()
        },
        Run {
            entry: program(&[], &[("x", "")], "a"),
            ..base.clone()
        },
        Run {
            entry: program(&[], &[], "b"),
            ..base.clone()
        },
        Run {
            outputs: BTreeMap::new(),
            ..base.clone()
        },
        with_input("i", "x", MediaType::TEXT),
        with_input("j", "x", MediaType::TEXT),
        with_input("i", "y", MediaType::TEXT),
        with_input("i", "x", MediaType::DIRECTORY),
    ];
    let keys: std::collections::BTreeSet<_> = different.iter().map(|run| run.key().unwrap()).collect();
    assert_eq!(keys.len(), different.len());
    let (csv, text) = (with_input("i", "x", MediaType::CSV), with_input("i", "x", MediaType::TEXT));
    assert_eq!(csv.key().unwrap(), text.key().unwrap());
}

#[test]
fn the_same_run_asked_for_by_many_is_executed_once() {
    let runtime = runtime();
    let busy = program(
        &runtime,
        "(local $i i32) (loop (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3000000))))",
        None,
    );
    let executed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| run(&runtime, &busy, &Limits::default()).0.cached))
            .collect();
        threads
            .into_iter()
            .filter(|_| true)
            .map(|thread| thread.join().unwrap())
            .filter(|cached| !cached)
            .count()
    });
    assert_eq!(executed, 1);
}

#[test]
fn the_index_is_rebuilt_from_the_records() {
    let runtime = runtime();
    let (ran, _) = run(&runtime, &program(&runtime, "call $hello", Some("said")), &Limits::default());
    let before = runtime.runs(&crate::store::Runs::newest(9)).unwrap();
    let check = runtime.check().unwrap();
    assert_eq!((check.records, check.findings), (1, vec![]));
    assert_eq!(runtime.runs(&crate::store::Runs::newest(9)).unwrap(), before);
    assert_eq!(before[0].record, ran.digest);
}

/// A program that calls the step `hello` of the module `steps` twice.
fn caller(runtime: &Runtime, body: &str) -> Run {
    let steps = wat::parse_str(format!(
        r#"(module
            (@custom "lockstep:interface" "{{\"lockstep\":1,\"step\":\"hello\"}}\n")
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\10\00\00\00\06\00\00\00")
            (data (i32.const 16) "hello\n")
            (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12))) {body}))"#
    ));
    let calls = wat::parse_str(
        r#"(module
            (import "lockstep" "call" (func $call (param i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 16) "{\"module\":\"steps\",\"step\":\"hello\"}")
            (func $again
                (if (call $call (i32.const 16) (i32.const 33) (i32.const 0)) (then (call $exit (i32.const 3)))))
            (func (export "_start") (call $again) (call $again) (call $exit (i32.load (i32.const 0)))))"#,
    );
    let steps = runtime.store.put(steps.unwrap()).unwrap();
    Run {
        module: runtime.store.put(calls.unwrap()).unwrap(),
        modules: BTreeMap::from([("steps".to_owned(), steps)]),
        ..program(runtime, "", None)
    }
}

#[test]
fn a_step_that_is_called_is_a_run_of_its_own() {
    let runtime = runtime();
    let calls = caller(&runtime, "");
    let (ran, text) = run(&runtime, &calls, &Limits::default());
    // The exit code is the number of the second answer.
    assert_eq!(
        ran.record.outcome,
        Outcome::Failed(Failure::Exit {
            code: 1,
            message: String::new()
        })
    );
    assert_eq!(text, "hello\nhello\n");
    let [first, second] = ran.record.called[..] else {
        panic!("{:?}", ran.record.called)
    };
    assert_eq!(first, second);
    let (called, _) = runtime.record(&first).unwrap().unwrap();
    assert_eq!(called.run.module, calls.modules["steps"]);
    // The usage of the calls counts against the limits of a later run.
    let used = ran.record.usage.as_ref().unwrap();
    assert!(used.fuel >= called.usage.unwrap().fuel);
    let again = Run {
        modules: BTreeMap::new(),
        ..calls.clone()
    };
    assert_ne!(calls.key().unwrap(), again.key().unwrap());
    // Without modules, a call fails with ENOTSUP (58), and the guest exits with 3.
    let (refused, _) = run(&runtime, &again, &Limits::default());
    assert!(matches!(
        refused.record.outcome,
        Outcome::Failed(Failure::Exit { code: 3, .. })
    ));
}

#[test]
fn a_call_that_reached_a_limit_answers_only_under_that_limit() {
    let runtime = runtime();
    let many = "(loop (i32.store (i32.const 100) (i32.add (i32.load (i32.const 100)) (i32.const 1)))
        (br_if 0 (i32.lt_u (i32.load (i32.const 100)) (i32.const 30000))))";
    let limited = [
        (
            many,
            Limits {
                fuel: 10_000,
                ..Limits::default()
            },
            Limit::Fuel,
        ),
        (
            "(drop (memory.grow (i32.const 30)))",
            Limits {
                memory: 1 << 20,
                ..Limits::default()
            },
            Limit::Memory,
        ),
        (
            "(call $exit (i32.const 7))",
            Limits {
                log: 9,
                ..Limits::default()
            },
            Limit::Log,
        ),
    ];
    for (body, limits, limit) in limited {
        let calls = caller(&runtime, body);
        let (low, _) = run(&runtime, &calls, &limits);
        let usage = low.record.usage.as_ref().unwrap();
        assert_eq!(usage.reached, BTreeMap::from([(limit, limit.of(&limits))]));
        assert!(run(&runtime, &calls, &limits).0.cached);
        let (high, _) = run(&runtime, &calls, &Limits::default());
        assert!(!high.cached, "{limit}");
        assert_eq!(high.record.usage.as_ref().unwrap().reached, BTreeMap::new());
        let again = runtime.again(&low.record, &Interrupt::default()).unwrap();
        assert_eq!(again.digest, low.digest);
    }
    // What a failed call used counts, although it reached no limit.
    let calls = caller(&runtime, &format!("{many} (call $exit (i32.const 7))"));
    let (ran, _) = run(&runtime, &calls, &Limits::default());
    let (called, _) = runtime.record(&ran.record.called[0]).unwrap().unwrap();
    assert!(ran.record.usage.unwrap().fuel >= called.usage.unwrap().fuel);
}

#[test]
fn an_interrupt_ends_the_run_that_calls_and_the_one_that_is_called() {
    let runtime = runtime();
    let calls = caller(&runtime, "(loop $l (br $l))");
    let limits = Limits {
        time: Some(std::time::Duration::from_millis(50)),
        ..Limits::default()
    };
    let (ran, text) = run(&runtime, &calls, &limits);
    assert_eq!(text, "hello\n");
    assert_eq!(
        ran.record.outcome,
        Outcome::Interrupted {
            by: crate::step::Interruption::Time
        }
    );
}

/// A runtime with a store in a directory, where files can have holes.
fn on_disk() -> (tempfile::TempDir, Runtime) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, Runtime { store, ..runtime() })
}

/// A program that creates a file of `size` zeros at `path`, and then calls the step `takes` with it, if it has that.
fn sparse(runtime: &Runtime, path: &str, size: u64, calls: bool) -> Run {
    let steps = r#"(module
        (@custom "lockstep:interface"
            "{\"lockstep\":1,\"step\":\"takes\",\"inputs\":[{\"name\":\"raw\",\"media_type\":\"text/plain\"}]}\n")
        (memory (export "memory") 1) (func (export "_start")))"#;
    let request = format!("{{\"module\":\"steps\",\"step\":\"takes\",\"inputs\":{{\"raw\":\"/{path}\"}}}}");
    let (len, asks) = (request.len(), u32::from(calls));
    let creates = format!(
        r#"(module
        (import "lockstep" "call" (func $call (param i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_filestat_set_size" (func $resize (param i32 i64) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 100) {path:?})
        (data (i32.const 200) {request:?})
        (func (export "_start")
            (drop (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const {}) (i32.const 1)
                (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 0)))
            (drop (call $resize (i32.load (i32.const 0)) (i64.const {size})))
            (if (i32.const {asks}) (then (drop (call $call (i32.const 200) (i32.const {len}) (i32.const 0)))))))"#,
        path.len(),
    );
    let output = path.strip_prefix("out/").map(|name| (name.to_owned(), MediaType::default()));
    let steps = runtime.store.put(wat::parse_str(steps).unwrap()).unwrap();
    Run {
        module: runtime.store.put(wat::parse_str(creates).unwrap()).unwrap(),
        modules: BTreeMap::from([("steps".to_owned(), steps)]),
        outputs: output.into_iter().collect(),
        ..program(runtime, "", None)
    }
}

#[test]
fn a_file_with_holes_reaches_a_call_and_takes_no_room() {
    let (directory, runtime) = on_disk();
    for size in [5, 300 << 10, 80 << 20] {
        let (ran, _) = run(&runtime, &sparse(&runtime, "tmp/f", size, true), &Limits::default());
        assert_eq!(ran.record.outcome, Outcome::Succeeded);
        assert_eq!(ran.record.usage.as_ref().unwrap().memory, 64 << 10);
        let (called, _) = runtime.record(&ran.record.called[0]).unwrap().unwrap();
        let raw = &called.run.inputs["raw"].artifact;
        assert_eq!((raw.size, raw.digest), (size, Digest::of(vec![0; size as usize])));
        let (ran, _) = run(&runtime, &sparse(&runtime, "out/f", size, false), &Limits::default());
        assert_eq!(ran.record.outputs["f"].digest, raw.digest);
        let exported = directory.path().join("exported");
        let file = std::fs::File::create(&exported).unwrap();
        runtime.store.open_file(&raw.digest).unwrap().copy_to(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), size);
        assert_eq!(runtime.store.import(&exported).unwrap().digest, raw.digest);
    }
    let blocks = |path: std::path::PathBuf| std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(path).unwrap());
    let largest = Digest::of(vec![0; 80 << 20]).hex();
    let blob = directory.path().join("blobs/sha256").join(&largest[..2]).join(&largest);
    assert!(blocks(blob) < 1000);
    assert!(blocks(directory.path().join("exported")) < 1000);
}

#[test]
fn a_huge_file_with_holes_does_not_delay_an_interrupt() {
    let (_directory, runtime) = on_disk();
    for run in [
        sparse(&runtime, "tmp/f", 60 << 30, true),
        sparse(&runtime, "out/f", 60 << 30, false),
    ] {
        for by in [crate::step::Interruption::Time, crate::step::Interruption::Caller] {
            let interrupt = Interrupt::default();
            let limits = Limits {
                memory: 64 << 20,
                time: (by == crate::step::Interruption::Time).then_some(std::time::Duration::from_millis(300)),
                ..Limits::default()
            };
            let (other, began) = (interrupt.clone(), std::time::Instant::now());
            let trigger = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(300));
                other.trigger();
            });
            let interrupt = match by {
                crate::step::Interruption::Caller => &interrupt,
                _ => &Interrupt::default(),
            };
            let ran = runtime.run(&run, Reuse::Records, &limits, interrupt, &mut |_, _| ()).unwrap();
            trigger.join().unwrap();
            assert_eq!(ran.record.outcome, Outcome::Interrupted { by });
            assert!(
                began.elapsed() < std::time::Duration::from_millis(1500),
                "{:?}",
                began.elapsed()
            );
        }
    }
}

#[test]
fn an_invalid_name_of_an_output_is_refused_before_anything_runs() {
    let runtime = runtime();
    for name in ["../dev/null", "a/", ""] {
        let run = program(&runtime, "call $hello", Some(name));
        let error = run.key().unwrap_err().to_string();
        assert!(error.starts_with(&format!("can't store output `{name}`")), "{error}");
    }
}

#[test]
fn a_deep_directory_is_refused() {
    let runtime = runtime();
    let file = runtime.store.put_artifact("x", &MediaType::default()).unwrap();
    let deep = |depth| format!("{}file", "d/".repeat(depth));
    for (depth, refused) in [(200, false), (300, true), (200_000, true)] {
        let files = BTreeMap::from([(deep(depth), file.clone())]);
        let directory = runtime.store.put_directory(&files).unwrap();
        let run = Run {
            inputs: BTreeMap::from([("tree".to_owned(), directory.into())]),
            ..program(&runtime, "call $hello", None)
        };
        let ran = runtime.run(
            &run,
            Reuse::Records,
            &Limits::default(),
            &Interrupt::default(),
            &mut |_, _| (),
        );
        assert_eq!(ran.is_err(), refused, "{depth}");
    }
}
