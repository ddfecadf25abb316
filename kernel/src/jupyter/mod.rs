//! Translates Jupyter messages to calls on an [`Interpreter`] and back, independent of the transport: requests are
//! submitted to a [`Kernel`], and replies come from its [`Outlets`].

mod assistance;
mod cell_output;
mod comms;
mod completeness;
mod content;
mod desk;
mod history;
mod interpreter;
mod kernel;
pub(crate) mod kernel_info;
mod message;
mod publications;
mod questions;
mod request;
mod shell;

pub use completeness::{Completeness, of_rust};
pub(crate) use content::failed;
pub use desk::{Reply, Stopped};
pub use history::{History, HistoryError};
pub use interpreter::{Assistant, Completion, Completions, Execute, Interpreter};
pub use kernel::{Kernel, Outlets};
pub use lockstep_runtime::sandbox::Interrupt;
pub use message::{Channel, Header, Message, Origin, PROTOCOL_VERSION};
pub use publications::{Publication, Publications};
