//! Builds documents from the parser's events: resolves aliases and `<<`, and refuses duplicate keys.

use std::collections::{BTreeMap, BTreeSet};

use granit_parser::{Event, ScalarStyle, Span, Tag};

use super::{Content, DEEPEST, Entry, Fault, Mark, Node, TOO_DEEP};

/// Maximum number of nodes that aliases repeat.
const COPIED: usize = 100_000;

/// A document being built.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    copied: usize,
    pub documents: Vec<Node>,
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
    pub fn event(&mut self, event: Event, span: Span) -> Result<(), Fault> {
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
            return Err(Fault::new(mark, "the alias `*name` refers to a node that contains it"));
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
