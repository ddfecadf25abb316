//! Whole notebooks with a real toolchain, a real sandbox and a temporary store.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

#[path = "../../tests/bucket.rs"]
mod bucket;
mod setup;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lockstep_kernel::cell::Cell;
use lockstep_kernel::jupyter::{Assistant, Interpreter};
use lockstep_kernel::output::{CellError, MimeBundle, Output, Stream, Unanswered};
use lockstep_kernel::session::{Confined, Done, Downloads, Session, SessionFile, Setup};
use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::store::Shared;

#[derive(Default)]
struct Seen {
    stdout: String,
    stderr: String,
    shown: Vec<MimeBundle>,
    answers: Vec<&'static str>,
    /// The name of the cell.
    name: String,
    /// The ids of updated displays.
    updated: Vec<String>,
}

impl Output for Seen {
    fn stream(&mut self, stream: Stream, bytes: &[u8]) {
        let text = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        text.push_str(std::str::from_utf8(bytes).unwrap());
    }
    fn display(&mut self, bundle: MimeBundle, _: Option<&str>) {
        self.stdout.push_str("<display>");
        self.shown.push(bundle);
    }
    fn name(&self) -> String {
        self.name.clone()
    }
    fn update(&mut self, _: MimeBundle, id: &str) {
        self.updated.push(id.to_owned());
        self.stdout.push_str("<update>");
    }
    fn clear(&mut self, wait: bool) {
        self.stdout.push_str(if wait { "<clear later>" } else { "<clear>" });
    }
    fn progress(&mut self, _: Option<u8>) {}
    fn ask(&mut self, prompt: &str, password: bool) -> Result<String, Unanswered> {
        self.stdout.push_str(&format!("<ask {prompt:?} {password}>"));
        match self.answers.is_empty() {
            true => Err(Unanswered::NotAllowed),
            false => Ok(self.answers.remove(0).to_owned()),
        }
    }
}

/// A notebook and its session.
struct Notebook {
    setup: Setup,
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
        let setup = Setup {
            place: Some(SessionFile {
                directory: directory.path().join("sessions"),
                notebook: directory.path().join("notebook.ipynb"),
            }),
            ..setup::setup(&setup::cache(), directory.path())
        };
        Self {
            session: Session::new(setup.clone()).unwrap(),
            setup,
            number: 0,
            directory,
        }
    }

    /// Starts a new session for the same notebook. The old one ends as after `kill -9`.
    fn reopen(&mut self) {
        self.session = Session::new(self.setup.clone()).unwrap();
        self.number = 0;
    }

    /// Executes a cell that succeeds, with answers on stdin. Returns the text of its result and the output.
    fn typed(&mut self, id: &str, code: &str, answers: &[&'static str]) -> (String, Seen) {
        let answer = self.execute_typed(Some(id), code, answers);
        let done = answer
            .done
            .unwrap_or_else(|error| panic!("{code}\n{}", error.traceback.join("\n")));
        let text = done
            .result
            .map_or_else(String::new, |result| result.data["text/plain"].as_str().unwrap().to_owned());
        (text, answer.seen)
    }

    fn execute(&mut self, id: Option<&str>, code: &str) -> Answer {
        self.execute_typed(id, code, &[])
    }

    fn execute_typed(&mut self, id: Option<&str>, code: &str, answers: &[&'static str]) -> Answer {
        self.number += 1;
        let cell = Cell {
            id: id.map(str::to_owned),
            code: code.to_owned(),
            number: self.number,
        };
        let mut seen = Seen {
            answers: answers.to_vec(),
            name: self.number.to_string(),
            ..Seen::default()
        };
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

    /// Executes a cell that succeeds. Returns the text of its result, else what it printed.
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

    /// Executes a cell that fails. Returns the error without colours.
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
fn values_that_can_not_be_stored_are_recomputed() {
    let mut notebook = Notebook::new();
    notebook.text("let name = \"adelie\"; let names = vec![name, \"gentoo\"]; println!(\"made\");");
    notebook.text("let count: std::collections::HashMap<&str, usize> = names.iter().map(|n| (*n, n.len())).collect();");
    assert_eq!(notebook.text("(count[name], names.len())"), "(6, 2)");
    notebook.text("let mut evens = (0..).step_by(2); println!(\"loud\");");
    notebook.text("let first = evens.next();");
    // The recomputed cells print nothing.
    assert_eq!(
        notebook.text("println!(\"{:?} {:?}\", first, evens.next());"),
        "Some(0) Some(2)\n"
    );
    // A variable that a cell moves is unchanged for the next cell.
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
    // A re-executed cell does not see its earlier definitions, and cells that read them are stale.
    assert_eq!(notebook.execute(Some("a"), "let x = 2;").done.unwrap().stale, [4]);
    assert_eq!(notebook.text("x + y"), "4");
}

#[test]
fn errors_point_into_the_cell_and_change_nothing() {
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
        "Exit\nExit: the cell exited with code 3"
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
        "progress(1, 2);\nlockstep::show::display(&table);\nMetrics::from([(\"a\", 1.0)])",
    );
    assert!(answer.seen.shown[0].data["text/html"].as_str().unwrap().contains("<table"));
    assert!(answer.done.unwrap().result.unwrap().data.contains_key("text/html"));
    assert_eq!(answer.seen.stderr, "\x1b]9;4;1;50\x1b\\");
}

#[test]
fn directives_read_files_and_run_steps() {
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
            .starts_with("twice: ran in")
    );
    assert_eq!(notebook.text("twice(table, 2.into())?"), "[2.0, 6.0]");
    assert!(
        notebook
            .error(":run #twice raw=tabel -> out")
            .contains("`tabel` is neither a variable nor a file")
    );
    assert!(notebook.error(":nonsense").contains("unknown directive `:nonsense`"));
    notebook.text(":clear");
    assert_eq!(notebook.session.variables().count(), 0);
}

#[test]
fn a_cell_asks_and_its_answers_are_inputs() {
    let mut notebook = Notebook::new();
    let code = "let name = lockstep::show::input(\"name? \")?;\nprintln!(\"hello {name}\");\n\
        let mut line = String::new();\nstd::io::stdin().read_line(&mut line)?;\n(&name, &line)";
    let (text, seen) = notebook.typed("a", code, &["Ada", "x\n"]);
    assert_eq!(text, "(\"Ada\", \"x\\n\")");
    assert_eq!(seen.stdout, "<ask \"name? \" false>hello Ada\n<ask \"\" false>");
    let answer = notebook.execute_typed(Some("a"), code, &["Ada", "x"]);
    let done = answer.done.unwrap();
    assert!(done.cached && done.account.stdin.is_some());
    let error = notebook
        .execute(Some("b"), "lockstep::show::password(\"key\")?")
        .done
        .unwrap_err();
    assert_eq!(error.ename, "StdinNotAllowed");
    assert_eq!(notebook.text("name"), "\"Ada\"");
}

#[test]
fn values_are_shown_while_the_cell_runs() {
    let mut notebook = Notebook::new();
    let code = "println!(\"a\");\nlet d = lockstep::show::display(&Text::from(\"x\".to_owned()));\nprint!(\"b\");\n\
        d.update(&Text::from(\"y\".to_owned()));\nlockstep::show::clear_output(true);\n\
        println!(\"EVCXR_BEGIN_CONTENT text/html\\n<b>c</b>\\nEVCXR_END_CONTENT\");";
    let (_, seen) = notebook.typed("a", code, &[]);
    assert_eq!(seen.stdout, "a\n<display>b<update><clear later><display>");
    assert_eq!(seen.shown[1].data["text/html"], "<b>c</b>");
}

#[test]
fn a_session_outlives_its_process() {
    let mut notebook = Notebook::new();
    notebook.typed(
        "a",
        "fn twice(x: i64) -> i64 { 2 * x }\nlet five: i64 = 5;\nlet add = |x: i64| x + 1;",
        &[],
    );
    notebook.typed("b", "let six = add(five);", &[]);
    assert!(notebook.execute(Some("c"), "let five = \"six\"; panic!()").done.is_err());
    notebook.reopen();
    let (text, seen) = notebook.typed("d", "(five, six, add(twice(six)))", &[]);
    assert_eq!(text, "(5, 6, 13)");
    assert!(seen.stderr.starts_with("note: session restored with 3 variables"));

    // After a restart by the user the session is empty, and `:restore` restores it.
    notebook.session.restart();
    notebook.reopen();
    assert!(notebook.error("six").contains("cannot find value `six`"));
    notebook.typed("e", "let seven = 7i64;", &[]);
    notebook.typed("f", ":restore", &[]);
    assert_eq!(notebook.typed("g", "(six, seven, twice(1))", &[]).0, "(6, 7, 2)");

    // A file that can't be read is set aside.
    let sessions: Vec<_> = std::fs::read_dir(notebook.directory.path().join("sessions"))
        .unwrap()
        .collect();
    for file in sessions {
        std::fs::write(file.unwrap().path(), "{\"format\":1,\"cells\":{\"versions\":[{}]}}").unwrap();
    }
    notebook.reopen();
    assert_eq!(notebook.session.variables().count(), 0);
    let (_, seen) = notebook.typed("h", "1", &[]);
    let start = "note: the saved session can't be restored: it is damaged: ";
    assert!(
        seen.stderr.starts_with(start) && seen.stderr.contains("; it is kept as "),
        "{}",
        seen.stderr
    );
    let aside = std::fs::read_dir(notebook.directory.path().join("sessions"))
        .unwrap()
        .flatten();
    let aside = aside.filter(|file| file.path().to_string_lossy().ends_with(".unread.json"));
    assert_eq!(aside.count(), 1);
}

#[test]
fn undo_goes_back_one_cell() {
    let mut notebook = Notebook::new();
    notebook.typed("a", "let x = 1;", &[]);
    notebook.typed("b", "let y = x + 1;\nfn f() {}", &[]);
    notebook.typed("a", "let x = 10;", &[]);
    notebook.typed("u", ":undo", &[]);
    assert_eq!(notebook.typed("c", "(x, y)", &[]).0, "(1, 2)");
    notebook.typed("u", ":undo\n:undo", &[]);
    assert!(notebook.error("y").contains("cannot find value `y`"));
    notebook.typed("v", ":clear", &[]);
    assert!(notebook.error("x").contains("cannot find value `x`"));
    notebook.typed("u", ":undo", &[]);
    assert_eq!(notebook.typed("d", "x", &[]).0, "1");
}

#[test]
fn stale_cells_are_reported_and_re_run() {
    let mut notebook = Notebook::new();
    let stale = |notebook: &mut Notebook, id: &str, code: &str| notebook.execute(Some(id), code).done.unwrap().stale;
    stale(&mut notebook, "f", "fn rate() -> i64 { 2 }");
    stale(&mut notebook, "x", "let x = 3i64;");
    stale(&mut notebook, "y", "let y = x * rate();");
    stale(&mut notebook, "z", "let z = y % 2;");
    assert_eq!(stale(&mut notebook, "f", "fn rate() -> i64 { 4 }"), [3, 4]);
    assert!(stale(&mut notebook, "f", "fn rate() -> i64 { 2 }").is_empty());
    assert_eq!(stale(&mut notebook, "x", "let x = 4i64;"), [3, 4]);
    // y changes, so z is re-run, with the same result: 8 % 2 equals 6 % 2.
    assert!(stale(&mut notebook, "r", ":run stale").is_empty());
    assert_eq!(notebook.typed("s", "(y, z)", &[]).0, "(8, 0)");
    // The cell of f is deleted, so cells that use f are stale.
    notebook.session.forget(&["f".to_owned()]);
    assert_eq!(stale(&mut notebook, "t", "1"), [3, 4, 9]);
}

#[test]
fn out_of_order_execution_is_reported_once() {
    let mut notebook = Notebook::new();
    let cells = r#"{"cells": [{"id": "a"}, {"id": "b"}, {"id": "c"}]}"#;
    notebook.write("notebook.ipynb", cells);
    let notes = |notebook: &mut Notebook, id: &str, code: &str| notebook.execute(Some(id), code).done.unwrap().notes;
    notes(&mut notebook, "c", "let x = 1;");
    let said = ["run from top to bottom, [2] would not find `x`, which a cell below defines"];
    assert_eq!(notes(&mut notebook, "b", "let y = x;"), said);
    assert!(notes(&mut notebook, "d", "y").is_empty());
    let said = ["run from top to bottom, [2] would read `x` from [4]; re-run or move [2]"];
    assert_eq!(notes(&mut notebook, "a", "let x = 2;"), said);
    assert!(notes(&mut notebook, "b", "let y = x;").is_empty());
}

#[test]
fn types_need_no_derives_and_futures_can_be_awaited() {
    let mut notebook = Notebook::new();
    let types = "struct Meters(f64);\nenum Shape { Dot, Circle { radius: Meters }, Line(f64, f64) }\n\
        struct Pair<T> { left: T, right: Option<Box<Pair<T>>> }\n\
        struct Task { name: String, work: Box<dyn Fn(i64) -> i64> }\n\
        #[derive(Clone)]\nstruct Own(i64);\nimpl std::fmt::Debug for Own {\n    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, \"own\") }\n}";
    notebook.text(types);
    notebook.text("let shapes = vec![Shape::Dot, Shape::Circle { radius: Meters(1.5) }, Shape::Line(0.0, 1.0)];");
    assert_eq!(
        notebook.text("shapes"),
        "[Dot, Circle { radius: Meters(1.5) }, Line(0.0, 1.0)]"
    );
    notebook.text("let pair = Pair { left: 1u8, right: Some(Box::new(Pair { left: 2, right: None })) };\nlet own = Own(3);");
    assert_eq!(
        notebook.text("&pair"),
        "Pair { left: 1, right: Some(Pair { left: 2, right: None }) }"
    );
    assert_eq!(notebook.text("(own.0, &own)"), "(3, own)");
    // A closure can't be stored, so a value that holds one is recomputed.
    notebook.text("let task = Task { name: \"twice\".into(), work: Box::new(|x| 2 * x) };");
    assert_eq!(notebook.text("(&task.name, (task.work)(21))"), "(\"twice\", 42)");
    notebook.text("async fn later(x: i64) -> Result<i64> { Ok(x + 1) }");
    notebook.text("let x = later(1).await?;\nlet f = move |y: i64| x + y;");
    assert_eq!(notebook.text("f(later(2).await?)"), "5");
    assert!(
        notebook
            .error("std::future::pending::<()>().await;")
            .contains("something that never comes")
    );
}

#[test]
fn variables_moved_by_the_last_expression_are_reported() {
    let mut notebook = Notebook::new();
    let mut notes = |code: &str| notebook.execute(None, code).done.unwrap().notes;
    let said = ["the last expression moves `a`, so later cells can't use it; write `&a` instead"];
    assert_eq!(notes("let a = String::new();\nlet b = 1;\n(a, b)"), said);
    assert!(notes("let a = String::new();\nlet c = a;\n(&c, 1)").is_empty());
}

#[test]
fn all_float_functions_are_available() {
    let mut notebook = Notebook::new();
    let functions = "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh exp exp2 exp_m1 ln ln_1p log2 log10 sqrt cbrt";
    for float in ["f64", "f32"] {
        let calls: Vec<_> = functions.split(' ').map(|name| format!("x.{name}()")).collect();
        let code = format!(
            "let x: {float} = std::hint::black_box(0.5);\n\
             let all = [{}, x.atan2(x), x.powf(x), x.powi(3), x.hypot(x), x.mul_add(x, x), x % 0.3, x.sin_cos().0];\nall.len()",
            calls.join(", ")
        );
        assert_eq!(notebook.text(&code), "28");
    }
}

/// Returns the completions at the end of `code`.
fn offered(assistant: &mut dyn Assistant, code: &str) -> Vec<(String, String)> {
    let start = Instant::now();
    let found = assistant.complete(code, code.len());
    assert!(start.elapsed() < Duration::from_secs(2), "{code} took {:?}", start.elapsed());
    found.matches.into_iter().map(|found| (found.text, found.kind)).collect()
}

/// Requests completions until rust-analyzer is ready. The first request starts it.
fn wait_for_types(assistant: &mut dyn Assistant, code: &str, wanted: &str) {
    let start = Instant::now();
    while offered(assistant, code).iter().all(|(text, _)| text != wanted) {
        assert!(
            start.elapsed() < Duration::from_secs(120),
            "`{code}` does not offer `{wanted}`"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("`{code}` offers `{wanted}` after {:.1?}", start.elapsed());
}

#[test]
fn completion_knows_types() {
    let mut notebook = Notebook::new();
    notebook.text("/// A file.\nstruct Row { name: String, size: u64 }");
    notebook.text("let rows = vec![Row { name: \"a\".into(), size: 1 }];");
    notebook.text("let n = 2u64; let times = move |x: u64| x * n;");
    let mut assistant = Interpreter::assistant(&notebook.session);
    let assistant = assistant.as_mut();
    let kind = |kind: &str, names: &[&str]| {
        names
            .iter()
            .map(|name| ((*name).to_owned(), kind.to_owned()))
            .collect::<Vec<_>>()
    };

    // These come immediately, from the session and the prelude.
    assert_eq!(offered(assistant, "ro"), kind("instance", &["rows"]));
    assert_eq!(offered(assistant, "progr"), kind("function", &["progress"]));
    assert_eq!(offered(assistant, ":unknown\n:re"), kind("keyword", &["restore"]));
    assert_eq!(offered(assistant, ":input r"), kind("instance", &["rows"]));

    let Some(program) = notebook.setup.toolchain.rust_analyzer() else {
        eprintln!("skipped: rust-analyzer is not installed");
        return;
    };
    wait_for_types(assistant, "Table::n", "new");
    let fields = offered(assistant, "let row: Row = todo!();\nif row.");
    assert_eq!(fields[..2], kind("property", &["name", "size"]));
    assert_eq!(
        offered(assistant, "struct New { row: R")
            .iter()
            .find(|(text, _)| text == "Row"),
        kind("class", &["Row"]).first()
    );
    let hover = assistant.inspect("Row", 1).unwrap();
    assert!(
        hover.data["text/markdown"].as_str().unwrap().ends_with("A file."),
        "{hover:?}"
    );
    let hover = assistant.inspect("Table::new(", 11).unwrap();
    assert!(hover.data["text/plain"].as_str().unwrap().contains("fn new"), "{hover:?}");

    if program.library.is_none() {
        eprintln!("partly skipped: the sources of std are not installed");
        return;
    }
    assert_eq!(
        offered(assistant, ":vars\nlet é = rows.it"),
        kind("function", &["iter", "iter_mut"])
    );
    assert_eq!(offered(assistant, "rows[0].")[..2], kind("property", &["name", "size"]));
    let hover = assistant.inspect("rows.len()", 2).unwrap();
    assert_eq!(hover.data["text/plain"], "let rows: Vec<Row>");
    let hover = assistant.inspect("times(1)", 2).unwrap();
    assert_eq!(hover.data["text/plain"], "let times: impl Fn(u64) -> u64");

    notebook.text("let sizes: std::collections::HashMap<String, u64> = Default::default();");
    assert_eq!(offered(assistant, "for (key, size) in &sizes { size.co")[0].0, "count_ones");

    let mut took: Vec<_> = (0..40)
        .map(|number| {
            let start = Instant::now();
            let found = offered(assistant, &format!("let n{number} = rows.len();\nrows.iter().ma"));
            assert!(found.contains(&("map".to_owned(), "function".to_owned())), "{found:?}");
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    println!(
        "a completion takes {:.1?}, the slowest {:.1?}",
        took[took.len() / 2],
        took[took.len() - 1]
    );

    kill_analyzers();
    assert_eq!(offered(assistant, "ro"), kind("instance", &["rows"]));
    wait_for_types(assistant, "rows.le", "len");
}

/// Kills every rust-analyzer that this process has started, as the kernel does when memory runs out.
fn kill_analyzers() {
    let ours = format!("PPid:\t{}\n", std::process::id());
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let status = std::fs::read_to_string(process.path().join("status")).unwrap_or_default();
        if status.starts_with("Name:\trust-analyzer\n") && status.contains(&ours) {
            let id = process.file_name().into_string().unwrap().parse().unwrap();
            let id = rustix::process::Pid::from_raw(id).unwrap();
            rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
        }
    }
}

#[test]
fn requests_are_answered_while_a_cell_runs() {
    let mut notebook = Notebook::new();
    notebook.text("/// Halves.\nfn half(x: u32) -> u32 { x / 2 }\nlet kept = half(8);");
    let mut assistant = Interpreter::assistant(&notebook.session);
    let interrupt = Interrupt::default();
    std::thread::scope(|threads| {
        let running = threads.spawn(|| {
            let cell = Cell {
                id: None,
                code: "loop {}".into(),
                number: 9,
            };
            notebook.session.execute(&cell, &mut Seen::default(), &interrupt)
        });
        let found = offered(assistant.as_mut(), "ke");
        assert_eq!(found, [("kept".to_owned(), "instance".to_owned())]);
        let hover = assistant.inspect("half", 2).unwrap();
        assert!(
            hover.data["text/plain"].as_str().unwrap().contains("fn half(x: u32) -> u32"),
            "{hover:?}"
        );
        interrupt.trigger();
        assert_eq!(running.join().unwrap().unwrap_err().ename, "Interrupted");
    });
}

/// Writes a crate with one step that outputs `text` and has no dependencies.
fn write_steps(notebook: &Notebook, text: &str) {
    let interface = r#"{"lockstep":1,"step":"say","doc":"Says it.","outputs":[{"name":"said","media_type":"text/plain"}]}"#;
    let source = format!(
        "#[used]\n#[unsafe(link_section = \"lockstep:interface\")]\nstatic INTERFACE: [u8; {}] = *b{interface:?};\n\
         #[unsafe(no_mangle)]\nextern \"C\" fn _start() {{\n\
         println!(\"saying\");\nstd::fs::write(\"/out/said\", {text:?}).unwrap();\n}}\n",
        interface.len()
    );
    std::fs::create_dir_all(notebook.directory.path().join("steps/src")).unwrap();
    let manifest = "[package]\nname = \"steps\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[workspace]\n";
    notebook.write("steps/Cargo.toml", manifest);
    notebook.write("steps/src/lib.rs", &source);
}

#[test]
fn a_crate_of_steps_is_rebuilt_when_its_sources_change() {
    let mut notebook = Notebook::new();
    write_steps(&notebook, "one");
    let listed = notebook.execute(Some("a"), ":use steps");
    listed.done.unwrap();
    assert_eq!(listed.seen.shown[0].data["text/plain"], "steps::say()?  Says it.");
    let first = notebook.execute(Some("b"), "let said = steps::say()?;");
    assert_eq!((first.done.unwrap().cached, first.seen.stdout.as_str()), (false, "saying\n"));
    assert_eq!(notebook.text("said.0"), "\"one\"");
    // A wrong call is a compile error; an error of the step can be handled by the cell.
    assert!(notebook.error("steps::say(1)").contains("this function takes 0 arguments"));

    write_steps(&notebook, "two");
    let (value, seen) = notebook.typed("c", "steps::say()?.0", &[]);
    assert_eq!(value, "\"two\"");
    assert!(seen.stderr.contains("steps has changed since [1]"), "{}", seen.stderr);
    let again = notebook.execute(Some("d"), "1").done.unwrap();
    assert_eq!(again.stale, [2, 3]);
    notebook.execute(None, ":run stale").done.unwrap();
    assert_eq!(notebook.text("said.0"), "\"two\"");

    // A new process restores the steps.
    notebook.reopen();
    assert_eq!(notebook.text("steps::say()?.0.len()"), "3");
    // A session's own function may call a step, and be a step.
    notebook.text("#[step]\nfn twice() -> Result<String> { Ok(steps::say()?.0.repeat(2)) }");
    notebook.text(":run #twice -> both");
    assert_eq!(notebook.text("both"), "\"twotwo\"");
}

#[test]
fn directories_are_variables_and_changed_files_are_reported() {
    let mut notebook = Notebook::new();
    std::fs::create_dir(notebook.directory.path().join("data")).unwrap();
    notebook.write("data/a.csv", "x\n1\n");
    notebook.write("data/b.csv", "x\n2\n");
    notebook.text(":input data = \"data\"");
    assert_eq!(notebook.text("data.files()?"), "[\"a.csv\", \"b.csv\"]");
    assert_eq!(notebook.text("let b: Csv = data.read(\"b.csv\")?;\nb.table()?.rows()"), "1");
    let notes = |notebook: &mut Notebook| notebook.execute(None, "1").done.unwrap().notes;
    assert_eq!(notes(&mut notebook), [""; 0]);
    notebook.write("data/b.csv", "x\n2\n3\n");
    let said = notes(&mut notebook);
    assert_eq!(said, ["`data` has changed since [1] read it; re-run [1] to update"]);
    assert_eq!(notes(&mut notebook), [""; 0]);
}

/// Serves the current content of `rows` at `/rows.csv`. Returns the URL and the number of requests.
fn server(rows: Arc<Mutex<&'static str>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/rows.csv", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let is_known = request[..read].starts_with(b"GET /rows.csv ");
            let (status, body) = if is_known {
                ("200 OK", *rows.lock().unwrap())
            } else {
                ("404 Not Found", "")
            };
            let length = body.len();
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, asked)
}

#[test]
fn a_result_that_the_shared_store_refuses_is_told_at_the_cell() {
    let settings = [
        ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", bucket::read_only())),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", "eu-central-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "lockstep".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
    let mut notebook = Notebook::new();
    let mut runtime = (*notebook.setup.runtime).clone();
    runtime.store = runtime
        .store
        .in_front_of(Shared::open("s3://team/results", &settings).unwrap());
    notebook.setup.runtime = Arc::new(runtime);
    notebook.reopen();
    let done = notebook.execute(Some("a"), "let x = 41; x + 1").done.unwrap();
    assert_eq!(done.result.unwrap().data["text/plain"], "42");
    let [note] = done.notes.as_slice() else {
        panic!("{:?}", done.notes)
    };
    assert!(
        note.contains("is complete, but not in the shared store: ") && note.contains("403"),
        "{note}"
    );
    assert!(
        note.ends_with("; to upload it, fix the cause and run the cell again"),
        "{note}"
    );
}

#[test]
fn a_download_is_pinned_by_its_digest() {
    let mut notebook = Notebook::new();
    let rows = Arc::new(Mutex::new("x\n1\n"));
    let (url, asked) = server(rows.clone());
    let fetch = format!(":fetch rows = \"{url}\"");
    let account = notebook.execute(Some("a"), &fetch).done.unwrap().account;
    assert_eq!(notebook.text("rows.table()?.rows()"), "1");
    // The same URL again sends no request.
    assert!(notebook.execute(Some("a"), &fetch).done.unwrap().cached);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // On another machine the content must match the notebook's digest.
    notebook.setup.fetched = account.fetched;
    notebook.setup.runtime = setup::setup(&setup::cache(), notebook.directory.path()).runtime;
    notebook.setup.place = None;
    notebook.reopen();
    *rows.lock().unwrap() = "x\n1\n2\n";
    let error = notebook.error(&fetch);
    assert!(error.contains("has changed: got sha256:"), "{error}");
    let (_, now) = error.split_once("`:fetch name = ").unwrap();
    let (accepted, _) = now.split_once('`').unwrap();
    notebook.text(&format!(":fetch rows = {accepted}"));
    assert_eq!(notebook.text("rows.table()?.rows()"), "2");
    // The rejected content is already in the store.
    assert_eq!(asked.load(Ordering::SeqCst), 2);

    let error = notebook.error(&fetch.replace("rows.csv", "none.csv"));
    assert!(error.contains("404 Not Found"), "{error}");
    let error = notebook.error(":fetch rows = \"http://127.0.0.1:1/rows.csv\"");
    assert!(error.contains("Connection refused"), "{error}");
    assert!(notebook.error(":fetch rows = rows.csv").contains("`rows.csv` is not a URL"));
}

#[test]
fn a_session_reads_no_file_outside_its_reach() {
    let mut notebook = Notebook::new();
    let files = notebook.directory.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("own.txt"), "own").unwrap();
    std::fs::write(notebook.directory.path().join("others.txt"), "others").unwrap();
    std::os::unix::fs::symlink("../others.txt", files.join("link.txt")).unwrap();
    notebook.setup.directory = files.clone();
    let downloads = Downloads {
        servers: vec!["localhost".parse().unwrap(), "example.org".parse().unwrap()],
        size: 10,
    };
    notebook.setup.confined = Some(Confined { files, downloads });
    notebook.reopen();
    notebook.text(":input own = own.txt");
    let outside = notebook.directory.path().join("others.txt");
    for path in ["../others.txt", "link.txt", "not there", outside.to_str().unwrap()] {
        for directive in [
            format!(":input a = \"{path}\""),
            format!(":use \"{path}\" as a"),
            format!(":dep a = {{ path = \"{path}\" }}"),
        ] {
            let error = notebook.execute(None, &directive).done.unwrap_err();
            let expected = format!("`{path}` is not accessible: this kernel may only read files in");
            assert!(error.evalue.contains(&expected), "{directive}: {}", error.evalue);
        }
    }
    let git = notebook.execute(None, ":dep a = { git = \"file:///etc\" }").done.unwrap_err();
    assert!(
        git.evalue.contains("this kernel may only read https:// URLs"),
        "{}",
        git.evalue
    );
    for (directive, expected) in [
        (
            ":dep a = { git = \"https://127.0.0.1/a\" }",
            "`https://127.0.0.1/a` is not accessible: this kernel may only download from localhost, example.org",
        ),
        (
            ":fetch a = \"http://127.0.0.1:1/\"",
            "can't fetch http://127.0.0.1:1/: this kernel may only download from localhost, example.org",
        ),
        (
            ":fetch a = \"http://localhost:1/\"",
            "can't fetch http://localhost:1/: localhost has no public address, and this kernel may not connect to others",
        ),
    ] {
        let error = notebook.execute(None, directive).done.unwrap_err();
        assert!(error.evalue.contains(expected), "{directive}: {}", error.evalue);
    }
}

#[test]
fn what_a_macro_call_defines_is_an_item() {
    let mut notebook = Notebook::new();
    notebook.text("thread_local! { static LEVEL: Cell<u32> = const { Cell::new(42) }; }\nuse std::cell::Cell;\nfn level() -> u32 { LEVEL.with(|l| l.get()) }");
    assert_eq!(notebook.text("level()"), "42");
    notebook.text(
        "macro_rules! unit { ($($n:ident),*) => { $(struct $n(f64); impl $n { fn half(&self) -> f64 { self.0 / 2.0 } })* }; }",
    );
    notebook.text("unit!(Metres, Feet);\nlet far = Metres(4.0);");
    assert_eq!(notebook.text("(far.half(), &far)"), "(2.0, Metres(4.0))");
    // A later call of the same name replaces it.
    notebook.text("unit!(Metres)");
    assert_eq!(notebook.text("far.half()"), "2.0");
    // Another macro of the same name changes nothing that the first one made, and a method that is defined again is the only one to go.
    notebook.text("macro_rules! unit { ($n:ident) => { struct $n; }; }\nimpl Feet { fn twice(&self) -> f64 { 2.0 * self.0 } }");
    assert_eq!(
        notebook.text("(far.half(), Feet(3.0).half(), Feet(3.0).twice())"),
        "(2.0, 1.5, 6.0)"
    );
    notebook.text("impl Feet { fn half(&self) -> f64 { 7.0 } }\nstatic MOST: u8 = 1;");
    assert_eq!(
        notebook.text("(far.half(), Feet(3.0).half(), Feet(3.0).twice())"),
        "(2.0, 7.0, 6.0)"
    );
    notebook.text("thread_local! { static LEAST: u8 = 3; static MOST: u8 = 4; }");
    notebook.text("static MOST: u8 = 5;");
    assert_eq!(notebook.text("(MOST, LEAST.with(|l| *l))"), "(5, 3)");
    notebook.text("macro_rules! say { ($x:expr) => { println!(\"{}\", $x); }; }");
    assert_eq!(notebook.text("say!{1}"), "1\n");
    assert_eq!(notebook.text("say!(2);\nsay!(3)"), "2\n3\n");
    notebook.text("macro_rules! set { ($n:ident = $v:expr) => { let hidden = 1; let mut $n = $v + hidden; }; }\nset!(n = 6);");
    notebook.text("n += 1;");
    notebook.reopen();
    assert_eq!(notebook.text("(n, far.half(), level())"), "(8, 2.0, 42)");
}

#[test]
fn automatic_implementations_give_way_to_those_of_the_user() {
    let mut notebook = Notebook::new();
    let cell = "trait Print { fn print(&self) -> String; }\nimpl<T: std::fmt::Debug> Print for T { fn print(&self) -> String { format!(\"{self:?}\") } }\n\
                struct Cat { lives: i32 }\nimpl Print for Cat { fn print(&self) -> String { \"cat\".into() } }\n(Cat { lives: 9 }.print(), 7.print())";
    assert_eq!(notebook.text(cell), "(\"cat\", \"7\")");
    notebook.text("let cat = Cat { lives: 9 };");
    assert_eq!(notebook.text("cat.print()"), "\"cat\"");
    notebook.text("mod shown {\nimpl std::fmt::Debug for super::Dog { fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result { f.write_str(\"dog\") } }\n}\nstruct Dog;");
}

#[test]
fn a_type_or_trait_that_is_defined_again_names_what_does_not_fit() {
    let mut notebook = Notebook::new();
    notebook.text("struct Point { x: i32, y: i32 }\nlet p = Point { x: 1, y: 2 };\nlet mut all = vec![Point { x: 3, y: 4 }];");
    notebook.text("fn y(p: &Point) -> i32 { p.y }\nimpl Point {\nfn y(&self) -> i32 { y(self) }\nfn x(&self) -> i32 { self.x }\n}\ntrait Size { fn size(&self) -> i32; }\nimpl Size for Point { fn size(&self) -> i32 { self.y } }");
    notebook.text("all.push(Point { x: 5, y: 6 });");
    let again = notebook.execute(None, "struct Point { x: i32 }").done.unwrap();
    let unfit =
        |what: &str| format!("{what} in [2] does not fit the new definition and is left out; change [2] and run it again");
    assert_eq!(again.notes, [unfit("`y` of `impl Point`")]);
    let first_use = notebook.execute(
        None,
        "impl Size for i32 { fn size(&self) -> i32 { *self } }\nlet point = Point { x: 7 };",
    );
    assert_eq!(first_use.done.unwrap().notes, [unfit("`impl Size for Point`")]);
    assert_eq!(notebook.text("Point { x: 7 }.x()"), "7");
    let error = notebook.error("p.x");
    assert!(
        error.contains("[1] made `p` with another type `Point` than [4] defines"),
        "{error}"
    );
    assert!(error.contains("[7]:1:1") && error.contains("run [1] again"), "{error}");
    assert!(notebook.error("all.len()").contains("[1] made `all` with another type"));
    // The name may mean something else.
    assert_eq!(notebook.text("[Point { x: 1 }].map(|p| p.x)"), "[1]");
    // More fields that have a default are no other type.
    notebook.text("#[derive(Serialize, Deserialize)]\nstruct Point { y: i32, x: i32, #[serde(default)] z: i32 }");
    assert_eq!(notebook.text("(p.z, all.len())"), "(0, 2)");
    // A trait's implementations are kept if they fit.
    notebook.text("trait Size { fn size(&self) -> i32; fn twice(&self) -> i32 { 2 * self.size() } }\nimpl Size for Point { fn size(&self) -> i32 { self.y } }");
    notebook.text("trait Size { fn size(&self) -> i32; fn thrice(&self) -> i32 { 3 * self.size() } }");
    assert_eq!(notebook.text("p.thrice()"), "6");
}

#[test]
fn commands_of_evcxr_are_answered() {
    let mut notebook = Notebook::new();
    let answer = notebook.execute(None, "\u{feff}:timing\n:opt 3\nlet n = 4i64;\nn");
    assert_eq!(answer.done.unwrap().result.unwrap().data["text/plain"], "4");
    assert_eq!(
        answer.seen.stderr,
        "note: `:timing` has no effect: Jupyter shows how long a cell takes\n\
         note: `:opt` has no effect: the compiler and its options are part of the record of a cell\n"
    );
    let shown = notebook.execute(None, ":t n").seen.shown;
    assert_eq!(shown[0].data["text/plain"], "i64");
    let error = notebook.error(":type m");
    assert!(
        error.contains("no variable `m`") && error.contains("available variables: n"),
        "{error}"
    );
    let error = notebook.error(":env A=b");
    assert!(
        error.contains("[4]:1:1") && error.contains("a cell sees no environment variables"),
        "{error}"
    );
}

#[test]
fn what_the_sandbox_does_not_have_is_named_where_it_is_needed() {
    let mut notebook = Notebook::new();
    notebook.text("fn work() { let handle = std::thread::spawn(|| 1); }");
    let error = notebook.error("// spawn it\nwork();");
    assert!(
        error.contains("there are no threads in the sandbox") && error.contains("[1]:1:39"),
        "{error}"
    );
    let error = notebook.error("let data = std::cell::RefCell::new(1);\nlet mut held = data.borrow_mut();\n*held += 1;");
    assert!(error.contains("[3]:2:1") && error.contains("`drop(held);`"), "{error}");
    let error = notebook.error("std::net::TcpStream::connect(\"127.0.0.1:1\").unwrap();");
    assert!(error.contains("there are no sockets"), "{error}");
    let error = notebook.error("std::fs::write(\"a.txt\", \"\")?;");
    assert!(error.contains("a cell can write below /tmp"), "{error}");
    for (cell, place) in [
        ("!ls -la", "[6]:1:1"),
        ("let done = true;\n!pip install numpy", "[7]:2:1"),
        ("!./setup.sh", "[8]:1:1"),
        ("%%bash\nls", "[9]:1:1"),
    ] {
        let error = notebook.error(cell);
        assert!(
            error.contains("can't run commands of a shell") && error.contains(place),
            "{error}"
        );
    }
    for rust in [
        "let done = true;\n!done + 1",
        "let done = true &&\n    !missing;",
        "let rest = 7\n    % missing;",
    ] {
        let error = notebook.error(rust);
        assert!(!error.contains("shell"), "{error}");
    }
    let error = notebook.error("use rand::Rng;");
    assert!(error.contains("`:dep rand`, in a line before the code, adds"), "{error}");
    let notes = |answer: Answer| answer.done.unwrap().notes;
    let tests = notes(notebook.execute(None, "#[cfg(test)]\nmod tests { #[test] fn t() {} }"));
    assert!(tests[0].contains("`#[cfg(test)]` are left out"), "{tests:?}");
    let weak = "use std::rc::{Rc, Weak};\nstruct Leaf { up: Weak<i32> }\nlet root = Rc::new(1);\nlet leaf = Leaf { up: Rc::downgrade(&root) };";
    let weak = notes(notebook.execute(None, weak));
    assert!(weak[0].starts_with("`leaf` contains a `Weak`"), "{weak:?}");
}

#[test]
fn a_later_cell_updates_the_displays_of_earlier_ones() {
    let mut notebook = Notebook::new();
    notebook.text("use lockstep::show::{Html, display};\nlet html = |text: &str| Html(text.to_owned());");
    notebook.text("let a = display(&html(\"a\"));");
    notebook.text("let b = display(&html(\"b\"));\nlet c = display(&html(\"c\"));\na.update(&html(\"A\"));");
    let seen = notebook
        .execute(
            None,
            "let d = display(&html(\"d\"));\nfor shown in [&c, &a, &d, &b] { shown.update(&html(\"x\")); }",
        )
        .seen;
    let ids: Vec<_> = seen.updated.iter().map(|id| id.rsplit_once('-').unwrap().0).collect();
    assert_eq!(ids, ["3", "2", "4", "3"]);
    assert_ne!(seen.updated[0], seen.updated[3]);
    // The handles are those of the displays that were shown.
    notebook.reopen();
    let again = notebook.execute(None, "c.update(&html(\"y\"));").seen;
    assert_eq!(again.updated, [seen.updated[0].as_str()]);
}

/// The types of a notebook, as serde's own derives write them.
mod shapes {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    pub struct Point {
        pub x: f64,
        pub label: Option<String>,
        pub r#type: Kind,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    pub struct Pair(pub i32, pub Vec<u8>);

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    pub struct Id<T>(pub T);

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    pub enum Kind {
        Unit,
        New(i64),
        Tuple(Pair, [f32; 2]),
        Struct { id: Id<u64>, names: Vec<(String, bool)> },
    }
}

const SHAPES: &str = "struct Point { x: f64, label: Option<String>, r#type: Kind }
struct Pair(i32, Vec<u8>);
struct Id<T>(T);
enum Kind { Unit, New(i64), Tuple(Pair, [f32; 2]), Struct { id: Id<u64>, names: Vec<(String, bool)> } }
let points: Vec<Point> = vec![
    Point { x: 0.1, label: None, r#type: Kind::Unit },
    Point { x: f64::NAN, label: Some(String::new()), r#type: Kind::New(-300) },
    Point { x: 1.5, label: Some(\"é\".repeat(40_000)), r#type: Kind::Tuple(Pair(70_000, vec![1, 255]), [0.1, -0.0]) },
    Point { x: -1e300, label: None, r#type: Kind::Struct { id: Id(u64::MAX), names: vec![(\"a\".into(), true)] } },
];";

#[test]
fn types_of_a_notebook_are_stored_as_by_serde() {
    let mut notebook = Notebook::new();
    let made = notebook.execute(None, SHAPES).done.unwrap();
    let digest = made.account.variables["points"];
    let bytes = notebook.setup.runtime.store.get(&digest).unwrap();
    let points: Vec<shapes::Point> = ciborium::from_reader(&bytes[..]).unwrap();
    assert_eq!(
        points[3].r#type,
        shapes::Kind::Struct {
            id: shapes::Id(u64::MAX),
            names: vec![("a".into(), true)]
        }
    );
    let mut by_serde = Vec::new();
    ciborium::into_writer(&points, &mut by_serde).unwrap();
    assert!(bytes == by_serde, "the bytes differ");
    assert_eq!(
        notebook.text("let Kind::Tuple(Pair(number, _), _) = &points[2].r#type else { panic!() };\n(points.len(), *number, points[2].label.as_ref().unwrap().len())"),
        "(4, 70000, 80000)"
    );
    // without serde, a value is read as it was written
    notebook.text("let mut points = points;\npoints.truncate(2);");
    let more = notebook
        .execute(None, "points.push(Point { x: 0.0, label: None, r#type: Kind::Unit });")
        .done
        .unwrap();
    let bytes = notebook.setup.runtime.store.get(&more.account.variables["points"]).unwrap();
    let points: Vec<shapes::Point> = ciborium::from_reader(&bytes[..]).unwrap();
    assert_eq!((points.len(), &points[1].r#type), (3, &shapes::Kind::New(-300)));
}
