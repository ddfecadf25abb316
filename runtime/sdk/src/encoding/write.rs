use std::cell::Cell;
use std::fmt;

use serde::ser::{
    Error as _, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant,
};
use serde::{Serialize, Serializer};

use super::{DEPTH, SOME, TAG, TAGGED};

/// A value that is written with the tag.
pub(super) struct Written<'a, T: ?Sized> {
    pub value: &'a T,
    pub state: &'a State,
}

/// What is known of the value that is being written.
#[derive(Default)]
pub(super) struct State {
    /// Whether it has something that serde's buffer does not keep.
    pub unusual: Cell<bool>,
    depth: Cell<usize>,
}

impl<T: Serialize + ?Sized> Serialize for Written<'_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let depth = self.state.depth.get();
        if depth >= DEPTH {
            return Err(S::Error::custom(format_args!(
                "a value is nested more than {DEPTH} levels deep"
            )));
        }
        self.state.depth.set(depth + 1);
        let written = self.value.serialize(Writer { to, state: self.state });
        self.state.depth.set(depth);
        written
    }
}

/// A serializer, and the serializers of its parts.
pub(super) struct Writer<'a, S> {
    to: S,
    state: &'a State,
}

macro_rules! forward {
    ($($method:ident: $of:ty),* $(,)?) => {$(
        fn $method(self, value: $of) -> Result<S::Ok, S::Error> {
            self.to.$method(value)
        }
    )*};
}

macro_rules! compound {
    ($($method:ident($($argument:ident: $of:ty),*) -> $result:ident;)*) => {$(
        fn $method(self, $($argument: $of),*) -> Result<Self::$result, S::Error> {
            let Self { to, state } = self;
            Ok(Writer { to: to.$method($($argument),*)?, state })
        }
    )*};
}

impl<'a, S: Serializer> Serializer for Writer<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Writer<'a, S::SerializeSeq>;
    type SerializeTuple = Writer<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Writer<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Writer<'a, S::SerializeTupleVariant>;
    type SerializeMap = Writer<'a, S::SerializeMap>;
    type SerializeStruct = Writer<'a, S::SerializeStruct>;
    type SerializeStructVariant = Writer<'a, S::SerializeStructVariant>;

    forward! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_u8: u8,
        serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f64: f64, serialize_char: char, serialize_str: &str,
        serialize_bytes: &[u8], serialize_unit_struct: &'static str,
    }

    compound! {
        serialize_seq(len: Option<usize>) -> SerializeSeq;
        serialize_tuple(len: usize) -> SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> SerializeStructVariant;
    }

    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        self.state
            .unusual
            .set(self.state.unusual.get() || i64::try_from(value).is_err());
        self.to.serialize_i128(value)
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        self.state
            .unusual
            .set(self.state.unusual.get() || u64::try_from(value).is_err());
        self.to.serialize_u128(value)
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.to.serialize_f64(widened(value))
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.to.serialize_unit()
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.to.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        if value.serialize(IsNull).is_err() {
            return value.serialize(self);
        }
        self.state.unusual.set(true);
        let state = self.state;
        let mut tagged = self.to.serialize_tuple_variant(TAG, 0, TAGGED, 2)?;
        tagged.serialize_field(&SOME)?;
        tagged.serialize_field(&Written { value, state })?;
        tagged.end()
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.to.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        let state = self.state;
        self.to.serialize_newtype_struct(name, &Written { value, state })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let state = self.state;
        self.to
            .serialize_newtype_variant(name, index, variant, &Written { value, state })
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.to.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.to.is_human_readable()
    }
}

macro_rules! parts {
    ($($trait:ident::$method:ident($($name:ident: $of:ty)?);)*) => {$(
        impl<S: $trait> $trait for Writer<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: $of,)? value: &T) -> Result<(), S::Error> {
                let state = self.state;
                self.to.$method($($name,)? &Written { value, state })
            }

            fn end(self) -> Result<S::Ok, S::Error> {
                self.to.end()
            }
        }
    )*};
}

parts! {
    SerializeSeq::serialize_element();
    SerializeTuple::serialize_element();
    SerializeTupleStruct::serialize_field();
    SerializeTupleVariant::serialize_field();
    SerializeStruct::serialize_field(name: &'static str);
    SerializeStructVariant::serialize_field(name: &'static str);
}

impl<S: SerializeMap> SerializeMap for Writer<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let state = self.state;
        self.to.serialize_key(&Written { value, state })
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        let state = self.state;
        self.to.serialize_value(&Written { value, state })
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.to.end()
    }
}

/// Returns a float with 64 bits. A `NaN` keeps its bits.
pub(super) fn widened(value: f32) -> f64 {
    if !value.is_nan() {
        return value.into();
    }
    let bits = u64::from(value.to_bits());
    let (sign, rest) = (bits >> 31, bits & 0x007f_ffff);
    f64::from_bits(sign << 63 | 0x7ff << 52 | rest << 29)
}

/// A serializer that succeeds for the values that are written as null.
struct IsNull;

/// The value is not null.
#[derive(Debug)]
struct NotNull;

impl fmt::Display for NotNull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not null")
    }
}

impl std::error::Error for NotNull {}

impl serde::ser::Error for NotNull {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! not_null {
    ($($method:ident($($of:ty),*) -> $result:ty;)*) => {$(
        fn $method(self, $(_: $of),*) -> Result<$result, NotNull> {
            Err(NotNull::custom(""))
        }
    )*};
}

type Never = Impossible<(), NotNull>;

impl Serializer for IsNull {
    type Ok = ();
    type Error = NotNull;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    not_null! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_i128(i128) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_u128(u128) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Never;
    }

    fn serialize_none(self) -> Result<(), NotNull> {
        Ok(())
    }

    fn serialize_unit(self) -> Result<(), NotNull> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), NotNull> {
        Ok(())
    }

    // a `Some` of null has a tag, so another `Some` around it needs one, too
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), NotNull> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), NotNull> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), NotNull> {
        Err(NotNull)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
