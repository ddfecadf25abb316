//! From a cell to the source of a module, and from rustc's words back to the cell. No I/O.
//!
//! The source of a cell holds only what the cell needs: the items that it reaches, a load for each variable that it mentions,
//! its statements as they were typed, and a save for each variable that it leaves. So it stays small, and it stays the same
//! (and with it everything that is cached by its digest) when unrelated cells change.

mod derive;
mod diagnostic;
mod draft;
mod map;
mod reach;
mod scope;
mod source;
mod stale;
mod steps;
#[cfg(test)]
mod tests;
mod types;

pub use diagnostic::{Report, Titled, moved, reports};
pub use draft::{Draft, draft};
pub(crate) use map::offset;
pub use map::{Origin, Place, SourceMap};
pub use scope::{Grant, Held, Maker, Scope, Used, Variable, Version, Via};
pub use source::{Generated, generate, generate_broken, generate_steps};
pub use steps::{steps_source, type_of};
