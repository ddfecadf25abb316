//! Values of types without serde derives: functions that the implementations call which the notebook generates for them.
//!
//! The format is the one of serde's own derives: maps of fields, enums tagged by the variant's name. Everything here uses trait
//! objects, so that it is compiled only once, with the SDK.

use std::fmt;
use std::marker::PhantomData;

use erased_serde::Deserializer as Erased;
use serde::de::{DeserializeSeed, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::ser::{SerializeStruct, SerializeStructVariant, SerializeTupleStruct, SerializeTupleVariant};
use serde::{Deserialize, Deserializer, Serializer};

type Value<'a> = &'a dyn erased_serde::Serialize;

/// The fields of a struct or variant.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// No fields.
    Unit,
    /// One unnamed field.
    Newtype,
    /// Unnamed fields.
    Tuple(usize),
    /// Named fields.
    Struct(&'static [&'static str]),
}

/// A wrapper of a field's type, for a bound that holds for all lifetimes.
#[derive(Debug)]
pub struct Field<'a, T>(T, PhantomData<&'a ()>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<'_, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(T::deserialize(deserializer)?, PhantomData))
    }
}

/// Reads a field.
pub fn read_field<'de, T>(from: &mut dyn Erased<'de>) -> Result<T, erased_serde::Error>
where
    for<'a> Field<'a, T>: Deserialize<'de>,
{
    Ok(erased_serde::deserialize::<Field<'_, T>>(from)?.0)
}

/// Returns the field, or an error if it is missing.
pub fn given<T, E: serde::de::Error>(field: Option<T>, name: &'static str) -> Result<T, E> {
    field.ok_or_else(|| E::missing_field(name))
}

/// Writes a struct, or the enum variant with this index and name.
pub fn write<S: Serializer>(
    to: S,
    name: &'static str,
    variant: Option<(u32, &'static str)>,
    shape: Shape,
    fields: &[Value<'_>],
) -> Result<S::Ok, S::Error> {
    let whole = Whole {
        name,
        variant,
        shape,
        fields,
    };
    erased_serde::serialize(&whole, to)
}

struct Whole<'a> {
    name: &'static str,
    variant: Option<(u32, &'static str)>,
    shape: Shape,
    fields: &'a [Value<'a>],
}

impl serde::Serialize for Whole<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { name, fields, .. } = *self;
        match (self.variant, self.shape) {
            (None, Shape::Unit) => to.serialize_unit_struct(name),
            (None, Shape::Newtype) => to.serialize_newtype_struct(name, only(fields)?),
            (None, Shape::Tuple(len)) => {
                let mut tuple = to.serialize_tuple_struct(name, len)?;
                fields.iter().try_for_each(|field| tuple.serialize_field(field))?;
                tuple.end()
            }
            (None, Shape::Struct(names)) => {
                let mut all = to.serialize_struct(name, names.len())?;
                let mut pairs = names.iter().zip(fields);
                pairs.try_for_each(|(name, field)| all.serialize_field(name, field))?;
                all.end()
            }
            (Some((index, variant)), Shape::Unit) => to.serialize_unit_variant(name, index, variant),
            (Some((index, variant)), Shape::Newtype) => to.serialize_newtype_variant(name, index, variant, only(fields)?),
            (Some((index, variant)), Shape::Tuple(len)) => {
                let mut tuple = to.serialize_tuple_variant(name, index, variant, len)?;
                fields.iter().try_for_each(|field| tuple.serialize_field(field))?;
                tuple.end()
            }
            (Some((index, variant)), Shape::Struct(names)) => {
                let mut all = to.serialize_struct_variant(name, index, variant, names.len())?;
                let mut pairs = names.iter().zip(fields);
                pairs.try_for_each(|(name, field)| all.serialize_field(name, field))?;
                all.end()
            }
        }
    }
}

fn only<'a, E: serde::ser::Error>(fields: &[Value<'a>]) -> Result<Value<'a>, E> {
    fields.first().copied().ok_or_else(|| E::custom("a field is missing"))
}

/// Reads the field of a variant (both by index) from a deserializer.
type Take<'t, 'de> = &'t mut dyn FnMut(usize, usize, &mut dyn Erased<'de>) -> Result<(), erased_serde::Error>;

/// Reads a struct (the only one of `shapes`) or an enum. Returns the index of the variant.
pub fn read<'de, D: Deserializer<'de>>(
    from: D,
    name: &'static str,
    is_enum: bool,
    shapes: &'static [(&'static str, Shape)],
    take: Take<'_, 'de>,
) -> Result<usize, D::Error> {
    read_erased(&mut <dyn Erased<'de>>::erase(from), name, is_enum, shapes, take).map_err(D::Error::custom)
}

fn read_erased<'de>(
    from: &mut dyn Erased<'de>,
    name: &'static str,
    is_enum: bool,
    shapes: &'static [(&'static str, Shape)],
    take: Take<'_, 'de>,
) -> Result<usize, erased_serde::Error> {
    if is_enum {
        // self-describing formats, as used here, ignore the list of variants
        return from.deserialize_enum(name, &[], Variants { shapes, take });
    }
    let shape = shapes.first().map_or(Shape::Unit, |(_, shape)| *shape);
    let fields = Fields { index: 0, shape, take };
    match shape {
        Shape::Unit => from.deserialize_unit_struct(name, fields),
        Shape::Newtype => from.deserialize_newtype_struct(name, fields),
        Shape::Tuple(len) => from.deserialize_tuple_struct(name, len, fields),
        Shape::Struct(names) => from.deserialize_struct(name, names, fields),
    }?;
    Ok(0)
}

/// The fields of the variant `index`.
struct Fields<'t, 'de> {
    index: usize,
    shape: Shape,
    take: Take<'t, 'de>,
}

impl<'de> Visitor<'de> for Fields<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape {
            Shape::Unit => f.write_str("nothing"),
            Shape::Newtype => f.write_str("one value"),
            Shape::Tuple(len) => write!(f, "{len} values"),
            Shape::Struct(names) => write!(f, "the fields {}", names.join(", ")),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.only(from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut field = 0;
        while fields
            .next_element_seed(One {
                index: self.index,
                field,
                take: &mut *self.take,
            })?
            .is_some()
        {
            field += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let Shape::Struct(names) = self.shape else {
            return Err(A::Error::custom("a map where there should be none"));
        };
        while let Some(name) = fields.next_key_seed(Name(&mut |wanted| names.iter().position(|name| *name == wanted)))? {
            match name {
                Some(field) => fields.next_value_seed(One {
                    index: self.index,
                    field,
                    take: &mut *self.take,
                })?,
                None => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de> Fields<'_, 'de> {
    fn only<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let one = One {
            index: self.index,
            field: 0,
            take: self.take,
        };
        one.deserialize(from)
    }
}

/// Reads the value of a newtype variant.
impl<'de> DeserializeSeed<'de> for Fields<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        self.only(from)
    }
}

/// One field.
struct One<'t, 'de> {
    index: usize,
    field: usize,
    take: Take<'t, 'de>,
}

impl<'de> DeserializeSeed<'de> for One<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        (self.take)(self.index, self.field, &mut <dyn Erased<'de>>::erase(from)).map_err(D::Error::custom)
    }
}

/// Maps a name to its index.
struct Name<'n>(&'n mut dyn FnMut(&str) -> Option<usize>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Option<usize>, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Option<usize>, E> {
        Ok((self.0)(name))
    }
}

struct Variants<'t, 'de> {
    shapes: &'static [(&'static str, Shape)],
    take: Take<'t, 'de>,
}

impl<'de> Visitor<'de> for Variants<'_, 'de> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.shapes.iter().map(|(name, _)| *name).collect();
        write!(f, "one of {}", names.join(", "))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variants: A) -> Result<usize, A::Error> {
        let Self { shapes, take } = self;
        let (index, variant) =
            variants.variant_seed(Name(&mut |wanted| shapes.iter().position(|(name, _)| *name == wanted)))?;
        let index = index.ok_or_else(|| A::Error::custom("there is no such variant"))?;
        let shape = shapes[index].1;
        let fields = Fields { index, shape, take };
        match shape {
            Shape::Unit => variant.unit_variant(),
            Shape::Newtype => variant.newtype_variant_seed(fields),
            Shape::Tuple(len) => variant.tuple_variant(len, fields),
            Shape::Struct(names) => variant.struct_variant(names, fields),
        }?;
        Ok(index)
    }
}
