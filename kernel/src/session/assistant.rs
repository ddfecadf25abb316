use serde_json::{Value, json};

use super::known::{Facts, Known};
use super::words;
use crate::assist::{Analyzer, Surroundings, name_at};
use crate::cell::{KNOWN, directives, of_query};
use crate::compile::{Draft, Held, Scope, Variable, draft};
use crate::jupyter::{Assistant, Completeness, Completion, Completions, of_rust};
use crate::output::MimeBundle;

/// Answers from rust-analyzer if it is ready, else from the session's own facts.
pub(super) struct SessionAssistant {
    known: Known,
    analyzer: Analyzer,
}

impl SessionAssistant {
    pub fn new(known: Known) -> Self {
        Self {
            known,
            analyzer: Analyzer::default(),
        }
    }

    fn analyze<T>(
        &mut self,
        facts: &Facts,
        code: &str,
        ask: impl FnOnce(&mut Analyzer, &Surroundings, &Draft) -> Option<T>,
    ) -> Option<T> {
        let around = facts.around.as_ref().filter(|_| of_query(code).is_none())?;
        ask(&mut self.analyzer, around, &draft(&facts.scope, code))
    }
}

impl Assistant for SessionAssistant {
    fn complete(&mut self, code: &str, cursor: usize) -> Completions {
        let facts = self.known.facts();
        if let Some(found) = complete_directive(&facts, code, cursor) {
            return found;
        }
        let answer = self.analyze(&facts, code, |analyzer, around, draft| {
            analyzer.complete(around, draft, code, cursor)
        });
        answer
            .filter(|found| !found.matches.is_empty())
            .unwrap_or_else(|| complete_word(&facts, code, cursor))
    }

    fn inspect(&mut self, code: &str, cursor: usize) -> Option<MimeBundle> {
        let facts = self.known.facts();
        let answer = self.analyze(&facts, code, |analyzer, around, draft| {
            analyzer.inspect(around, draft, code, cursor)
        });
        answer.or_else(|| inspect_word(&facts, code, cursor))
    }

    fn is_complete(&mut self, code: &str) -> Completeness {
        match of_query(code) {
            Some(_) if code.trim().ends_with(":sql") => Completeness::Incomplete { indent: String::new() },
            Some(_) => Completeness::Complete,
            None => of_rust(code),
        }
    }

    fn variables(&mut self) -> Value {
        let scope = self.known.facts().scope;
        let row = |variable: &Variable| {
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

/// Returns the start of the word at the end of `before`.
fn word_start(before: &str) -> usize {
    before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').len()
}

/// Returns the candidates that start with the typed word, in order.
fn begun(before: &str, candidates: impl IntoIterator<Item = (String, &'static str)>) -> Completions {
    let start = word_start(before);
    let word = &before[start..];
    let mut matches: Vec<Completion> = Vec::new();
    for (text, kind) in candidates {
        if text.starts_with(word) && text != word && matches.iter().all(|other| other.text != text) {
            matches.push(Completion {
                text,
                kind: kind.to_owned(),
            });
        }
    }
    Completions {
        replaced: start..before.len(),
        matches,
    }
}

/// Completes the name of a directive or a variable in its arguments. Returns `None` outside of directives.
fn complete_directive(facts: &Facts, code: &str, cursor: usize) -> Option<Completions> {
    let at = directives(code)
        .into_iter()
        .find(|range| range.start < cursor && cursor <= range.end)?;
    let before = code.get(..cursor)?;
    if before[at.start..].contains(char::is_whitespace) {
        let variables = facts.scope.variables().keys();
        return Some(begun(before, variables.map(|name| (name.clone(), "instance"))));
    }
    let names = KNOWN.iter().filter_map(|(form, _)| form.split(' ').next()?.strip_prefix(':'));
    Some(begun(before, names.map(|name| (name.to_owned(), "keyword"))))
}

/// Completes names of the session, the prelude and the language. Returns no matches after `.`, and only steps of modules
/// after `::`, because both need type information.
fn complete_word(facts: &Facts, code: &str, cursor: usize) -> Completions {
    let before = code.get(..cursor).unwrap_or(code);
    let up_to_word = &before[..word_start(before)];
    if let Some(path) = up_to_word.strip_suffix("::") {
        let steps = steps(&facts.scope, &path[word_start(path)..]);
        return begun(before, steps.into_iter().map(|(name, _)| (name, "function")));
    }
    if up_to_word.ends_with('.') && !up_to_word.ends_with("..") {
        return begun(before, []);
    }
    let variables = facts.scope.variables().keys().map(|name| (name.clone(), "instance"));
    let items = facts.scope.items();
    let names = items.iter().flat_map(|(_, item)| &item.names);
    let mut own: Vec<_> = variables
        .chain(names.filter_map(|name| Some((name.as_written()?, name.kind()))))
        .collect();
    own.sort_unstable();
    let prelude = words::PRELUDE.iter().map(|word| (word.name.to_owned(), word.kind));
    let crates = facts.crates.iter().map(|name| (name.clone(), "module"));
    let macros = words::MACROS.iter().map(|name| ((*name).to_owned(), "macro"));
    let keywords = words::KEYWORDS.iter().map(|name| ((*name).to_owned(), "keyword"));
    begun(
        before,
        own.into_iter().chain(prelude).chain(crates).chain(macros).chain(keywords),
    )
}

/// Returns the functions generated for the steps of a module: names and texts.
fn steps(scope: &Scope, module: &str) -> Vec<(String, String)> {
    let Some((_, version)) = scope.living().rfind(|(_, version)| version.modules.contains_key(module)) else {
        return Vec::new();
    };
    let parsed = syn::parse_file(&version.text).map(|file| file.items).unwrap_or_default();
    let items = parsed.into_iter().filter_map(|item| match item {
        syn::Item::Mod(module) => module.content,
        _ => None,
    });
    let function = |item| match item {
        syn::Item::Fn(function) => {
            let signature = version.text[syn::spanned::Spanned::span(&function.sig).byte_range()].to_owned();
            let whole = &version.text[syn::spanned::Spanned::span(&function).byte_range()];
            let docs: String = whole
                .lines()
                .take_while(|line| line.starts_with("///"))
                .map(|line| format!("{line}\n"))
                .collect();
            Some((
                function.sig.ident.to_string(),
                docs + "fn " + signature.trim_start_matches("fn "),
            ))
        }
        _ => None,
    };
    items.flat_map(|(_, items)| items).filter_map(function).collect()
}

/// Describes a word: a variable's type and cell, an item's text, or a line about a name of the prelude.
fn inspect_word(facts: &Facts, code: &str, cursor: usize) -> Option<MimeBundle> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let (before, after) = code.split_at_checked(name_at(code, cursor))?;
    let length = after.find(|c| !is_part(c)).unwrap_or(after.len());
    let name = &code[word_start(before)..before.len() + length];
    let scope = &facts.scope;
    let number = |version: usize| scope.versions().get(version).map_or(0, |version| version.number);
    if let Some(variable) = scope.variables().get(name) {
        let from = format!("from [{}]", number(variable.made_by));
        let text = format!("{name}: {}", variable.type_name);
        let bundle = MimeBundle::text(format!("{text} ({from})"));
        return Some(bundle.with("text/markdown", format!("```rust\n{text}\n```\n\n{from}")));
    }
    let items = scope.items();
    if let Some((version, item)) = items
        .iter()
        .rfind(|(_, item)| item.names.iter().any(|n| n.ident() == Some(name)))
    {
        let text = &scope.versions()[*version].text[item.range.clone()];
        let (doc, code) = documented(text);
        let from = format!("from [{}]", number(*version));
        let bundle = MimeBundle::text(format!("{text}\n// {from}"));
        return Some(bundle.with("text/markdown", format!("```rust\n{code}\n```\n\n{doc}\n{from}")));
    }
    let path = before[..word_start(before)].strip_suffix("::").unwrap_or_default();
    if let Some((_, text)) = steps(scope, &path[word_start(path)..])
        .into_iter()
        .find(|(step, _)| step == name)
    {
        let (doc, code) = documented(&text);
        return Some(MimeBundle::text(text).with("text/markdown", format!("```rust\n{code}\n```\n\n{doc}")));
    }
    let word = words::PRELUDE.iter().find(|word| word.name == name)?;
    Some(MimeBundle::text(format!("{name}: {}", word.doc)).with("text/markdown", format!("`{name}`: {}", word.doc)))
}

/// Splits an item's text into its doc comment, as Markdown, and the rest.
fn documented(text: &str) -> (String, String) {
    let (docs, code): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("///"));
    let docs = docs.iter().map(|line| {
        let line = line.trim_start_matches('/');
        format!("{}\n", line.strip_prefix(' ').unwrap_or(line))
    });
    (docs.collect(), code.join("\n"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cell::Rust;
    use crate::compile::Version;

    /// Facts after a cell `[3]` that only defines items.
    fn facts(text: &str) -> Facts {
        let mut scope = Scope::default();
        scope.push(Version {
            id: "a".into(),
            number: 3,
            text: text.into(),
            rust: Rust::parse(text).unwrap(),
            has_rust: true,
            ..Version::default()
        });
        Facts {
            scope: Arc::new(scope),
            crates: ["lockstep".to_owned()].into(),
            around: None,
        }
    }

    fn texts(facts: &Facts, code: &str) -> Vec<String> {
        let found = complete_word(facts, code, code.len());
        found.matches.into_iter().map(|found| found.text).collect()
    }

    #[test]
    fn the_session_comes_before_the_language() {
        let facts = facts("fn lo() {} macro_rules! log { () => {} }");
        assert_eq!(texts(&facts, "é lo"), ["log!", "lockstep", "loop"]);
        assert_eq!(texts(&facts, "0..lo"), ["log!", "lockstep", "loop"]);
        assert_eq!(texts(&facts, "x.lo"), [""; 0]);
        assert_eq!(texts(&facts, "std::lo"), [""; 0]);
        assert_eq!(complete_word(&facts, "é lo", 5).replaced, 3..5);
    }

    #[test]
    fn steps_are_completed_by_module_name() {
        let text = "pub mod birds {\n/// Counts.\npub fn count(rows: Table) -> Result<u64> { todo!() }\n}\n";
        let mut scope = Scope::default();
        scope.push(Version {
            text: text.into(),
            rust: Rust::parse(text).unwrap(),
            modules: [("birds".to_owned(), lockstep_runtime::digest::Digest::of("m"))].into(),
            ..Version::default()
        });
        let facts = Facts {
            scope: Arc::new(scope),
            ..Facts::default()
        };
        assert_eq!(texts(&facts, "birds::"), ["count"]);
        let shown = inspect_word(&facts, "birds::count(", 9).unwrap();
        assert_eq!(
            shown.data["text/markdown"],
            "```rust\nfn count(rows: Table) -> Result<u64>\n```\n\nCounts.\n"
        );
    }

    #[test]
    fn an_item_is_shown_with_its_docs() {
        let facts = facts("/// Halves *x*.\n///\n///     half(4)\nfn half(x: u32) -> u32 { x / 2 }");
        let shown = inspect_word(&facts, "half(", 5).unwrap();
        assert_eq!(
            shown.data["text/markdown"],
            "```rust\nfn half(x: u32) -> u32 { x / 2 }\n```\n\nHalves *x*.\n\n    half(4)\n\nfrom [3]"
        );
        let shown = inspect_word(&facts, "Metrics", 0).unwrap();
        assert_eq!(shown.data["text/plain"], "Metrics: named numbers that measure quality");
        assert_eq!(inspect_word(&facts, "dunno", 0), None);
    }
}
