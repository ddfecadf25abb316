use std::time::{Duration, Instant};

use super::*;
use crate::step::{Failure, Interruption, Limit, Outcome, Usage};

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
        // bulk instructions, each of which takes milliseconds
        again("(memory.fill (i32.const 0) (i32.const 1) (i32.const 0x3ff0000))").replace("\"memory\") 1", "\"memory\") 1024"),
        again("(memory.copy (i32.const 0) (i32.const 65536) (i32.const 0x3fe0000))")
            .replace("\"memory\") 1", "\"memory\") 1024"),
        // growing that fails
        again("(drop (memory.grow (i32.const 65536)))"),
        // recursion
        start("(loop (call $f (i32.const 30)) (br 0))").replace(
            "(func (export \"_start\")",
            "(func $f (param i32)
                (if (local.get 0) (then
                    (call $f (i32.sub (local.get 0) (i32.const 1)))
                    (call $f (i32.sub (local.get 0) (i32.const 1))))))
             (func (export \"_start\")",
        ),
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

#[test]
fn tables_are_memory() {
    let grow =
        |table: u32| format!("(loop (br_if 0 (i32.ne (table.grow {table} (ref.null func) (i32.const 65536)) (i32.const -1))))");
    let wat = start(&(0..3).map(grow).collect::<String>()).replace(
        "(func (export",
        "(table 0 funcref) (table 0 funcref) (table 0 funcref) (func (export",
    );
    let engine = engine(Target::Native, true);
    let (finished, _) = run(&load(&engine, &wat), &Limits::default());
    assert_eq!(finished.outcome, Outcome::Succeeded);
    assert!(finished.usage.memory > 7 << 20, "{:?}", finished.usage);
    let limits = Limits {
        memory: 1 << 20,
        ..Limits::default()
    };
    let (finished, _) = run(&load(&engine, &wat), &limits);
    assert_eq!(finished.usage.reached, BTreeMap::from([(Limit::Memory, 1 << 20)]));
    assert!(finished.usage.memory <= 1 << 20, "{:?}", finished.usage);
}

/// Creates empty files in `/tmp`, as many as there are.
const FILES: &str = "(data (i32.const 100) \"tmp/aaaa\")
    (func (export \"_start\") (local $n i32)
        (loop
            (i32.store (i32.const 104) (i32.or (i32.const 0x60606060) (i32.add
                (i32.and (local.get $n) (i32.const 15)) (i32.add
                (i32.shl (i32.and (local.get $n) (i32.const 0xf0)) (i32.const 4)) (i32.add
                (i32.shl (i32.and (local.get $n) (i32.const 0xf00)) (i32.const 8))
                (i32.shl (i32.and (local.get $n) (i32.const 0xf000)) (i32.const 12)))))))
            (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 8) (i32.const 1)
                    (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 0))
                (then (call $proc_exit (i32.const 9))))
            (drop (call $fd_close (i32.load (i32.const 0))))
            (br_if 0 (i32.lt_u (local.tee $n (i32.add (i32.const 1) (local.get $n))) (i32.const 60000)))))";

#[test]
fn what_the_host_holds_is_memory() {
    let wat = program(&format!("(memory (export \"memory\") 1) {FILES}"));
    let engine = engine(Target::Native, true);
    let limits = Limits {
        memory: 1 << 20,
        ..Limits::default()
    };
    assert_eq!(reached(&wat, limits), (Limit::Memory, 1 << 20));
    let few = wat.replace("60000", "1000");
    let (finished, _) = run(&load(&engine, &few), &Limits::default());
    assert_eq!((finished.outcome, finished.usage.memory), (Outcome::Succeeded, 64 << 10));
}

struct Answers(Node);

impl Caller for Answers {
    fn call(&mut self, _: &[u8], _: &mut Asking<'_>) -> Result<Answer, Unanswered> {
        Ok(Answer {
            files: self.0.clone(),
            usage: crate::step::Usage {
                fuel: 7_000_000,
                ..Default::default()
            },
        })
    }
}

/// Answers after a second, during which the guest is paused or not.
struct Slow(Option<Pause>);

impl Caller for Slow {
    fn call(&mut self, _: &[u8], _: &mut Asking<'_>) -> Result<Answer, Unanswered> {
        let waiting = Interrupt::default().pausing(self.pause());
        waiting.paused(|| std::thread::sleep(Duration::from_secs(1)));
        Ok(Answer {
            files: Node::Directory(BTreeMap::new()),
            usage: Usage::default(),
        })
    }

    fn pause(&self) -> Pause {
        self.0.clone().unwrap_or_default()
    }
}

#[test]
fn waiting_for_the_compiler_takes_no_time() {
    let call = "(drop (call $call (i32.const 0) (i32.const 0) (i32.const 0)))";
    let outcome = |pause: Option<Pause>, calls: &str| {
        let wat = format!(
            "(module (import \"lockstep\" \"call\" (func $call (param i32 i32 i32) (result i32)))
             (memory (export \"memory\") 1) (func (export \"_start\") {calls}))"
        );
        let mut log = |_, _: &[u8]| ();
        let world = World {
            caller: Some(Box::new(Slow(pause))),
            ..world(&MemoryStorage::default(), &mut log)
        };
        let limits = Limits {
            time: Some(Duration::from_millis(400)),
            ..Limits::default()
        };
        let module = load(&engine(Target::Native, false), &wat);
        module.run(world, &limits, &Interrupt::default()).unwrap().outcome
    };
    let by = Interruption::Time;
    let calls = format!("{call} {call}");
    assert_eq!(outcome(Some(Pause::default()), &calls), Outcome::Succeeded);
    assert_eq!(outcome(None, &calls), Outcome::Interrupted { by });
    let endless = format!("{call} (loop (br 0))");
    assert_eq!(outcome(Some(Pause::default()), &endless), Outcome::Interrupted { by });
}

fn calls(node: Node, limits: &Limits) -> Finished {
    let wat = r#"(module
        (import "lockstep" "call" (func $call (param i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (loop (br_if 0 (i32.eqz (call $call (i32.const 0) (i32.const 0) (i32.const 0)))))))"#;
    let mut log = |_, _: &[u8]| ();
    let world = World {
        caller: Some(Box::new(Answers(node))),
        ..world(&MemoryStorage::default(), &mut log)
    };
    load(&engine(Target::Native, true), wat)
        .run(world, limits, &Interrupt::default())
        .unwrap()
}

#[test]
fn answers_are_memory_and_calls_cost_fuel() {
    let limits = Limits {
        memory: 4 << 20,
        ..Limits::default()
    };
    let limit = |limit: Limit, limits: &Limits| {
        let value = limit.of(limits);
        Outcome::Failed(Failure::Limit { limit, value })
    };
    let answers = [
        Node::File(vec![7; 100 << 10].into()),
        Node::Directory((0..1000).map(|n| (n.to_string(), Node::File(Bytes::new()))).collect()),
    ];
    for node in answers {
        assert_eq!(calls(node, &limits).outcome, limit(Limit::Memory, &limits));
    }
    let limits = Limits {
        fuel: 1_000_000_000,
        ..Limits::default()
    };
    let finished = calls(Node::File(Bytes::new()), &limits);
    assert_eq!(finished.outcome, limit(Limit::Fuel, &limits));
}

#[test]
fn host_functions_cost_what_they_take() {
    let again = |body: &str| start(&format!("(loop {body} (br 0))"));
    let bodies = [
        "(drop (call $random_get (i32.const 0) (i32.const 65536)))",
        "(drop (call $fd_write (i32.const 9) (i32.const 0) (i32.const 1) (i32.const 8)))",
        "(drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 9) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)))",
        "(drop (call $fd_readdir (i32.const 3) (i32.const 64) (i32.const 1024) (i64.const 0) (i32.const 8)))",
    ];
    for body in bodies {
        let limits = Limits {
            fuel: 20_000_000,
            ..Limits::default()
        };
        assert_eq!(reached(&again(body), limits), (Limit::Fuel, 20_000_000));
    }
    // the fuel of a run is the same with every code generator, and that of a small one is its own
    let some = start(
        "(local $n i32) (loop
            (drop (call $random_get (i32.const 0) (i32.const 65536)))
            (br_if 0 (i32.lt_u (local.tee $n (i32.add (i32.const 1) (local.get $n))) (i32.const 1000))))",
    );
    let fuel = |engine: &Engine, wat: &str| run(&load(engine, wat), &Limits::default()).0.usage.fuel;
    let native = fuel(&engine(Target::Native, true), &some);
    assert_eq!(fuel(&engine(Target::Pulley, true), &some), native);
    assert!(native > 100_000_000, "{native}");
    let few = some.replace("1000)", "10)");
    assert!(fuel(&engine(Target::Native, true), &few) < 1000);
}
