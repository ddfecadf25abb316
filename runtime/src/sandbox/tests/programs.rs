use super::*;
use crate::step::Outcome;

#[test]
fn hello() {
    let engine = engine(Target::Native, true);
    let module = load(
        &engine,
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\08\00\00\00\06\00\00\00hello\n")
            (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"#,
    );
    let (finished, log) = run(&module, &Limits::default());
    assert_eq!(finished.outcome, Outcome::Succeeded);
    assert_eq!(log, "hello\n");
}
