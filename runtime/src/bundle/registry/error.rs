use std::io;

/// What can go wrong with a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It can't be reached, or hangs up.
    #[error("{url} can't be reached: {source}")]
    Away {
        /// what was asked for
        url: String,
        /// why
        source: Box<reqwest::Error>,
    },
    /// It wants to know who asks, or does not let them.
    #[error("the registry refuses to {doing} {what}: {answer}")]
    Refused {
        /// read, write
        doing: &'static str,
        /// what
        what: String,
        /// its answer
        answer: String,
    },
    /// It has no such thing.
    #[error("the registry has no {what}")]
    Absent {
        /// what
        what: String,
    },
    /// It answers something that a registry should not.
    #[error("the registry can't {doing} {what}: {answer}")]
    Answer {
        /// read, write
        doing: &'static str,
        /// what
        what: String,
        /// its answer
        answer: String,
    },
    /// It has trouble of its own, or too much to do.
    #[error("the registry can't {doing} {what} now: {answer}")]
    Trouble {
        /// read, write
        doing: &'static str,
        /// what
        what: String,
        /// its answer
        answer: String,
    },
    /// It sends the password elsewhere than over an encrypted connection.
    #[error("the registry asks for the password at {realm}, which is not encrypted")]
    Plain {
        /// where
        realm: String,
    },
    /// What is there under the name is no bundle.
    #[error("{what} is no bundle: {reason}")]
    NoBundle {
        /// the name
        what: String,
        /// why
        reason: String,
    },
    /// The process can't have the threads that wait for connections.
    #[error("can't start what waits for connections: {source}")]
    Threads {
        /// why
        source: io::Error,
    },
}
