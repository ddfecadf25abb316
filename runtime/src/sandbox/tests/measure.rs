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
#[ignore = "prints figures, which depend on the machine: cargo test --release measure -- --ignored --nocapture"]
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
        store.set_epoch_deadline(1);
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
#[ignore = "prints figures, which depend on the machine: cargo test --release measure -- --ignored --nocapture"]
fn reading_an_input() {
    // 1 GiB in reads of 64 KiB.
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

/// Function bodies that are hard on the compiler, as large as the budget allows.
fn hard_bodies(bytes: usize) -> Vec<(&'static str, String)> {
    let straight = |piece: &str, size: usize| piece.repeat(bytes / size);
    let many_locals = || {
        (0..4999)
            .map(|n| format!("(local.set {n} (i32.const {n}))"))
            .collect::<String>()
    };
    vec![
        ("straight", straight("(local.set 0 (i32.add (local.get 0) (i32.const 9)))", 7)),
        ("calls", straight("(call $f)", 2)),
        ("loads", straight("(local.set 0 (i32.load (local.get 0)))", 7)),
        ("ifs", straight("(if (local.get 0) (then (local.set 1 (local.get 0))))", 9)),
        (
            "divisions",
            straight("(local.set 0 (i32.div_s (local.get 0) (local.get 1)))", 7),
        ),
        (
            "floats",
            straight("(local.set 5000 (f64.div (local.get 5000) (local.get 5000)))", 11),
        ),
        ("loops", straight("(loop (br_if 0 (local.get 0)))", 8)),
        (
            "blocks with locals",
            many_locals()
                + &straight(
                    "(if (local.get 0) (then (local.set 4000 (local.get 3000)) (local.set 17 (local.get 4000))))",
                    20,
                ),
        ),
        (
            "switches",
            straight(
                &format!("(block (block (br_table {} (local.get 0))))", "0 1 ".repeat(100)),
                209,
            ),
        ),
        (
            "nested blocks",
            "(block ".repeat(bytes / 6) + &"(br_if 0 (local.get 0)))".repeat(bytes / 6),
        ),
    ]
}

#[test]
#[ignore = "prints figures, which depend on the machine: cargo test --release measure -- --ignored --nocapture"]
fn hard_modules() {
    let budget = CompileBudget::default();
    for optimise in [true, false] {
        for (what, body) in hard_bodies(budget.function as usize - 60_000) {
            let locals = format!("(local {} f64)", "i32 ".repeat(4999 + 1));
            let wat = format!(
                "(module (memory (export \"memory\") 1) (func $f) (func (export \"_start\") {}{body}))",
                locals.replacen("i32 ", "", 1)
            );
            let wasm = wat::parse_str(&wat).unwrap();
            let engine = engine(Target::Native, optimise);
            let started = Instant::now();
            let loaded = engine.load(&wasm, &Digest::of(&wasm)).map(|_| ());
            println!(
                "{what}: {} bytes, optimise {optimise}: {:?} {loaded:?}",
                wasm.len(),
                started.elapsed()
            );
        }
    }
}
