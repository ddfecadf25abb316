use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::Artifact;

use super::derive::Types;
use super::inner;
use super::map::{CellRef, Origin, SourceMap};
use super::outdated::{Outdated, outdated};
use super::reach::reach;
use super::scope::{Maker, Scope, Used, Variable, Via};
use super::types;
use super::without::Without;
use crate::cell::{Binding, Item, ItemName, Kind, Mentions, Rust};

/// Allows lints that are meaningless in a cell: what is unused here may be used by a later cell.
const QUIET: &str = "#![allow(dead_code, path_statements, redundant_semicolons, unreachable_code, unused_assignments, unused_imports, \
                     unused_macros, unused_mut, unused_parens, unused_braces, unused_must_use, reason = \"a notebook\")]\n";
const PRELUDE: &str = "use ::lockstep::prelude::*;\n";

/// The source of a module, with the inputs and outputs of its run.
#[derive(Clone, Debug, Default)]
pub struct Generated {
    /// The text for rustc.
    pub source: String,
    /// Maps places in it to places in cells.
    pub map: SourceMap,
    /// The inputs of the run, by name.
    pub inputs: BTreeMap<String, Artifact>,
    /// The variable behind each input.
    pub makers: BTreeMap<String, Maker>,
    /// The variables of earlier cells that it reads.
    pub reads: BTreeMap<String, Variable>,
    /// The variables that it saves: the outputs of the run.
    pub saves: Vec<Binding>,
    /// The items of earlier cells that it contains.
    pub uses: BTreeSet<Used>,
    /// The modules whose steps these call, by name.
    pub modules: BTreeMap<String, Digest>,
    /// The automatic implementations: type and trait.
    pub derived: BTreeSet<(String, String)>,
    /// The versions whose statements it runs again, and the number of times: once for each variable that can't be stored.
    pub again: (BTreeSet<usize>, usize),
    /// The variables that it can't read, because their type has changed.
    pub outdated: BTreeMap<String, Outdated>,
}

/// Generates the source of a cell with text `text`, executed in `scope`.
pub fn generate(scope: &Scope, text: &str, rust: &Rust, without: &Without) -> Generated {
    let mut writer = Writer::new(scope, text, rust, without);
    let free = rust.free();
    let mut reads: Vec<&Variable> = scope.variables().values().filter(|v| free.contains(&v.name)).collect();
    writer.generated.outdated = writer.outdated(&reads);
    reads.retain(|variable| !writer.generated.outdated.contains_key(&variable.name));
    writer.generated.reads = reads.iter().map(|v| (v.name.clone(), (*v).clone())).collect();

    let mut mentions = rust.mentions();
    for item in &rust.items {
        mentions.extend(&item.mentions);
    }
    let body = writer.body(&reads, &mut mentions);

    writer.header(&mentions);
    writer.raw("#[unsafe(no_mangle)]\nfn __cell(__cell: &mut ::lockstep::cell::Cell) -> ::lockstep::Result<()> {\n");
    writer.raw("use ::lockstep::cell::by_type::*;\n");
    let (open, close) = within_async(rust.awaits());
    writer.raw(open);
    for piece in body {
        writer.piece(piece);
    }
    writer.raw("::lockstep::Result::Ok(())\n");
    writer.raw(close);
    writer.raw("}\n");
    writer.generated
}

/// Returns the code around statements that may await.
fn within_async(awaits: bool) -> (&'static str, &'static str) {
    match awaits {
        true => ("::lockstep::cell::block_on(async {\n", "})\n"),
        false => ("", ""),
    }
}

/// Generates source around a text with syntax errors, so that rustc reports them.
pub fn generate_broken(text: &str) -> Generated {
    let (scope, rust, without) = (Scope::default(), Rust::default(), Without::default());
    let mut writer = Writer::new(&scope, text, &rust, &without);
    writer.raw("fn main() {\n");
    writer.typed(CellRef::Current, 0..text.len());
    writer.raw("\n}\n");
    writer.generated
}

/// Returns whether the session has a step function `step`.
pub fn has_step(scope: &Scope, step: &str) -> bool {
    let is_step = |item: &Item| item.kind == Kind::Step && item.names.iter().any(|name| name.ident() == Some(step));
    scope.items().iter().any(|(_, item)| is_step(item))
}

/// Generates the source of a module with the session's step function `step`.
pub fn generate_steps(scope: &Scope, step: &str, without: &Without) -> Generated {
    let rust = Rust::default();
    let mut writer = Writer::new(scope, "", &rust, without);
    let mut mentions = Mentions::default();
    mentions.all.insert(step.to_owned());
    writer.header(&mentions);
    writer.generated
}

/// A piece of the body. The body is assembled before the header, because it determines which items are needed.
enum Piece {
    Raw(String),
    From(Origin, String),
    Typed(CellRef, Range<usize>),
}

struct Writer<'a> {
    scope: &'a Scope,
    text: &'a str,
    rust: &'a Rust,
    items: Vec<(usize, &'a Item)>,
    types: BTreeSet<&'a str>,
    without: &'a Without,
    generated: Generated,
}

impl<'a> Writer<'a> {
    fn new(scope: &'a Scope, text: &'a str, rust: &'a Rust, without: &'a Without) -> Self {
        let replaced = |item: &Item| {
            let own = rust.items.iter().flat_map(|own| &own.names);
            own.into_iter().any(|own| item.names.iter().any(|name| own.clashes(name)))
        };
        let mut items = scope.items();
        let unfit = |version: usize, item: &Item| {
            !without.items.is_empty() && without.items.contains(&item.source(&scope.versions()[version].text))
        };
        items.retain(|(version, item)| !replaced(item) && !unfit(*version, item));
        let types = types::named(items.iter().map(|(_, item)| *item).chain(&rust.items));
        Self {
            scope,
            text,
            rust,
            items,
            types,
            without,
            generated: Generated::default(),
        }
    }

    fn raw(&mut self, text: &str) {
        self.generated.source.push_str(text);
    }

    fn marked(&mut self, origin: Origin, text: &str) {
        let start = self.generated.source.len();
        self.raw(text);
        self.generated.map.push(start..self.generated.source.len(), origin);
    }

    fn typed(&mut self, place: CellRef, range: Range<usize>) {
        let text = self.text_of(place)[range.clone()].to_owned();
        self.marked(Origin::Cell { place, range }, &text);
    }

    fn piece(&mut self, piece: Piece) {
        match piece {
            Piece::Raw(text) => self.raw(&text),
            Piece::From(origin, text) => self.marked(origin, &text),
            Piece::Typed(place, range) => self.typed(place, range),
        }
    }

    fn text_of(&self, place: CellRef) -> &'a str {
        match place {
            CellRef::Current => self.text,
            CellRef::Earlier(version) => &self.scope.versions()[version].text,
        }
    }

    /// Writes everything before the body: lints, prelude and the items that `mentions` reaches.
    fn header(&mut self, mentions: &Mentions) {
        self.raw(QUIET);
        for range in &self.rust.attributes {
            self.typed(CellRef::Current, range.clone());
            self.raw("\n");
        }
        let mut mentions = mentions.clone();
        let own = self
            .rust
            .items
            .iter()
            .flat_map(|item| &item.names)
            .filter_map(|name| name.ident());
        mentions.all.extend(own.map(str::to_owned));
        let reached = reach(&self.items, &mentions);
        self.generated.uses.extend(reached.iter().map(|(version, item)| Used {
            version: *version,
            start: item.range.start,
            end: item.range.end,
        }));
        for (version, _) in &reached {
            self.generated.modules.extend(self.scope.versions()[*version].modules.clone());
        }
        let mut items: Vec<_> = reached.into_iter().map(|(i, item)| (CellRef::Earlier(i), item)).collect();
        items.extend(self.rust.items.iter().map(|item| (CellRef::Current, item)));
        let known: Vec<&Item> = items.iter().map(|(_, item)| *item).collect();
        let types = Types::new(&known);
        let (macros, others): (Vec<_>, Vec<_>) = items.iter().copied().partition(|(_, item)| item.kind == Kind::Macro);
        self.raw(PRELUDE);
        let mut calls = BTreeSet::new();
        for (place, item) in macros.into_iter().chain(others) {
            let text = self.text_of(place);
            let whole = Origin::Whole {
                place,
                range: item.range.clone(),
            };
            match (&item.kind, &item.frame, &item.made) {
                (_, Some(frame), _) => {
                    self.typed(place, frame.clone());
                    self.raw("{\n");
                    self.typed(place, item.range.clone());
                    self.raw("\n}");
                }
                (_, None, Some(_)) if self.is_whole(place, item) => {
                    if calls.insert((place, item.range.start)) {
                        self.typed(place, item.range.clone());
                        let is_closed = text[item.range.clone()].ends_with([';', '}']);
                        self.raw(if is_closed { "" } else { ";" });
                    }
                }
                (_, None, Some(made)) => self.marked(whole, made),
                (Kind::Use { text, .. }, ..) => self.marked(whole, text),
                _ => self.typed(place, item.range.clone()),
            }
            self.raw("\n");
            if item.is_type() {
                for (of, implements, text) in types.derive(item.definition(text)) {
                    let derived = (of, implements.to_owned());
                    if !self.without.has(&derived) {
                        let of = derived.0.clone();
                        self.marked(Origin::Derived { of, implements }, &text);
                        self.generated.derived.insert(derived);
                    }
                }
            }
        }
    }

    /// Returns whether a macro call can stand for its items: all of them are in use, and the macro is still the one that made them.
    fn is_whole(&self, place: CellRef, item: &Item) -> bool {
        let CellRef::Earlier(version) = place else {
            return true;
        };
        let redefines = |other: &Item| {
            other
                .names
                .iter()
                .any(|name| matches!(name, ItemName::Macro(name) if item.mentions.all.contains(name)))
        };
        let mut later = self.items.iter().filter(|(of, _)| *of > version).map(|(_, other)| *other);
        if later.any(redefines) || self.rust.items.iter().any(redefines) {
            return false;
        }
        let of_call = |other: &&Item| other.range == item.range && other.frame.is_none();
        let all = self.scope.versions()[version].rust.items.iter().filter(of_call).count();
        let used = self
            .items
            .iter()
            .filter(|(of, other)| *of == version && of_call(other))
            .count();
        all == used
    }

    /// Returns those of `reads` whose type has changed since. A cell may mention their names and mean something else, so only rustc knows whether
    /// it needs them.
    fn outdated(&self, reads: &[&Variable]) -> BTreeMap<String, Outdated> {
        let earlier = self.items.iter().map(|(version, item)| (CellRef::Earlier(*version), *item));
        let own = self.rust.items.iter().map(|item| (CellRef::Current, item));
        let now: Vec<_> = own
            .chain(earlier)
            .map(|(place, item)| (place, item, self.text_of(place)))
            .collect();
        let outdated = reads.iter().filter_map(|variable| {
            let outdated = outdated(self.scope, variable, &now)?;
            Some((variable.name.clone(), outdated))
        });
        outdated.collect()
    }

    /// Returns the loads, statements and saves. Adds the names that the loads need to `mentions`.
    fn body(&mut self, reads: &[&Variable], mentions: &mut Mentions) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut witnessed = Vec::new();
        for variable in reads {
            match self.load(variable, mentions) {
                Some(load) => pieces.extend(load),
                None => witnessed.push(*variable),
            }
        }
        if !witnessed.is_empty() {
            self.witness(&witnessed, mentions, &mut pieces);
        }
        let (last, before) = match self.rust.statements.split_last() {
            Some((last, before)) if self.rust.has_tail => (Some(last), before),
            _ => (None, &self.rust.statements[..]),
        };
        for statement in before {
            pieces.push(Piece::Typed(CellRef::Current, statement.range.clone()));
            pieces.push(Piece::Raw(statement.end(self.text).into()));
        }
        if let Some(last) = last {
            let diverges = never_a_value(&self.text[last.range.clone()]);
            let (open, close) = if diverges {
                ("", ";\n")
            } else {
                (
                    "(&&&::lockstep::cell::Shown(::lockstep::cell::Last(&(",
                    ")).evcxr_display())).show(__cell);\n",
                )
            };
            pieces.push(Piece::Raw(open.into()));
            pieces.push(Piece::Typed(CellRef::Current, last.range.clone()));
            pieces.push(Piece::Raw(close.into()));
        }
        let mut saved = self.saved(reads);
        saved.retain(|binding| !self.without.saves.contains(&binding.name));
        for name in saved
            .iter()
            .map(|binding| &binding.name)
            .filter(|name| self.may_be_unknown(name))
        {
            let text = format!("let _ = || {}.__known();\n", spelled(name));
            pieces.push(Piece::From(self.save(name), text));
        }
        let may_share = inner::may_share(&self.rust.mentions(), reads);
        let changing = match may_share {
            true => inner::changing_types(&self.all_items()),
            false => Vec::new(),
        };
        for Binding { name, .. } in saved.iter().filter(|_| may_share) {
            let text = format!("(&&Of(&{})).check({name:?}, &{changing:?})?;\n", spelled(name));
            pieces.push(Piece::From(self.save(name), text));
        }
        pieces.extend(
            self.starting_anew()
                .iter()
                .map(|name| Piece::Raw(format!("::lockstep::cell::starts_anew({name:?});\n"))),
        );
        for binding in saved {
            let Binding { name, .. } = &binding;
            let text = format!("(&&&&&Of(&{})).save(__cell, {name:?})?;\n", spelled(name));
            pieces.push(Piece::From(self.save(name), text));
            self.generated.saves.push(binding);
        }
        pieces
    }

    /// Returns whether the type of a variable may be unknown, because its statement calls a function whose result is chosen by its type. The
    /// choice of how to save it would be a guess then, so code that is never called asks rustc for the type.
    fn may_be_unknown(&self, name: &str) -> bool {
        let generic = [
            "collect", "default", "from_str", "into", "parse", "product", "sum", "try_into",
        ];
        let mut statements = self
            .rust
            .statements
            .iter()
            .filter(|s| s.binds.iter().any(|b| b.name == *name));
        statements.any(|statement| generic.iter().any(|word| statement.mentions.all.contains(*word)))
    }

    /// Returns where the code that saves a variable comes from.
    fn save(&self, name: &str) -> Origin {
        let binds = |s: &&crate::cell::Statement| s.binds.iter().any(|b| b.name == name);
        Origin::Save {
            name: name.to_owned(),
            bound: self.rust.statements.iter().rfind(binds).map(|s| s.range.clone()),
        }
    }

    /// Returns the names of the cell's statics that can change: their changes are lost at the end of each cell.
    fn starting_anew(&self) -> Vec<String> {
        let own = self.rust.items.iter();
        let items = own.filter(|item| inner::is_changing_static(item.definition(self.text)));
        let names = items.flat_map(|item| &item.names).filter_map(|name| name.ident());
        names.map(str::to_owned).collect()
    }

    /// Returns the variables to save: the cell's own, and those that it read and may have changed, because they are declared `mut` or
    /// because their type can change behind a shared reference.
    fn saved(&self, reads: &[&Variable]) -> Vec<Binding> {
        let mut saved = self.rust.variables();
        // a constant in a pattern is no variable
        saved.retain(|binding| !self.is_value(&binding.name));
        let items = self.all_items();
        for variable in reads {
            let may_change = variable.mutable || inner::may_change(&variable.type_name, &items);
            if may_change && saved.iter().all(|own| own.name != variable.name) {
                saved.push(Binding {
                    name: variable.name.clone(),
                    mutable: variable.mutable,
                });
            }
        }
        saved
    }

    /// Returns the items that the cell can use: those of earlier cells, then its own.
    fn all_items(&self) -> Vec<&Item> {
        self.items.iter().map(|(_, item)| *item).chain(&self.rust.items).collect()
    }

    /// Returns whether an item has this name as a value: a constant, a static, or a struct without named fields.
    fn is_value(&self, name: &str) -> bool {
        self.all_items().into_iter().flat_map(|item| &item.names).any(|of| match of {
            ItemName::Value(of) | ItemName::Use(of) => of == name,
            _ => false,
        })
    }

    /// Returns a load by the variable's type, if the type can be named.
    fn load(&mut self, variable: &Variable, mentions: &mut Mentions) -> Option<Vec<Piece>> {
        let (artifact, via) = variable.readable()?;
        let (said, named) = types::say(&variable.type_name, &self.types)?;
        mentions.all.extend(named);
        let input = self.input(variable, artifact);
        let (mutable, name) = (if variable.mutable { "mut " } else { "" }, spelled(&variable.name));
        let how = match via {
            Via::Artifact => format!("__cell.load_artifact({input:?}, {:?})", variable.name),
            Via::Value => format!(
                "(&&::lockstep::cell::Tag::<{said}>::new()).load(__cell, {input:?}, {:?})",
                variable.name
            ),
            Via::Reference => format!("__cell.load_reference({input:?}, {:?})", variable.name),
        };
        let text = format!("let {mutable}{name}: {said} = {how}?;\n");
        Some(vec![Piece::From(Origin::Load(variable.name.clone()), text)])
    }

    /// Returns the name of the input that holds `artifact`: the variable's name, or a numbered one if an older value has it.
    fn input(&mut self, variable: &Variable, artifact: &Artifact) -> String {
        let numbered = (1..).map(|n| format!("{}.{n}", variable.name));
        for name in std::iter::once(variable.name.clone()).chain(numbered) {
            match self.generated.inputs.get(&name) {
                Some(other) if other.digest != artifact.digest => {}
                _ => {
                    let maker = Maker {
                        variable: variable.name.clone(),
                        version: variable.made_by,
                    };
                    self.generated.inputs.insert(name.clone(), artifact.clone());
                    self.generated.makers.insert(name.clone(), maker);
                    return name;
                }
            }
        }
        variable.name.clone()
    }

    /// Writes a closure with the earlier cells that define `variables`. It provides the types of those that can be loaded, and
    /// is called to recompute those that can't.
    fn witness(&mut self, variables: &[&Variable], mentions: &mut Mentions, pieces: &mut Vec<Piece>) {
        pieces.push(Piece::Raw("let __witness = || -> ::lockstep::Result<_> {\n".into()));
        let needed = makers(self.scope, variables, |variable| self.is_loadable(variable));
        let times = variables.iter().filter(|variable| variable.readable().is_none()).count();
        self.generated.again = (needed.clone(), times);
        let awaits = needed.iter().any(|index| self.scope.versions()[*index].rust.awaits());
        let (open, close) = within_async(awaits);
        pieces.push(Piece::Raw(open.into()));
        for index in needed {
            let version = &self.scope.versions()[index];
            let place = CellRef::Earlier(index);
            for variable in version.reads.values() {
                pieces.extend(self.load(variable, mentions).into_iter().flatten());
            }
            for (i, statement) in version.rust.statements.iter().enumerate() {
                let typed = Piece::Typed(place, statement.range.clone());
                let is_tail = version.rust.has_tail && i + 1 == version.rust.statements.len();
                match is_tail {
                    true => pieces.extend([Piece::Raw("_ = &(".into()), typed, Piece::Raw(");\n".into())]),
                    false => pieces.extend([typed, Piece::Raw(statement.end(&version.text).into())]),
                }
            }
            mentions.extend(&version.rust.mentions());
        }
        pieces.push(Piece::Raw("::lockstep::Result::Ok(".into()));
        for variable in variables {
            pieces.push(Piece::Raw("(".into()));
            pieces.push(Piece::From(Origin::Load(variable.name.clone()), spelled(&variable.name)));
            pieces.push(Piece::Raw(", ".into()));
        }
        pieces.push(Piece::Raw(format!("(){})\n{close}}};\n", ")".repeat(variables.len()))));
        pieces.push(Piece::Raw("let __tags = ::lockstep::cell::tags(&__witness);\n".into()));
        for (i, variable) in variables.iter().enumerate() {
            let (mutable, name) = (if variable.mutable { "mut " } else { "" }, spelled(&variable.name));
            let nth = format!("{}.0", ".1".repeat(i));
            let value = match variable.readable() {
                None => format!("__cell.remake(|| ::lockstep::Result::Ok(__witness()?{nth}))"),
                Some((artifact, via)) => {
                    let (input, name) = (self.input(variable, artifact), &variable.name);
                    match via {
                        Via::Artifact => format!("__cell.load_artifact_as(&__tags{nth}, {input:?}, {name:?})"),
                        Via::Value => format!("(&&__tags{nth}).load(__cell, {input:?}, {name:?})"),
                        Via::Reference => format!("__cell.load_reference_as(&__tags{nth}, {input:?}, {name:?})"),
                    }
                }
            };
            let text = format!("let {mutable}{name} = {value}?;\n");
            pieces.push(Piece::From(Origin::Load(variable.name.clone()), text));
        }
    }

    fn is_loadable(&self, variable: &Variable) -> bool {
        variable.readable().is_some() && types::say(&variable.type_name, &self.types).is_some()
    }
}

/// Returns the versions whose statements define `variables` and, recursively, the variables that these read, except for
/// those with `is_had`.
pub(super) fn makers(scope: &Scope, variables: &[&Variable], is_had: impl Fn(&Variable) -> bool) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    let mut wanted: Vec<usize> = variables.iter().map(|v| v.made_by).collect();
    while let Some(version) = wanted.pop() {
        if needed.insert(version) {
            let reads = scope.versions()[version].reads.values();
            wanted.extend(reads.filter(|v| !is_had(v)).map(|v| v.made_by));
        }
    }
    needed
}

/// Returns a name as written in source: keywords need `r#`.
pub(super) fn spelled(name: &str) -> String {
    match syn::parse_str::<syn::Ident>(name) {
        Ok(_) => name.to_owned(),
        Err(_) => format!("r#{name}"),
    }
}

/// Returns whether the expression diverges, so that there is no value to show.
fn never_a_value(expression: &str) -> bool {
    [
        "panic!",
        "todo!",
        "unimplemented!",
        "unreachable!",
        "loop ",
        "return",
        "std::process::exit",
        "bail!",
    ]
    .iter()
    .any(|start| expression.starts_with(start))
}
