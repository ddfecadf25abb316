//! YAML as people and programs write it: a tree that keeps the text of each scalar and the place of each node. The type of
//! a scalar is the type that is expected: `08540` and `1e3` are text where text is expected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use serde_json::Number;

use super::{PipelineError, Position};

/// Maximum number of nodes that aliases repeat.
const COPIED: usize = 100_000;
/// Maximum nesting depth, also of what aliases repeat.
const DEEPEST: usize = 200;

/// A position in a text.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The line, from 1.
    pub line: u64,
    /// The column in characters, from 1.
    pub column: u64,
}

impl From<&Marker> for Mark {
    fn from(marker: &Marker) -> Self {
        Self {
            line: marker.line() as u64,
            column: marker.col() as u64 + 1,
        }
    }
}

/// A node of a document.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it starts.
    pub mark: Mark,
    /// What it is.
    pub content: Content,
    /// Number of nodes in it, with itself.
    size: usize,
    depth: usize,
}

/// The content of a node.
#[derive(Clone, Debug)]
pub enum Content {
    /// A text, or what may be a number, a boolean or null.
    Scalar {
        /// The text, without quotes.
        text: String,
        /// Whether it can only be text: it is in quotes.
        is_text: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// A mapping.
    Map(Vec<Entry>),
}

/// An entry of a mapping.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key starts.
    pub mark: Mark,
    /// The value.
    pub value: Node,
}

/// A fault in a YAML text.
#[derive(Debug)]
pub struct Fault {
    mark: Option<Mark>,
    /// The keys that lead to it, from the innermost.
    path: Vec<String>,
    message: String,
}

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it starts.
    pub mark: Mark,
}

/// Reads the text of a file.
pub fn read_text(file: &Path, what: &str) -> Result<String, PipelineError> {
    let bytes = std::fs::read(file).map_err(|e| PipelineError::whole(file, format!("can't read the {what}: {e}")))?;
    let message = match bytes.first_chunk() {
        Some([0xff, 0xfe] | [0xfe, 0xff]) => "this is UTF-16 text: save it as UTF-8",
        _ => "this is not UTF-8 text: save it as UTF-8",
    };
    String::from_utf8(bytes).map_err(|e| {
        let before = String::from_utf8_lossy(&e.as_bytes()[..e.utf8_error().valid_up_to()]);
        let mark = Mark {
            line: before.matches('\n').count() as u64 + 1,
            column: before.rsplit('\n').next().unwrap_or_default().chars().count() as u64 + 1,
        };
        Fault::new(mark, message).of(file, "")
    })
}

/// Reads the documents of a text.
pub fn documents(text: &str) -> Result<Vec<Node>, Fault> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| unreadable(&error))?;
        builder.event(event, span)?;
    }
    Ok(builder.documents)
}

/// A document being built.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    copied: usize,
    documents: Vec<Node>,
}

/// A list or mapping without its end.
struct Open {
    mark: Mark,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        keys: BTreeSet<String>,
        /// A key without its value, and whether it is `<<`.
        key: Option<(String, Mark, bool)>,
        merged: Vec<Node>,
    },
}

impl Builder {
    fn event(&mut self, event: Event, span: Span) -> Result<(), Fault> {
        let mark = Mark::from(&span.start);
        let items = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = style != ScalarStyle::Plain || tagged(tag.as_deref(), mark)?;
                let text = text.into_owned();
                return self.add(Node::new(mark, Content::Scalar { text, is_text })?, anchor);
            }
            Event::Alias(anchor) => return self.alias(mark, anchor),
            Event::SequenceStart(_, anchor, tag) => (Items::List(Vec::new()), anchor, tag),
            Event::MappingStart(_, anchor, tag) => (Items::map(), anchor, tag),
            Event::SequenceEnd | Event::MappingEnd => return self.close(),
            Event::DocumentStart(..) => {
                self.anchors.clear();
                return Ok(());
            }
            _ => return Ok(()),
        };
        let (items, anchor, tag) = items;
        tagged(tag.as_deref(), mark)?;
        self.open.push(Open { mark, anchor, items });
        match self.open.len() > DEEPEST {
            true => Err(Fault::new(mark, TOO_DEEP)),
            false => Ok(()),
        }
    }

    fn alias(&mut self, mark: Mark, anchor: usize) -> Result<(), Fault> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Fault::new(mark, "this alias (`*name`) is inside what it repeats"));
        };
        self.copied += node.size;
        if self.copied > COPIED {
            return Err(Fault::new(mark, "aliases (`*name`) repeat too much: write the values out"));
        }
        let node = Node { mark, ..node.clone() };
        self.add(node, 0)
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(Open { mark, anchor, items }) = self.open.pop() else {
            return Ok(());
        };
        let content = match items {
            Items::List(items) => Content::List(items),
            Items::Map {
                mut entries,
                mut keys,
                merged,
                ..
            } => {
                for entry in merge_all(merged)? {
                    if keys.insert(entry.key.clone()) {
                        entries.push(entry);
                    }
                }
                Content::Map(entries)
            }
        };
        self.add(Node::new(mark, content)?, anchor)
    }

    /// Adds a node to the innermost list or mapping.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut open.items {
            Items::List(items) => items.push(node),
            Items::Map {
                entries,
                keys,
                key,
                merged,
            } => match key.take() {
                Some((_, _, true)) => merged.push(node),
                Some((key, mark, false)) => entries.push(Entry { key, mark, value: node }),
                None => {
                    let Content::Scalar { text, is_text } = node.content else {
                        return Err(Fault::new(node.mark, "a key is a text, not a list or a mapping"));
                    };
                    let is_merge = text == "<<" && !is_text;
                    if !is_merge && !keys.insert(text.clone()) {
                        return Err(Fault::new(node.mark, format!("the key `{text}` is here twice")));
                    }
                    *key = Some((text, node.mark, is_merge));
                }
            },
        }
        Ok(())
    }
}

impl Items {
    fn map() -> Self {
        Self::Map {
            entries: Vec::new(),
            keys: BTreeSet::new(),
            key: None,
            merged: Vec::new(),
        }
    }
}

/// Returns the entries that `<<: *name` or `<<: [*first, *second]` adds.
fn merge(node: Node) -> Result<Vec<Entry>, Fault> {
    match node.content {
        Content::Map(entries) => Ok(entries),
        Content::List(items) if items.iter().all(|item| matches!(item.content, Content::Map(_))) => merge_all(items),
        _ => Err(Fault::new(node.mark, "`<<` merges mappings: write `<<: *name`")),
    }
}

fn merge_all(nodes: Vec<Node>) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::new();
    for node in nodes {
        entries.extend(merge(node)?);
    }
    Ok(entries)
}

/// Returns whether a tag makes a scalar text. Other tags than those of text, lists and mappings are errors.
fn tagged(tag: Option<&Tag>, mark: Mark) -> Result<bool, Fault> {
    let Some(tag) = tag else {
        return Ok(false);
    };
    let name = tag.to_string().replace("tag:yaml.org,2002:", "!!");
    match name.as_str() {
        "!!str" | "!" => Ok(true),
        "!!map" | "!!seq" => Ok(false),
        _ => Err(Fault::new(mark, format!("the tag `{name}` is not supported: remove it"))),
    }
}

const TOO_DEEP: &str = "lists and mappings are nested too deeply here";

impl Node {
    fn new(mark: Mark, content: Content) -> Result<Self, Fault> {
        let inside = |nodes: &mut dyn Iterator<Item = &Self>| {
            nodes.fold((1, 1), |(size, depth), node| (size + node.size, depth.max(node.depth + 1)))
        };
        let (size, depth) = match &content {
            Content::Scalar { .. } => (1, 1),
            Content::List(items) => inside(&mut items.iter()),
            Content::Map(entries) => inside(&mut entries.iter().map(|entry| &entry.value)),
        };
        match depth > DEEPEST {
            true => Err(Fault::new(mark, TOO_DEEP)),
            false => Ok(Self {
                mark,
                content,
                size,
                depth,
            }),
        }
    }

    /// Returns the entry of a mapping with this key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// Returns the value of a mapping with this key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// Returns the value of a mapping with this key.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        let mut entries = self.entries_mut().iter_mut();
        entries.find(|entry| entry.key == key).map(|entry| &mut entry.value)
    }

    /// Returns the entries, if it is a mapping.
    pub fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Returns the entries, if it is a mapping.
    pub fn entries_mut(&mut self) -> &mut [Entry] {
        match &mut self.content {
            Content::Map(entries) => entries,
            _ => &mut [],
        }
    }

    /// Returns the values, if it is a mapping.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Self> {
        self.entries_mut().iter_mut().map(|entry| &mut entry.value)
    }

    /// Returns the text, if it is a scalar.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Makes text of the scalars that `is` holds for, of those that are not null.
    pub fn make_text(&mut self, is: &dyn Fn(&str) -> bool) {
        match &mut self.content {
            Content::Scalar { text, is_text } => *is_text |= !is_null(text) && is(text),
            Content::List(items) => items.iter_mut().for_each(|item| item.make_text(is)),
            Content::Map(entries) => entries.iter_mut().for_each(|entry| entry.value.make_text(is)),
        }
    }

    /// Returns the first scalar that is not in quotes and that `is` holds for.
    pub fn find_plain(&self, is: &dyn Fn(&str) -> bool) -> Option<(Mark, &str)> {
        match &self.content {
            Content::Scalar { text, is_text } => (!is_text && is(text)).then_some((self.mark, text)),
            Content::List(items) => items.iter().find_map(|item| item.find_plain(is)),
            Content::Map(entries) => entries.iter().find_map(|entry| entry.value.find_plain(is)),
        }
    }

    /// Returns the number, if it is a scalar that is clearly one.
    pub fn number(&self) -> Option<Number> {
        match &self.content {
            Content::Scalar { text, is_text: false } => match plain(text) {
                Ok(Plain::Unsigned(number)) => Some(number.into()),
                Ok(Plain::Signed(number)) => Some(number.into()),
                Ok(Plain::Float(number)) => Number::from_f64(number),
                _ => None,
            },
            _ => None,
        }
    }

    /// Reads a value.
    pub fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, Fault> {
        T::deserialize(self).map_err(|fault| fault.at(self.mark))
    }

    /// Whether it is null, or nothing.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, is_text: false } if is_null(text))
    }

    fn wrong(&self, expected: impl fmt::Display) -> Fault {
        let found = match &self.content {
            _ if self.is_null() => "nothing is here".to_owned(),
            Content::Scalar { text, .. } => format!("found `{text}`"),
            Content::List(_) => "found a list".to_owned(),
            Content::Map(_) => "found a mapping".to_owned(),
        };
        Fault::new(self.mark, format!("expected {expected}: {found}"))
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// What a scalar without quotes is.
#[derive(PartialEq, Debug)]
enum Plain {
    Null,
    Boolean(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

/// Returns what a scalar without quotes is, or why that is not clear.
fn plain(text: &str) -> Result<Plain, &'static str> {
    match text {
        _ if is_null(text) => return Ok(Plain::Null),
        "true" | "True" | "TRUE" => return Ok(Plain::Boolean(true)),
        "false" | "False" | "FALSE" => return Ok(Plain::Boolean(false)),
        _ => (),
    }
    if let Some(reason) = ambiguous(text) {
        return Err(reason);
    }
    if let Ok(number) = text.parse() {
        return Ok(Plain::Unsigned(number));
    }
    if let Ok(number) = text.parse() {
        return Ok(Plain::Signed(number));
    }
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    let only = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let is_number = has_digit && only && !text.starts_with(['e', 'E']);
    match text.parse::<f64>() {
        Ok(number) if is_number && number.is_finite() => Ok(Plain::Float(number)),
        Ok(_) if is_number => Err(NOT_JSON),
        _ => Ok(Plain::Text),
    }
}

const NOT_JSON: &str = "is not a number that JSON has";

/// Returns why a scalar without quotes is not clearly a number, if it looks like one.
fn ambiguous(scalar: &str) -> Option<&'static str> {
    let digits = scalar.strip_prefix(['-', '+']).unwrap_or(scalar);
    if [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(&digits) {
        return Some(NOT_JSON);
    }
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let only = |text: &str, allowed: &[u8]| text.bytes().all(|byte| is_digit(&byte) || allowed.contains(&byte));
    if !digits.bytes().next().is_some_and(|first| first.is_ascii_digit()) {
        return None;
    }
    let radix = ["0b", "0o", "0x"].iter().any(|radix| digits.starts_with(radix));
    if radix && digits[2..].bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'_') {
        return Some("is a number in some versions of YAML only");
    }
    if digits.contains('_') && only(digits, b"_.eE+-") {
        return Some("is a number in some versions of YAML only");
    }
    if only(digits, b"") {
        if digits.len() > 1 && digits.starts_with('0') || scalar.starts_with('+') {
            return Some("is not clearly a number");
        }
        let fits = scalar.parse::<i64>().is_ok() || scalar.parse::<u64>().is_ok();
        return (!fits).then_some("has more than 64 bits");
    }
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, ""));
    let is_float = only(mantissa, b".") && mantissa.matches('.').count() <= 1 && only(exponent, b"+-");
    let significant = mantissa.trim_matches(['0', '.']).bytes().filter(is_digit).count();
    if is_float && mantissa.len() > 1 && mantissa.starts_with('0') && !mantissa.starts_with("0.") {
        return Some("is not clearly a number");
    }
    (is_float && significant > 17).then_some("has more digits than a number holds")
}

impl Fault {
    /// Creates a fault.
    pub fn new(mark: Mark, message: impl Into<String>) -> Self {
        Self {
            mark: Some(mark),
            path: Vec::new(),
            message: message.into(),
        }
    }

    /// Sets the place, if there is none yet.
    fn at(mut self, mark: Mark) -> Self {
        self.mark.get_or_insert(mark);
        self
    }

    fn under(mut self, key: impl Into<String>) -> Self {
        self.path.push(key.into());
        self
    }

    /// Puts the keys that lead to the place in front of the message: `root.dag`.
    pub fn with_path(mut self) -> Self {
        if !self.path.is_empty() {
            self.path.reverse();
            self.message = format!("`{}`: {}", std::mem::take(&mut self.path).join("."), self.message);
        }
        self
    }

    /// Returns the error in a file with this text.
    pub fn of(self, file: &Path, text: &str) -> PipelineError {
        let mark = self.mark.unwrap_or_default();
        let source_line = match mark.line {
            0 => "",
            line => text.lines().nth(line as usize - 1).unwrap_or_default(),
        };
        PipelineError {
            place: Position {
                file: file.to_owned(),
                line: mark.line,
                column: mark.column,
            },
            message: self.message,
            source_line: source_line.to_owned(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            mark: None,
            path: Vec::new(),
            message: message.to_string(),
        }
    }
}

/// Returns the fault for text that is not YAML.
fn unreadable(error: &ScanError) -> Fault {
    use ErrorKind as E;
    let message = match error.kind() {
        E::TabNotAllowed | E::TabInBlockIndentation | E::TabInIndentation | E::TabAtBlockScalarStart | E::TabInPlainScalar => {
            "a tab is not indentation in YAML: write spaces".to_owned()
        }
        E::UnknownAnchor => "this alias (`*name`) has no anchor (`&name`) before it".to_owned(),
        E::UnclosedQuotedScalar | E::DocumentIndicatorInQuotedScalar => "this quote has no end".to_owned(),
        E::UnclosedFlowCollection { open } => format!("this `{open}` has no end"),
        E::MismatchedFlowCollectionEnd { open, close } => format!("`{close}` does not end `{open}`"),
        E::MisplacedFlowCollectionEnd => "this bracket ends nothing".to_owned(),
        E::UnexpectedEof
        | E::UnexpectedEofFlowSequence
        | E::UnexpectedEofFlowMapping
        | E::UnexpectedEofImplicitFlowMapping
        | E::UnexpectedEofBlockSequence
        | E::UnexpectedEofBlockMapping => "the file ends inside a list or a mapping".to_owned(),
        E::MappingValueNotAllowed | E::InvalidColonPlacement => {
            "a colon can't be here: check the indentation, or write text with `: ` in quotes".to_owned()
        }
        E::SimpleKeyExpected | E::InvalidSimpleKey | E::ExpectedBlockMappingKey => "expected `name: value`".to_owned(),
        E::UnexpectedCharacter { character } if character.is_control() => {
            format!("the character U+{:04X} can't be in YAML", *character as u32)
        }
        E::UnexpectedCharacter { character } => format!("text that starts with `{character}` must be in quotes"),
        E::UnknownQuotedScalarEscape
        | E::InvalidQuotedScalarHexEscape
        | E::InvalidLowSurrogateHexEscape
        | E::InvalidLowSurrogate
        | E::MissingLowSurrogate
        | E::UnpairedLowSurrogate
        | E::InvalidUnicodeEscape => r"unknown escape in text in double quotes: write `\\` for a backslash".to_owned(),
        E::ExpectedFlowMappingSeparator => "expected `,` or `}`".to_owned(),
        E::ExpectedFlowSequenceSeparator => "expected `,` or `]`".to_owned(),
        E::RecursionLimitExceeded => TOO_DEEP.to_owned(),
        _ => "this is not YAML: check indentation, quotes and brackets".to_owned(),
    };
    Fault::new(error.marker().into(), message)
}

/// Name that a [`Spanned`] has for the deserializer of nodes.
const SPANNED: &str = "$lockstep::Spanned";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = Spanned<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a node of YAML")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
                let none = || de::Error::custom("not a node of YAML");
                let line = parts.next_element()?.ok_or_else(none)?;
                let column = parts.next_element()?.ok_or_else(none)?;
                let value = parts.next_element()?.ok_or_else(none)?;
                let mark = Mark { line, column };
                Ok(Spanned { value, mark })
            }
        }

        deserializer.deserialize_newtype_struct(SPANNED, Parts(std::marker::PhantomData))
    }
}

/// The parts of a [`Spanned`].
struct Parts<'de> {
    node: &'de Node,
    next: u8,
}

impl<'de> SeqAccess<'de> for Parts<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.next += 1;
        match self.next {
            1 => seed.deserialize(self.node.mark.line.into_deserializer()),
            2 => seed.deserialize(self.node.mark.column.into_deserializer()),
            _ => seed.deserialize(self.node),
        }
        .map(Some)
    }
}

/// The items of a list.
struct List<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some((index, node)) = self.0.next() else {
            return Ok(None);
        };
        let value = seed.deserialize(node);
        value.map(Some).map_err(|fault| fault.at(node.mark).under(index.to_string()))
    }
}

/// The entries of a mapping.
struct Map<'de> {
    rest: std::slice::Iter<'de, Entry>,
    value: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Map<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.value = self.rest.next();
        let Some(entry) = self.value else {
            return Ok(None);
        };
        let key = seed.deserialize(entry.key.as_str().into_deserializer());
        key.map(Some).map_err(|fault: Fault| fault.at(entry.mark))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let Some(entry) = self.value else {
            return Err(de::Error::custom("a value without a key"));
        };
        let value = seed.deserialize(&entry.value);
        value.map_err(|fault| fault.at(entry.value.mark).under(&entry.key))
    }
}

impl Node {
    /// Returns the items of a list; none for an empty value.
    fn list(&self) -> Result<List<'_>, Fault> {
        match &self.content {
            Content::List(items) => Ok(List(items.iter().enumerate())),
            _ if self.is_null() => Ok(List([].iter().enumerate())),
            _ => Err(self.wrong("a list: `[a, b]`")),
        }
    }

    /// Returns the entries of a mapping; none for an empty value.
    fn map(&self) -> Result<Map<'_>, Fault> {
        let rest = match &self.content {
            Content::Map(entries) => entries.iter(),
            _ if self.is_null() => [].iter(),
            _ => return Err(self.wrong("a mapping: `name: value`")),
        };
        Ok(Map { rest, value: None })
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),* $(,)?) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let text = self.text().filter(|text| ambiguous(text).is_none());
            match text.and_then(|text| text.parse::<$type>().ok()) {
                Some(number) => visitor.$visit(number),
                None => Err(self.wrong(format_args!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX))),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.content {
            Content::List(_) => visitor.visit_seq(self.list()?),
            Content::Map(_) => visitor.visit_map(self.map()?),
            Content::Scalar { text, is_text: true } => visitor.visit_borrowed_str(text),
            Content::Scalar { text, .. } => match plain(text) {
                Ok(Plain::Null) => visitor.visit_unit(),
                Ok(Plain::Boolean(truth)) => visitor.visit_bool(truth),
                Ok(Plain::Unsigned(number)) => visitor.visit_u64(number),
                Ok(Plain::Signed(number)) => visitor.visit_i64(number),
                Ok(Plain::Float(number)) => visitor.visit_f64(number),
                Ok(Plain::Text) => visitor.visit_borrowed_str(text),
                Err(reason) => Err(Fault::new(
                    self.mark,
                    format!("`{text}` {reason}: write it in quotes if it is text"),
                )),
            },
        }
    }

    integers! {
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text().map(plain) {
            Some(Ok(Plain::Boolean(truth))) => visitor.visit_bool(truth),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.text().filter(|_| !self.is_null()) {
            Some(text) => visitor.visit_borrowed_str(text),
            None => Err(self.wrong("text")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.is_null() {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Fault> {
        match name {
            SPANNED => visitor.visit_seq(Parts { node: self, next: 0 }),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(self.list()?)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_map(self.map()?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.content {
            Content::Scalar { text, .. } => visitor.visit_enum(text.as_str().into_deserializer()),
            Content::Map(entries) if entries.len() == 1 => visitor.visit_enum(MapAccessDeserializer::new(self.map()?)),
            _ => Err(self.wrong(format_args!("exactly one of `{}`", variants.join("`, `")))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn value(text: &str) -> Result<Value, String> {
        let read = documents(text).and_then(|documents| documents[0].read());
        read.map_err(|fault| {
            let mark = fault.mark.unwrap_or_default();
            format!("{}:{}: {}", mark.line, mark.column, fault.message)
        })
    }

    #[test]
    fn values_are_read() {
        for (text, expected) in [
            (
                "{a: 1, b: [x, 'y', \"z\"], c: }",
                json!({ "a": 1, "b": ["x", "y", "z"], "c": null }),
            ),
            ("a: |\n  b\n  c\n", json!({ "a": "b\nc\n" })),
            (
                "- &x {a: 1}\n- *x\n- <<: *x\n  b: 2\n- <<: [*x, {a: 2, c: 3}]\n  a: 0",
                json!([{ "a": 1 }, { "a": 1 }, { "a": 1, "b": 2 }, { "a": 0, "c": 3 }]),
            ),
            (
                "[~, true, False, -3, 1e3, .5, 5., 18446744073709551615]",
                json!([null, true, false, -3, 1000.0, 0.5, 5.0, u64::MAX]),
            ),
            (
                "[yes, 1.2.3, 12:30, 2024-05-01, 007a, '1', !!str 2]",
                json!(["yes", "1.2.3", "12:30", "2024-05-01", "007a", "1", "2"]),
            ),
            ("\u{feff}a: 1", json!({ "a": 1 })),
            ("{1: a, true: b}", json!({ "1": "a", "true": "b" })),
        ] {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_can_not_be_read_says_why_and_where() {
        let deep = format!("{}1{}", "[".repeat(201), "]".repeat(201));
        let mut bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n".to_owned();
        let mut chain = "a0: &a0 [1]\n".to_owned();
        for n in 1..250 {
            if n < 9 {
                bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(","));
            }
            chain += &format!("a{n}: &a{n} [*a{}]\n", n - 1);
        }
        for (text, expected) in [
            ("a: 1\na: 2", "2:1: the key `a` is here twice"),
            ("a: {b: 1, b: 2}", "1:11: the key `b` is here twice"),
            ("a: *b", "1:4: this alias (`*name`) has no anchor (`&name`) before it"),
            ("a: &a [*a]", "1:8: this alias (`*name`) is inside what it repeats"),
            ("<<: 1", "1:5: `<<` merges mappings: write `<<: *name`"),
            ("? [a]\n: b", "1:3: a key is a text, not a list or a mapping"),
            ("a:\n\tb: 1", "2:2: a tab is not indentation in YAML: write spaces"),
            ("a: 'b", "1:4: this quote has no end"),
            ("a: [b", "1:4: this `[` has no end"),
            (
                "a: b: c",
                "1:5: a colon can't be here: check the indentation, or write text with `: ` in quotes",
            ),
            ("a: @b", "1:4: text that starts with `@` must be in quotes"),
            (
                "a: \"\\q\"",
                r"1:4: unknown escape in text in double quotes: write `\\` for a backslash",
            ),
            ("a: !!binary aGk=", "1:13: the tag `!!binary` is not supported: remove it"),
            ("a: !x b", "1:7: the tag `!x` is not supported: remove it"),
            (
                "a: [1, .nan]",
                "1:8: `.nan` is not a number that JSON has: write it in quotes if it is text",
            ),
            (
                "a: -.Inf",
                "1:4: `-.Inf` is not a number that JSON has: write it in quotes if it is text",
            ),
            (
                "a: 1e999",
                "1:4: `1e999` is not a number that JSON has: write it in quotes if it is text",
            ),
            (
                "a: 18446744073709551616",
                "1:4: `18446744073709551616` has more than 64 bits: write it in quotes if it is text",
            ),
            (&deep, "1:201: lists and mappings are nested too deeply here"),
            (&bomb, "6:10: aliases (`*name`) repeat too much: write the values out"),
            (&chain, "200:13: lists and mappings are nested too deeply here"),
        ] {
            assert_eq!(value(text), Err(expected.to_owned()), "{text:.40}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn text_stays_text_and_numbers_keep_their_value(scalar in "[-+.]?[0-9a-fox_.eE+:-]{1,9}") {
            let quoted = format!("'{scalar}'");
            prop_assert_eq!(value(&quoted), Ok(json!(&scalar)));
            let Ok(documents) = documents(&scalar) else {
                return Ok(());
            };
            let [node] = &documents[..] else {
                return Ok(());
            };
            if node.text() != Some(scalar.as_str()) {
                return Ok(());
            }
            if !node.is_null() {
                prop_assert_eq!(node.read::<String>().unwrap(), scalar.clone());
            }
            match node.read::<Value>() {
                Ok(Value::Number(number)) => prop_assert_eq!(number.as_f64(), scalar.parse::<f64>().ok()),
                Ok(Value::String(text)) => {
                    prop_assert_eq!(&text, &scalar);
                    prop_assert!(scalar.parse::<f64>().is_err());
                }
                Ok(_) | Err(_) => (),
            }
        }
    }

    #[test]
    fn numbers_are_numbers_in_all_versions_of_yaml() {
        for number in [
            "0",
            "-7",
            "1.5",
            "0.25",
            "1e-3",
            "-0.5",
            "18446744073709551615",
            "text",
            "1.2.3",
            "2024-05-01",
            "12:30",
            "0-1",
            "007a",
        ] {
            assert_eq!(ambiguous(number), None, "{number}");
        }
        for text in [
            "01234",
            "007",
            "08",
            "-012",
            "1_000",
            "1_0.5",
            "0b11",
            "0o17",
            "0x1F",
            "+5",
            "12345678901234567890123",
            "00.5",
            "3.14159265358979323846",
        ] {
            assert!(ambiguous(text).is_some(), "{text}");
        }
    }
}
