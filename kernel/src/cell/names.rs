use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// The identifiers in some code, including those in macro calls and format strings.
///
/// They over-approximate what the code uses: an extra name costs a needless input, a missing name would not compile.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Mentions {
    /// Identifiers that could be variables: no fields, methods, path segments or bindings `name:`.
    pub values: BTreeSet<String>,
    /// All identifiers.
    pub all: BTreeSet<String>,
}

impl Mentions {
    /// Collects the identifiers of `tokens`.
    pub fn of(tokens: TokenStream) -> Self {
        let mut mentions = Self::default();
        mentions.walk(tokens);
        mentions
    }

    /// Adds the identifiers of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.values.extend(other.values.iter().cloned());
        self.all.extend(other.all.iter().cloned());
    }

    fn walk(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        for (i, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.walk(group.stream()),
                TokenTree::Literal(literal) => self.format_string(&literal.to_string()),
                TokenTree::Punct(_) => {}
                TokenTree::Ident(ident) => {
                    let name = plain(&ident.to_string());
                    if !is_selected(&tokens[..i]) && !is_named(&tokens[i + 1..]) {
                        self.values.insert(name.clone());
                    }
                    self.all.insert(name);
                }
            }
        }
    }

    /// Adds the words between braces, as in `"{x:>width$}"`. Any string literal may be a format string.
    fn format_string(&mut self, literal: &str) {
        if !literal.contains('"') {
            return;
        }
        for part in literal.split('{').skip(1) {
            let inside = part.split('}').next().unwrap_or_default();
            for word in inside.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
                if word.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                    self.values.insert(word.to_owned());
                    self.all.insert(word.to_owned());
                }
            }
        }
    }
}

/// Strips `r#` from a name.
pub(super) fn plain(name: &str) -> String {
    name.trim_start_matches("r#").to_owned()
}

fn punct(token: Option<&TokenTree>, wanted: char) -> Option<Spacing> {
    match token {
        Some(TokenTree::Punct(punct)) if punct.as_char() == wanted => Some(punct.spacing()),
        _ => None,
    }
}

/// Returns whether the token after `before` is a field, a method, a lifetime or the rest of a path: `.x`, `'x`, `::x`.
fn is_selected(before: &[TokenTree]) -> bool {
    let back = |n: usize| before.len().checked_sub(n).and_then(|i| before.get(i));
    let range = punct(back(2), '.') == Some(Spacing::Joint);
    let path = punct(back(2), ':') == Some(Spacing::Joint);
    (punct(back(1), '.').is_some() && !range) || punct(back(1), '\'').is_some() || (punct(back(1), ':').is_some() && path)
}

/// Returns whether the token before `after` is a field or a typed binding (`x: ...`), a path's start (`x::`) or a macro
/// (`x!(...)`).
fn is_named(after: &[TokenTree]) -> bool {
    let call = |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Group(g)) if g.delimiter() != Delimiter::None);
    punct(after.first(), ':').is_some() || (punct(after.first(), '!') == Some(Spacing::Alone) && call(after.get(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(code: &str) -> Vec<String> {
        Mentions::of(code.parse().unwrap()).values.into_iter().collect()
    }

    #[test]
    fn finds_variables_in_macros_and_format_strings() {
        assert_eq!(values("a.b(c)[d..e]"), ["a", "c", "d", "e"]);
        assert_eq!(values("P { x: y, z }"), ["P", "y", "z"]);
        assert_eq!(values(r#"println!("{n:>width$} {{}} {}", m)"#), ["m", "n", "width"]);
        assert_eq!(values("std::mem::swap(&mut p, r#type)"), ["mut", "p", "type"]);
        assert_eq!(
            values("if !ok { 'outer: loop { break 'outer v } }"),
            ["break", "if", "loop", "ok", "v"]
        );
    }
}
