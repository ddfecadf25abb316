use proptest::prelude::*;

use super::*;
use crate::step::{Failure, Outcome};

/// The error numbers of preview 1 that each function may return: those of all paths, of rights, and its own.
fn errors(name: &str) -> Vec<u16> {
    const CAPABLE: u16 = 76;
    const OF_PATHS: [u16; 10] = [8, 21, 25, 28, 32, 37, 44, 54, 63, CAPABLE];
    let own: &[u16] = match name {
        "args_get" | "args_sizes_get" | "environ_get" | "environ_sizes_get" | "random_get" => &[21],
        "clock_res_get" | "clock_time_get" | "poll_oneoff" => &[21, 28],
        "fd_advise" => &[8, 28, 70, CAPABLE],
        "fd_allocate" => &[8, 22, 31, 58, 70, CAPABLE],
        "fd_close" | "fd_renumber" => &[8],
        "fd_datasync" | "fd_sync" => &[8, 70, CAPABLE],
        "fd_fdstat_get" => &[8, 21],
        "fd_fdstat_set_flags" => &[8, 28, CAPABLE],
        "fd_fdstat_set_rights" => &[8, CAPABLE],
        "fd_filestat_get" => &[8, 21, CAPABLE],
        "fd_filestat_set_size" => &[8, 22, 28, 31, 70, CAPABLE],
        "fd_filestat_set_times" => &[8, 28, 69, 70, CAPABLE],
        "fd_pread" | "fd_pwrite" | "fd_read" | "fd_write" => &[8, 21, 22, 28, 31, 70, CAPABLE],
        "fd_prestat_get" => &[8, 21],
        "fd_prestat_dir_name" => &[8, 21, 37],
        "fd_readdir" => &[8, 21, 48, 54, CAPABLE],
        "fd_seek" | "fd_tell" => &[8, 21, 28, 70, CAPABLE],
        "path_create_directory" | "path_symlink" => &[20, 51, 69],
        "path_filestat_get" | "path_readlink" => &[],
        "path_filestat_set_times" => &[69],
        "path_link" => &[20, 51, 69, 75],
        "path_open" => &[20, 31, 33, 51, 69],
        "path_remove_directory" => &[55, 69],
        "path_rename" => &[10, 31, 55, 69],
        "path_unlink_file" => &[31, 69],
        "proc_raise" => &[52],
        "sched_yield" => &[],
        "sock_accept" | "sock_recv" | "sock_send" | "sock_shutdown" => &[8, 57],
        _ => panic!("{name}"),
    };
    let of_paths = OF_PATHS.iter().filter(|_| name.starts_with("path_"));
    own.iter().chain(of_paths).copied().chain([0]).collect()
}

/// The exit code of [`caller`] after a function returned what it may not: this, plus 256 times its place, plus the number.
const WRONG: u32 = 0x4c53_0000;

/// Calls all functions with arguments from the guest's memory.
fn caller() -> String {
    let (mut imports, mut calls) = (String::new(), String::new());
    for ((name, parameters), place) in functions().zip(0..) {
        let types = types(parameters);
        imports += &format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {types}) (result i32)))\n");
        let arguments = parameters.chars().enumerate().map(|(index, kind)| match kind {
            'l' => format!("(i64.load offset={} (i32.const 60000))", 4 * index),
            _ => format!("(i32.load offset={} (i32.const 60000))", 4 * index),
        });
        let wrong = errors(name)
            .iter()
            .map(|errno| format!("(i32.ne (local.get 0) (i32.const {errno}))"))
            .reduce(|all, next| format!("(i32.and {all} {next})"))
            .unwrap();
        calls += &format!(
            "(local.set 0 (call ${name} {}))
             (if {wrong} (then (call $proc_exit (i32.add (local.get 0) (i32.const {})))))\n",
            arguments.collect::<String>(),
            WRONG + 256 * place
        );
    }
    format!(
        "(module {imports} (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $proc_exit (param i32)))
         (memory (export \"memory\") 1) (data (i32.const 0) \"tmp/../tmp/a\") (data (i32.const 60000) \"@@\")
         (func (export \"_start\") (local i32) {calls} (call $proc_exit (i32.and (i32.const 255) (i32.load (i32.const 60000))))))"
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
        if let Outcome::Failed(Failure::Exit { code, .. }) = first.outcome && code >= WRONG {
            let (name, _) = functions().nth((code - WRONG) as usize / 256).unwrap();
            prop_assert!(false, "{name} returned {}", code % 256);
        }
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
fn all_functions_are_called() {
    let named = functions().map(|(name, _)| name).chain(["proc_exit"]);
    let mut named: Vec<_> = named.collect();
    named.sort();
    assert_eq!(named, super::super::preview1::FUNCTIONS);
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
