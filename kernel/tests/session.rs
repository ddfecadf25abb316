//! A notebook from its first cell to its last: a real toolchain, a real sandbox, a store in memory.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use lockstep_kernel::cell::Cell;
use lockstep_kernel::output::{CellError, MimeBundle, Output, Stream};
use lockstep_kernel::session::{Done, Session, Setup};
use lockstep_kernel::toolchain::{Locations, Prelude, Toolchain};
use lockstep_runtime::run::{Machine, Runtime};
use lockstep_runtime::sandbox::{Engine, EngineOptions, Interrupt};
use lockstep_runtime::step::Limits;
use lockstep_runtime::store::Store;

#[derive(Default)]
struct Seen {
    stdout: String,
    stderr: String,
    shown: Vec<MimeBundle>,
}

impl Output for Seen {
    fn stream(&mut self, stream: Stream, bytes: &[u8]) {
        let text = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        text.push_str(std::str::from_utf8(bytes).unwrap());
    }
    fn display(&mut self, bundle: MimeBundle) {
        self.shown.push(bundle);
    }
    fn progress(&mut self, _: Option<u8>) {}
}

/// A notebook whose cells are named by their place.
struct Notebook {
    session: Session,
    number: u32,
    directory: tempfile::TempDir,
}

struct Answer {
    done: Result<Done, CellError>,
    seen: Seen,
}

impl Notebook {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // That of this user: compiling the prelude takes minutes.
        let cache = std::env::home_dir().unwrap().join(".cache/lockstep");
        let locations = Locations {
            cache: cache.clone(),
            environment: std::env::vars_os().collect(),
            debian: false,
        };
        let toolchain = Toolchain::find(&locations).unwrap();
        let prelude = Prelude::new().ensure(&toolchain, &cache, &mut |_| ()).unwrap();
        let machine = Machine {
            name: "test".into(),
            version: "test".into(),
            clock: SystemTime::now,
        };
        let engine = Engine::new(&EngineOptions {
            native_cache: Some(cache.join("native")),
            ..EngineOptions::default()
        })
        .unwrap();
        let session = Session::new(Setup {
            runtime: Arc::new(Runtime::new(engine, Store::memory().unwrap(), machine)),
            toolchain,
            prelude,
            locks: Vec::new(),
            directory: directory.path().to_owned(),
            scratch: std::env::temp_dir(),
            limits: Limits::default(),
            seed: 0,
        })
        .unwrap();
        Self {
            session,
            number: 0,
            directory,
        }
    }

    fn execute(&mut self, id: Option<&str>, code: &str) -> Answer {
        self.number += 1;
        let cell = Cell {
            id: id.map(str::to_owned),
            code: code.to_owned(),
            number: self.number,
        };
        let mut seen = Seen::default();
        let start = Instant::now();
        let done = self.session.execute(&cell, &mut seen, &Interrupt::default());
        println!(
            "[{}] {:.0?} cached: {:?}",
            self.number,
            start.elapsed(),
            done.as_ref().map(|done| done.cached)
        );
        Answer { done, seen }
    }

    /// Executes a cell that ends well; gives the text of its result, or what it printed.
    fn text(&mut self, code: &str) -> String {
        let answer = self.execute(None, code);
        let done = answer
            .done
            .unwrap_or_else(|error| panic!("{code}\n{}", error.traceback.join("\n")));
        match done.result {
            Some(bundle) => bundle.data["text/plain"].as_str().unwrap().to_owned(),
            None => answer.seen.stdout,
        }
    }

    /// Executes a cell that fails; gives the error without its colours.
    fn error(&mut self, code: &str) -> String {
        let error = self.execute(None, code).done.unwrap_err();
        let text = error.traceback.join("\n");
        let mut plain = String::new();
        let mut pieces = text.split('\u{1b}');
        plain.push_str(pieces.next().unwrap_or_default());
        pieces.for_each(|piece| plain.push_str(piece.split_once('m').map_or("", |(_, rest)| rest)));
        format!("{}\n{plain}", error.ename)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

#[test]
fn variables_and_items_carry_over() {
    let mut notebook = Notebook::new();
    notebook.text("fn double(x: i64) -> i64 { x * 2 }\nlet mut numbers = vec![1i64, 2, 3];\nlet add = |x: i64| x + 1;");
    notebook.text("numbers.push(4);");
    assert_eq!(
        notebook.text("numbers.iter().map(|x| add(double(*x))).collect::<Vec<_>>()"),
        "[3, 5, 7, 9]"
    );
    notebook.text("#[derive(Debug, Serialize, Deserialize)]\nstruct Point { x: f64 }\nlet point = Point { x: 0.5 };");
    assert_eq!(notebook.text("println!(\"{}\", point.x);\npoint"), "Point { x: 0.5 }");
    let types: Vec<_> = notebook
        .session
        .variables()
        .map(|v| (v.name.as_str(), v.type_name.as_str()))
        .collect();
    assert_eq!(types[1..], [("numbers", "alloc::vec::Vec<i64>"), ("point", "cell::Point")]);
}

#[test]
fn what_borrows_or_can_not_be_kept_is_made_again() {
    let mut notebook = Notebook::new();
    notebook.text("let name = \"adelie\"; let names = vec![name, \"gentoo\"]; println!(\"made\");");
    notebook.text("let count: std::collections::HashMap<&str, usize> = names.iter().map(|n| (*n, n.len())).collect();");
    assert_eq!(notebook.text("(count[name], names.len())"), "(6, 2)");
    notebook.text("let mut evens = (0..).step_by(2); println!(\"loud\");");
    notebook.text("let first = evens.next();");
    // The remade cells print nothing.
    assert_eq!(
        notebook.text("println!(\"{:?} {:?}\", first, evens.next());"),
        "Some(0) Some(2)\n"
    );
    // What a cell gives away stays as it was for the next.
    notebook.text("let gone = vec![1]; let taken = gone;");
    assert_eq!(notebook.text("drop(names); taken"), "[1]");
    assert_eq!(notebook.text("names"), "[\"adelie\", \"gentoo\"]");
    assert!(notebook.error("gone").contains("cannot find value `gone`"));
}

#[test]
fn an_executed_cell_is_answered_from_the_cache() {
    let mut notebook = Notebook::new();
    assert!(
        !notebook
            .execute(Some("a"), "let x = 1;\nprintln!(\"one\");")
            .done
            .unwrap()
            .cached
    );
    notebook.text("fn unrelated() {}");
    let again = notebook.execute(Some("a"), "let x = 1; // said again\nprintln!(\"one\");");
    assert!(again.done.unwrap().cached);
    assert_eq!(again.seen.stdout, "one\n");
    notebook.execute(Some("b"), "let y = x + 1;").done.unwrap();
    // A cell that is executed again does not see what it left before, and those that read it are stale.
    assert_eq!(notebook.execute(Some("a"), "let x = 2;").done.unwrap().stale, [4]);
    assert_eq!(notebook.text("x + y"), "4");
}

#[test]
fn errors_are_in_the_cells_own_lines_and_change_nothing() {
    let mut notebook = Notebook::new();
    notebook.text(
        "let kept = 7;\nlet index = 7usize;\nfn half(x: i32) -> i32 {\n    assert!(x % 2 == 0, \"odd: {x}\");\n    x / 2\n}",
    );
    let expected = "\
CompileError
error[E0308]: mismatched types
 --> [2]:2:14
  |
2 | let b: i32 = \"text\";
  |        ---   ^^^^^^ expected `i32`, found `&str`
  |        |
  |        expected due to this";
    assert_eq!(notebook.error("let a = 1;\nlet b: i32 = \"text\";"), expected);
    let expected = "\
Panic
panic: index out of bounds: the len is 0 but the index is 7
 --> [3]:2:6
  |
2 | empty[index]
  |      ^^^^^^^";
    assert_eq!(notebook.error("let empty: Vec<i32> = vec![];\nempty[index]"), expected);
    // A panic in an earlier cell's function names that cell.
    let error = notebook.error("half(kept)");
    assert!(error.contains("panic: odd: 7\n --> [1]:4:5"), "{error}");
    assert_eq!(
        notebook.error("let n: i32 = \"x\".parse()?;"),
        "Error\nerror: invalid digit found in string"
    );
    assert!(notebook.error("let x = (1;").contains("mismatched closing delimiter"));
    assert!(notebook.error("fn f() {").contains("unclosed delimiter"));
    assert_eq!(
        notebook.error("std::process::exit(3);"),
        "Exit\nExit: the cell ended with exit code 3"
    );
    assert_eq!(notebook.text("kept + 1"), "8");
}

#[test]
fn an_interrupt_stops_a_cell_and_keeps_the_state() {
    let mut notebook = Notebook::new();
    notebook.text("let kept = 7;");
    let interrupt = Interrupt::default();
    let trigger = interrupt.clone();
    let timer = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(4));
        trigger.trigger();
    });
    let cell = Cell {
        id: None,
        code: "let kept = 8; loop {}".into(),
        number: 9,
    };
    let error = notebook.session.execute(&cell, &mut Seen::default(), &interrupt).unwrap_err();
    timer.join().unwrap();
    assert_eq!(error.ename, "Interrupted");
    assert_eq!(notebook.text("kept"), "7");
}

#[test]
fn tables_are_shown_and_progress_is_drawn() {
    let mut notebook = Notebook::new();
    notebook.text("let table = Table::new([(\"x\", vec![1.0, 2.0])])?;");
    let answer = notebook.execute(
        None,
        "progress(1, 2);\nlockstep::cell::display(&table);\nMetrics::from([(\"a\", 1.0)])",
    );
    assert!(answer.seen.shown[0].data["text/html"].as_str().unwrap().contains("<table"));
    assert!(answer.done.unwrap().result.unwrap().data.contains_key("text/html"));
    assert_eq!(answer.seen.stderr, "\x1b]9;4;1;50\x1b\\");
}

#[test]
fn directives_give_files_and_run_steps() {
    let mut notebook = Notebook::new();
    notebook.write("rows.csv", "x,y\n1,2\n3,4\n");
    notebook.text(":input rows = rows.csv\nlet table = rows.table()?;");
    assert_eq!(notebook.text("table.rows()"), "2");
    notebook.text("/// Twice.\n#[step]\nfn twice(raw: Table, #[default = 2] times: Param<usize>) -> Result<Vec<f64>> {\n    Ok(raw.f64(\"x\")?.iter().flatten().map(|x| x * *times as f64).collect())\n}");
    let answer = notebook.execute(None, ":run #twice raw=table times=3 -> out\nout");
    let result = answer
        .done
        .unwrap_or_else(|error| panic!("{}", error.traceback.join("\n")))
        .result
        .unwrap();
    assert_eq!(result.data["text/plain"], "[3.0, 9.0]");
    assert!(
        answer.seen.shown[0].data["text/plain"]
            .as_str()
            .unwrap()
            .starts_with("twice: run in")
    );
    assert_eq!(notebook.text("twice(table, 2.into())?"), "[2.0, 6.0]");
    assert!(
        notebook
            .error(":run #twice raw=tabel -> out")
            .contains("`tabel` is neither a variable nor a file")
    );
    assert!(notebook.error(":nonsense").contains("no directive is called `:nonsense`"));
    notebook.text(":clear");
    assert_eq!(notebook.session.variables().count(), 0);
}
