use super::*;
use crate::step::{Failure, Limit, Outcome};

fn outcome(wat: &str) -> Outcome {
    run(&load(&engine(Target::Native, false), wat), &Limits::default()).0.outcome
}

fn error(wat: &str) -> String {
    let wasm = wat::parse_str(wat).unwrap();
    let loaded = engine(Target::Native, false).load(&wasm, &Digest::of(&wasm));
    loaded.map(|_| ()).unwrap_err().to_string()
}

#[test]
fn hello() {
    let module = load(&engine(Target::Native, true), &says(1, "hello\n", ""));
    let (finished, log) = run(&module, &Limits::default());
    assert_eq!(finished.outcome, Outcome::Succeeded);
    assert_eq!(log, "hello\n");
    assert_eq!(finished.usage.log, 6);
    assert_eq!(finished.usage.memory, 65536);
    assert!(finished.usage.fuel > 0);
    assert_eq!(finished.usage.reached, BTreeMap::new());
}

#[test]
fn any_exit_code_is_an_exit() {
    for code in [1, 126, 255, 70_000, u32::MAX] {
        let exit = says(
            2,
            "error: no rows\n",
            &format!("(call $proc_exit (i32.const {}))", code as i32),
        );
        let message = "error: no rows".to_owned();
        assert_eq!(outcome(&exit), Outcome::Failed(Failure::Exit { code, message }));
    }
    assert_eq!(
        outcome(&start("(call $proc_exit (i32.const 0)) unreachable")),
        Outcome::Succeeded
    );
}

#[test]
fn a_panic_is_told_from_other_traps() {
    let text = "\nthread 'main' panicked at src/lib.rs:2:5:\nno rows\nnote: run with `RUST_BACKTRACE=1`\n";
    assert_eq!(
        outcome(&says(2, text, "unreachable")),
        Outcome::Failed(Failure::Panic {
            message: "no rows".to_owned(),
            location: Some("src/lib.rs:2:5".to_owned()),
        })
    );
    let rules = [
        ("unreachable", "unreachable"),
        ("(drop (i32.load (i32.const -8)))", "out of bounds memory access"),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", "integer divide by zero"),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", "invalid conversion to integer"),
    ];
    for (body, rule) in rules {
        let rule = rule.to_owned();
        assert_eq!(outcome(&start(body)), Outcome::Failed(Failure::Trap { rule }));
    }
}

#[test]
fn a_trap_says_where() {
    let wat = start("(call $inner)").replace("(func (export", "(func $inner unreachable) (func $outer (export");
    let (finished, _) = run(&load(&engine(Target::Native, true), &wat), &Limits::default());
    let backtrace = finished.backtrace.unwrap();
    assert!(backtrace.contains("inner") && backtrace.contains("outer"), "{backtrace}");
}

#[test]
fn names_in_a_backtrace_are_bounded() {
    // each template argument names the one before twice: the demangled name has 2^18 parts
    let name = (1..18).fold("_Z1fSt4pairIiiE".to_owned(), |name, n| {
        let digit = |n: u32| char::from_digit(n, 36).unwrap().to_ascii_uppercase();
        let last = match 2 * n - 2 {
            0 => "S_".to_owned(),
            n @ 1..=36 => format!("S{}_", digit(n - 1)),
            n => format!("S1{}_", digit(n - 37)),
        };
        format!("{name}St4pairI{last}{last}E")
    });
    for name in [name, "long".repeat(20_000)] {
        let wat = format!(
            "(module (memory (export \"memory\") 1) (func ${name} unreachable) (func (export \"_start\") (call ${name})))"
        );
        let (finished, _) = run(&load(&engine(Target::Native, false), &wat), &Limits::default());
        let backtrace = finished.backtrace.unwrap();
        assert!(backtrace.len() < 3_000 && backtrace.lines().count() == 3, "{backtrace}");
    }
}

#[test]
fn outputs_land_in_the_store() {
    let storage = MemoryStorage::default();
    let module = load(&engine(Target::Native, false), &says(1, "rows", ""));
    let mut log = |_, _: &[u8]| panic!("stdout is kept");
    let world = World {
        stdout: Some("rows".to_owned()),
        ..world(&storage, &mut log)
    };
    let finished = module.run(world, &Limits::default(), &Interrupt::default()).unwrap();
    let digest = Digest::of("rows");
    assert_eq!(finished.outputs["rows"], Made::File { digest, size: 4 });
    assert_eq!(storage.kept.lock().unwrap()[&digest], b"rows");
}

#[test]
fn a_missing_output_is_a_failure() {
    let module = load(&engine(Target::Native, false), &start(""));
    let mut log = |_, _: &[u8]| ();
    let world = World {
        outputs: BTreeSet::from(["rows".to_owned()]),
        ..world(&MemoryStorage::default(), &mut log)
    };
    let finished = module.run(world, &Limits::default(), &Interrupt::default()).unwrap();
    let name = "rows".to_owned();
    assert_eq!(finished.outcome, Outcome::Failed(Failure::MissingOutput { name }));
}

/// Writes `/out/rows`, and then executes `then`.
fn makes_rows(then: &str) -> String {
    start(&format!(
        "(drop (call $path_open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 8) (i32.const 1)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 0)))
         (drop (call $fd_filestat_set_size (i32.load (i32.const 0)) (i64.const 5)))
         {then}"
    ))
    .replace("(func (export", "(data (i32.const 100) \"out/rows\") (func (export")
}

#[test]
fn outputs_are_found_whatever_descriptors_are_open() {
    for then in [
        "",
        "(drop (call $fd_close (i32.const 3)))",
        "(drop (call $fd_renumber (i32.const 3) (i32.const 9)))",
        "(drop (call $fd_renumber (i32.const 0) (i32.const 3)))",
    ] {
        let module = load(&engine(Target::Native, false), &makes_rows(then));
        let mut log = |_, _: &[u8]| ();
        let world = World {
            outputs: BTreeSet::from(["rows".to_owned()]),
            ..world(&MemoryStorage::default(), &mut log)
        };
        let finished = module.run(world, &Limits::default(), &Interrupt::default()).unwrap();
        let (digest, size) = (Digest::of([0; 5]), 5);
        assert_eq!(finished.outputs["rows"], Made::File { digest, size }, "{then}");
    }
}

#[test]
fn names_of_outputs_stay_below_out() {
    let module = load(&engine(Target::Native, false), &start(""));
    let refused = |names: &[&str], stdout: Option<&str>| {
        let mut log = |_, _: &[u8]| ();
        let world = World {
            outputs: names.iter().map(|name| name.to_string()).collect(),
            stdout: stdout.map(str::to_owned),
            ..world(&MemoryStorage::default(), &mut log)
        };
        let error = module.run(world, &Limits::default(), &Interrupt::default()).unwrap_err();
        error.to_string()
    };
    let long = "n".repeat(256);
    for name in ["", "/", "../in/a", "../dev/null", "a/../b", "./a", "a//b", "a/", "a\0", &long] {
        let said = format!("can't store output `{name}`: use a name without `.` and `..` as parts, such as rows.csv");
        assert_eq!(refused(&[name], None), said);
        assert_eq!(refused(&[], Some(name)), said);
    }
    let nested = "output `a/b` is inside output `a`, which contains it anyway: declare only one of them";
    assert_eq!(refused(&["a", "a-c", "a/b"], None), nested);
    assert_eq!(refused(&["a/b"], Some("a")), nested);
}

#[test]
fn a_full_disk_says_nothing_about_the_run() {
    let storage = MemoryStorage {
        room: Some(2),
        ..MemoryStorage::default()
    };
    let module = load(&engine(Target::Native, false), &says(1, "rows", ""));
    let mut log = |_, _: &[u8]| ();
    let world = World {
        stdout: Some("rows".to_owned()),
        ..world(&storage, &mut log)
    };
    let finished = module.run(world, &Limits::default(), &Interrupt::default()).unwrap();
    assert!(!finished.outcome.is_deterministic(), "{:?}", finished.outcome);
    assert!(finished.host_error.unwrap().contains("storage"));
}

#[test]
fn what_is_no_command_is_refused_by_name() {
    assert!(error("(module)").contains("no export `_start`"));
    assert!(error(r#"(module (func (export "_initialize")))"#).contains("library"));
    assert!(error(r#"(module (func (export "_start") (param i32)))"#).contains("`_start`"));
    assert!(error(r#"(module (import "env" "now" (func)) (func (export "_start")))"#).contains("`env` `now`"));
    let typed = r#"(module (import "wasi_snapshot_preview1" "fd_close" (func)) (func (export "_start")))"#;
    assert!(error(typed).contains("fd_close"), "{}", error(typed));
}

#[test]
fn every_function_of_preview_1_is_there() {
    let imports = functions().map(|(name, parameters)| {
        let parameters = types(parameters);
        format!("(import \"wasi_snapshot_preview1\" \"{name}\" (func (param{parameters}) (result i32)))\n")
    });
    let imports: String = imports.collect();
    load(
        &engine(Target::Native, false),
        &format!("(module {imports} (func (export \"_start\")))"),
    );
}

#[test]
fn coping_with_a_limit_is_no_failure_but_is_told() {
    let module = load(&engine(Target::Native, false), &start("(drop (memory.grow (i32.const 100)))"));
    let limits = Limits {
        memory: 1 << 20,
        ..Limits::default()
    };
    let (finished, _) = run(&module, &limits);
    assert_eq!(finished.outcome, Outcome::Succeeded);
    assert_eq!(finished.usage.reached, BTreeMap::from([(Limit::Memory, 1 << 20)]));
}
