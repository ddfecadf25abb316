use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// A directory with its own store and home, in which the command runs.
pub struct Place(tempfile::TempDir);

/// Exit code and output of a command.
#[derive(PartialEq, Eq, Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Writes a self-signed certificate of the host `name` and of 127.0.0.1 to `cert.pem`, and its key to `key.pem`.
    pub fn certify(&self, name: &str) {
        let new = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ];
        let made = Command::new("openssl")
            .args(new)
            .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(self.0.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    /// Returns the command with an empty environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockstep"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", self.0.path())
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the command. Replaces times, records and paths of this place by `[TIME]`, `[RECORD]`, `[PLACE]`.
    pub fn run(&self, arguments: &[&str]) -> Said {
        self.said(&mut self.command(arguments))
    }

    /// Runs `command`, with the same replacements.
    pub fn said(&self, command: &mut Command) -> Said {
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| steady(&String::from_utf8(bytes).unwrap(), self.0.path());
        Said {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Runs the command with `--json` and parses its stdout.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    /// Asserts that the command succeeds with this stdout and stderr.
    #[track_caller]
    pub fn says(&self, arguments: &[&str], stdout: &str, stderr: &str) {
        let expected = Said {
            code: 0,
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        };
        same(&self.run(arguments), &expected);
    }

    /// Asserts that the command fails with `code`, an empty stdout and this stderr.
    #[track_caller]
    pub fn fails(&self, code: i32, arguments: &[&str], stderr: &str) {
        same(
            &self.run(arguments),
            &Said {
                code,
                stdout: String::new(),
                stderr: stderr.to_owned(),
            },
        );
    }
}

/// Collapses runs of spaces.
pub fn squeeze(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n");
    lines.collect()
}

/// Waits until a server listens on `port` of this machine.
pub fn listening(mut server: Child, port: u16) -> Child {
    for _ in 0..1000 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return server;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    server.kill().unwrap();
    panic!("the server does not listen: {:?}", server.wait());
}

/// Sends `process` a signal, such as `-INT`.
pub fn signal(process: &Child, signal: &str) {
    let id = process.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

#[track_caller]
fn same(said: &Said, expected: &Said) {
    let show = |said: &Said| {
        format!(
            "exit code {}\n--- stdout\n{}--- stderr\n{}",
            said.code, said.stdout, said.stderr
        )
    };
    assert!(said == expected, "expected:\n{}\nfound:\n{}", show(expected), show(said));
}

/// Replaces what varies between runs or versions: paths of this place, times, records.
fn steady(text: &str, place: &Path) -> String {
    let text = text.replace(&place.display().to_string(), "[PLACE]");
    let mut steady = String::new();
    for line in text.split_inclusive('\n') {
        let words: Vec<&str> = line.split(' ').collect();
        let mut at = 0;
        while at < words.len() {
            let unit = words.get(at + 1).map(|unit| unit.trim_end());
            let is_number = words[at].parse::<f64>().is_ok();
            if at > 0 {
                steady.push(' ');
            }
            let names_record = at > 0 && matches!(words[at - 1], "record" | "show");
            if let Some(rest) = words[at].get(12..).filter(|_| names_record && is_hex(&words[at][..12])) {
                steady.push_str("[RECORD]");
                steady.push_str(rest);
                at += 1;
                continue;
            }
            if is_number && matches!(unit, Some("µs" | "ms" | "s")) {
                steady.push_str("[TIME]");
                steady.push_str(words[at + 1].strip_prefix(unit.unwrap()).unwrap());
                at += 2;
            } else {
                steady.push_str(words[at]);
                at += 1;
            }
        }
    }
    steady
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The start of a WASI preview 1 command: the imports and memory of all guests in these tests.
const PRELUDE: &str = r#"
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
    (memory (export "memory") 1)
    ;; an iovec at 0, results at 8 and 16, room for data from 4096
    (func $write (param $fd i32) (param $at i32) (param $len i32)
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $len))
        (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
    (func $read (param $fd i32) (result i32)
        (i32.store (i32.const 0) (i32.const 4096))
        (i32.store (i32.const 4) (i32.const 4096))
        (if (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
        (i32.load (i32.const 8)))
    (func $open (param $path i32) (param $len i32) (param $flags i32) (param $rights i64) (result i32)
        (if (call $path_open (i32.const 3) (i32.const 0) (local.get $path) (local.get $len) (local.get $flags)
                (local.get $rights) (i64.const 0) (i32.const 0) (i32.const 16)) (then unreachable))
        (i32.load (i32.const 16)))
"#;

/// Returns a module whose `_start` is `body`, with `data` at 1024.
fn module(data: &str, body: &str, sections: &str) -> Vec<u8> {
    let text = format!("(module {PRELUDE} (data (i32.const 1024) {data:?}) (func (export \"_start\") {body}) {sections})");
    wat::parse_str(text).unwrap()
}

/// Returns a plain program that does `body`, with `data` at 1024.
pub fn program(data: &str, body: &str) -> Vec<u8> {
    module(data, body, "")
}

/// Writes at most 4096 bytes of its stdin to stdout.
pub fn cat() -> Vec<u8> {
    program("", "(call $write (i32.const 1) (i32.const 4096) (call $read (i32.const 0)))")
}

/// Two steps: `copy` copies the input `raw` to the output `rows`, `again` declares the same without a parameter. Both behave
/// the same, because the module ignores its arguments.
pub fn steps() -> Vec<u8> {
    let copy = json!({
        "lockstep": 1, "step": "copy", "doc": "Copy the rows.\n\nAll of them.",
        "inputs": [{"name": "raw", "doc": "what is copied", "media_type": "text/csv", "type": "Csv"}],
        "parameters": [
            {"name": "column", "kind": "string", "default": "species", "doc": "a column"},
            {"name": "share", "kind": "number", "default": 0.5},
        ],
        "outputs": [{"name": "rows", "doc": "the copy", "media_type": "text/csv", "type": "Csv"}],
    });
    let again = json!({
        "lockstep": 1, "step": "again",
        "inputs": [{"name": "raw", "media_type": "text/csv"}],
        "parameters": [{"name": "times", "kind": "integer"}],
        "outputs": [{"name": "rows", "media_type": "text/csv"}],
    });
    let body = "(local $len i32)
        (local.set $len (call $read (call $open (i32.const 1024) (i32.const 6) (i32.const 0) (i64.const 2))))
        (call $write (i32.const 2) (i32.const 1040) (i32.const 34))
        (call $write (call $open (i32.const 1030) (i32.const 8) (i32.const 9) (i64.const 64)) (i32.const 4096) (local.get $len))";
    let data = "in/rawout/rows  \u{1b}]9;4;1;50\u{1b}\\half the way\n\u{1b}]9;4;0\u{1b}\\";
    let section = format!("{copy}\n{again}\n");
    module(data, body, &format!("(@custom \"lockstep:interface\" {section:?})"))
}
