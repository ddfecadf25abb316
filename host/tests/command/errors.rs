//! Errors: messages, hints and exit codes.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lockstep_view::error::{Error, Kind};
use serde_json::json;

use crate::place::{Place, cat, program, signal, steps};

fn place() -> Place {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("cat.wasm", cat());
    place.write("raw.csv", "a\n1\n");
    place
}

#[test]
fn names_that_do_not_fit_are_told_with_those_that_do() {
    let place = place();
    let run = |rest: &[&'static str]| [&["run", "steps.wasm#copy"][..], rest].concat();
    place.fails(
        2,
        &run(&["-i", "row=raw.csv"]),
        "error: step `copy` has no input `row`; it has `raw`\n",
    );
    place.fails(
        2,
        &run(&[]),
        "error: step `copy` needs its input `raw` (text/csv): give it\nhint: add --input raw=PATH\n",
    );
    place.fails(
        2,
        &run(&["-i", "raw=raw.csv", "-p", "colum=a"]),
        "error: step `copy` has no parameter `colum`; it has `column`, `share`\n",
    );
    place.fails(
        2,
        &run(&["-i", "raw=raw.csv", "-p", "share=half"]),
        "error: step `copy`: parameter `share` takes a value of kind number, not \"half\"\nhint: add --param share=VALUE\n",
    );
    place.fails(
        2,
        &run(&["-i", "raw=raw.csv", "-o", "row=x"]),
        "error: step `copy` has no output `row`; it has `rows`\n",
    );
    place.fails(
        2,
        &run(&["-i", "raw=raw.csv", "-i", "raw=raw.csv"]),
        "error: input `raw` is given twice\n",
    );
    place.fails(
        2,
        &run(&["-i", "raw=raw.csv", "--", "-x"]),
        "error: step `copy` takes no arguments after `--`: that is for plain programs\n\
         hint: `lockstep inspect steps.wasm#copy` shows what it takes\n",
    );
    place.fails(
        2,
        &["run", "steps.wasm#clean"],
        "error: the module has no step `clean`; it has `again`, `copy`\n",
    );
    place.fails(
        2,
        &["run", "steps.wasm"],
        "error: steps.wasm has several steps: `again`, `copy`\nhint: choose one, as in `lockstep run steps.wasm#again`\n",
    );
    place.fails(
        2,
        &["run", "cat.wasm", "-p", "a=1"],
        "error: cat.wasm is a plain program: it has no parameter `a`\nhint: give it arguments after `--`, or --env a=1\n",
    );
}

#[test]
fn what_is_not_there_is_told_with_what_to_give() {
    let place = place();
    let hint = "hint: give a path, a digest or its prefix, or RECORD/OUTPUT; `lockstep log` lists records\n";
    let missing = |name: &str| format!("error: no such file, artifact or record: {name}\n{hint}");
    place.fails(2, &["run", "steps.wasm#copy", "-i", "raw=rows.csv"], &missing("rows.csv"));
    place.fails(2, &["run", "no.wasm"], &missing("no.wasm"));
    place.fails(2, &["show", "abcd"], &missing("abcd"));
    place.fails(
        2,
        &["show", "sha256:ab"],
        "error: sha256:ab is too short: give at least 4 digits\n",
    );
    let digest = format!("sha256:{}", "0".repeat(64));
    place.fails(
        2,
        &["show", &digest],
        &format!("error: artifact {digest} not found in the store\nhint: `lockstep log` lists the runs in this store\n"),
    );
    let record = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"])["record"]
        .as_str()
        .unwrap()[7..19]
        .to_owned();
    place.fails(
        2,
        &["show", &format!("{record}/row")],
        "error: record [RECORD] has no output `row`; it has `rows`\n",
    );
    place.fails(
        2,
        &["show", &record, "--raw"],
        &format!("error: {record} is a record, not an artifact\nhint: `lockstep show RECORD --json` prints all of it\n"),
    );
}

#[test]
fn what_is_no_module_is_config() {
    let place = place();
    place.fails(
        3,
        &["run", "raw.csv"],
        "error: raw.csv is not a WebAssembly module\n\
         hint: `lockstep build DIR` builds a module from a crate\n",
    );
    place.write("short.wasm", &steps()[..200]);
    assert_eq!(place.run(&["run", "short.wasm"]).code, 3);
    place.write("library.wasm", wat::parse_str("(module)").unwrap());
    assert_eq!(place.run(&["run", "library.wasm"]).code, 3);
    place.write("bad.yaml", "name: x\ntasks: 7\n");
    assert_eq!(place.run(&["run", "bad.yaml"]).code, 3);
}

#[test]
fn what_is_not_allowed_is_denied() {
    let place = place();
    place.write(
        "net.wasm",
        wat::parse_str(r#"(module (import "net" "connect" (func)) (memory (export "memory") 1) (func (export "_start")))"#)
            .unwrap(),
    );
    let said = place.run(&["run", "net.wasm"]);
    assert_eq!(said.code, 5, "{}", said.stderr);
    assert!(
        said.stderr
            .contains("imports `net` `connect`, which the sandbox does not provide"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_guest_that_fails_is_told_and_remembered() {
    let place = place();
    let said = "error: no rows\n";
    let body = format!(
        "(call $write (i32.const 2) (i32.const 1024) (i32.const {})) (call $proc_exit (i32.const 3))",
        said.len()
    );
    place.write("exit.wasm", program(said, &body));
    for _ in 0..2 {
        place.fails(
            4,
            &["run", "exit.wasm"],
            "error: no rows\nerror: `exit.wasm` failed with exit code 3\nhint: `lockstep show [RECORD]` shows its inputs and its log\n",
        );
    }
    let run = place.json(&["run", "exit.wasm"]);
    assert_eq!(
        run["outcome"],
        json!({"is": "failed", "cause": "exit", "code": 3, "message": "error: no rows"})
    );
    assert_eq!(run["cached"], true);
    place.write("trap.wasm", program("", "unreachable"));
    let said = place.run(&["run", "trap.wasm", "-q"]);
    assert_eq!(said.code, 4);
    assert!(said.stderr.starts_with("error: `trap.wasm` trapped: "), "{}", said.stderr);
    place.fails(
        4,
        &["run", "cat.wasm", "-q", "-o", "rows"],
        "error: `cat.wasm` ended well but did not write its output `rows`\nhint: the program must write the output to /out/rows\n",
    );
}

#[test]
fn limits_and_interrupts_end_a_guest() {
    let place = place();
    place.write("endless.wasm", program("", "(loop $again (br $again))"));
    let said = place.run(&["run", "endless.wasm", "-q", "--fuel", "1_000_000"]);
    let lines: Vec<&str> = said.stderr.lines().collect();
    assert_eq!(
        (said.code, lines[0]),
        (4, "error: `endless.wasm` out of fuel: more than 1000000 units")
    );
    assert!(lines[1].contains("backtrace"), "{lines:?}");
    assert_eq!(lines.last(), Some(&"hint: raise the limit with --fuel"));
    place.fails(
        130,
        &["run", "endless.wasm", "-q", "--time", "100ms"],
        "error: `endless.wasm` interrupted: the time limit was reached\nhint: raise the limit with --time\n",
    );
    let child = place
        .command(&["run", "endless.wasm", "-q"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(2));
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: `endless.wasm` interrupted\nhint: nothing was stored; run it again to start over\n"
    );
}

#[test]
fn outputs_are_written_whole_or_not_at_all() {
    let place = place();
    std::fs::create_dir(place.path("locked")).unwrap();
    let run = |path: &str| {
        place.run(&[
            "run",
            "steps.wasm#copy",
            "-q",
            "-i",
            "raw=raw.csv",
            "-o",
            &format!("rows={path}"),
        ])
    };
    assert_eq!(
        run("nowhere/rows.csv").stderr,
        "error: can't write nowhere/rows.csv: directory nowhere does not exist\nhint: mkdir -p nowhere\n"
    );
    assert_eq!(run("locked/rows.csv").code, 0);
    assert_eq!(
        std::fs::metadata(place.path("locked/rows.csv")).unwrap().permissions().mode() & 0o600,
        0o600
    );
    assert_eq!(std::fs::read_dir(place.path("locked")).unwrap().count(), 1);
}

#[test]
fn errors_have_a_form_for_programs() {
    let place = place();
    assert_eq!(
        place.json(&["run", "steps.wasm#copy", "-i", "row=raw.csv"]),
        json!({"error": {
            "kind": "user",
            "message": "step `copy` has no input `row`; it has `raw`",
            "details": [],
            "hints": [],
        }})
    );
}

#[test]
fn surroundings_that_do_not_say_enough_are_config() {
    let place = place();
    let output = place.command(&["log"]).env_remove("HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: can't locate the store: neither LOCKSTEP_STORE nor HOME is set\nhint: set HOME or LOCKSTEP_STORE\n"
    );
    let output = place
        .command(&["log"])
        .env("LOCKSTEP_STORE", place.path("raw.csv"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn help_says_exit_codes_and_environment() {
    let help = place().run(&["--help"]).stdout;
    let tail = help.split_once("Exit codes:").unwrap().1;
    assert_eq!(
        tail.trim_end().lines().take(8).collect::<Vec<_>>().join("\n"),
        "
    0  success
    2  invalid command line, or a name that does not exist
    3  invalid pipeline, module, configuration or toolchain
    4  a step or program failed
    5  permission denied, or not allowed
    6  failure of the machine, the store or lockstep itself
  130  interrupted or timed out"
    );
    assert!(tail.contains("LOCKSTEP_STORE"));
}

/// The help of the commands has no snapshot here: `docs/reference.py --check`, which `tests/docs.rs` runs, compares all of it
/// with the command-line page.
#[test]
fn every_kind_of_error_has_a_text() {
    let texts = Kind::ALL.map(|(kind, about)| {
        let error = Error::new(kind, about).detail("a detail").hint("a hint");
        format!("{}, exit code {}\n{error}\n", kind.name(), kind.code())
    });
    insta::assert_snapshot!(texts.join("\n"));
}
