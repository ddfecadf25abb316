use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::cell::KNOWN;
use crate::compile::{Held, Scope};
use crate::jupyter::{Assistant, Completion, Completions};
use crate::output::MimeBundle;

/// What the last cell left, for whoever asks while the next one runs.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<Mutex<Arc<Scope>>>);

impl Known {
    pub fn set(&self, scope: Arc<Scope>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = scope;
    }

    fn scope(&self) -> Arc<Scope> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Assistant for Known {
    /// Variables, the session's items, and directives.
    fn complete(&mut self, code: &str, cursor: usize) -> Completions {
        let scope = self.scope();
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
            matches.extend(scope.variables().keys().map(|name| (name.as_str(), "instance")));
            let items = scope.items();
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
        let scope = self.scope();
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
        if let Some(variable) = scope.variables().get(name) {
            let number = scope.versions().get(variable.made_by).map_or(0, |version| version.number);
            return Some(MimeBundle::text(format!("{name}: {} (from [{number}])", variable.type_name)));
        }
        let items = scope.items();
        let (version, item) = items
            .iter()
            .rfind(|(_, item)| item.names.iter().any(|n| n.ident() == Some(name)))?;
        let version = &scope.versions()[*version];
        Some(MimeBundle::text(format!(
            "{}\n// from [{}]",
            &version.text[item.range.clone()],
            version.number
        )))
    }

    fn variables(&mut self) -> Value {
        let scope = self.scope();
        let row = |variable: &crate::compile::Variable| {
            let (digest, size) = match &variable.held {
                Held::Artifact { artifact, .. } => (Some(artifact.digest), Some(artifact.size)),
                Held::Remade => (None, None),
            };
            json!({
                "name": variable.name,
                "type": variable.type_name,
                "mutable": variable.mutable,
                "digest": digest,
                "size": size,
                "cell": scope.versions().get(variable.made_by).map(|version| version.number),
            })
        };
        scope.variables().values().map(row).collect()
    }
}
