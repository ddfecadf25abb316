//! Values in CBOR, with little generic code: compile time matters more for cells than speed with large values, so everything that
//! can be compiled once, with the SDK, uses trait objects.

use std::any::{Any, TypeId, type_name};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::Tag;
use super::by_type::{DisplayElse, LoadBulk, LoadValue, Of, SaveBulk, SaveValue, ShowDebug};
use super::last::{Plain, Shown};
use crate::encoding::bulk::{self, Bulk};
use crate::{Error, Result, artifact, encoding};

/// Reads a value of one type.
type Take = fn(&mut dyn erased_serde::Deserializer<'_>) -> Result<Box<dyn Any>, erased_serde::Error>;

thread_local! {
    static TAKE: Cell<Option<Take>> = const { Cell::new(None) };
    static TAKEN: RefCell<Option<Box<dyn Any>>> = const { RefCell::new(None) };
}

/// Passes its deserializer to [`TAKE`] and stores the result in [`TAKEN`]: ciborium's deserializer is not accessible otherwise.
struct Taken;

impl<'de> Deserialize<'de> for Taken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let take = TAKE.take().ok_or_else(|| D::Error::custom("nothing is to be read"))?;
        let taken = take(&mut <dyn erased_serde::Deserializer>::erase(deserializer)).map_err(D::Error::custom)?;
        TAKEN.replace(Some(taken));
        Ok(Self)
    }
}

/// Returns the functions of a type that is read and written without serde.
fn bulk(id: TypeId) -> Option<bulk::Functions> {
    bulk::of(id)
}

/// Reads the value in the file at `path`.
pub fn read<T: DeserializeOwned + 'static>(path: &Path) -> Result<T> {
    let taken = take(path, TypeId::of::<T>(), |deserializer| {
        Ok(Box::new(erased_serde::deserialize::<T>(deserializer)?))
    })?;
    match taken.downcast() {
        Ok(value) => Ok(*value),
        Err(_) => Err(another(type_name::<T>())),
    }
}

fn take(path: &Path, id: TypeId, take: Take) -> Result<Box<dyn Any>> {
    if let Some(functions) = bulk(id)
        && let Some(value) = bulk::read_file(functions, path)?
    {
        return Ok(value);
    }
    TAKE.set(Some(take));
    let Taken = encoding::read(encoding::buffered(path)?)?;
    TAKEN.take().ok_or_else(|| another("value"))
}

#[cold]
fn another(type_name: &str) -> Error {
    Error::msg(format!("it is no {type_name}"))
}

/// Reads a value without serde, if it is written in the usual way.
pub fn read_bulk<T: Bulk + DeserializeOwned + 'static>(path: &Path) -> Result<T> {
    let mut value = None;
    bulk::from_file(path, &mut |from| value = T::read(from))?;
    match value {
        Some(value) => Ok(value),
        None => read(path),
    }
}

/// Writes a value to the file at `path`.
pub fn write(value: &dyn erased_serde::Serialize, path: &Path) -> Result<()> {
    artifact::create(path, |file| encoding::write(value, file).map(drop))
}

macro_rules! common {
    (serde: $($of:ty),* $(,)?; bulk: $($bulk:ty),* $(,)?) => {
        /// Functions that read, write and show common types, compiled with the SDK: rustc reuses a generic function from a crate that
        /// contains it, if neither crate is optimised for speed, so a cell need not compile it again.
        #[inline(never)]
        pub fn common() -> Vec<[*const (); 4]> {
            vec![$(by_serde::<$of>(),)* $(in_bulk::<$bulk>()),*]
        }
    };
}

fn by_serde<T: Serialize + DeserializeOwned + Debug + 'static>() -> [*const (); 4] {
    let load = <Tag<T> as LoadValue>::load as fn(_, _, _, _) -> _;
    let save = <&&Of<'_, T> as SaveValue>::save as fn(_, _, _) -> _;
    shown::<T>(load as *const (), save as *const ())
}

fn in_bulk<T: Bulk + DeserializeOwned + Debug + 'static>() -> [*const (); 4] {
    let load = <&Tag<T> as LoadBulk>::load as fn(_, _, _, _) -> _;
    let save = <&&&&Of<'_, T> as SaveBulk>::save as fn(_, _, _) -> _;
    shown::<T>(load as *const (), save as *const ())
}

fn shown<T: Debug + 'static>(load: *const (), save: *const ()) -> [*const (); 4] {
    let display = <&T as DisplayElse>::evcxr_display as fn(_) -> _;
    let show = <&&Shown<Plain<'_, T>> as ShowDebug>::show as fn(_, _);
    [load, save, display as *const (), show as *const ()]
}

common! {
    serde: (), char, i128, u128,
    HashMap<String, i32>, HashMap<String, usize>, HashMap<String, f64>, HashMap<String, String>, HashMap<String, Vec<f64>>,
    serde_json::Value;

    bulk: bool, i8, i16, i32, i64, isize, u8, u16, u32, u64, usize, f32, f64, String,
    Option<bool>, Option<i32>, Option<i64>, Option<usize>, Option<f64>, Option<String>,
    Vec<bool>, Vec<u8>, Vec<i32>, Vec<u32>, Vec<i64>, Vec<u64>, Vec<usize>, Vec<f32>, Vec<f64>, Vec<String>,
    Vec<Vec<f64>>, Vec<Vec<i32>>, Vec<Vec<usize>>, Vec<Vec<String>>, Vec<(f64, f64)>, Vec<(String, f64)>, Vec<(String, usize)>,
    Vec<Option<f64>>, Vec<Option<String>>,
    (i32, i32), (usize, usize), (f64, f64), (String, f64), (String, String),
    BTreeMap<String, i32>, BTreeMap<String, usize>, BTreeMap<String, f64>, BTreeMap<String, String>, BTreeMap<String, Vec<f64>>,
}
