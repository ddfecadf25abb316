//! The proc macros of the lockstep crate.
