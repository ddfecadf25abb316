use std::time::{Duration, Instant};

use super::*;
use crate::step::{Failure, Interruption, Limit, Outcome};

/// Maximum time for a guest to stop. Generous, because test machines are busy.
const SOON: Duration = Duration::from_millis(400);

fn reached(wat: &str, limits: Limits) -> (Limit, u64) {
    let (finished, _) = run(&load(&engine(Target::Native, true), wat), &limits);
    match finished.outcome {
        Outcome::Failed(Failure::Limit { limit, value }) => {
            assert_eq!(finished.usage.reached, BTreeMap::from([(limit, value)]));
            (limit, value)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn fuel() {
    let limits = Limits {
        fuel: 100_000,
        ..Limits::default()
    };
    assert_eq!(reached(&start("(loop (br 0))"), limits), (Limit::Fuel, 100_000));
}

#[test]
fn memory() {
    let limits = Limits {
        memory: 10 << 20,
        ..Limits::default()
    };
    let greedy = start("(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable");
    assert_eq!(reached(&greedy, limits.clone()), (Limit::Memory, 10 << 20));
    let large = start("").replace("\"memory\") 1", "\"memory\") 1000");
    assert_eq!(reached(&large, limits), (Limit::Memory, 10 << 20));
    // the whole address space
    let all = start("(if (i32.ne (memory.grow (i32.const 65536)) (i32.const -1)) (then unreachable)) unreachable");
    assert_eq!(reached(&all, Limits::default()), (Limit::Memory, 4 << 30));
    let own = start("(drop (memory.grow (i32.const 9))) unreachable").replace("\"memory\") 1", "\"memory\") 1 4");
    let (finished, _) = run(&load(&engine(Target::Native, true), &own), &Limits::default());
    assert_eq!(finished.usage.reached, BTreeMap::new());
}

#[test]
fn log_and_output() {
    let chatty = says(
        2,
        "0123456789",
        "(loop (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))",
    );
    let limits = Limits {
        log: 1005,
        ..Limits::default()
    };
    let (finished, log) = run(&load(&engine(Target::Native, true), &chatty), &limits);
    assert_eq!(log.len(), 1005);
    assert_eq!(finished.usage.log, 1005);
    assert_eq!(reached(&chatty, limits), (Limit::Log, 1005));

    let limits = Limits {
        output: 1 << 20,
        ..Limits::default()
    };
    let module = load(&engine(Target::Native, true), &chatty.replace("i32.const 2)", "i32.const 1)"));
    let mut log = |_, _: &[u8]| ();
    let world = World {
        stdout: Some("endless".to_owned()),
        ..world(&MemoryStorage::default(), &mut log)
    };
    let finished = module.run(world, &limits, &Interrupt::default()).unwrap();
    let (limit, value) = (Limit::Output, 1 << 20);
    assert_eq!(finished.outcome, Outcome::Failed(Failure::Limit { limit, value }));
    assert_eq!(finished.usage.output, 1_048_570);
}

#[test]
fn nesting() {
    let deep = "(func $f (param i64) (result i64) (i64.add (call $f (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))";
    let wat = start("(drop (call $f (i64.const 0)))").replace("(func (export", &format!("{deep} (func (export"));
    for (target, optimise) in [(Target::Native, true), (Target::Native, false), (Target::Pulley, true)] {
        let (finished, _) = run(&load(&engine(target, optimise), &wat), &Limits::default());
        assert_eq!(finished.outcome, Outcome::Failed(Failure::Stack));
        assert_eq!(finished.usage.fuel, 0);
    }
}

/// Programs that run forever, in different ways.
fn endless() -> Vec<String> {
    let again = |body: &str| start(&format!("(loop {body} (br 0))"));
    vec![
        again(""),
        // sleeps a year at a time: a relative clock subscription at address 0
        again(
            "(i64.store (i32.const 24) (i64.const 31536000000000000))
             (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))",
        ),
        again("(drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)))"),
        again("(drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 0)))"),
        // one call for nearly 1 GiB of random bytes
        again("(drop (call $random_get (i32.const 65536) (i32.const 0x3fff0000)))")
            .replace("\"memory\") 1", "\"memory\") 16384"),
        // one call with a full list of buffers, each of which is all of the memory
        again(
            "(local.set 0 (i32.const 8192))
             (loop
                (local.set 0 (i32.sub (local.get 0) (i32.const 8)))
                (i32.store offset=4 (local.get 0) (i32.const 0x10000000))
                (br_if 0 (local.get 0)))
             (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1024) (i32.const 9000)))",
        )
        .replace("\"memory\") 1", "\"memory\") 4096")
        .replace("(func (export \"_start\")", "(func (export \"_start\") (local i32)"),
    ]
}

#[test]
fn an_interrupt_stops_whatever_the_guest_does() {
    let engine = engine(Target::Native, true);
    for wat in endless() {
        let module = load(&engine, &wat);
        let interrupt = Interrupt::default();
        let other = interrupt.clone();
        let trigger = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            other.trigger();
            Instant::now()
        });
        let mut log = |_, _: &[u8]| ();
        let world = World {
            stdout: Some("o".to_owned()),
            ..world(&MemoryStorage::default(), &mut log)
        };
        let limits = Limits {
            output: u64::MAX,
            ..Limits::default()
        };
        let finished = module.run(world, &limits, &interrupt).unwrap();
        let late = trigger.join().unwrap().elapsed();
        let by = Interruption::Caller;
        assert_eq!(finished.outcome, Outcome::Interrupted { by }, "{wat}");
        assert!(late < SOON, "{late:?}: {wat}");
    }
}

#[test]
fn time_is_limited() {
    let engine = engine(Target::Native, true);
    let limits = Limits {
        time: Some(Duration::from_millis(100)),
        ..Limits::default()
    };
    for wat in &endless()[..4] {
        let module = load(&engine, wat);
        let started = Instant::now();
        let by = Interruption::Time;
        assert_eq!(run(&module, &limits).0.outcome, Outcome::Interrupted { by });
        assert!(started.elapsed() < limits.time.unwrap() + SOON);
    }
}

#[test]
fn an_interrupt_ends_only_its_own_runs() {
    let engine = engine(Target::Native, true);
    let module = load(
        &engine,
        &start(
            "(local $n i32) (loop (br_if 0 (i32.ne (i32.const 30000000) (local.tee $n (i32.add (i32.const 1) (local.get $n))))))",
        ),
    );
    let other = module.clone();
    let run_beside = std::thread::spawn(move || run(&other, &Limits::default()).0.outcome);
    let interrupt = Interrupt::default();
    interrupt.trigger();
    for _ in 0..20 {
        let mut log = |_, _: &[u8]| ();
        let world = world(&MemoryStorage::default(), &mut log);
        let finished = module.run(world, &Limits::default(), &interrupt).unwrap();
        let by = Interruption::Caller;
        assert_eq!(finished.outcome, Outcome::Interrupted { by });
        interrupt.trigger();
    }
    assert_eq!(run_beside.join().unwrap(), Outcome::Succeeded);
}

/// Reads stdin to its end, into a buffer of 64 bytes.
fn reads_stdin() -> String {
    r#"(module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\40\00\00\00\40\00\00\00")
        (func (export "_start")
            (loop
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (br_if 0 (i32.load (i32.const 8))))))"#
        .to_owned()
}

#[test]
fn a_run_that_asks_ends_where_its_stdin_does() {
    let engine = engine(Target::Native, true);
    let module = load(&engine, &reads_stdin());
    let outcome = |interrupt: &Interrupt| {
        let mut log = |_, _: &[u8]| ();
        let world = World {
            stdin: "a line\n".into(),
            ..world(&MemoryStorage::default(), &mut log)
        };
        module.run(world, &Limits::default(), interrupt).unwrap().outcome
    };
    assert_eq!(outcome(&Interrupt::default()), Outcome::Succeeded);
    let by = Interruption::Input;
    assert_eq!(outcome(&Interrupt::default().asking()), Outcome::Interrupted { by });
}
