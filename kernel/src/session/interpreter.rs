use lockstep_runtime::sandbox::Interrupt;

use super::Session;
use crate::cell::{Cell, KNOWN};
use crate::jupyter::{Completion, Completions, Execute, Interpreter};
use crate::output::{CellError, MimeBundle, Output, Stream};

impl Interpreter for Session {
    fn execute(
        &mut self,
        cell: &Execute,
        output: &mut dyn Output,
        interrupt: &Interrupt,
    ) -> Result<Option<MimeBundle>, CellError> {
        self.forget(&cell.deleted_cells);
        let cell = Cell {
            id: cell.cell_id.clone(),
            code: cell.code.clone(),
            number: cell.number,
        };
        let done = self.execute(&cell, output, interrupt)?;
        if !done.stale.is_empty() {
            let stale: Vec<_> = done.stale.iter().map(|number| format!("[{number}]")).collect();
            let note = format!("note: {} read what has changed since: run again\n", stale.join(", "));
            output.stream(Stream::Stderr, note.as_bytes());
        }
        Ok(done.result)
    }

    /// Variables, the session's items, and directives.
    fn complete(&mut self, code: &str, cursor: usize) -> Completions {
        let before = code.get(..cursor).unwrap_or(code);
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let word = &before[start..];
        let directive = before[..start].ends_with(':') && !before[..start].ends_with("::");
        let mut matches: Vec<(&str, &str)> = Vec::new();
        if directive {
            matches.extend(
                KNOWN
                    .iter()
                    .filter_map(|(form, _)| Some((form.split(' ').next()?.strip_prefix(':')?, "keyword"))),
            );
        } else {
            matches.extend(self.variables().map(|variable| (variable.name.as_str(), "instance")));
            let items = self.scope.items();
            let names = items
                .iter()
                .flat_map(|(_, item)| &item.names)
                .filter_map(|name| Some((name.ident()?, name.kind())));
            matches.extend(names);
        }
        matches.retain(|(text, _)| text.starts_with(word) && *text != word);
        matches.sort_unstable();
        matches.dedup();
        let matches = matches.into_iter().map(|(text, kind)| Completion {
            text: text.to_owned(),
            kind: kind.to_owned(),
        });
        Completions {
            replaced: start..before.len(),
            matches: matches.collect(),
        }
    }

    /// A variable's type and cell, or the text of an item.
    fn inspect(&mut self, code: &str, cursor: usize) -> Option<MimeBundle> {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let (before, after) = code.split_at_checked(cursor)?;
        let start = before.len()
            - before
                .chars()
                .rev()
                .take_while(|c| is_part(*c))
                .map(char::len_utf8)
                .sum::<usize>();
        let end = cursor + after.chars().take_while(|c| is_part(*c)).map(char::len_utf8).sum::<usize>();
        let name = &code[start..end];
        if let Some(variable) = self.scope.variables().get(name) {
            let number = self.number_of(variable).unwrap_or_default();
            return Some(MimeBundle::text(format!("{name}: {} (from [{number}])", variable.type_name)));
        }
        let items = self.scope.items();
        let (version, item) = items
            .iter()
            .rfind(|(_, item)| item.names.iter().any(|n| n.ident() == Some(name)))?;
        let version = &self.scope.versions()[*version];
        Some(MimeBundle::text(format!(
            "{}\n// from [{}]",
            &version.text[item.range.clone()],
            version.number
        )))
    }
}
