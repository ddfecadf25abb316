use std::io;

/// An error of a registry.
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
    /// The client's threads can't be started.
    #[error("can't start the threads of the registry client: {source}")]
    Threads {
        /// the cause
        source: io::Error,
    },
}
