//! Generates the source of a module from a cell, and maps rustc's messages back to the cell. No I/O.
//!
//! The source of a cell holds only what the cell needs: the items that it reaches, a load for each variable that it mentions,
//! its statements as typed, and a save for each variable that it defines. So the source is small and does not change with
//! unrelated cells, and results cached by its digest stay valid.

mod derive;
mod diagnostic;
mod draft;
mod inner;
mod map;
mod outdated;
mod reach;
mod rejected;
mod scope;
mod source;
mod stale;
mod steps;
#[cfg(test)]
mod tests;
mod types;
mod without;

pub use diagnostic::{Report, Titled, reports};
pub use draft::{Draft, draft};
pub use inner::contains;
pub(crate) use map::offset;
pub use map::{CellRef, Origin, SourceMap};
pub use outdated::Outdated;
pub use rejected::without;
pub use scope::{Grant, Held, Maker, Scope, Used, Variable, Version, Via};
pub use source::{Generated, generate, generate_broken, generate_steps, has_step};
pub use steps::{steps_source, type_of};
pub use without::Without;
