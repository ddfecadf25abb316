//! Integration tests: the house's edges, guests, parity, kernel, demo. One binary, so that it is linked once.

mod determinism;
mod house;
mod kill;
mod limits;
mod notebook;
mod parity;
mod setup;
