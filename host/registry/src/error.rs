use std::io;

use lockstep_runtime::bundle::BundleError;
use lockstep_view::error::{Error, Kind, cause};

/// An error of pushing or pulling.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry can't be reached, or the connection was closed.
    #[error("can't reach {url}: {source}")]
    Away {
        /// the requested URL
        url: String,
        /// the cause
        source: Box<reqwest::Error>,
    },
    /// Authentication is required, or access was denied.
    #[error("the registry denied permission to {doing} {what}: {answer}")]
    Refused {
        /// read, write
        doing: &'static str,
        /// the object
        what: String,
        /// the registry's response
        answer: String,
    },
    /// The object does not exist.
    #[error("{what} not found in the registry")]
    Absent {
        /// the object
        what: String,
    },
    /// The registry sent an unexpected response.
    #[error("the registry failed to {doing} {what}: {answer}")]
    Answer {
        /// read, write
        doing: &'static str,
        /// the object
        what: String,
        /// the registry's response
        answer: String,
    },
    /// The registry is overloaded or has an internal error.
    #[error("the registry is temporarily unable to {doing} {what}: {answer}")]
    Trouble {
        /// read, write
        doing: &'static str,
        /// the object
        what: String,
        /// the registry's response
        answer: String,
    },
    /// The registry requests credentials over an unencrypted connection.
    #[error("the registry requests the password over an unencrypted connection: {realm}")]
    Plain {
        /// the URL of the token service
        realm: String,
    },
    /// The referenced object is not a bundle.
    #[error("{what} is not a bundle: {reason}")]
    NoBundle {
        /// the reference
        what: String,
        /// the cause
        reason: String,
    },
    /// The reference is not a valid URL.
    #[error("{reference} is not a valid reference: {reason}")]
    Reference {
        /// the reference
        reference: String,
        /// the cause
        reason: String,
    },
    /// The registry wants a password, but there is only an identity token.
    #[error("the registry wants a password, but `docker login` kept an identity token")]
    NoPassword,
    /// The bundle can't be read or written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The client's threads can't be started.
    #[error("can't start the threads of the registry client: {source}")]
    Threads {
        /// the cause
        source: io::Error,
    },
}

/// The hint for a registry that refuses access.
const LOGIN: &str = "run `docker login HOST`; lockstep uses the credentials that it saves";

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Away { .. } => Self::host(cause(error))
                .hint("check the name and the network; a remote registry without TLS needs --plain-http"),
            RegistryError::Refused { .. } => Self::new(Kind::Denied, error).hint(LOGIN),
            RegistryError::NoPassword => {
                Self::new(Kind::Denied, error).hint("run `docker login HOST` with an access token as the password")
            }
            RegistryError::Plain { .. } => Self::new(Kind::Denied, error),
            RegistryError::Absent { .. } | RegistryError::NoBundle { .. } | RegistryError::Reference { .. } => {
                Self::user(error)
            }
            RegistryError::Bundle(error) => error.into(),
            RegistryError::Trouble { .. } => {
                Self::host(error).hint("try again later; blobs that were uploaded are not sent again")
            }
            RegistryError::Answer { .. } | RegistryError::Threads { .. } => Self::host(error),
        }
    }
}
