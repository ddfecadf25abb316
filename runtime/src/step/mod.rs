//! Interfaces, artifacts, limits and outcomes of steps. No I/O.

mod artifact;
mod base;
mod interface;
mod limits;
mod outcome;
pub mod value;

pub use artifact::{Artifact, GuestPath, InvalidGuestPath, MediaType};
pub use base::{BASE_MODULE, BASE_SECTION, BASE_START, BaseError, base};
pub use interface::{
    CALLS_SECTION, INTERFACE_SECTION, Interface, InterfaceError, Parameter, ParameterError, ParameterKind, Port, calls,
    interfaces,
};
pub use limits::{Limit, Limits, OwnLimits};
pub use outcome::{Failure, Interruption, Outcome, Usage};

pub(crate) use interface::is_name;
