//! The programs that the tests run. Each is a step of one module; `tests/parity.rs` must know every one of them.
//!
//! - [`probes`] try to see something of the machine, a row of the determinism table each
//! - [`values`] take and give every kind of input, parameter and output
//! - [`faults`] end badly

pub mod faults;
pub mod probes;
pub mod values;
