use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// A parameter of a step: a small value that the caller passes as JSON. It derefs to the value.
///
/// ```
/// use lockstep::prelude::*;
///
/// #[step]
/// fn answer(
///     /// what to multiply by
///     #[default = 6]
///     factor: Param<i64>,
///     /// added at the end if given
///     extra: Param<Option<i64>>,
/// ) -> i64 {
///     7 * *factor + extra.unwrap_or(0)
/// }
///
/// assert_eq!(answer(6.into(), None.into()), 42);
/// ```
///
/// `#[default = ...]` takes a literal: a number, a string, `true`, `false`, `None` or an array of these. A parameter of type
/// `Param<Option<T>>` has the default `None`; any other parameter without a default is required.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Param<T>(pub T);

impl<T> Param<T> {
    /// Returns the value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Param<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Param<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl From<&str> for Param<String> {
    fn from(value: &str) -> Self {
        Self(value.into())
    }
}

impl<T: std::fmt::Display> std::fmt::Display for Param<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The kinds of parameters, named as in Kubeflow Pipelines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// true or false
    Boolean,
    /// a 64-bit integer
    Integer,
    /// a double
    Number,
    /// a string
    String,
    /// a JSON array
    List,
    /// a JSON object
    Struct,
    /// any JSON value
    Any,
}

impl Kind {
    /// Returns its name in an interface.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::String => "string",
            Self::List => "list",
            Self::Struct => "struct",
            Self::Any => "any",
        }
    }
}

/// A type of a parameter: booleans, numbers, strings, lists, maps, [`Value`] and `Option` of these.
///
/// For your own type, declare the kind of JSON that it is read from:
///
/// ```
/// use lockstep::prelude::*;
/// use lockstep::{Kind, Parameter};
///
/// #[derive(serde::Deserialize)]
/// enum Metric { Euclidean, Cosine }
///
/// impl Parameter for Metric {
///     const KIND: Kind = Kind::String;
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the type of a parameter",
    label = "not a parameter",
    note = "parameters are bool, numbers, String, Vec<T>, BTreeMap<String, T>, Option<T> and serde_json::Value",
    note = "for a type of yours that is Deserialize: impl lockstep::Parameter for {Self} {{ const KIND: Kind = Kind::String; }}"
)]
pub trait Parameter: DeserializeOwned {
    /// The kind of JSON that it is read from.
    const KIND: Kind;
    /// Whether its default is `null`.
    const OPTIONAL: bool = false;
}

macro_rules! kinds {
    ($($kind:ident: $($type:ty),+;)+) => {$($(
        impl Parameter for $type {
            const KIND: Kind = Kind::$kind;
        }
    )+)+};
}

kinds! {
    Boolean: bool;
    Integer: i8, i16, i32, i64, u8, u16, u32, u64, isize, usize;
    Number: f32, f64;
    String: String, char;
    Struct: serde_json::Map<String, Value>;
    Any: Value;
}

impl<T: DeserializeOwned> Parameter for Vec<T> {
    const KIND: Kind = Kind::List;
}

impl<T: DeserializeOwned> Parameter for BTreeMap<String, T> {
    const KIND: Kind = Kind::Struct;
}

impl<T: DeserializeOwned> Parameter for HashMap<String, T> {
    const KIND: Kind = Kind::Struct;
}

impl<T: Parameter> Parameter for Option<T> {
    const KIND: Kind = T::KIND;
    const OPTIONAL: bool = true;
}
