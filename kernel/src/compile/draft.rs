use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use super::scope::{Scope, Variable};
use super::source::{makers, spelled};
use super::types;
use crate::cell::{self, Item, Kind};

/// Source for rust-analyzer with a cell that is still being typed and everything that it can name. It is never compiled: the
/// cell may not even parse.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// The text. Names in it that start with `__` are not the user's.
    pub source: String,
    /// The range of the cell's text, with directives replaced by spaces.
    pub cell: Range<usize>,
}

/// Returns the draft of a cell with text `code`: the session's items, its variables with their types, and the cell.
///
/// A variable with an unnameable type (a closure) is defined by its original statements.
pub fn draft(scope: &Scope, code: &str) -> Draft {
    let items = scope.items();
    let types = types::named(items.iter().map(|(_, item)| *item));
    let mut source = "use ::lockstep::prelude::*;\n".to_owned();
    let (macros, others): (Vec<_>, Vec<_>) = items.iter().copied().partition(|(_, item)| item.kind == Kind::Macro);
    for (version, item) in macros.into_iter().chain(others) {
        source.push_str(&text_of(scope, version, item));
        source.push('\n');
    }
    source.push_str("fn __held<T>() -> T { loop {} }\nasync fn __cell() -> ::lockstep::Result<()> {\n");
    let said = |variable: &Variable| types::say(&variable.type_name, &types);
    let (held, made): (Vec<&Variable>, _) = scope.variables().values().partition(|variable| said(variable).is_some());
    held.into_iter().for_each(|variable| hold(&mut source, variable, &types));
    remake(&mut source, scope, &made, &types);
    let start = source.len();
    source.push_str(&cell::without_directives(code));
    let cell = start..source.len();
    source.push_str("\n;::lockstep::Result::Ok(())\n}\n");
    Draft { source, cell }
}

fn text_of<'a>(scope: &'a Scope, version: usize, item: &'a Item) -> Cow<'a, str> {
    match &item.kind {
        Kind::Use { text, .. } => text.into(),
        _ => item.source(&scope.versions()[version].text).into(),
    }
}

/// Declares a variable by its type, if the type can be named.
fn hold(source: &mut String, variable: &Variable, types: &BTreeSet<&str>) {
    if let Some((said, _)) = types::say(&variable.type_name, types) {
        source.push_str(&format!("let {}: {said} = __held();\n", bound(variable)));
    }
}

/// Declares variables by the statements of the cells that define them, in a separate block.
fn remake(source: &mut String, scope: &Scope, variables: &[&Variable], types: &BTreeSet<&str>) {
    if variables.is_empty() {
        return;
    }
    let list = |name: fn(&Variable) -> String| variables.iter().map(|v| name(v) + ", ").collect::<String>();
    source.push_str(&format!("let ({}) = {{\n", list(bound)));
    for index in makers(scope, variables, |read| types::say(&read.type_name, types).is_some()) {
        let version = &scope.versions()[index];
        version.reads.values().for_each(|read| hold(source, read, types));
        for statement in &version.rust.statements {
            source.push_str(&version.text[statement.range.clone()]);
            source.push_str(if statement.is_open {
                ";\n"
            } else {
                statement.end(&version.text)
            });
        }
    }
    source.push_str(&format!("({})\n}};\n", list(|variable| spelled(&variable.name))));
}

/// Returns a variable as a pattern.
fn bound(variable: &Variable) -> String {
    format!("{}{}", if variable.mutable { "mut " } else { "" }, spelled(&variable.name))
}
