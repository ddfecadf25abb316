//! Values in CBOR, with little generic code: compile time matters more for cells than speed with large values, so everything that
//! can be compiled once, with the SDK, uses trait objects.

use std::any::{Any, type_name};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io::BufReader;
use std::path::Path;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use super::by_type::{DisplayElse, Of, SaveValue, ShowDebug};
use super::last::{Plain, Shown};
use crate::{Error, Result, encoding};

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

/// Reads the value in the file at `path`.
pub fn read<T: DeserializeOwned + 'static>(path: &Path) -> Result<T> {
    let taken = take(path, |deserializer| {
        Ok(Box::new(erased_serde::deserialize::<T>(deserializer)?))
    })?;
    match taken.downcast() {
        Ok(value) => Ok(*value),
        Err(_) => Err(another(type_name::<T>())),
    }
}

fn take(path: &Path, take: Take) -> Result<Box<dyn Any>> {
    TAKE.set(Some(take));
    let Taken = encoding::read(BufReader::new(crate::artifact::open(path)?))?;
    TAKEN.take().ok_or_else(|| another("value"))
}

#[cold]
fn another(type_name: &str) -> Error {
    Error::msg(format!("it is no {type_name}"))
}

/// Writes a value to the file at `path`.
pub fn write(value: &dyn erased_serde::Serialize, path: &Path) -> Result<()> {
    crate::artifact::create(path, |file| encoding::write(value, file).map(drop))
}

macro_rules! common {
    ($($of:ty),* $(,)?) => {
        /// Functions that read, write and show common types, compiled with the SDK: rustc reuses a generic function from a crate that
        /// contains it, if neither crate is optimised for speed, so a cell need not compile it again.
        #[inline(never)]
        pub fn common() -> Vec<[*const (); 4]> {
            vec![$(of::<$of>()),*]
        }
    };
}

fn of<T: Serialize + DeserializeOwned + Debug + 'static>() -> [*const (); 4] {
    let load = super::Cell::load_value::<T> as fn(_, _, _) -> _;
    let save = <&&Of<'_, T> as SaveValue>::save as fn(_, _, _) -> _;
    let display = <&T as DisplayElse>::evcxr_display as fn(_) -> _;
    let show = <&&Shown<Plain<'_, T>> as ShowDebug>::show as fn(_, _);
    [load as *const (), save as *const (), display as *const (), show as *const ()]
}

common! {
    (), bool, char, i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize, f32, f64, String,
    Option<bool>, Option<i32>, Option<i64>, Option<usize>, Option<f64>, Option<String>,
    Vec<bool>, Vec<u8>, Vec<i32>, Vec<u32>, Vec<i64>, Vec<u64>, Vec<usize>, Vec<f32>, Vec<f64>, Vec<String>,
    Vec<Vec<f64>>, Vec<Vec<i32>>, Vec<Vec<usize>>, Vec<Vec<String>>, Vec<(f64, f64)>, Vec<(String, f64)>, Vec<(String, usize)>,
    Vec<Option<f64>>, Vec<Option<String>>,
    (i32, i32), (usize, usize), (f64, f64), (String, f64), (String, String),
    BTreeMap<String, i32>, BTreeMap<String, usize>, BTreeMap<String, f64>, BTreeMap<String, String>, BTreeMap<String, Vec<f64>>,
    HashMap<String, i32>, HashMap<String, usize>, HashMap<String, f64>, HashMap<String, String>, HashMap<String, Vec<f64>>,
    serde_json::Value,
}
