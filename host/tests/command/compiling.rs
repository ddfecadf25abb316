//! Modules that take long to compile.

use std::time::{Duration, Instant, SystemTime};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::sandbox::{CompileBudget, Compiler, Engine, EngineOptions, Interrupt, SandboxError};

use crate::place::{Place, program, signal};

/// Returns a program that does nothing, with `count` functions that take a tenth of a second or more each to compile. No machine has compiled it before.
fn slow(count: usize) -> Vec<u8> {
    let new = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    let start = format!("(func (local f64) (local.set 0 (f64.const {new}))");
    let functions = start + &"(local.set 0 (f64.sqrt (local.get 0)))".repeat(20_000) + ")";
    program("", &format!(") {} (func", functions.repeat(count)))
}

#[test]
fn compiling_is_no_part_of_the_time_limit() {
    let place = Place::new();
    place.write("slow.wasm", slow(12));
    let started = Instant::now();
    let said = place.run(&["run", "slow.wasm", "--time", "500ms"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert!(started.elapsed() > Duration::from_millis(500));
}

#[test]
fn an_interrupt_ends_the_compiler() {
    let place = Place::new();
    place.write("slow.wasm", slow(60));
    let started = Instant::now();
    let mut running = place.command(&["run", "slow.wasm"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    signal(&running, "-INT");
    assert_eq!(running.wait().unwrap().code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(13));
}

#[test]
fn the_compiler_has_only_so_much_memory() {
    let engine = |memory_to_compile| {
        Engine::new(&EngineOptions {
            compiler: Some(Compiler {
                program: env!("CARGO_BIN_EXE_lockstep").into(),
                arguments: vec!["compile-for-parent".to_owned()],
            }),
            budget: CompileBudget {
                memory_to_compile,
                ..CompileBudget::default()
            },
            ..EngineOptions::default()
        })
        .unwrap()
    };
    let wasm = slow(4);
    let load = |memory| {
        engine(memory)
            .load_unless(&wasm, &Digest::of(&wasm), None, &Interrupt::default())
            .map(drop)
    };
    assert!(load(2 << 30).is_ok());
    let error = load(64 << 20).unwrap_err();
    assert!(matches!(error, SandboxError::CompilerEnded { .. }), "{error}");
}
