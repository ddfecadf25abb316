use std::time::{Duration, Instant};

use super::*;

fn median(times: usize, mut act: impl FnMut()) -> Duration {
    let mut spent: Vec<_> = (0..times)
        .map(|_| {
            let started = Instant::now();
            act();
            started.elapsed()
        })
        .collect();
    spent.sort();
    spent[times / 2]
}

#[test]
#[ignore = "prints timings, which depend on the machine: cargo test --release measure -- --ignored --nocapture"]
fn warm_runs() {
    let engine = engine(Target::Native, true);
    for (what, wat) in [("trivial", start("")), ("hello", says(1, "hello\n", ""))] {
        let module = load(&engine, &wat);
        let time = median(5000, || drop(run(&module, &Limits::default())));
        println!("run {what}: {time:?}");
    }
    let module = load(&engine, &start(""));
    let bare = module.instance().module().engine().clone();
    let compiled = wasmtime::Module::new(
        &bare,
        wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").unwrap(),
    );
    let pre = wasmtime::Linker::<()>::new(&bare)
        .instantiate_pre(&compiled.unwrap())
        .unwrap();
    let time = median(5000, || {
        let mut store = wasmtime::Store::new(&bare, ());
        store.set_fuel(u64::MAX).unwrap();
        let instance = pre.instantiate(&mut store).unwrap();
        instance
            .get_typed_func::<(), ()>(&mut store, "_start")
            .unwrap()
            .call(&mut store, ())
            .unwrap();
    });
    println!("bare instance: {time:?}");
}

#[test]
#[ignore = "prints timings, which depend on the machine: cargo test --release measure -- --ignored --nocapture"]
fn reading_an_input() {
    // 1 GiB in reads of 64 KiB
    let wat = start(
        "(local $n i32) (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const 65536))
         (loop
            (drop (call $fd_pread (i32.const 0) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 8)))
            (br_if 0 (i32.ne (i32.const 16384) (local.tee $n (i32.add (i32.const 1) (local.get $n))))))",
    )
    .replace("\"memory\") 1", "\"memory\") 3");
    let module = load(&engine(Target::Native, true), &wat);
    let time = median(5, || {
        let mut log = |_, _: &[u8]| ();
        let world = World {
            stdin: vec![7; 65536].into(),
            ..world(&MemoryStorage::default(), &mut log)
        };
        let finished = module.run(world, &Limits::default(), &Interrupt::default()).unwrap();
        assert!(finished.outcome.succeeded(), "{finished:?}");
    });
    println!("read: {:.1} GB/s", 1.074 / time.as_secs_f64());
}

/// Function bodies of about this size that are slow to compile.
fn hard_bodies(bytes: usize) -> Vec<(&'static str, String)> {
    let straight = |piece: &str, size: usize| piece.repeat(bytes / size);
    let set_all = |locals: usize| {
        (0..locals)
            .map(|n| format!("(local.set {n} (i32.add (local.get {n}) (i32.const 1)))"))
            .collect::<String>()
    };
    let nested = |depth: usize, locals: usize| {
        let group = "(loop ".repeat(depth) + &set_all(locals) + &"(br_if 0 (local.get 0)))".repeat(depth);
        group.repeat(bytes / (7 * depth + 8 * locals))
    };
    vec![
        ("calls", straight("(call $f)", 2)),
        ("indirect calls", straight("(call_indirect (type $t) (local.get 0))", 5)),
        ("table.get", straight("(local.set $r (table.get (local.get 0)))", 6)),
        (
            "table.copy",
            straight("(table.copy (local.get 0) (local.get 0) (local.get 0))", 10),
        ),
        ("memory.grow", straight("(local.set 0 (memory.grow (local.get 0)))", 6)),
        (
            "divisions",
            straight("(local.set 0 (i32.div_s (local.get 0) (local.get 0)))", 7),
        ),
        ("loads", straight("(local.set 0 (i32.load (local.get 0)))", 7)),
        ("truncations", straight("(local.set 0 (i32.trunc_f64_u (local.get $x)))", 5)),
        (
            "vectors",
            straight("(local.set $v (f64x2.max (local.get $v) (local.get $v)))", 8),
        ),
        ("ifs", straight("(if (local.get 0) (then (local.set 1 (local.get 0))))", 9)),
        ("loops", straight("(loop (br_if 0 (local.get 0)))", 8)),
        (
            "nested blocks",
            "(block ".repeat(bytes / 6) + &"(br_if 0 (local.get 0)))".repeat(bytes / 6),
        ),
        (
            "floats",
            straight("(local.set $x (f64.div (local.get $x) (local.get $x)))", 11),
        ),
        ("32 loops, 1 local", nested(32, 1)),
        ("32 loops, 50 locals", nested(32, 50)),
        ("32 loops, 500 locals", nested(32, 500)),
        ("1 loop, 50 locals", nested(1, 50)),
        (
            "1000 locals past ifs",
            set_all(1000) + &straight("(if (local.get 0) (then))", 6) + &set_all(1000),
        ),
    ]
}

#[test]
#[ignore = "prints timings, which depend on the machine: cargo test --release measure -- --ignored --nocapture"]
fn hard_modules() {
    for bytes in [16 << 10, 64 << 10, 200 << 10] {
        for (what, body) in hard_bodies(bytes) {
            let wat = format!(
                "(module (memory (export \"memory\") 1) (table 9 9 funcref) (type $t (func)) (func $f)
                 (func (export \"_start\") (local {}) (local $x f64) (local $r funcref) (local $v v128) {body}))",
                "i32 ".repeat(1000)
            );
            let wasm = wat::parse_str(&wat).unwrap();
            for optimise in [true, false] {
                let engine = engine(Target::Native, optimise);
                let estimated = CompileBudget::large()
                    .check(&wasm, &Digest::of(&wasm))
                    .map(Duration::from_micros);
                let started = Instant::now();
                let loaded = engine.load(&wasm, &Digest::of(&wasm)).map(|_| ());
                println!(
                    "{what}: {} bytes, optimise {optimise}: {:?}, estimated {estimated:?}, {loaded:?}",
                    wasm.len(),
                    started.elapsed()
                );
            }
        }
    }
}
