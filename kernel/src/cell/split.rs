use std::collections::BTreeSet;
use std::ops::Range;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::visit::Visit;
use syn::{Attribute, Block, Stmt, UseTree};

use super::names::plain;
use super::{Macros, Mentions};

/// The Rust of a cell, split into items and statements. Ranges are bytes of the cell's text.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rust {
    /// `#![...]`
    pub attributes: Vec<Range<usize>>,
    /// Definitions that later cells reuse as source: functions, types, `use`, macros.
    pub items: Vec<Item>,
    /// The statements, in order of execution.
    pub statements: Vec<Statement>,
    /// Whether the last statement is an expression without `;`, whose value is shown.
    pub has_tail: bool,
    /// Whether it has tests: `#[test]` or `#[cfg(test)]`.
    pub has_tests: bool,
}

/// An item, or one leaf of a `use`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Its place, with attributes and doc comments.
    pub range: Range<usize>,
    /// For a member of an inherent `impl`, or a part of `thread_local!`: the place of the text before it, without the brace. Each member is an
    /// item, so a later one of the same name replaces only that one.
    pub frame: Option<Range<usize>>,
    /// Its kind.
    pub kind: Kind,
    /// The names that it binds. A later item that binds one of them replaces this one.
    pub names: BTreeSet<ItemName>,
    /// Further names whose mention requires the item: the methods of a trait.
    pub reached_by: BTreeSet<String>,
    /// The names that it mentions.
    pub mentions: Mentions,
    /// For an item that a macro call makes: its text after expansion. All items of a call have the range of the call.
    pub made: Option<String>,
}

/// The kind of an item, as far as source generation needs it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One leaf of a `use` declaration.
    Use {
        /// `use std::fmt::Write as _;`
        text: String,
        /// Whether it may import a trait, which can be needed without being mentioned.
        may_be_trait: bool,
    },
    /// `macro_rules!`, which must stand before its uses.
    Macro,
    /// An `impl`, needed if all of these names are needed.
    Impl {
        /// the names in its self type and trait
        of: BTreeSet<String>,
    },
    /// `#[step] fn`
    Step,
    /// Any other item.
    Other,
}

/// A name in one of Rust's namespaces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ItemName {
    /// struct, enum, union, trait, type, mod, crate
    Type(String),
    /// fn, const, static
    Value(String),
    /// macro_rules
    Macro(String),
    /// The bound name of a `use`, in any namespace.
    Use(String),
    /// The header of an `impl`; for an inherent `impl`, header and method.
    Impl(String),
}

impl Item {
    /// Returns the item in `text`, its cell's Rust.
    pub fn source(&self, text: &str) -> String {
        let own = &text[self.range.clone()];
        match &self.frame {
            Some(frame) => format!("{} {{\n{own}\n}}", &text[frame.clone()]),
            None => self.definition(text).to_owned(),
        }
    }

    /// Returns the text that defines the item's names, without the frame.
    pub fn definition<'a>(&'a self, text: &'a str) -> &'a str {
        self.made.as_deref().unwrap_or(&text[self.range.clone()])
    }

    /// Returns whether the item is a struct, an enum or another item that names a type.
    pub fn is_type(&self) -> bool {
        self.kind == Kind::Other && self.names.iter().any(|name| matches!(name, ItemName::Type(_)))
    }
}

impl ItemName {
    /// Returns the identifier; `None` for an impl.
    pub fn ident(&self) -> Option<&str> {
        match self {
            Self::Type(name) | Self::Value(name) | Self::Macro(name) | Self::Use(name) => Some(name),
            Self::Impl(_) => None,
        }
    }

    /// Returns the function or constant of an inherent `impl`.
    pub fn member(&self) -> Option<&str> {
        match self {
            Self::Impl(header) => Some(header.rsplit_once(' ')?.1),
            _ => None,
        }
    }

    /// Returns the identifier as written in source, with the `!` of a macro; `None` for an impl.
    pub fn as_written(&self) -> Option<String> {
        let mark = if matches!(self, Self::Macro(_)) { "!" } else { "" };
        Some(format!("{}{mark}", self.ident()?))
    }

    /// Returns Jupyter's completion type for the name.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Type(_) => "class",
            Self::Value(_) => "function",
            Self::Macro(_) => "macro",
            Self::Use(_) => "module",
            Self::Impl(_) => "",
        }
    }

    /// Returns whether the two names can't coexist.
    pub fn clashes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Use(a), b) | (b, Self::Use(a)) => b.ident() == Some(a) && !matches!(b, Self::Macro(_)),
            (a, b) => a == b,
        }
    }
}

/// A statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statement {
    /// Its place.
    pub range: Range<usize>,
    /// The names that it mentions.
    pub mentions: Mentions,
    /// The variables that it binds if it is a `let`.
    pub binds: Vec<Binding>,
    /// Whether it is an expression without `;`.
    pub is_open: bool,
    /// Whether it awaits a future.
    pub awaits: bool,
}

/// A variable that a `let` binds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// Its name, without `r#`.
    pub name: String,
    /// Whether it is declared `mut`.
    pub mutable: bool,
}

/// A syntax error in a cell's Rust.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// Its place, in bytes of the cell's text.
    pub range: Range<usize>,
    /// The parser's message.
    pub message: String,
}

impl Rust {
    /// Splits `text` into items and statements.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        Self::parse_with(text, &Macros::default())
    }

    /// Splits `text` into items and statements. It can call the `macros` of earlier cells: a call that expands to items is an item.
    pub fn parse_with(text: &str, macros: &Macros) -> Result<Self, SyntaxError> {
        let whole = |input: ParseStream<'_>| Ok((Attribute::parse_inner(input)?, Block::parse_within(input)?));
        let (attributes, statements) = whole.parse_str(text).map_err(|error| SyntaxError {
            range: error.span().byte_range(),
            message: error.to_string(),
        })?;
        let mut rust = Self {
            attributes: attributes.iter().map(|a| a.span().byte_range()).collect(),
            ..Self::default()
        };
        let macros = &macros.with(statements.iter().filter_map(|statement| match statement {
            Stmt::Item(syn::Item::Macro(item)) => Some(item),
            _ => None,
        }));
        let last = statements.len().saturating_sub(1);
        for (at, statement) in statements.into_iter().enumerate() {
            match statement {
                Stmt::Item(item) => {
                    rust.has_tests |= is_test(&item);
                    rust.push_item(text, &item);
                }
                Stmt::Expr(syn::Expr::Macro(syn::ExprMacro { attrs, mac }), None) if at == last => {
                    let call = syn::StmtMacro {
                        attrs,
                        mac,
                        semi_token: None,
                    };
                    rust.push_call(call, macros, true);
                }
                Stmt::Macro(call) => {
                    let is_value = at == last && call.semi_token.is_none();
                    rust.push_call(call, macros, is_value);
                }
                other => rust.statements.push(Statement::of(&other)),
            }
        }
        rust.has_tail = rust
            .statements
            .last()
            .is_some_and(|s| s.is_open && rust.items.iter().all(|i| i.range.start < s.range.start));
        Ok(rust)
    }

    /// Adds the macros that the items of `text` define.
    pub fn add_macros(&self, text: &str, macros: &mut Macros) {
        for item in self.items.iter().filter(|item| item.kind == Kind::Macro) {
            macros.add_text(item.definition(text));
        }
    }

    /// Returns the variables in scope at the end, each as it was declared last.
    pub fn variables(&self) -> Vec<Binding> {
        let mut variables: Vec<Binding> = Vec::new();
        for binding in self.statements.iter().flat_map(|s| &s.binds) {
            variables.retain(|v| v.name != binding.name);
            variables.push(binding.clone());
        }
        variables
    }

    /// Returns the names that the statements mention before binding them. These may refer to earlier cells.
    pub fn free(&self) -> BTreeSet<String> {
        let mut free = BTreeSet::new();
        let mut bound = BTreeSet::new();
        for statement in &self.statements {
            free.extend(statement.mentions.values.difference(&bound).cloned());
            bound.extend(statement.binds.iter().map(|b| b.name.clone()));
        }
        free
    }

    /// Returns all names that the statements mention.
    pub fn mentions(&self) -> Mentions {
        let mut mentions = Mentions::default();
        for statement in &self.statements {
            mentions.extend(&statement.mentions);
        }
        mentions
    }

    /// Returns whether a statement awaits a future.
    pub fn awaits(&self) -> bool {
        self.statements.iter().any(|statement| statement.awaits)
    }

    /// Adds a macro call: an item or a statement. `is_value` says that it may be the cell's last expression.
    fn push_call(&mut self, call: syn::StmtMacro, macros: &Macros, is_value: bool) {
        let said = said_in_call(&call, is_value);
        match macros.expand(&call.mac) {
            Some(expanded) if !expanded.is_empty() && expanded.iter().all(|statement| matches!(statement, Stmt::Item(_))) => {
                for statement in &expanded {
                    if let Stmt::Item(item) = statement {
                        self.items.extend(made_items(&call, item));
                    }
                }
            }
            None if !said.is_empty() => self.items.extend(said),
            expanded => self.statements.push(Statement::of_call(call, &expanded.unwrap_or_default())),
        }
    }

    fn push_item(&mut self, text: &str, item: &syn::Item) {
        if let syn::Item::Use(item) = item {
            let prefix = if item.leading_colon.is_some() { "::" } else { "" };
            return use_leaves(&item.tree, prefix.to_owned(), &mut self.items);
        }
        if let syn::Item::Impl(item) = item
            && let Some(members) = members(item)
        {
            return self.items.extend(members);
        }
        let mut mentions = Mentions::of(item.to_token_stream());
        let described = Described::of(item);
        if described.kind == Kind::Macro {
            mentions.values.clear();
        }
        let range = item.span().byte_range();
        debug_assert!(text.get(range.clone()).is_some());
        self.items.push(Item {
            range,
            frame: None,
            kind: described.kind,
            names: described.names,
            reached_by: described.reached_by,
            mentions,
            made: None,
        });
    }
}

/// What an item is and defines.
struct Described {
    kind: Kind,
    names: BTreeSet<ItemName>,
    reached_by: BTreeSet<String>,
}

impl Described {
    fn of(item: &syn::Item) -> Self {
        let mut reached_by = BTreeSet::new();
        let mut names = BTreeSet::new();
        let name = |ident: &syn::Ident| plain(&ident.to_string());
        let mut kind = Kind::Other;
        match item {
            syn::Item::Fn(item) => {
                names.insert(ItemName::Value(name(&item.sig.ident)));
                if item
                    .attrs
                    .iter()
                    .any(|a| a.path().segments.last().is_some_and(|s| s.ident == "step"))
                {
                    kind = Kind::Step;
                }
            }
            syn::Item::Const(item) if item.ident != "_" => drop(names.insert(ItemName::Value(name(&item.ident)))),
            syn::Item::Static(item) => drop(names.insert(ItemName::Value(name(&item.ident)))),
            syn::Item::Struct(item) => {
                names.insert(ItemName::Type(name(&item.ident)));
                if matches!(item.fields, syn::Fields::Unnamed(_) | syn::Fields::Unit) {
                    names.insert(ItemName::Value(name(&item.ident)));
                }
            }
            syn::Item::Enum(item) => drop(names.insert(ItemName::Type(name(&item.ident)))),
            syn::Item::Union(item) => drop(names.insert(ItemName::Type(name(&item.ident)))),
            syn::Item::Type(item) => drop(names.insert(ItemName::Type(name(&item.ident)))),
            syn::Item::Mod(item) => drop(names.insert(ItemName::Type(name(&item.ident)))),
            syn::Item::TraitAlias(item) => drop(names.insert(ItemName::Type(name(&item.ident)))),
            syn::Item::ExternCrate(item) => {
                let bound = item.rename.as_ref().map_or(&item.ident, |(_, rename)| rename);
                names.insert(ItemName::Type(name(bound)));
            }
            syn::Item::Trait(item) => {
                names.insert(ItemName::Type(name(&item.ident)));
                reached_by.extend(item.items.iter().filter_map(|item| match item {
                    syn::TraitItem::Fn(function) => Some(name(&function.sig.ident)),
                    _ => None,
                }));
            }
            syn::Item::Macro(item) => {
                names.extend(item.ident.as_ref().map(|ident| ItemName::Macro(name(ident))));
                kind = Kind::Macro;
            }
            syn::Item::Impl(item) => {
                let (of, header) = impl_header(item);
                if item.trait_.is_some() {
                    names.insert(ItemName::Impl(header));
                }
                kind = Kind::Impl { of };
            }
            _ => {}
        }
        Self { kind, names, reached_by }
    }
}

/// Returns an item that a macro call expands to: several ones for a `use` or an inherent `impl`.
fn made_items(call: &syn::StmtMacro, item: &syn::Item) -> Vec<Item> {
    let made = |text: String, of: Described| {
        let mut mentions = Mentions::of(call.to_token_stream());
        mentions.extend(&Mentions::of(item.to_token_stream()));
        if of.kind == Kind::Macro {
            mentions.values.clear();
        }
        Item {
            range: call.span().byte_range(),
            frame: None,
            kind: of.kind,
            names: of.names,
            reached_by: of.reached_by,
            mentions,
            made: Some(text),
        }
    };
    let described = |part: Item| Described {
        kind: part.kind,
        names: part.names,
        reached_by: part.reached_by,
    };
    match item {
        syn::Item::Use(item) => {
            let prefix = if item.leading_colon.is_some() { "::" } else { "" };
            let mut leaves = Vec::new();
            use_leaves(&item.tree, prefix.to_owned(), &mut leaves);
            let text = |leaf: &Item| match &leaf.kind {
                Kind::Use { text, .. } => text.clone(),
                _ => String::new(),
            };
            leaves.into_iter().map(|leaf| made(text(&leaf), described(leaf))).collect()
        }
        syn::Item::Impl(item) if let Some(members) = members(item) => {
            let alone = |member: &syn::ImplItem| syn::ItemImpl {
                items: vec![member.clone()],
                ..item.clone()
            };
            let texts = item.items.iter().map(|member| alone(member).to_token_stream().to_string());
            texts
                .zip(members)
                .map(|(text, member)| made(text, described(member)))
                .collect()
        }
        item => vec![made(item.to_token_stream().to_string(), Described::of(item))],
    }
}

/// Returns whether rustc compiles an item only for tests.
fn is_test(item: &syn::Item) -> bool {
    let (syn::Item::Fn(syn::ItemFn { attrs, .. }) | syn::Item::Mod(syn::ItemMod { attrs, .. })) = item else {
        return false;
    };
    attrs.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        syn::Meta::NameValue(_) => false,
    })
}

/// Macros that define what their text says.
const DEFINING: [&str; 3] = ["bitflags", "lazy_static", "thread_local"];

/// Returns the items that the text of a macro call spells out: `static N: T = ..;`, `static ref N: T = ..;`, `struct N { .. }`. Their details
/// are up to the macro, so only the names are known, and the types of statics.
fn said_in_call(call: &syn::StmtMacro, is_value: bool) -> Vec<Item> {
    let name = call.mac.path.segments.last().map(|segment| segment.ident.to_string());
    if is_value && name.is_none_or(|name| !DEFINING.contains(&name.as_str())) {
        return Vec::new();
    }
    let open = match &call.mac.delimiter {
        syn::MacroDelimiter::Paren(paren) => paren.span.open(),
        syn::MacroDelimiter::Brace(brace) => brace.span.open(),
        syn::MacroDelimiter::Bracket(bracket) => bracket.span.open(),
    };
    let frame = call.span().byte_range().start..open.byte_range().start;
    let parts = said_in.parse2(call.mac.tokens.clone()).unwrap_or_default();
    let item = |(range, item): (Range<usize>, syn::Item)| {
        let of = Described::of(&item);
        Item {
            range,
            frame: Some(frame.clone()),
            kind: of.kind,
            names: of.names,
            reached_by: of.reached_by,
            mentions: Mentions::of(call.to_token_stream()),
            made: Some(item.to_token_stream().to_string()),
        }
    };
    parts.into_iter().map(item).collect()
}

fn said_in(input: ParseStream<'_>) -> syn::Result<Vec<(Range<usize>, syn::Item)>> {
    let mut items = Vec::new();
    while !input.is_empty() {
        let mut range = input.span().byte_range();
        Attribute::parse_outer(input)?;
        input.parse::<syn::Visibility>()?;
        let keyword = input.call(syn::Ident::parse_any)?.to_string();
        if input.peek(syn::Token![ref]) || input.peek(syn::Token![mut]) {
            input.call(syn::Ident::parse_any)?;
        }
        let name: syn::Ident = input.parse()?;
        let is_value = ["static", "const"].contains(&keyword.as_str());
        let item = match keyword.as_str() {
            "static" | "const" => {
                input.parse::<syn::Token![:]>()?;
                let of: syn::Type = input.parse()?;
                quote::quote!(static #name: #of = ();)
            }
            "struct" | "enum" | "union" | "type" | "trait" | "mod" => quote::quote!(mod #name {}),
            "fn" => quote::quote!(fn #name() {}),
            _ => return Err(input.error("not an item")),
        };
        while !input.is_empty() {
            let is_end = input.peek(syn::Token![;]) || (input.peek(syn::token::Brace) && !is_value);
            range.end = input.parse::<proc_macro2::TokenTree>()?.span().byte_range().end;
            if is_end {
                break;
            }
        }
        items.push((range, syn::parse2(item)?));
    }
    Ok(items)
}

impl Statement {
    /// Returns what has to follow the statement in source, if others follow.
    pub fn end(&self, text: &str) -> &'static str {
        match text[self.range.clone()].ends_with([';', '}']) {
            true => "\n",
            false => ";\n",
        }
    }

    /// Returns the statement that a macro call is. It binds the variables of its text that it expands to a `let` of.
    fn of_call(call: syn::StmtMacro, expanded: &[Stmt]) -> Self {
        let own = Mentions::of(call.mac.tokens.clone()).all;
        let mut binds = Bindings::default();
        for statement in expanded {
            if let Stmt::Local(local) = statement {
                binds.visit_pat(&local.pat);
            }
        }
        binds.0.retain(|binding| own.contains(&binding.name));
        let of = Self::of(&Stmt::Macro(call));
        // Without a value at its end, the call is no expression.
        let is_statement = expanded.last().is_some_and(|last| {
            !matches!(
                last,
                Stmt::Expr(_, None) | Stmt::Macro(syn::StmtMacro { semi_token: None, .. })
            )
        });
        Self {
            binds: binds.0,
            is_open: of.is_open && !is_statement,
            ..of
        }
    }

    fn of(statement: &Stmt) -> Self {
        let mut binds = Bindings::default();
        let mut is_open = false;
        let mut tokens = TokenStream::new();
        match statement {
            Stmt::Local(local) => {
                binds.visit_pat(&local.pat);
                if let syn::Pat::Type(pattern) = &local.pat {
                    pattern.ty.to_tokens(&mut tokens);
                }
                if let Some(init) = &local.init {
                    init.expr.to_tokens(&mut tokens);
                    if let Some((_, diverge)) = &init.diverge {
                        diverge.to_tokens(&mut tokens);
                    }
                }
            }
            Stmt::Expr(expression, semicolon) => {
                is_open = semicolon.is_none();
                expression.to_tokens(&mut tokens);
            }
            Stmt::Macro(call) => {
                is_open = call.semi_token.is_none();
                call.to_tokens(&mut tokens);
            }
            Stmt::Item(item) => item.to_tokens(&mut tokens),
        }
        let mut mentions = Mentions::of(tokens);
        if let Stmt::Local(local) = statement {
            // Count types and constants in the pattern, but not the names that it binds.
            mentions.all.extend(Mentions::of(local.pat.to_token_stream()).all);
        }
        Self {
            range: statement.span().byte_range(),
            mentions,
            binds: binds.0,
            is_open,
            awaits: awaits(statement),
        }
    }
}

/// Returns whether there is an `.await` outside of any nested `async`.
fn awaits(statement: &Stmt) -> bool {
    struct Awaits(bool);
    impl Visit<'_> for Awaits {
        fn visit_expr_await(&mut self, _: &syn::ExprAwait) {
            self.0 = true;
        }
        fn visit_expr_async(&mut self, _: &syn::ExprAsync) {}
        fn visit_expr_closure(&mut self, _: &syn::ExprClosure) {}
        fn visit_item(&mut self, _: &syn::Item) {}
        fn visit_macro(&mut self, call: &syn::Macro) {
            let text = call.tokens.to_string();
            self.0 |= text.contains(". await") && !text.contains("async");
        }
    }
    let mut found = Awaits(false);
    found.visit_stmt(statement);
    found.0
}

#[derive(Default)]
struct Bindings(Vec<Binding>);

impl Visit<'_> for Bindings {
    fn visit_pat_ident(&mut self, pattern: &syn::PatIdent) {
        let name = plain(&pattern.ident.to_string());
        if name != "None" {
            self.0.push(Binding {
                name,
                mutable: pattern.mutability.is_some(),
            });
        }
        syn::visit::visit_pat_ident(self, pattern);
    }

    fn visit_expr(&mut self, _: &syn::Expr) {}
}

/// Returns the members of an inherent `impl`, each as an item; `None` if it has others than functions and constants, or inner attributes.
fn members(item: &syn::ItemImpl) -> Option<Vec<Item>> {
    let has_inner = item
        .attrs
        .iter()
        .any(|attribute| matches!(attribute.style, syn::AttrStyle::Inner(_)));
    if item.trait_.is_some() || item.items.is_empty() || has_inner {
        return None;
    }
    let (of, header) = impl_header(item);
    let frame = item.span().byte_range().start..item.brace_token.span.open().byte_range().start;
    let around = syn::ItemImpl {
        items: Vec::new(),
        ..item.clone()
    };
    let member = |member: &syn::ImplItem| {
        let ident = match member {
            syn::ImplItem::Fn(function) => &function.sig.ident,
            syn::ImplItem::Const(constant) => &constant.ident,
            _ => return None,
        };
        let mut mentions = Mentions::of(around.to_token_stream());
        mentions.extend(&Mentions::of(member.to_token_stream()));
        Some(Item {
            range: member.span().byte_range(),
            frame: Some(frame.clone()),
            kind: Kind::Impl { of: of.clone() },
            names: BTreeSet::from([ItemName::Impl(format!("{header} {ident}"))]),
            reached_by: BTreeSet::new(),
            mentions,
            made: None,
        })
    };
    item.items.iter().map(member).collect()
}

fn impl_header(item: &syn::ItemImpl) -> (BTreeSet<String>, String) {
    let mut of = Mentions::of(item.self_ty.to_token_stream()).all;
    let mut header = item.self_ty.to_token_stream().to_string();
    if let Some((path, _)) = &item.trait_ {
        of.extend(Mentions::of(path.to_token_stream()).all);
        header = format!("{} for {header}", path.to_token_stream());
    }
    let parameters: BTreeSet<_> = item.generics.type_params().map(|p| p.ident.to_string()).collect();
    (of.difference(&parameters).cloned().collect(), header)
}

/// Modules of std without traits. A `use` from them is needed only if its name is mentioned.
const NO_TRAITS: [&str; 7] = ["cell", "collections", "path", "process", "rc", "sync", "time"];

fn use_leaves(tree: &UseTree, prefix: String, items: &mut Vec<Item>) {
    let (text, bound, range) = match tree {
        UseTree::Path(path) => return use_leaves(&path.tree, format!("{prefix}{}::", path.ident), items),
        UseTree::Group(group) => {
            for tree in &group.items {
                use_leaves(tree, prefix.clone(), items);
            }
            return;
        }
        UseTree::Name(name) if name.ident == "self" => {
            let path = prefix.trim_end_matches("::").to_owned();
            let bound = path.rsplit("::").next().unwrap_or_default().to_owned();
            (format!("use {path};"), Some(bound), name.span())
        }
        UseTree::Name(name) => (
            format!("use {prefix}{};", name.ident),
            Some(name.ident.to_string()),
            name.span(),
        ),
        UseTree::Rename(rename) => {
            let path = match rename.ident == "self" {
                true => prefix.trim_end_matches("::").to_owned(),
                false => format!("{prefix}{}", rename.ident),
            };
            let bound = rename.rename.to_string();
            (
                format!("use {path} as {bound};"),
                Some(bound).filter(|b| b != "_"),
                rename.span(),
            )
        }
        UseTree::Glob(glob) => (format!("use {prefix}*;"), None, glob.span()),
    };
    let std_module = prefix.trim_start_matches("::").strip_prefix("std::");
    let no_trait = std_module.is_some_and(|path| NO_TRAITS.iter().any(|m| path.split("::").next() == Some(m)));
    let lower = bound.as_ref().is_some_and(|name| name.starts_with(char::is_lowercase));
    let mut mentions = Mentions::default();
    mentions
        .all
        .extend(prefix.split("::").filter(|part| !part.is_empty()).map(plain));
    items.push(Item {
        range: range.byte_range(),
        frame: None,
        kind: Kind::Use {
            text,
            may_be_trait: !no_trait && !lower,
        },
        names: bound.iter().map(|name| ItemName::Use(plain(name))).collect(),
        reached_by: BTreeSet::new(),
        mentions,
        made: None,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(code: &str) -> Vec<ItemName> {
        Rust::parse(code).unwrap().items.into_iter().flat_map(|i| i.names).collect()
    }

    #[test]
    fn splits_by_slicing_the_text() {
        let code = "/// Döc\nfn f() {}\nlet mut a = f(); // rest\nuse std::fmt::{self, Write as W};\na";
        let rust = Rust::parse(code).unwrap();
        assert_eq!(&code[rust.items[0].range.clone()], "/// Döc\nfn f() {}");
        assert_eq!(&code[rust.statements[0].range.clone()], "let mut a = f();");
        assert_eq!(&code[rust.statements[1].range.clone()], "a");
        assert!(rust.has_tail);
        assert_eq!(
            rust.variables(),
            [Binding {
                name: "a".into(),
                mutable: true
            }]
        );
        let uses: Vec<_> = rust.items[1..].iter().map(|i| (&code[i.range.clone()], &i.kind)).collect();
        let leaf = |text: &str, may_be_trait| Kind::Use {
            text: text.into(),
            may_be_trait,
        };
        assert_eq!(
            uses,
            [
                ("self", &leaf("use std::fmt;", false)),
                ("Write as W", &leaf("use std::fmt::Write as W;", true))
            ]
        );
    }

    #[test]
    fn a_macro_call_or_a_block_at_the_end_is_the_value() {
        for (code, has_tail) in [
            ("vec![1]", true),
            ("vec![1];", false),
            ("if a { 1 } else { 2 }", true),
            ("f(); fn f() {}", false),
        ] {
            assert_eq!(Rust::parse(code).unwrap().has_tail, has_tail, "{code}");
        }
    }

    #[test]
    fn names_of_items() {
        use ItemName::{Impl, Macro, Type, Use, Value};
        assert_eq!(
            names("struct A; enum B {}"),
            [Type("A".into()), Value("A".into()), Type("B".into())]
        );
        assert_eq!(names("macro_rules! m { () => {} }"), [Macro("m".into())]);
        assert_eq!(names("impl A { fn f() {} }"), [Impl("A f".into())]);
        assert_eq!(names("use a::b::*; use c::D;"), [Use("D".into())]);
        assert!(Use("f".into()).clashes(&Value("f".into())));
        assert!(!Type("f".into()).clashes(&Value("f".into())));
    }

    #[test]
    fn free_names_are_those_read_before_they_are_bound() {
        let rust = Rust::parse("let x = x + y; let Some(z) = f(x) else { panic!(\"{w}\") }; z").unwrap();
        assert_eq!(rust.free().into_iter().collect::<Vec<_>>(), ["f", "w", "x", "y"]);
    }

    #[test]
    fn a_pattern_binds_its_names() {
        let rust = Rust::parse("let (a, mut b, P { c, d: [e, ..] }, None, _f) = v;").unwrap();
        let names: Vec<_> = rust.variables().into_iter().map(|v| (v.name, v.mutable)).collect();
        let expected = [("a", false), ("b", true), ("c", false), ("e", false), ("_f", false)];
        assert_eq!(names, expected.map(|(n, m)| (n.to_owned(), m)));
    }

    #[test]
    fn a_syntax_error_has_a_place() {
        let error = Rust::parse("let x = ;").unwrap_err();
        assert_eq!(error.range, 8..9);
    }
}
