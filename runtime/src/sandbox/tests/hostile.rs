use proptest::prelude::*;

use super::*;
use crate::step::Outcome;

/// Calls every function with arguments from the guest's memory.
fn caller() -> String {
    let functions = [
        ("args_get", "ii"),
        ("args_sizes_get", "ii"),
        ("environ_get", "ii"),
        ("environ_sizes_get", "ii"),
        ("clock_res_get", "ii"),
        ("clock_time_get", "ili"),
        ("fd_advise", "illi"),
        ("fd_allocate", "ill"),
        ("fd_datasync", "i"),
        ("fd_fdstat_get", "ii"),
        ("fd_filestat_get", "ii"),
        ("fd_filestat_set_size", "il"),
        ("fd_pread", "iiili"),
        ("fd_prestat_get", "ii"),
        ("fd_prestat_dir_name", "iii"),
        ("fd_pwrite", "iiili"),
        ("fd_read", "iiii"),
        ("fd_readdir", "iiili"),
        ("fd_seek", "ilii"),
        ("fd_write", "iiii"),
        ("path_create_directory", "iii"),
        ("path_filestat_get", "iiiii"),
        ("path_open", "iiiiillii"),
        ("path_readlink", "iiiiii"),
        ("path_remove_directory", "iii"),
        ("path_rename", "iiiiii"),
        ("path_unlink_file", "iii"),
        ("poll_oneoff", "iiii"),
        ("random_get", "ii"),
        ("sock_recv", "iiiiii"),
        ("fd_renumber", "ii"),
        ("fd_close", "i"),
    ];
    let (mut imports, mut calls) = (String::new(), String::new());
    for (name, kinds) in functions {
        let types: String = kinds.replace('i', " i32").replace('l', " i64");
        imports += &format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param{types}) (result i32)))\n");
        let arguments = kinds.chars().enumerate().map(|(index, kind)| match kind {
            'l' => format!("(i64.load offset={} (i32.const 60000))", 4 * index),
            _ => format!("(i32.load offset={} (i32.const 60000))", 4 * index),
        });
        calls += &format!("(drop (call ${name} {}))\n", arguments.collect::<String>());
    }
    format!(
        "(module {imports} (memory (export \"memory\") 1) (data (i32.const 60000) \"@@\") (func (export \"_start\") {calls}))"
    )
}

fn any_number() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..8u32,
        Just(u32::MAX),
        Just(u32::MAX - 3),
        Just(0x8000_0000),
        65_500..65_540u32,
        60_000..60_100u32,
        any::<u32>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_argument_does_harm(numbers in prop::collection::vec(any_number(), 12)) {
        static CALLER: std::sync::LazyLock<(Engine, String)> = std::sync::LazyLock::new(|| (engine(Target::Native, false), caller()));
        let bytes: String = numbers.iter().flat_map(|n| n.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect();
        let module = load(&CALLER.0, &CALLER.1.replace("@@", &bytes));
        let limits = Limits { fuel: 1_000_000, output: 1 << 20, ..Limits::default() };
        let (first, log) = run(&module, &limits);
        prop_assert!(first.outcome.is_deterministic(), "{:?}", first);
        prop_assert_eq!(run(&module, &limits), (first, log));
    }

    #[test]
    fn no_bytes_crash_the_compiler(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        static MODULE: std::sync::LazyLock<(Engine, Vec<u8>)> = std::sync::LazyLock::new(|| (engine(Target::Native, false), wat::parse_str(caller().replace("@@", "")).unwrap()));
        let (engine, whole) = &*MODULE;
        let mut changed = whole.clone();
        for (at, byte) in flips {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        let limits = Limits { fuel: 1_000_000, output: 1 << 20, memory: 1 << 24, ..Limits::default() };
        for wasm in [&bytes, &whole[..cut.index(whole.len())].to_vec(), &changed] {
            if let Ok(module) = engine.load(wasm, &Digest::of(wasm)) {
                prop_assert!(run(&module, &limits).0.outcome.is_deterministic());
            }
        }
    }
}

#[test]
fn a_module_that_could_keep_the_compiler_busy_is_refused() {
    let error = |wat: &str| {
        let wasm = wat::parse_str(wat).unwrap();
        let loaded = engine(Target::Native, false).load(&wasm, &Digest::of(&wasm));
        loaded.map(|_| ()).unwrap_err().to_string()
    };
    let locals = format!("(module (func (local {})))", "i32 ".repeat(10_001));
    let large = format!("(module (func {}))", "(drop (i32.const 1000000))".repeat(70_000));
    let deep = format!("(module (func {}{}))", "(loop ".repeat(300), ")".repeat(300));
    let joined = format!("(module (func (local {}) {}))", "i32 ".repeat(9000), "(block)".repeat(5000));
    let refused = [
        (deep.as_str(), "300 nested loops, limit 256"),
        (joined.as_str(), "locals times branches"),
        (locals.as_str(), "10001 locals in one function, limit 10000"),
        (large.as_str(), "bytes of code in one function"),
        ("(module (memory 30000))", "30000 initial pages of memory"),
        ("(module (table 4000000000 funcref))", "4000000000 initial table elements"),
    ];
    for (wat, said) in refused {
        let error = error(wat);
        assert!(error.contains(said) && error.contains("--large-module"), "{error}");
    }
}

#[test]
fn text_that_is_no_utf8_is_no_path() {
    let wat = start("(call $proc_exit (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)))")
        .replace("(func (export", "(data (i32.const 0) \"\\ff\") (func (export");
    let (finished, _) = run(&load(&engine(Target::Native, false), &wat), &Limits::default());
    assert_eq!(finished.outcome.to_string(), "failed with exit code 25");
    assert!(matches!(finished.outcome, Outcome::Failed(_)));
}
