use std::collections::BTreeSet;

use super::map::{CellRef, Origin};
use super::scope::Scope;
use super::source::Generated;
use super::without::Without;
use crate::cell::{Item, ItemName, Kind, Rust};
use crate::toolchain::{Diagnostic, Span};

/// Returns what to leave out of the source of a cell, so that errors about generated code and about earlier cells go away. `None` if there are
/// others.
pub fn without(diagnostics: &[Diagnostic], generated: &Generated, scope: &Scope, rust: &Rust) -> Option<Without> {
    let mut without = Without::default();
    let mut saves = Some(BTreeSet::new());
    for error in diagnostics.iter().filter(|d| d.is_error() && !d.spans.is_empty()) {
        if let Some(derived) = error.spans.iter().find_map(|span| derived(span, generated)) {
            without.derived.insert(derived);
        } else if let Some(item) = unfit(error, generated, scope, rust) {
            without.items.insert(item);
        } else if let Some(conflicting) = conflicting(error, generated) {
            without.derived.extend(conflicting);
        } else if let (Some(saves), Some(moved)) = (&mut saves, moved(error, generated)) {
            saves.insert(moved);
        } else {
            saves = None;
        }
    }
    without.saves = saves.unwrap_or_default();
    (!without.is_empty()).then_some(without)
}

fn origin<'a>(span: &Span, generated: &'a Generated) -> Option<&'a Origin> {
    generated.map.origin(span.outermost().byte_start as usize)
}

/// Returns the automatic implementation at a place.
fn derived(span: &Span, generated: &Generated) -> Option<(String, String)> {
    match origin(span, generated)? {
        Origin::Derived { of, implements } => Some((of.clone(), (*implements).to_owned())),
        _ => None,
    }
}

/// Returns automatic implementations by which an implementation for all types with a trait may apply to one of the user's types, where it
/// conflicts with the type's own. The error does not say which trait it is, so first `Debug` is left out, then the others.
fn conflicting(error: &Diagnostic, generated: &Generated) -> Option<Vec<(String, String)>> {
    error.code.as_ref().filter(|code| code.code == "E0119")?;
    let (_, of) = error.message.split_once(" for type ")?;
    let words: BTreeSet<&str> = of.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    let derived = generated.derived.iter().filter(|(of, _)| words.contains(of.as_str()));
    let derived: Vec<_> = derived.cloned().collect();
    let (debug, others): (Vec<_>, Vec<_>) = derived.into_iter().partition(|(_, implements)| implements == "Debug");
    let first = if debug.is_empty() { others } else { debug };
    (!first.is_empty()).then_some(first)
}

/// Returns the item of an earlier cell that an error is about, if it mentions a type or a trait that was defined again since, and the cell does
/// not mention it.
fn unfit(error: &Diagnostic, generated: &Generated, scope: &Scope, rust: &Rust) -> Option<String> {
    let defines = |item: &Item, name: &str| item.names.iter().any(|of| matches!(of, ItemName::Type(of) if of == name));
    let live = scope.items();
    let is_newer = |name: &String, than: usize| {
        let mut later = live.iter().filter(|(version, _)| *version > than).map(|(_, item)| *item);
        rust.items.iter().any(|item| defines(item, name)) || later.any(|item| defines(item, name))
    };
    let mut mentioned = rust.mentions().all;
    mentioned.extend(rust.items.iter().flat_map(|item| item.mentions.all.iter().cloned()));
    let may_go = |item: &Item| {
        let named = item
            .names
            .iter()
            .filter_map(ItemName::ident)
            .any(|name| mentioned.contains(name));
        matches!(item.kind, Kind::Impl { .. } | Kind::Other) && !item.is_type() && !named
    };
    error.spans.iter().find_map(|span| {
        let outer = span.outermost();
        let place = generated.map.locate(&(outer.byte_start as usize..outer.byte_end as usize))?;
        let (CellRef::Earlier(index), range) = place else {
            return None;
        };
        let version = &scope.versions()[index];
        let is_at = |item: &Item| item.frame.iter().chain([&item.range]).any(|part| part.contains(&range.start));
        let mut found = version.rust.items.iter().filter(|item| is_at(item) && may_go(item));
        let found = found.find(|item| item.mentions.all.iter().any(|name| is_newer(name, index)))?;
        Some(found.source(&version.text))
    })
}

/// Returns the variable that can't be saved because the cell moved or borrowed it.
fn moved(error: &Diagnostic, generated: &Generated) -> Option<String> {
    let saved = |span: &Span| match origin(span, generated) {
        Some(Origin::Save { name, .. }) => Some(name.clone()),
        _ => None,
    };
    let primary = error.spans.iter().find(|s| s.is_primary).and_then(saved)?;
    match error.code.as_ref()?.code.as_str() {
        // Used after a move, or never initialized.
        "E0382" | "E0381" => Some(primary),
        // Borrowed by another variable that is saved later: the borrower can't be saved.
        "E0499" | "E0502" | "E0503" | "E0505" => {
            let mut others = error.spans.iter().filter(|s| !s.is_primary).filter_map(saved);
            Some(others.find(|name| *name != primary).unwrap_or(primary))
        }
        _ => None,
    }
}
