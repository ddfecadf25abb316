//! The Jupyter kernel: messages, cells, compiler, session.

pub mod output;
pub mod toolchain;
