//! Tests of whole generated sources, so that any change in generated code is visible.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{Artifact, MediaType};

use super::*;
use crate::cell::Rust;
use crate::toolchain::{Code, Diagnostic, Level, Span};

/// A notebook that executes cells without compiling. `types` holds the types of the variables.
#[derive(Default)]
struct Notebook {
    scope: Scope,
    types: BTreeMap<&'static str, (&'static str, Option<Via>)>,
}

impl Notebook {
    fn generate(&self, text: &str) -> Generated {
        generate(&self.scope, text, &self.rust(text), &Without::default())
    }

    fn rust(&self, text: &str) -> Rust {
        Rust::parse_with(text, &self.scope.macros()).unwrap()
    }

    fn execute(&mut self, id: Option<&str>, text: &str) -> Generated {
        self.scope = self.scope.before(id);
        let generated = self.generate(text);
        let makes = generated.saves.iter().map(|saved| {
            let (type_name, via) = self.types[saved.name.as_str()];
            let artifact = Artifact {
                digest: Digest::of(format!("{} {text}", saved.name)),
                media_type: MediaType::new(MediaType::VALUE),
                size: 1,
            };
            let held = via.map_or(Held::Remade, |via| Held::Artifact { artifact, via });
            let variable = Variable {
                name: saved.name.clone(),
                type_name: type_name.into(),
                mutable: saved.mutable,
                held,
                made_by: self.scope.versions().len(),
            };
            (saved.name.clone(), variable)
        });
        let makes = makes.collect();
        self.scope.push(Version {
            id: id.map_or_else(|| self.scope.versions().len().to_string(), str::to_owned),
            number: self.scope.versions().len() as u32 + 1,
            text: text.to_owned(),
            rust: self.rust(text),
            reads: generated.reads.clone(),
            makes,
            has_rust: true,
            uses: generated.uses.clone(),
            ..Version::default()
        });
        generated
    }

    fn titled<'a>(&'a self, text: &'static str) -> impl Fn(CellRef) -> Titled<'a> {
        move |place| match place {
            CellRef::Current => Titled {
                title: "[9]".into(),
                text,
            },
            CellRef::Earlier(index) => {
                let version = &self.scope.versions()[index];
                Titled {
                    title: format!("[{}]", version.number),
                    text: &version.text,
                }
            }
        }
    }
}

/// Returns the parts that differ from cell to cell: items and body.
fn body(source: &str) -> String {
    let (items, body) = source
        .split_once("#[unsafe(no_mangle)]\nfn __cell(__cell: &mut ::lockstep::cell::Cell) -> ::lockstep::Result<()> {\n")
        .unwrap();
    let items = items.split_once("use ::lockstep::prelude::*;\n").unwrap().1;
    // of an automatic implementation, only the name of the trait
    let named = |line: &str| match line.strip_prefix("impl<> ::lockstep::cell::") {
        Some(rest) => format!("impl {}\n", rest.split(' ').next().unwrap()),
        None => line.to_owned(),
    };
    let items: String = items.split_inclusive('\n').map(named).collect();
    let body = body.strip_prefix("use ::lockstep::cell::by_type::*;\n").unwrap();
    let body = body.split_once("::lockstep::Result::Ok(())\n}\n").unwrap().0;
    format!("{items}---\n{body}")
}

fn notebook() -> Notebook {
    Notebook {
        types: BTreeMap::from([
            ("rows", ("alloc::vec::Vec<cell::Row>", Some(Via::Value))),
            ("n", ("i64", Some(Via::Value))),
            ("f", ("cell::__cell::{{closure}}", None)),
            ("name", ("&str", Some(Via::Reference))),
        ]),
        ..Notebook::default()
    }
}

#[test]
fn a_cell_contains_only_what_it_needs() {
    let mut notebook = notebook();
    notebook.execute(
        None,
        "#[derive(Debug, Serialize, Deserialize)]\nstruct Row { x: f64 }\nfn unrelated() {}\nlet mut rows: Vec<Row> = vec![];",
    );
    notebook.execute(None, "let n = 1i64; let name = \"a\";");
    let generated = notebook.generate("// more\nrows.push(Row { x: 1.0 });\nprintln!(\"{name}\");\nrows.len()");
    assert_eq!(
        body(&generated.source),
        "\
#[derive(Debug, Serialize, Deserialize)]
struct Row { x: f64 }
impl Bulk
impl NotNull
---
let name: &'static str = __cell.load_reference(\"name\", \"name\")?;
let mut rows: ::std::vec::Vec<crate::Row> = (&&::lockstep::cell::Tag::<::std::vec::Vec<crate::Row>>::new()).load(__cell, \"rows\", \"rows\")?;
rows.push(Row { x: 1.0 });
println!(\"{name}\");
(&&&::lockstep::cell::Shown(::lockstep::cell::Last(&(rows.len())).evcxr_display())).show(__cell);
(&&&&&Of(&rows)).save(__cell, \"rows\")?;
"
    );
    assert_eq!(generated.inputs.keys().collect::<Vec<_>>(), ["name", "rows"]);
}

#[test]
fn unnameable_types_come_from_a_witness() {
    let mut notebook = notebook();
    notebook.execute(None, "let n = 5i64;");
    notebook.execute(None, "let f = move |x: i64| x + n;\nf(1)");
    notebook.execute(None, "let n = 6i64;");
    let generated = notebook.generate("f(n)");
    assert_eq!(
        body(&generated.source),
        "\
---
let n: i64 = (&&::lockstep::cell::Tag::<i64>::new()).load(__cell, \"n\", \"n\")?;
let __witness = || -> ::lockstep::Result<_> {
let n: i64 = (&&::lockstep::cell::Tag::<i64>::new()).load(__cell, \"n.1\", \"n\")?;
let f = move |x: i64| x + n;
_ = &(f(1));
::lockstep::Result::Ok((f, ()))
};
let __tags = ::lockstep::cell::tags(&__witness);
let f = __cell.remake(|| ::lockstep::Result::Ok(__witness()?.0))?;
(&&&::lockstep::cell::Shown(::lockstep::cell::Last(&(f(n))).evcxr_display())).show(__cell);
"
    );
    assert_eq!(generated.inputs.len(), 2);
}

#[test]
fn a_re_executed_cell_replaces_its_definitions() {
    let mut notebook = notebook();
    notebook.execute(Some("a"), "fn old() {}\nlet n = 1i64;");
    let first = notebook.execute(Some("b"), "let n = n + 1;");
    let again = notebook.execute(Some("b"), "let n = n + 1;");
    assert_eq!(first.source, again.source);
    assert_eq!(first.inputs, again.inputs);
    notebook.execute(Some("a"), "let n = 7i64;");
    assert!(!notebook.generate("old()").source.contains("fn old"));
    assert_eq!(notebook.scope.stale(), [2]);
}

#[test]
fn a_later_item_replaces_an_earlier_one() {
    let mut notebook = Notebook::default();
    notebook.execute(None, "use std::mem::swap;\nfn f() -> i32 { 1 }");
    notebook.execute(None, "fn f() -> i32 { 2 }\nfn swap() {}");
    let items = body(&notebook.generate("f(); swap()").source);
    assert!(items.starts_with("fn f() -> i32 { 2 }\nfn swap() {}\n---"), "{items}");
}

#[test]
fn a_draft_contains_everything_that_a_cell_can_name() {
    let mut notebook = notebook();
    notebook.execute(
        None,
        "use std::fmt::{self, Write};\n/// A row.\nstruct Row { x: f64 }\nmacro_rules! m { () => {} }\nlet mut rows: Vec<Row> = vec![];",
    );
    notebook.execute(None, "let n = 5i64;");
    notebook.execute(None, "let f = move |x: i64| x + n;\nf(1)");
    let draft = draft(&notebook.scope, ":run stale\nif rows[0. {\n  \"é");
    assert_eq!(
        draft.source,
        "\
use ::lockstep::prelude::*;
macro_rules! m { () => {} }
use std::fmt;
use std::fmt::Write;
/// A row.
struct Row { x: f64 }
fn __held<T>() -> T { loop {} }
async fn __cell() -> ::lockstep::Result<()> {
let n: i64 = __held();
let mut rows: ::std::vec::Vec<crate::Row> = __held();
let (f, ) = {
let n: i64 = __held();
let f = move |x: i64| x + n;
f(1);
(f, )
};
          \nif rows[0. {\n  \"é
;::lockstep::Result::Ok(())
}
"
    );
    assert_eq!(&draft.source[draft.cell.clone()], "          \nif rows[0. {\n  \"é");
}

fn diagnostic(message: &str, code: Option<&str>, spans: Vec<Span>) -> Diagnostic {
    Diagnostic {
        message: message.into(),
        code: code.map(|code| Code {
            code: code.into(),
            explanation: None,
        }),
        level: Level::Error,
        spans,
        children: Vec::new(),
        rendered: None,
    }
}

fn span(source: &str, text: &str, is_primary: bool, label: &str) -> Span {
    let start = source.find(text).unwrap();
    Span {
        file_name: "cell.rs".into(),
        byte_start: start as u32,
        byte_end: (start + text.len()) as u32,
        line_start: 0,
        line_end: 0,
        column_start: 0,
        column_end: 0,
        is_primary,
        text: Vec::new(),
        label: Some(label.into()),
        suggested_replacement: None,
        suggestion_applicability: None,
        expansion: None,
    }
}

#[test]
fn errors_name_the_cells_of_their_places() {
    let mut notebook = Notebook::default();
    notebook.execute(None, "fn half(x: i32) -> i32 { x / 2 }");
    let text = "let a = 1;\nhalf(\"ä\")";
    let generated = notebook.generate(text);
    let spans = vec![
        span(&generated.source, "\"ä\"", true, "expected `i32`, found `&str`"),
        span(&generated.source, "half(x: i32)", false, "defined here"),
    ];
    let reports = reports(
        &[diagnostic("mismatched types", Some("E0308"), spans)],
        &generated.map,
        &notebook.titled(text),
    );
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].summary, "[E0308] mismatched types");
    assert!(reports[0].rendered.contains("[9]:2:6"), "{}", reports[0].rendered);
    assert!(reports[0].rendered.contains("[1]:1:4"), "{}", reports[0].rendered);
}

#[test]
fn a_moved_variable_is_found_by_the_error_at_its_save() {
    let notebook = Notebook::default();
    let text = "let a = vec![1]; let b = a; let c = &b;";
    let generated = notebook.generate(text);
    let at = |name: &str, is_primary| span(&generated.source, &format!("(&&&&&Of(&{name})).save"), is_primary, "");
    let left_out =
        |given: &[Diagnostic]| without(given, &generated, &notebook.scope, &notebook.rust(text)).map(|without| without.saves);
    let given = [
        diagnostic("borrow of moved value: `a`", Some("E0382"), vec![at("a", true)]),
        diagnostic("aborting due to 1 previous error", None, Vec::new()),
    ];
    assert_eq!(left_out(&given), Some(BTreeSet::from(["a".to_owned()])));
    // Of two conflicting variables, the borrower is not saved.
    let borrowed = diagnostic("", Some("E0502"), vec![at("b", true), at("c", false)]);
    assert_eq!(left_out(&[borrowed]), Some(BTreeSet::from(["c".to_owned()])));
    let other = diagnostic("", Some("E0308"), vec![at("a", true)]);
    assert_eq!(left_out(&[other]), None);
}
