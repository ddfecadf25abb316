//! The Jupyter kernel: messages, cells, compiler, session.
//!
//! It reads no environment, no home directory and no wall clock (they are passed in), and opens no socket but the five that
//! a connection file names, and those to a host whose kernel it stands for.
//!
//! Its rooms:
//!
//! - [`cell`]: what a person typed: directives, items, statements
//! - [`compile`]: from a cell to the source of a module, and from rustc's words back to the cell
//! - [`session`]: what is known after the cells that were executed, and how the next one is
//! - [`toolchain`]: finds the compiler, builds modules, compiles cells
//! - [`assist`]: rust-analyzer, asked about a cell that is being typed
//! - [`output`]: what a cell shows
//! - [`jupyter`]: messages to calls on an interpreter, and back; knows no transport
//! - [`remote`]: a kernel that a host holds, in the place of one in this process
//! - [`wire`]: a kernel process on ZeroMQ sockets; the only place that names ZeroMQ
//! - [`websocket`]: messages as the frames of a WebSocket
//! - [`file`]: files that are replaced whole
//! - [`kernelspec`]: what lets Jupyter find the kernel, and [`notebook`]: the files that notebooks are

pub mod assist;
pub mod cell;
pub mod compile;
pub mod file;
pub mod jupyter;
pub mod kernelspec;
pub mod notebook;
pub mod output;
pub mod remote;
pub mod session;
pub mod toolchain;
pub mod websocket;
pub mod wire;
