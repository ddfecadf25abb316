//! `:dep` with a real cargo and a real compiler, in the user's cache.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod setup;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lockstep_kernel::cell::Cell;
use lockstep_kernel::notebook::Notebook;
use lockstep_kernel::output::{CellError, MimeBundle, Output, Stream};
use lockstep_kernel::session::{Done, Session, Setup};
use lockstep_kernel::toolchain::{Confinement, Lock, Set};
use lockstep_runtime::sandbox::Interrupt;

#[derive(Default)]
struct Seen {
    stderr: String,
    shown: Vec<MimeBundle>,
    progress: bool,
}

impl Output for Seen {
    fn stream(&mut self, _: Stream, bytes: &[u8]) {
        self.stderr.push_str(std::str::from_utf8(bytes).unwrap());
    }
    fn display(&mut self, bundle: MimeBundle, _: Option<&str>) {
        self.shown.push(bundle);
    }
    fn progress(&mut self, percent: Option<u8>) {
        self.progress |= percent.is_some();
    }
}

impl Seen {
    fn lock(&self) -> Lock {
        let mut locks = self.shown.iter().filter_map(|bundle| bundle.data.get(Lock::MEDIA_TYPE));
        serde_json::from_value(locks.next_back().unwrap().clone()).unwrap()
    }
}

fn setup(cache: &Path, notebook: &Path, locks: Vec<Lock>) -> Setup {
    Setup {
        locks,
        ..setup::setup(cache, notebook)
    }
}

fn execute(session: &mut Session, code: &str, interrupt: &Interrupt) -> (Result<Done, CellError>, Seen) {
    let cell = Cell {
        id: None,
        code: code.to_owned(),
        number: 1,
    };
    let (mut seen, start) = (Seen::default(), Instant::now());
    let done = session.execute(&cell, &mut seen, interrupt);
    println!("{:.1?}: {}", start.elapsed(), code.lines().next().unwrap_or_default());
    (done, seen)
}

/// Executes a cell that succeeds. Returns the text of its value and the output.
fn text(session: &mut Session, code: &str) -> (String, Seen) {
    let (done, seen) = execute(session, code, &Interrupt::default());
    let done = done.unwrap_or_else(|error| panic!("{code}\n{}", error.traceback.join("\n")));
    let value = done
        .result
        .map(|bundle| bundle.data["text/plain"].as_str().unwrap().to_owned());
    (value.unwrap_or_default(), seen)
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Writes a crate with a build script and a proc macro that try to escape their confinement.
fn write_probe(notebook: &Path, port: u16, version: &str) {
    let manifest = format!("[package]\nname = \"probe\"\nversion = \"{version}\"\nedition = \"2024\"\n");
    write(
        notebook,
        "probe/Cargo.toml",
        &format!("{manifest}[dependencies]\nprobe-macros = {{ path = \"../probe-macros\" }}\n"),
    );
    let attempts = format!(
        "fn reached() -> String {{
    let secret = std::fs::read({:?}).is_ok();
    let written = std::fs::write({:?}, \"\").is_ok();
    let called = std::net::TcpStream::connect((\"127.0.0.1\", {port})).is_ok();
    let sent = std::net::UdpSocket::bind(\"127.0.0.1:0\").is_ok();
    let known = std::env::vars_os().any(|(name, _)| name == \"LOCKSTEP_TEST_SECRET\" || name == \"CARGO_MANIFEST_LINKS_SECRET\");
    format!(\"{{secret}} {{written}} {{called}} {{sent}} {{known}}\")
}}
",
        notebook.join("secret"),
        notebook.join("written")
    );
    let script = format!(
        "{attempts}fn main() {{
    let out = std::env::var(\"OUT_DIR\").unwrap();
    std::fs::write(format!(\"{{out}}/reached\"), reached()).unwrap();
}}
"
    );
    write(notebook, "probe/build.rs", &script);
    let library = "pub use probe_macros::reached;
/// What the build script reached.
pub const REACHED: &str = include_str!(concat!(env!(\"OUT_DIR\"), \"/reached\"));
pub const VERSION: &str = env!(\"CARGO_PKG_VERSION\");
#[derive(Debug, Clone, PartialEq)]
pub struct Point(pub f64);
";
    write(notebook, "probe/src/lib.rs", library);
    write(
        notebook,
        "probe-macros/Cargo.toml",
        "[package]\nname = \"probe-macros\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\nproc-macro = true\n",
    );
    let macros = format!(
        "{attempts}#[proc_macro]\npub fn reached(_: proc_macro::TokenStream) -> proc_macro::TokenStream {{ format!(\"{{:?}}\", reached_()).parse().unwrap() }}\n"
    );
    write(
        notebook,
        "probe-macros/src/lib.rs",
        &macros.replace("fn reached() -> String", "fn reached_() -> String"),
    );
}

const NOTHING: &str = "false false false false false";

#[test]
fn a_notebook_depends_on_crates() {
    assert_eq!(Confinement::gap(), None, "these tests need Linux with Landlock");
    let notebook = tempfile::tempdir().unwrap();
    let notebook = notebook.path();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    write(notebook, "secret", "42");
    write_probe(notebook, listener.local_addr().unwrap().port(), "0.1.0");
    let mut session = Session::new(setup(&setup::cache(), notebook, Vec::new())).unwrap();
    text(&mut session, "let kept = 7u64;");

    // Preinstalled crates need no build.
    let (value, seen) = text(&mut session, ":dep itoa = \"1\"\nitoa::Buffer::new().format(kept).to_owned()");
    assert_eq!((value.as_str(), seen.lock().set, seen.progress), ("\"7\"", Set::Plain, false));

    let code = ":dep fastrand = \"2\"\n:dep probe = { path = \"probe\" }\nlet point = probe::Point(fastrand::Rng::with_seed(kept).f64());\n(probe::REACHED, probe::reached!(), probe::VERSION, point.0 < 1.0)";
    let (value, seen) = text(&mut session, code);
    assert_eq!(value, format!("({NOTHING:?}, {NOTHING:?}, \"0.1.0\", true)"));
    assert!(
        seen.progress && seen.stderr.contains("first use on this machine"),
        "{}",
        seen.stderr
    );
    assert!(!notebook.join("written").exists());
    let lock = seen.lock();
    let package = |name: &str| lock.packages.iter().find(|package| package.name == name).unwrap();
    assert!(package("fastrand").checksum.is_some() && package("probe").digest.is_some());
    assert!(!serde_json::to_string(&lock).unwrap().contains(notebook.to_str().unwrap()));
    let said = seen.shown[0].data["text/plain"].as_str().unwrap().to_owned();
    assert!(
        said.starts_with("fastrand 2.") && said.ends_with("probe 0.1.0, 4 crates locked"),
        "{said}"
    );
    // Variables of earlier cells and of the new one are available.
    assert_eq!(text(&mut session, "(kept, point == probe::Point(-1.0))").0, "(7, false)");

    a_failed_build_changes_nothing(&mut session, notebook);
    a_restart_reuses_it(notebook, &lock);

    // A dependency with the same name replaces the old one.
    write_probe(notebook, listener.local_addr().unwrap().port(), "0.2.0");
    let (value, seen) = text(&mut session, ":dep ./probe\nprobe::VERSION");
    assert_eq!(value, "\"0.2.0\"");
    assert_ne!(seen.lock().package("probe"), lock.package("probe"));
    assert_eq!(seen.lock().package("fastrand"), lock.package("fastrand"));
    assert_eq!(text(&mut session, "kept").0, "7");
}

fn a_failed_build_changes_nothing(session: &mut Session, notebook: &Path) {
    let error = |session: &mut Session, code: &str| {
        let error = execute(session, code, &Interrupt::default()).0.unwrap_err();
        format!("{}\n{}", error.evalue, error.traceback.join("\n"))
    };
    let found = error(session, ":dep nowhere = { path = \"nowhere\" }");
    assert!(
        found.contains("no Cargo.toml in") && found.contains("relative to the notebook"),
        "{found}"
    );
    let manifest = "[package]\nname = \"broken\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    write(notebook, "broken/Cargo.toml", manifest);
    write(
        notebook,
        "broken/src/lib.rs",
        "pub fn f() -> u32 { \"one\" }\npub fn g() -> u32 { \"two\" }\n",
    );
    let found = error(session, ":dep broken = { path = \"broken\" }");
    assert!(
        found.starts_with("`broken 0.1.0` failed to compile for wasm32-wasip1"),
        "{found}"
    );
    assert!(
        found.contains("mismatched types") && found.contains("(further errors: 1)"),
        "{found}"
    );
    write(notebook, "broken/build.rs", "fn main() { panic!(\"it is Monday\") }");
    let found = error(session, ":dep broken = { path = \"broken\" }");
    assert!(
        found.contains("the build script of broken v0.1.0 failed") && found.contains("it is Monday"),
        "{found}"
    );
    write(
        notebook,
        "broken/build.rs",
        "fn main() { std::thread::sleep(std::time::Duration::from_secs(60)) }",
    );
    let seen = interrupted(session, ":dep broken = { path = \"broken\" }");
    assert!(seen.stderr.contains("compiling broken"), "{}", seen.stderr);
    assert_eq!(
        text(session, "(probe::VERSION, fastrand::Rng::with_seed(1).u8(..) > 0)")
            .0
            .len(),
        15
    );
}

/// Executes a slow cell and interrupts it.
fn interrupted(session: &mut Session, code: &str) -> Seen {
    let interrupt = Interrupt::default();
    let trigger = interrupt.clone();
    let timer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(2));
        trigger.trigger();
        Instant::now()
    });
    let (done, seen) = execute(session, code, &interrupt);
    let late = timer.join().unwrap().elapsed();
    assert_eq!(done.unwrap_err().ename, "Interrupted");
    assert!(late < Duration::from_millis(200), "{late:?}");
    seen
}

/// Starts another session with the notebook's lock while another process holds the build locks.
fn a_restart_reuses_it(notebook: &Path, lock: &Lock) {
    let cell = serde_json::json!({ "outputs": [{ "data": { Lock::MEDIA_TYPE: lock } }] });
    write(notebook, "a.ipynb", &serde_json::json!({ "cells": [cell] }).to_string());
    let locks = Lock::of_notebook(&Notebook::read(&notebook.join("a.ipynb")).unwrap());
    assert_eq!(locks, std::slice::from_ref(lock));
    let mut session = Session::new(setup(&setup::cache(), notebook, locks)).unwrap();
    let locked: Vec<_> = preludes().iter().map(|dir| File::open(dir.join("lock")).unwrap()).collect();
    locked.iter().for_each(|file| file.lock().unwrap());
    let start = Instant::now();
    let (value, seen) = text(
        &mut session,
        ":dep itoa = \"1\"\n:dep fastrand = \"2\"\n:dep probe = { path = \"probe\" }\nprobe::VERSION",
    );
    assert_eq!(
        (value.as_str(), seen.progress, seen.stderr.as_str()),
        ("\"0.1.0\"", false, "")
    );
    assert_eq!(seen.lock(), *lock);
    println!("a restart: {:.0?}", start.elapsed());

    let seen = interrupted(&mut session, ":dep fastrand = \"=2.0.0\"");
    assert!(seen.stderr.contains("waiting for another notebook"), "{}", seen.stderr);
}

/// Returns the directories of the preludes of all toolchains.
fn preludes() -> Vec<PathBuf> {
    let dirs = fs::read_dir(setup::cache().join("prelude")).unwrap();
    let dirs = dirs.map(|entry| entry.unwrap().path());
    dirs.filter(|dir| dir.join("lock").exists()).collect()
}

#[test]
#[ignore = "recompiles the SDK, which takes minutes"]
fn a_lock_makes_the_same_base_everywhere() {
    let notebooks = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let elsewhere = tempfile::tempdir().unwrap();
    let deep = notebooks[1].path().join("a/deeper/directory");
    let code = ":dep fastrand = \"2\"\n:dep probe = { path = \"probe\" }";
    let mut locks: Vec<Lock> = Vec::new();
    for (cache, notebook) in [(setup::cache(), notebooks[0].path()), (elsewhere.path().join("cache"), &deep)] {
        write_probe(notebook, 1, "0.1.0");
        // Replace the sources that contain the crate's path.
        write(
            notebook,
            "probe/build.rs",
            "fn main() { std::fs::write(format!(\"{}/reached\", std::env::var(\"OUT_DIR\").unwrap()), \"\").unwrap() }",
        );
        write(
            notebook,
            "probe-macros/src/lib.rs",
            "#[proc_macro]\npub fn reached(tokens: proc_macro::TokenStream) -> proc_macro::TokenStream { tokens }",
        );
        let mut session = Session::new(setup(&cache, notebook, locks.clone())).unwrap();
        locks.push(text(&mut session, code).1.lock());
    }
    assert_eq!(locks[0], locks[1]);
    assert!(locks[0].base.is_some());
}
