use super::*;

/// Writes everything that a guest can observe to stdout: clocks, randomness, file data, listings, arithmetic on NaNs.
fn curious() -> String {
    program(
        r#"(memory (export "memory") 1)
        (func $show (param i32 i32)
            (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func $nan (param f64) (result f64) (f64.div (local.get 0) (local.get 0)))
        (func (export "_start")
            (drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 1024)))
            (drop (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 1032)))
            (drop (call $random_get (i32.const 1040) (i32.const 100)))
            (drop (call $fd_filestat_get (i32.const 3) (i32.const 1200)))
            (drop (call $fd_filestat_get (i32.const 0) (i32.const 1264)))
            (drop (call $fd_fdstat_get (i32.const 1) (i32.const 1328)))
            (drop (call $fd_readdir (i32.const 3) (i32.const 1400) (i32.const 400) (i64.const 0) (i32.const 1392)))
            (drop (call $args_get (i32.const 1900) (i32.const 1920)))
            (f64.store (i32.const 2000) (call $nan (f64.const 0)))
            (f64.store (i32.const 2008) (f64.sub (f64.const inf) (f64.const inf)))
            (f64.store (i32.const 2016) (f64.mul (f64.const -nan:0x4000000000001) (f64.const 1)))
            (f32.store (i32.const 2024) (f32.demote_f64 (f64.const nan:0xc000000000001)))
            (v128.store (i32.const 2032) (f32x4.relaxed_madd
                (v128.const f32x4 1.1 nan inf 3e38) (v128.const f32x4 1.0000001 2 0 3e38) (v128.const f32x4 -1.1 1 1 -inf)))
            (v128.store (i32.const 2048) (i8x16.relaxed_swizzle
                (v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15) (v128.const i8x16 16 31 128 255 0 1 2 3 4 5 6 7 8 9 10 11)))
            (v128.store (i32.const 2064) (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 nan 3e38 -3e38 1.5)))
            (call $show (i32.const 1024) (i32.const 1056)))"#,
    )
}

fn shown(engine: &Engine, seed: u64) -> (Finished, Digest) {
    let module = load(engine, &curious());
    let mut shown = Vec::new();
    let mut log = |_, bytes: &[u8]| shown.extend_from_slice(bytes);
    let world = World {
        seed,
        ..world(&MemoryStorage::default(), &mut log)
    };
    let finished = module.run(world, &Limits::default(), &Interrupt::default()).unwrap();
    assert_eq!(shown.len(), 1056);
    (finished, Digest::of(shown))
}

#[test]
fn the_same_with_every_code_generator() {
    let native = engine(Target::Native, true);
    let first = shown(&native, 7);
    assert!(first.0.outcome.succeeded());
    assert_eq!(shown(&native, 7), first);
    for (target, optimise) in [(Target::Native, false), (Target::Pulley, true), (Target::Pulley, false)] {
        assert_eq!(shown(&engine(target, optimise), 7), first, "{target:?} {optimise}");
    }
    assert_ne!(shown(&native, 8).1, first.1);
}

/// Later versions must give the same digest, or the version of the world must change.
#[test]
fn the_same_as_ever() {
    let digest = shown(&engine(Target::Native, true), 7).1;
    assert_eq!(digest.short(), "50b2b7e2a281");
}
