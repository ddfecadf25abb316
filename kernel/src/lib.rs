//! The Jupyter kernel: messages, cells, compiler, session.
//!
//! It reads no environment, home directory or wall clock; they are passed in. It opens only the five sockets of a
//! connection file and connections to a host that runs its kernel.
//!
//! Modules:
//!
//! - [`cell`]: parses cells into directives, items and statements
//! - [`compile`]: generates the source of a module from a cell, and maps rustc's messages back to the cell
//! - [`session`]: the state after the executed cells, and the execution of the next one
//! - [`toolchain`]: finds the compiler, builds modules, compiles cells
//! - [`assist`]: completion and inspection with rust-analyzer
//! - [`output`]: the output of a cell
//! - [`jupyter`]: translates messages to calls on an interpreter and back, without a transport
//! - [`remote`]: a kernel on a host instead of in this process
//! - [`wire`]: a kernel process on ZeroMQ sockets; the only module that uses ZeroMQ
//! - [`websocket`]: messages as WebSocket frames
//! - [`file`]: atomic file writes
//! - [`kernelspec`]: the kernelspec that Jupyter finds the kernel by
//! - [`notebook`]: notebook files

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
