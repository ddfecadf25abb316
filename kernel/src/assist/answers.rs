//! Converts rust-analyzer's answers to Jupyter's form.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;

use crate::compile::Draft;
use crate::jupyter::{Completion, Completions};
use crate::output::MimeBundle;

/// The maximum number of completions.
const MOST: usize = 100;

#[derive(Deserialize)]
struct Items {
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    label: String,
    #[serde(default)]
    kind: u64,
    /// The sort key, best first.
    #[serde(default)]
    sort_text: String,
    filter_text: Option<String>,
    text_edit: Option<Edit>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edit {
    range: Span,
    new_text: String,
}

#[derive(Deserialize)]
struct Span {
    start: Position,
    end: Position,
}

/// A position, from 0. `character` counts bytes, as negotiated.
#[derive(Deserialize)]
struct Position {
    line: usize,
    character: usize,
}

impl Position {
    /// Returns the byte offset in `text`.
    fn byte(&self, text: &str) -> Option<usize> {
        let before = text.split_inclusive('\n').take(self.line).map(str::len).sum::<usize>();
        Some(before + self.character).filter(|byte| text.is_char_boundary(*byte))
    }
}

/// Converts the answer to `textDocument/completion` at byte `cursor` of the cell `code`. Keeps matches that start with the
/// typed text and replace the same bytes. Returns `None` if rust-analyzer has no matches.
pub(super) fn completions(answer: &Value, draft: &Draft, code: &str, cursor: usize) -> Option<Completions> {
    let mut items = Items::deserialize(answer).ok()?.items;
    items.sort_by(|a, b| (&a.sort_text, &a.label).cmp(&(&b.sort_text, &b.label)));
    let places = items.iter().filter_map(|item| place(item.text_edit.as_ref()?, draft));
    let replaced = places
        .into_iter()
        .find(|place| place.start <= cursor && cursor <= place.end)?;
    let typed = code.get(replaced.start..cursor)?.to_lowercase();
    let mut seen = BTreeSet::new();
    let matches = items.into_iter().filter_map(|item| {
        let edit = item.text_edit.filter(|edit| place(edit, draft).as_ref() == Some(&replaced))?;
        let is_begun = item.filter_text.unwrap_or(item.label).to_lowercase().starts_with(&typed);
        let is_offered = is_begun && is_users(&edit.new_text) && seen.insert(edit.new_text.clone());
        is_offered.then(|| Completion {
            kind: kind(item.kind, &edit.new_text).to_owned(),
            text: edit.new_text,
        })
    });
    let matches = matches.take(MOST).collect();
    Some(Completions { replaced, matches })
}

/// Returns the bytes of the cell that an edit replaces.
fn place(edit: &Edit, draft: &Draft) -> Option<Range<usize>> {
    let start = edit.range.start.byte(&draft.source)?;
    let end = edit.range.end.byte(&draft.source)?;
    let within = start >= draft.cell.start && end <= draft.cell.end;
    within.then(|| start - draft.cell.start..end.saturating_sub(draft.cell.start))
}

/// Returns whether a completion is for users: neither an internal name of the draft nor a part of a snippet (`derive(…)`,
/// `letm`).
fn is_users(text: &str) -> bool {
    !text.starts_with("__") && !text.contains('…') && text != "letm"
}

/// Returns Jupyter's completion type for a `CompletionItemKind`.
fn kind(kind: u64, text: &str) -> &'static str {
    match kind {
        2..=4 if text.contains('!') => "macro",
        2..=4 => "function",
        5 | 10 | 20 => "property",
        6 | 12 | 21 => "instance",
        7 | 8 | 13 | 22 | 25 => "class",
        9 => "module",
        14 => "keyword",
        _ => "",
    }
}

/// Returns the place of the name to inspect at byte `cursor`: the name there, or the name before an opening parenthesis.
pub(crate) fn name_at(code: &str, cursor: usize) -> usize {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let Some((before, after)) = code.split_at_checked(cursor) else {
        return code.len();
    };
    let name = before.trim_end_matches([' ', '(', '!']);
    let is_there = before.ends_with(is_part) || after.starts_with(is_part) || !name.ends_with(is_part);
    if is_there { cursor } else { name.len() }
}

/// Converts the answer to `textDocument/hover`.
pub(super) fn hover(answer: &Value) -> Option<MimeBundle> {
    let markdown = answer["contents"]["value"].as_str()?.trim();
    (!markdown.is_empty()).then(|| MimeBundle::text(plain(markdown)).with("text/markdown", markdown))
}

/// Returns Markdown without fences and rules.
fn plain(markdown: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in markdown.lines().filter(|line| !line.starts_with("```") && *line != "---") {
        if !(line.is_empty() && lines.last().is_none_or(|last| last.is_empty())) {
            lines.push(line);
        }
    }
    lines.join("\n").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(label: &str, kind: u64, sort: &str, start: usize, end: usize) -> Value {
        let place = |character| json!({ "line": 1, "character": character });
        let edit = json!({ "range": { "start": place(start), "end": place(end) }, "newText": label });
        json!({ "label": label, "kind": kind, "sortText": sort, "textEdit": edit })
    }

    #[test]
    fn only_matching_completions_are_kept_best_first() {
        // The cell is `é.it` and starts at the second byte of the draft's second line.
        let draft = Draft {
            source: "é\n{é.it\n}".into(),
            cell: 4..9,
        };
        let answer = json!({ "items": [
            item("iter_mut", 2, "b", 4, 6),
            item("len", 2, "a", 4, 6),
            item("iter", 2, "a", 4, 6),
            item("iter", 2, "c", 4, 6),
            item("IT", 21, "c", 4, 6),
            item("it_elsewhere", 6, "a", 0, 6),
            item("__it", 2, "a", 4, 6),
        ] });
        let found = completions(&answer, &draft, "é.it", 5).unwrap();
        let texts: Vec<_> = found
            .matches
            .iter()
            .map(|found| (found.text.as_str(), found.kind.as_str()))
            .collect();
        assert_eq!(texts, [("iter", "function"), ("iter_mut", "function"), ("IT", "instance")]);
        assert_eq!(found.replaced, 3..5);
        assert_eq!(completions(&json!({ "items": [] }), &draft, "é.it", 5), None);
        assert_eq!(completions(&Value::Null, &draft, "é.it", 5), None);
    }

    #[test]
    fn kinds_are_those_of_jupyter() {
        let kinds = [2, 3, 5, 6, 8, 9, 13, 14, 20, 21, 22, 1].map(|number| kind(number, "x"));
        let expected = [
            "function", "function", "property", "instance", "class", "module", "class", "keyword", "property", "instance",
            "class", "",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(kind(3, "vec!"), "macro");
    }

    #[test]
    fn the_name_is_at_the_cursor_or_before_its_arguments() {
        for (code, at) in [
            ("rows|.len()", 4),
            ("ro|ws", 2),
            ("f(|", 1),
            ("println!( |", 7),
            ("rows[0]|", 7),
            ("(|x)", 1),
            ("|", 0),
        ] {
            let cursor = code.find('|').unwrap();
            assert_eq!(name_at(&code.replace('|', ""), cursor), at, "{code}");
        }
    }

    #[test]
    fn plain_text_has_no_markup_around_code() {
        let markdown = "\n```rust\nlet rows: Vec<Row>\n```\n\n---\n\nSome `rows`.\n";
        let bundle = hover(&json!({ "contents": { "kind": "markdown", "value": markdown } })).unwrap();
        assert_eq!(bundle.data["text/plain"], "let rows: Vec<Row>\n\nSome `rows`.");
        assert_eq!(bundle.data["text/markdown"], markdown.trim());
    }
}
