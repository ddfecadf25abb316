//! What the source of a notebook's cell calls. Steps and people have no need of it: what people call is
//! in [`show`](crate::show).
//!
//! A cell is a program. It loads the variables that it mentions from `/in`, runs its statements, saves the variables that it
//! leaves to `/out/<name>`, and says what they are in `/out/cell.json`.
//!
//! How a value is kept depends on its type, which only the compiler knows. So the choice is left to method lookup: the traits
//! in [`by_type`] are implemented for a type behind more or fewer references, and a call on `&&&it` finds the one with the
//! most references that applies.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::media_type::VALUE;
pub use crate::show::{Bundle, Show};
use crate::{Artifact, Context, Error, Result};

#[doc(hidden)]
pub mod auto;
mod last;
mod live;
mod quiet;
mod value;

pub use last::{Last, Shown};
pub use live::{Display, clear_output, display, input, password};
#[doc(hidden)]
pub use value::common;

/// Comes before what a cell says as it fails, on stderr: the notebook shows the rest as an error, not as text.
const FAILING: &str = "\x1b]9;lockstep;failing\x1b\\";

/// The types of variables that a cell may name.
pub mod types {
    pub use super::Encoded;
    #[cfg(feature = "parquet")]
    pub use crate::Parquet;
    pub use crate::{Bytes, Csv, Directory, Figure, Json, Metrics, Table, Text};
}

/// A running cell: what it has saved and shown.
#[derive(Debug, Default)]
pub struct Cell {
    variables: BTreeMap<&'static str, Saved>,
    result: Option<Bundle>,
}

/// What `cell.json` says of a variable.
#[derive(Debug, Serialize)]
struct Saved {
    #[serde(rename = "type")]
    type_name: &'static str,
    #[serde(flatten)]
    kept: Option<Kept>,
}

#[derive(Debug, Serialize)]
struct Kept {
    via: &'static str,
    media_type: &'static str,
}

/// `cell.json`
#[derive(Serialize)]
struct Said<'a> {
    variables: &'a BTreeMap<&'static str, Saved>,
    result: &'a Option<Bundle>,
}

/// Runs a cell and ends the program: with exit code 0, or with 1 and the error on stderr when the cell came to one by `?`.
pub fn run(body: fn(&mut Cell) -> Result<()>) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        eprint!("{FAILING}");
        hook(panic);
    }));
    let mut cell = Cell::default();
    if let Err(error) = body(&mut cell).and_then(|()| cell.say()) {
        eprint!("{FAILING}");
        crate::start::report(&error);
        std::process::exit(1);
    }
}

impl Cell {
    /// Reads the variable called `name` from the input called `input`: an artifact with a format of its own.
    pub fn load_artifact<T: Artifact>(&self, input: &str, name: &str) -> Result<T> {
        match T::read(&place(input)) {
            Ok(value) => Ok(value),
            Err(error) => Err(explain(error, name, type_name::<T>())),
        }
    }

    /// Reads the variable called `name` from the input called `input`: a value of a serde type.
    pub fn load_value<T: DeserializeOwned + 'static>(&self, input: &str, name: &str) -> Result<T> {
        match value::read(&place(input)) {
            Ok(value) => Ok(value),
            Err(error) => Err(explain(error, name, type_name::<T>())),
        }
    }

    /// Reads a variable that refers to what is in the input. It lives as long as the program.
    pub fn load_reference<T>(&self, input: &str, name: &str) -> Result<&'static T>
    where
        T: ToOwned<Owned: DeserializeOwned + 'static> + ?Sized,
    {
        Ok(std::borrow::Borrow::borrow(Box::leak(Box::new(
            self.load_value::<T::Owned>(input, name)?,
        ))))
    }

    /// As [`load_artifact`](Self::load_artifact), of a type that only a witness can name.
    pub fn load_artifact_as<T: Artifact>(&self, _: &Tag<T>, input: &str, name: &str) -> Result<T> {
        self.load_artifact(input, name)
    }

    /// As [`load_value`](Self::load_value), of a type that only a witness can name.
    pub fn load_value_as<T: DeserializeOwned + 'static>(&self, _: &Tag<T>, input: &str, name: &str) -> Result<T> {
        self.load_value(input, name)
    }

    /// As [`load_reference`](Self::load_reference), of a type that only a witness can name.
    pub fn load_reference_as<T: ToOwned<Owned: DeserializeOwned + 'static> + ?Sized>(
        &self,
        _: &Tag<&T>,
        input: &str,
        name: &str,
    ) -> Result<&'static T> {
        self.load_reference(input, name)
    }

    /// Makes a variable again, without what that prints.
    pub fn remake<T>(&self, make: impl FnOnce() -> Result<T>) -> Result<T> {
        quiet::quietly(make)
    }

    /// Keeps a variable that is a serde value, or refers to one.
    fn keep_value(
        &mut self,
        name: &'static str,
        type_name: &'static str,
        via: &'static str,
        value: &dyn erased_serde::Serialize,
    ) -> Result<()> {
        self.keep(name, type_name, (via, VALUE), &|path| value::write(value, path))
    }

    fn keep(
        &mut self,
        name: &'static str,
        type_name: &'static str,
        (via, media_type): (&'static str, &'static str),
        write: &dyn Fn(&Path) -> Result<()>,
    ) -> Result<()> {
        match write(&Path::new("/out").join(name)) {
            Ok(()) => {
                self.variables.insert(
                    name,
                    Saved {
                        type_name,
                        kept: Some(Kept { via, media_type }),
                    },
                );
                Ok(())
            }
            // It is made again by whoever needs it.
            Err(_) => self.leave(name, type_name),
        }
    }

    fn leave(&mut self, name: &'static str, type_name: &'static str) -> Result<()> {
        std::fs::write(Path::new("/out").join(name), "")?;
        self.variables.insert(name, Saved { type_name, kept: None });
        Ok(())
    }

    fn show(&mut self, bundle: Bundle) {
        self.result = Some(bundle).filter(|bundle| !bundle.data.is_empty());
    }

    fn say(&self) -> Result<()> {
        let said = Said {
            variables: &self.variables,
            result: &self.result,
        };
        Ok(std::fs::write("/out/cell.json", serde_json::to_vec(&said)?)?)
    }
}

/// The file of an input.
fn place(input: &str) -> PathBuf {
    Path::new("/in").join(input)
}

#[cold]
fn explain(error: Error, name: &str, type_name: &str) -> Error {
    error.context(format!(
        "variable `{name}` can't be read as {type_name}: run the cell that makes it again"
    ))
}

/// A type, as a value.
pub struct Tag<T>(PhantomData<fn() -> T>);

impl<T> Debug for Tag<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag<{}>", type_name::<T>())
    }
}

/// Nested pairs `(a, (b, ()))`, and the tags of their types in the same shape.
pub trait Pairs {
    /// Pairs of [`Tag`]s.
    type Tags;
    /// The tags.
    fn tags() -> Self::Tags;
}

impl Pairs for () {
    type Tags = ();

    fn tags() {}
}

impl<A, B: Pairs> Pairs for (A, B) {
    type Tags = (Tag<A>, B::Tags);

    fn tags() -> Self::Tags {
        (Tag(PhantomData), B::tags())
    }
}

/// Runs a future to its end. There is one thread and nothing to wait for but other futures.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut made = None;
    poll_until_ready(&mut |context| match future.as_mut().poll(context) {
        Poll::Ready(value) => {
            made = Some(value);
            true
        }
        Poll::Pending => false,
    });
    match made {
        Some(value) => value,
        None => unreachable!("a future that is ready has a value"),
    }
}

fn poll_until_ready(poll: &mut dyn FnMut(&mut std::task::Context<'_>) -> bool) {
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = woken.clone().into();
    while !poll(&mut std::task::Context::from_waker(&waker)) {
        assert!(
            woken.0.swap(false, Ordering::Relaxed),
            "the cell waits for something that never comes: there are no threads, timers and sockets in the sandbox"
        );
    }
}

/// The types of what a closure would return. Does not call it.
pub fn tags<T: Pairs>(_: &impl Fn() -> Result<T>) -> T::Tags {
    T::tags()
}

/// A variable at the end of a cell.
#[derive(Debug)]
pub struct Of<'a, T>(pub &'a T);

/// The choices by type.
pub mod by_type {
    use super::*;

    pub use super::Of;
    pub use super::last::{DisplayElse, DisplayRich, ShowDebug, ShowNothing, ShowType};

    // `Deserialize<'static>` and not `DeserializeOwned`: method lookup does not see lifetimes, so it would choose the latter
    // for a `Vec<&str>`, too, and then fail.

    /// Saves what a reference refers to.
    pub trait SaveReference {
        /// Keeps the variable.
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()>;
    }

    impl<T: ToOwned<Owned: Serialize + Deserialize<'static>> + ?Sized> SaveReference for &&&Of<'_, &T> {
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()> {
            let owned = (*self.0).to_owned();
            cell.keep_value(name, type_name::<&T>(), "reference", &owned)
        }
    }

    /// Saves a value of a serde type.
    pub trait SaveValue {
        /// Keeps the variable.
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()>;
    }

    impl<T: Serialize + Deserialize<'static>> SaveValue for &&Of<'_, T> {
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()> {
            cell.keep_value(name, type_name::<T>(), "value", self.0)
        }
    }

    /// Saves an artifact.
    pub trait SaveArtifact {
        /// Keeps the variable.
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()>;
    }

    impl<T: Artifact> SaveArtifact for &Of<'_, T> {
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()> {
            cell.keep(name, type_name::<T>(), ("artifact", T::MEDIA_TYPE), &|path| {
                self.0.write(path)
            })
        }
    }

    /// Notes the type of what can't be kept.
    pub trait SaveNothing {
        /// Keeps the variable.
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()>;
    }

    impl<T> SaveNothing for Of<'_, T> {
        fn save(&self, cell: &mut Cell, name: &'static str) -> Result<()> {
            cell.leave(name, type_name::<T>())
        }
    }
}

/// A value of a type that this notebook does not know: what another module's step made. Give it to another step, or decode it
/// as a type that fits.
#[derive(Clone, PartialEq, Eq)]
pub struct Encoded(Vec<u8>);

impl Encoded {
    /// The value, as a type with the same shape.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        ciborium::from_reader(&self.0[..]).with_context(|| format!("the value is no {}", type_name::<T>()))
    }
}

impl Artifact for Encoded {
    const MEDIA_TYPE: &'static str = VALUE;

    fn read(path: &Path) -> Result<Self> {
        crate::artifact::read(path).map(Self)
    }

    fn write(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, &self.0)?)
    }
}

impl Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ciborium::from_reader::<ciborium::Value, _>(&self.0[..]) {
            Ok(value) => value.fmt(f),
            Err(_) => write!(f, "{} bytes", self.0.len()),
        }
    }
}
