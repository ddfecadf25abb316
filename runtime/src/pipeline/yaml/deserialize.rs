//! Nodes as values of serde's types.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::scalar::{Plain, ambiguous, plain};
use super::{Content, Entry, Fault, Mark, Node, Spanned};

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
