//! YAML as people and programs write it: a tree that keeps the text of each scalar and the place of each node. The type of
//! a scalar is the type that is expected: `08540` and `1e3` are text where text is expected.

mod builder;
mod deserialize;
mod fault;
mod scalar;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;

use granit_parser::{Marker, Parser};
use serde::Deserialize;
use serde_json::Number;

use super::PipelineError;
use builder::Builder;
pub use fault::Fault;
use fault::unreadable;
use scalar::{Plain, is_null, plain};

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
