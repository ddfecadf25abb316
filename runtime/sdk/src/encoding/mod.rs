//! The encoding of serde values: CBOR (RFC 8949) in which every value of every type is kept.
//!
//! ciborium writes `Some(x)` as `x`, so it reads `Some(None)`, `Some(())` and `Some(Null)` as `None`. Here, a `Some` whose value is written
//! as null has a tag, [`SOME`]. All other bytes are those of ciborium. Also, the bits of a `NaN` of 32 bits are kept, although its
//! conversion to 64 bits would change them.
//!
//! serde itself buffers the values of some types (`#[serde(untagged)]`, `flatten`), and its buffer has no such tag and no integers beyond 64
//! bits. A step reports that when it writes such a value, because it reads back what has one of these.

#[doc(hidden)]
pub mod bulk;
mod read;
mod write;

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result, artifact};

/// The CBOR tag of a `Some` whose value is written as null. Not registered with IANA.
const SOME: u64 = 0xb_0511;

/// The number of levels that a value may be nested. Reading takes more stack than writing, so writing checks it.
const DEPTH: usize = 250;

/// What ciborium calls the enum by which a tag is written and read.
const TAG: &str = "@@TAG@@";
const TAGGED: &str = "@@TAGGED@@";

/// A value that is written or read by this encoding.
struct Encoded<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Encoded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(read::Reader(deserializer)).map(Self)
    }
}

/// Writes a value. Returns whether it has something that serde's buffer does not keep: [check] it then.
pub(crate) fn write(value: &(impl Serialize + ?Sized), to: impl Write) -> Result<bool> {
    let state = write::State::default();
    let value = write::Written { value, state: &state };
    ciborium::into_writer(&value, to).map_err(|error| match error {
        ciborium::ser::Error::Io(error) => error.into(),
        ciborium::ser::Error::Value(reason) => Error::msg(reason),
    })?;
    Ok(state.unusual.get())
}

/// Reads the value of a file.
pub(crate) fn read_file<T: DeserializeOwned>(path: &Path) -> Result<T> {
    if let Some(functions) = bulk::of(typeid::of::<T>())
        && let Some(value) = bulk::read_file(functions, path)?
    {
        // SAFETY: the functions are those of `T`: no type that they are for has a lifetime, so the same id is the same type
        return Ok(*unsafe { Box::from_raw(Box::into_raw(value).cast::<T>()) });
    }
    read(buffered(path)?)
}

/// Opens a file to read a value.
pub(crate) fn buffered(path: &Path) -> Result<BufReader<File>> {
    Ok(BufReader::with_capacity(64 * 1024, artifact::open(path)?))
}

/// Like [`write`], without serde if that is possible.
pub(crate) fn write_typed<T: Serialize>(value: &T, to: &mut impl Write) -> Result<bool> {
    match bulk::Value::new(value) {
        Some(value) => Ok(value.write(to).map(|()| false)?),
        None => write(value, to),
    }
}

/// Checks that written bytes are read as the same value.
pub(crate) fn check<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<()> {
    let mut again = Vec::new();
    let is_same = read::<T>(bytes).and_then(|value| write(&value, &mut again)).is_ok() && again == bytes;
    crate::ensure!(
        is_same,
        "serde can't read this value back: #[serde(untagged)], `tag` and `flatten` keep no `Some(None)` and no integer beyond 64 bits"
    );
    Ok(())
}

/// Reads a value.
pub(crate) fn read<T: DeserializeOwned>(from: impl Read) -> Result<T> {
    let read: Result<Encoded<T>, _> = ciborium::de::from_reader_with_recursion_limit(from, 3 * DEPTH);
    Ok(read.map_err(|error| explain(&error))?.0)
}

/// Returns the reason without the words of CBOR, where there is one.
fn explain<E: std::fmt::Debug>(error: &ciborium::de::Error<E>) -> Error {
    match error {
        ciborium::de::Error::Semantic(_, reason) => Error::msg(innermost(reason).to_owned()),
        ciborium::de::Error::Io(_) => Error::msg("it ends too early"),
        ciborium::de::Error::Syntax(at) => Error::msg(format!("byte {at} is no CBOR")),
        ciborium::de::Error::RecursionLimitExceeded => Error::msg("it is nested too deeply"),
    }
}

/// Returns the reason in the text of an error that quotes another: `Semantic(None, "Semantic(Some(1), \"missing field `x`\")")`.
fn innermost(text: &str) -> &str {
    match text.rsplit_once("Semantic(").and_then(|(_, rest)| rest.split_once(", ")) {
        Some((_, reason)) => reason.trim_end_matches([')', '"', '\\']).trim_start_matches(['"', '\\']),
        None => text,
    }
}

#[cfg(test)]
mod tests;
