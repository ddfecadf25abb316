//! Plain programs: the command line defines their interface.

use lockstep_runtime::digest::Digest;
use serde_json::json;

use crate::place::{Place, cat, program};

fn place() -> Place {
    let place = Place::new();
    place.write("cat.wasm", cat());
    place.write("text", "hello\n");
    place
}

#[test]
fn stdin_is_an_input_and_stdout_can_be_an_output() {
    let place = place();
    place.says(
        &["run", "cat.wasm", "-q", "-i", "text=text", "--stdin", "text"],
        "hello\n",
        "",
    );
    let kept = [
        "run",
        "cat.wasm",
        "-i",
        "text=text",
        "--stdin",
        "text",
        "--stdout",
        "copy:text/plain=copy.txt",
    ];
    place.says(
        &kept,
        "",
        "program [TIME]
  copy  5891b5b522d5  text/plain  6 B
  record [RECORD]
",
    );
    assert_eq!(place.read("copy.txt"), "hello\n");
}

#[test]
fn with_json_stdout_is_for_the_answer_alone() {
    let place = place();
    let output = place
        .command(&["run", "cat.wasm", "-i", "text=text", "--stdin", "text", "--json"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "hello\n");
    let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        run["run"]["entry"],
        json!({"kind": "program", "args": [], "env": {}, "stdin": "text", "stdout": null})
    );
}

#[test]
fn an_input_can_be_anywhere_and_a_program_is_inspected_too() {
    let place = place();
    // opens data/text, copies it to out/n
    let body = "(local $len i32)
        (local.set $len (call $read (call $open (i32.const 1024) (i32.const 9) (i32.const 0) (i64.const 2))))
        (call $write (call $open (i32.const 1033) (i32.const 5) (i32.const 9) (i64.const 64)) (i32.const 4096) (local.get $len))";
    place.write("copy.wasm", program("data/textout/n", body));
    place.says(
        &["run", "copy.wasm", "-q", "-i", "text=text@/data/text", "-o", "n=n.txt"],
        "",
        "",
    );
    assert_eq!(place.read("n.txt"), "hello\n");
    let digest = Digest::of(cat());
    let stdout = format!(
        "module   {digest}
size     481 B
kind     plain program; the caller defines its inputs and outputs
imports  wasi_snapshot_preview1: fd_write, fd_read, path_open, proc_exit
"
    );
    place.says(&["inspect", "cat.wasm"], &stdout, "");
}

#[test]
fn a_module_that_is_hard_to_compile_takes_a_flag() {
    let place = place();
    // One function of 300 kB, which does little.
    place.write("long.wasm", program("", &"(drop (i32.const 1))".repeat(100_000)));
    let digest = Digest::of(std::fs::read(place.path("long.wasm")).unwrap());
    place.fails(
        5,
        &["run", "long.wasm"],
        &format!(
            "error: module {digest} is too large to compile: 300002 bytes of code in one function, limit 262144; if you trust the module, raise the limits with --large-module\n"
        ),
    );
    place.says(&["run", "long.wasm", "--large-module", "-q"], "", "");
}
