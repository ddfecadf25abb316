//! The `lockstep` command in a directory, store and home of its own: what people and programs read, and the exit codes.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod errors;
mod pipelines;
mod place;
mod programs;
mod showing;
mod steps;
