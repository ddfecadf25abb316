//! Expands calls of `macro_rules!` macros to find the items that they define. The compiler gets the calls as they are written.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, Group, Ident, Punct, Spacing, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Block, Stmt};

use super::names::plain;

/// The `macro_rules!` macros that a cell can call, by name.
#[derive(Clone, Default, Debug)]
pub struct Macros(BTreeMap<String, Vec<Rule>>);

#[derive(Clone, Debug)]
struct Rule {
    matcher: TokenStream,
    body: TokenStream,
}

/// What a matcher bound: a fragment, or one binding for each repetition.
#[derive(Clone, Debug)]
enum Bound {
    One(TokenStream),
    Many(Vec<Bound>),
}

type Bindings = BTreeMap<String, Bound>;

/// The most calls that one call expands to, and the deepest nesting (rustc allows 128).
const MOST_CALLS: usize = 1000;
const DEEPEST: usize = 64;

impl Macros {
    /// Returns these macros and `others`.
    pub fn with<'a>(&self, others: impl Iterator<Item = &'a syn::ItemMacro>) -> Self {
        let mut macros = self.clone();
        others.for_each(|item| macros.add(item));
        macros
    }

    /// Adds the macro that an item with this text defines, if it does.
    pub(super) fn add_text(&mut self, text: &str) {
        if let Ok(item) = syn::parse_str(text) {
            self.add(&item);
        }
    }

    /// Adds a macro. It replaces an earlier one of the same name.
    pub fn add(&mut self, item: &syn::ItemMacro) {
        if let Some(name) = &item.ident
            && let Ok(rules) = rules.parse2(item.mac.tokens.clone())
        {
            self.0.insert(plain(&name.to_string()), rules);
        }
    }

    /// Returns the statements that a call expands to; `None` if the macro is unknown or no rule matches.
    pub fn expand(&self, call: &syn::Macro) -> Option<Vec<Stmt>> {
        let (mut all, mut left) = (Vec::new(), MOST_CALLS);
        self.expand_into(call, DEEPEST, &mut left, &mut all)?;
        Some(all)
    }

    fn expand_into(&self, call: &syn::Macro, depth: usize, left: &mut usize, all: &mut Vec<Stmt>) -> Option<()> {
        *left = left.checked_sub(1)?;
        let depth = depth.checked_sub(1)?;
        let name = call.path.get_ident()?;
        let mut rules = self.0.get(&plain(&name.to_string()))?.iter();
        let body = rules.find_map(|rule| rule.expand(call.tokens.clone()))?;
        for statement in Block::parse_within.parse2(body).ok()? {
            match &statement {
                Stmt::Macro(inner) if self.expand_into(&inner.mac, depth, left, all).is_some() => {}
                _ => all.push(statement),
            }
        }
        Some(())
    }
}

impl Rule {
    fn expand(&self, input: TokenStream) -> Option<TokenStream> {
        let pattern: Vec<_> = self.matcher.clone().into_iter().collect();
        let bindings = (|input: ParseStream<'_>| matched(&pattern, input)).parse2(input).ok()?;
        written(self.body.clone(), &bindings)
    }
}

/// Parses `(matcher) => { body }; ...`.
fn rules(input: ParseStream<'_>) -> syn::Result<Vec<Rule>> {
    let mut rules = Vec::new();
    while !input.is_empty() {
        let matcher: Group = input.parse()?;
        input.parse::<syn::Token![=>]>()?;
        let body: Group = input.parse()?;
        rules.push(Rule {
            matcher: matcher.stream(),
            body: body.stream(),
        });
        if !input.is_empty() {
            input.parse::<syn::Token![;]>()?;
        }
    }
    Ok(rules)
}

/// A part of a matcher or of a body.
enum Part<'a> {
    /// `$x`, in a matcher `$x:ident`
    Variable(&'a Ident, Option<&'a Ident>),
    /// `$( ... ) separator operator`
    Repetition(&'a Group, Option<&'a TokenTree>, char),
    Token(&'a TokenTree),
}

/// Returns the first part of `tokens`, and the number of its tokens.
fn part(tokens: &[TokenTree]) -> Option<(Part<'_>, usize)> {
    let is = |token: Option<&TokenTree>, wanted: char| matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == wanted);
    let operator = |token: Option<&TokenTree>| match token {
        Some(TokenTree::Punct(punct)) if ['*', '+', '?'].contains(&punct.as_char()) => Some(punct.as_char()),
        _ => None,
    };
    let first = tokens.first()?;
    if !is(Some(first), '$') {
        return Some((Part::Token(first), 1));
    }
    Some(match tokens.get(1)? {
        TokenTree::Ident(name) => match tokens.get(3) {
            Some(TokenTree::Ident(kind)) if is(tokens.get(2), ':') => (Part::Variable(name, Some(kind)), 4),
            _ => (Part::Variable(name, None), 2),
        },
        TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis => match operator(tokens.get(3)) {
            // `$(...)+*` separates by `+`; in `$(...)? * x` the operator is `?`
            Some(sign) if operator(tokens.get(2)) != Some('?') => (Part::Repetition(group, tokens.get(2), sign), 4),
            _ => (Part::Repetition(group, None, operator(tokens.get(2))?), 3),
        },
        _ => return None,
    })
}

fn matched(pattern: &[TokenTree], input: ParseStream<'_>) -> syn::Result<Bindings> {
    let mut bindings = Bindings::new();
    let mut rest = pattern;
    while !rest.is_empty() {
        let (part, length) = part(rest).ok_or_else(|| input.error("malformed matcher"))?;
        rest = &rest[length..];
        match part {
            Part::Variable(name, Some(kind)) => {
                bindings.insert(name.to_string(), Bound::One(fragment(&kind.to_string(), input)?));
            }
            Part::Variable(_, None) => return Err(input.error("malformed matcher")),
            Part::Repetition(group, separator, operator) => {
                let inner: Vec<_> = group.stream().into_iter().collect();
                let mut found = Vec::new();
                while !(input.is_empty() || operator == '?' && found.len() == 1) {
                    let ahead = input.fork();
                    if let Some(separator) = separator.filter(|_| !found.is_empty())
                        && same(separator, &ahead).is_err()
                    {
                        break;
                    }
                    let before = ahead.cursor();
                    match matched(&inner, &ahead) {
                        Ok(one) if ahead.cursor() != before => found.push(one),
                        _ => break,
                    }
                    syn::parse::discouraged::Speculative::advance_to(input, &ahead);
                }
                if operator == '+' && found.is_empty() {
                    return Err(input.error("no repetition"));
                }
                for name in variables(group.stream()) {
                    let each = found.iter().filter_map(|one| one.get(&name).cloned()).collect();
                    bindings.insert(name, Bound::Many(each));
                }
            }
            Part::Token(token) => match token {
                TokenTree::Group(group) => {
                    let given: Group = input.parse()?;
                    if given.delimiter() != group.delimiter() {
                        return Err(input.error("other delimiters"));
                    }
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    let within = |input: ParseStream<'_>| matched(&inner, input);
                    bindings.extend(within.parse2(given.stream())?);
                }
                token => same(token, input)?,
            },
        }
    }
    Ok(bindings)
}

/// Returns the names of the variables in a matcher.
fn variables(pattern: TokenStream) -> Vec<String> {
    let tokens: Vec<_> = pattern.into_iter().collect();
    let mut rest = &tokens[..];
    let mut names = Vec::new();
    while let Some((part, length)) = part(rest) {
        rest = &rest[length..];
        match part {
            Part::Variable(name, _) => names.push(name.to_string()),
            Part::Repetition(group, ..) => names.extend(variables(group.stream())),
            Part::Token(TokenTree::Group(group)) => names.extend(variables(group.stream())),
            Part::Token(_) => {}
        }
    }
    names
}

fn same(wanted: &TokenTree, input: ParseStream<'_>) -> syn::Result<()> {
    let token: TokenTree = input.parse()?;
    match token.to_string() == wanted.to_string() {
        true => Ok(()),
        false => Err(input.error("another token")),
    }
}

/// Parses a fragment of the kind in `$x:kind`.
fn fragment(kind: &str, input: ParseStream<'_>) -> syn::Result<TokenStream> {
    fn parsed<T: Parse + ToTokens>(input: ParseStream<'_>) -> syn::Result<TokenStream> {
        Ok(input.parse::<T>()?.into_token_stream())
    }
    match kind {
        "ident" => Ok(input.call(Ident::parse_any)?.into_token_stream()),
        "ty" => parsed::<syn::Type>(input),
        "expr" | "expr_2021" => parsed::<syn::Expr>(input),
        "pat" => Ok(input.call(syn::Pat::parse_multi_with_leading_vert)?.into_token_stream()),
        "pat_param" => Ok(input.call(syn::Pat::parse_single)?.into_token_stream()),
        "path" => parsed::<syn::Path>(input),
        "block" => parsed::<Block>(input),
        "item" => parsed::<syn::Item>(input),
        "stmt" => parsed::<Stmt>(input),
        "meta" => parsed::<syn::Meta>(input),
        "vis" => parsed::<syn::Visibility>(input),
        "lifetime" => parsed::<syn::Lifetime>(input),
        "literal" => parsed::<syn::Expr>(input),
        "tt" if input.peek(syn::Lifetime) => parsed::<syn::Lifetime>(input),
        "tt" => parsed::<TokenTree>(input),
        _ => Err(input.error("unknown fragment")),
    }
}

/// Returns `body` with the bound variables replaced.
fn written(body: TokenStream, bindings: &Bindings) -> Option<TokenStream> {
    let tokens: Vec<_> = body.into_iter().collect();
    let mut rest = &tokens[..];
    let mut out = TokenStream::new();
    while !rest.is_empty() {
        let (part, mut length) = part(rest)?;
        match part {
            Part::Variable(name, kind) => {
                match bindings.get(&name.to_string()) {
                    Some(Bound::One(tokens)) => out.extend(tokens.clone()),
                    Some(Bound::Many(_)) => return None,
                    None if name == "crate" => out.extend([TokenTree::Ident(name.clone())]),
                    // of a macro that the body defines
                    None => out.extend([
                        TokenTree::Punct(Punct::new('$', Spacing::Alone)),
                        TokenTree::Ident(name.clone()),
                    ]),
                }
                // `$x:` in a body: the colon and what follows are tokens of their own
                length -= if kind.is_some() { 2 } else { 0 };
            }
            Part::Repetition(group, separator, operator) => {
                let of = |name: &String| match bindings.get(name) {
                    Some(Bound::Many(each)) => Some((name.clone(), each)),
                    _ => None,
                };
                let repeated: Vec<_> = variables(group.stream()).iter().filter_map(of).collect();
                match repeated.iter().map(|(_, each)| each.len()).max() {
                    Some(count) => {
                        for at in 0..count {
                            if at > 0 {
                                out.extend(separator.cloned());
                            }
                            let mut inner = bindings.clone();
                            for (name, each) in &repeated {
                                inner.insert(name.clone(), each.get(at)?.clone());
                            }
                            out.extend(written(group.stream(), &inner)?);
                        }
                    }
                    // of a macro that the body defines
                    None => {
                        let inner = written(group.stream(), bindings)?;
                        out.extend([
                            TokenTree::Punct(Punct::new('$', Spacing::Alone)),
                            TokenTree::Group(Group::new(Delimiter::Parenthesis, inner)),
                        ]);
                        out.extend(separator.cloned());
                        out.extend([TokenTree::Punct(Punct::new(operator, Spacing::Alone))]);
                    }
                }
            }
            Part::Token(TokenTree::Group(group)) => {
                let inner = written(group.stream(), bindings)?;
                out.extend([TokenTree::Group(Group::new(group.delimiter(), inner))]);
            }
            Part::Token(token) => out.extend([token.clone()]),
        }
        rest = &rest[length..];
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(definition: &str, call: &str) -> Option<String> {
        let mut macros = Macros::default();
        for item in syn::parse_file(definition).unwrap().items {
            let syn::Item::Macro(item) = item else { panic!("no macro") };
            macros.add(&item);
        }
        let statements = macros.expand(&syn::parse_str(call).unwrap())?;
        Some(
            statements
                .iter()
                .map(|s| s.to_token_stream().to_string())
                .collect::<Vec<_>>()
                .join(" "),
        )
    }

    fn expands(definition: &str, call: &str, expected: &str) {
        let plain = |text: String| text.replace(' ', "");
        assert_eq!(
            expanded(definition, call).map(plain),
            Some(plain(expected.to_owned())),
            "{call}"
        );
    }

    #[test]
    fn fragments_are_put_into_the_body() {
        expands(
            "macro_rules! m { ($(#[$a:meta])* $v:vis $n:ident: $t:ty = $e:expr) => { $(#[$a])* $v const $n: $t = $e; } }",
            "m!(#[doc = \"x\"] pub N: Vec<i32> = f(1) + 2)",
            "#[doc = \"x\"] pub const N: Vec<i32> = f(1) + 2;",
        );
        expands(
            "macro_rules! m { ($n:ident) => { struct $n(f64); } }",
            "m!(r#type)",
            "struct r#type(f64);",
        );
        expands(
            "macro_rules! m { ($t:tt $l:lifetime) => { fn f<$l>(x: &$l $t) {} } }",
            "m!(str 'a)",
            "fn f<'a>(x: &'a str) {}",
        );
    }

    #[test]
    fn repetitions_repeat() {
        expands(
            "macro_rules! m { ($($n:ident { $($f:ident: $t:ty),* $(,)? })+) => { $(struct $n { $($f: $t),* })+ } }",
            "m!(A { x: i32, y: f64, } B {})",
            "struct A { x: i32, y: f64 } struct B { }",
        );
        expands(
            "macro_rules! m { ($n:ident $(as $d:expr)?) => { fn $n() { 1 $(+ $d)? } } }",
            "m!(f as 4)",
            "fn f() { 1 + 4 }",
        );
    }

    #[test]
    fn the_first_rule_that_matches_counts_and_calls_are_expanded() {
        let rules = "macro_rules! m { (one $n:ident) => { fn $n() {} }; ($a:ident, $($rest:ident),*) => { m!(one $a); m!($($rest),*); }; \
                     ($a:ident) => { m!(one $a); }; }";
        expands(rules, "m!(a, b, c)", "fn a() {} fn b() {} fn c() {}");
        expands(
            "macro_rules! outer { ($n:ident) => { macro_rules! $n { ($x:ident $($y:tt)*) => { $x } } } }",
            "outer!(inner)",
            "macro_rules! inner { ($x:ident $($y:tt)*) => { $x } }",
        );
    }

    #[test]
    fn what_does_not_match_or_never_ends_is_not_expanded() {
        assert_eq!(expanded("macro_rules! m { ($n:ident) => { fn $n() {} } }", "m!(1)"), None);
        assert_eq!(expanded("macro_rules! m { ($n:ident) => { fn $n() {} } }", "other!(a)"), None);
        let twice = expanded("macro_rules! m { () => { m!{} m!{} } }", "m!()");
        assert!(twice.is_none_or(|text| text.len() < 100_000));
    }
}
