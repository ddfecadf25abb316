//! The estimate of the compile time, and compiling in a process of its own.

use std::time::{Duration, Instant};

use super::*;

/// Returns a module whose only function consists of `count` times `body`.
fn repeated(body: &str, count: usize) -> Vec<u8> {
    let body = body.repeat(count);
    let wat = start(&format!("(local $x f32) (local $r funcref) {body}"));
    wat::parse_str(wat.replace("(func (export", "(table 10 100 funcref) (type $t (func)) (func (export")).unwrap()
}

fn loaded(engine: &Engine, wasm: &[u8], interrupt: &Interrupt) -> Result<Module, SandboxError> {
    engine.load_unless(wasm, &Digest::of(wasm), None, interrupt)
}

#[test]
fn instructions_count_by_what_they_take() {
    // seconds of one core that compiling took
    for (body, count, seconds) in [
        ("(call_indirect (type $t) (i32.const 1))", 25_000, 28),
        ("(local.set $r (table.get (i32.const 1)))", 40_000, 80),
        ("(local.set $x (f32.sqrt (local.get $x)))", 50_000, 3),
        ("(loop (br_if 0 (i32.load (i32.const 0))))", 20_000, 30),
        ("(table.copy (i32.const 1) (i32.const 1) (i32.const 1))", 20_000, 20),
        ("(if (i32.load (i32.const 0)) (then))", 20_000, 6),
    ] {
        let budget = CompileBudget {
            function: u64::MAX,
            effort: 1_000_000 * seconds,
            ..CompileBudget::default()
        };
        let wasm = repeated(body, count);
        let Err(SandboxError::Budget { found, .. }) = budget.check(&wasm, &Digest::of(&wasm)) else {
            panic!("{body} is underestimated");
        };
        assert!(found < 4_000_000 * seconds, "{body}: {found}");
    }
    let many = format!("(module {})", "(func)".repeat(50_000));
    let many = wat::parse_str(many).unwrap();
    let effort = CompileBudget::default().check(&many, &Digest::of(&many)).unwrap();
    assert!(effort > 5_000_000, "{effort}");
}

/// An engine whose compiler is a shell script. The arguments `$1` to `$4` are those of the compiler.
fn engine_with(script: &str, seconds: u64) -> Engine {
    Engine::new(&EngineOptions {
        compiler: Some(Compiler {
            program: "/bin/sh".into(),
            arguments: ["-c", script, "sh"].map(str::to_owned).to_vec(),
        }),
        budget: CompileBudget {
            seconds,
            memory_to_compile: 1 << 30,
            ..CompileBudget::default()
        },
        ..EngineOptions::default()
    })
    .unwrap()
}

#[test]
fn a_compiler_is_ended_at_its_limits() {
    let slow = repeated("(local.set $x (f32.sqrt (local.get $x)))", 20_000);
    let error = |script: &str| {
        loaded(&engine_with(script, 1), &slow, &Interrupt::default())
            .map(drop)
            .unwrap_err()
    };
    let started = Instant::now();
    let late = error("exec sleep 60");
    assert!(matches!(late, SandboxError::CompileTime { seconds: 1, .. }), "{late}");
    assert!(started.elapsed() < Duration::from_secs(10));
    let ended = error("kill -ABRT $$");
    let said = "signal: 6 (SIGABRT) (core dumped)), probably because it needs more than 1.0 GiB of memory";
    assert!(
        ended
            .to_string()
            .replace(" (core dumped)", "")
            .contains(&said.replace(" (core dumped)", "")),
        "{ended}"
    );
    let refused = error("printf 'type mismatch'; exit 3");
    assert!(
        matches!(&refused, SandboxError::Compile { reason, .. } if reason == "type mismatch"),
        "{refused}"
    );
    // code of another version is refused
    assert!(matches!(error("printf junk"), SandboxError::Compile { .. }));
    let asked = error("printf \"$*\"; exit 3").to_string();
    assert!(asked.ends_with(": native optimise 1 1073741824"), "{asked}");
}

#[test]
fn compiling_can_be_interrupted() {
    let slow = repeated("(local.set $x (f32.sqrt (local.get $x)))", 20_000);
    let interrupt = Interrupt::default();
    let other = interrupt.clone();
    let trigger = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        other.trigger();
    });
    let started = Instant::now();
    let error = loaded(&engine_with("exec sleep 60", 100), &slow, &interrupt)
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, SandboxError::CompileInterrupted { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
    trigger.join().unwrap();
}

#[test]
fn small_modules_need_no_process() {
    let engine = engine_with("exit 1", 1);
    let wasm = wat::parse_str(start("")).unwrap();
    assert!(
        run(&loaded(&engine, &wasm, &Interrupt::default()).unwrap(), &Limits::default())
            .0
            .outcome
            .succeeded()
    );
}
