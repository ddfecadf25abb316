//! What a person is told when something fails.

use std::fmt;
use std::io;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use lockstep_runtime::bundle::BundleError;
use lockstep_runtime::bundle::registry::RegistryError;
use lockstep_runtime::pipeline::{PipelineError, PlanError, TaskError};
use lockstep_runtime::run::{BindError, RecordError, RunError};
use lockstep_runtime::sandbox::SandboxError;
use lockstep_runtime::step::InterfaceError;
use lockstep_runtime::store::{SharedError, StoreError};
use serde_json::{Value, json};

use crate::columns::fit;

/// Whose turn it is to do something about an error. Each kind has an exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The command line, or what it names, is not right.
    User,
    /// A file that configures something, or the toolchain, is not right.
    Config,
    /// The guest failed.
    Guest,
    /// The guest or the user asks for something that is not allowed.
    Denied,
    /// The machine, the store or lockstep itself failed.
    Host,
    /// Somebody interrupted it.
    Interrupted,
}

impl Kind {
    /// All kinds with what `--help` says of them.
    pub const ALL: [(Self, &str); 6] = [
        (Self::User, "the command line, or what it names, is not right"),
        (Self::Config, "a pipeline file, a module or the toolchain is not right"),
        (Self::Guest, "the step or program failed"),
        (Self::Denied, "it asks for something that is not allowed"),
        (Self::Host, "the machine, the store or lockstep itself failed"),
        (Self::Interrupted, "interrupted, or out of time"),
    ];

    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::User => 2,
            Self::Config => 3,
            Self::Guest => 4,
            Self::Denied => 5,
            Self::Host => 6,
            Self::Interrupted => 130,
        }
    }

    /// How programs are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Config => "config",
            Self::Guest => "guest",
            Self::Denied => "denied",
            Self::Host => "host",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a person is told when a command fails: what happened, what belongs to it, and what to do next.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    details: Vec<String>,
    hints: Vec<String>,
    /// Whether `--json` has put all of it on stdout already.
    reported: bool,
}

/// What commands return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind. Lines of `message` that start with `hint: ` become hints.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        let text = message.to_string();
        let (hints, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("hint: "));
        Self {
            kind,
            message: lines.join("\n"),
            details: Vec::new(),
            hints: hints.iter().map(|line| line["hint: ".len()..].to_owned()).collect(),
            reported: false,
        }
    }

    /// An error of whoever wrote the command line.
    pub fn user(message: impl fmt::Display) -> Self {
        Self::new(Kind::User, message)
    }

    /// An error in a file or the toolchain.
    pub fn config(message: impl fmt::Display) -> Self {
        Self::new(Kind::Config, message)
    }

    /// An error of the machine, the store or lockstep itself.
    pub fn host(message: impl fmt::Display) -> Self {
        Self::new(Kind::Host, message)
    }

    /// A file that can't be read or written.
    pub fn file(doing: &str, path: &std::path::Path, source: &io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::PermissionDenied => Kind::Denied,
            io::ErrorKind::StorageFull => Kind::Host,
            _ => Kind::User,
        };
        Self::new(kind, format_args!("can't {doing} {}: {source}", path.display()))
    }

    /// The same error, said of `subject`.
    pub fn of(mut self, subject: impl fmt::Display) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// With a line that says what to do next.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// Whose turn it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The lines that belong to it.
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// The lines that say what to do next.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// With a line that belongs to the message, such as a place.
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.details.extend(detail.to_string().lines().map(str::to_owned));
        self
    }

    /// The same error; `--json` need not report it.
    pub fn reported(mut self) -> Self {
        self.reported = true;
        self
    }

    /// Tells it: on stderr for people, and on stdout for programs when `json`.
    pub fn report(&self, json: bool) -> ExitCode {
        let red = AnsiColor::Red.on_default().bold();
        let cyan = AnsiColor::Cyan.on_default().bold();
        let dim = Style::new().dimmed();
        anstream::eprintln!("{red}error{red:#}: {}", self.message);
        for line in &self.details {
            anstream::eprintln!("  {dim}{line}{dim:#}");
        }
        for hint in &self.hints {
            anstream::eprintln!("{cyan}hint{cyan:#}: {hint}");
        }
        if json && !self.reported {
            anstream::println!("{}", self.to_json());
        }
        ExitCode::from(self.kind.code())
    }

    /// `error`: `kind`, `message`, `details` and `hints`.
    pub fn to_json(&self) -> Value {
        json!({ "error": {
            "kind": self.kind.name(),
            "message": self.message,
            "details": self.details,
            "hints": self.hints,
        }})
    }
}

/// Message, details and hints, a line each.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.details.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        self.hints.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

/// The cause that says most: `Connection refused`.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Missing(_) => Self::user(&error).hint("`lockstep log` lists the runs of this store"),
            StoreError::Shared(error) => error.into(),
            StoreError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::new(Kind::Denied, &error)
            }
            _ => Self::host(&error),
        }
    }
}

/// What to look at when a shared store can't be reached.
pub const REACH: &str =
    "check the network, AWS_ENDPOINT_URL and AWS_REGION; without AWS_ACCESS_KEY_ID the machine itself is asked for credentials";

impl From<&SharedError> for Error {
    fn from(error: &SharedError) -> Self {
        match error {
            SharedError::Url { .. } => Self::user(error),
            SharedError::Settings { .. } => Self::config(error).hint(REACH),
            SharedError::Threads { .. } => Self::host(error),
            SharedError::Refused { .. } => Self::new(Kind::Denied, error)
                .hint("check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, that the bucket is there, and what they may do with it"),
            SharedError::Away { .. } => Self::host(error).hint(REACH),
        }
    }
}

impl From<SharedError> for Error {
    fn from(error: SharedError) -> Self {
        Self::from(&error)
    }
}

impl From<SandboxError> for Error {
    fn from(error: SandboxError) -> Self {
        let kind = match &error {
            SandboxError::World(_) => Kind::User,
            SandboxError::Compile { .. }
            | SandboxError::ImportType { .. }
            | SandboxError::NotACommand { .. }
            | SandboxError::Base { .. } => Kind::Config,
            SandboxError::Budget { .. } | SandboxError::UnknownImport { .. } => Kind::Denied,
            _ => Kind::Host,
        };
        Self::new(kind, error)
    }
}

impl From<RunError> for Error {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Store(error) => error.into(),
            RunError::Sandbox(error) => error.into(),
            RunError::Path(_) | RunError::Overlap(_) | RunError::Stdin(_) => Self::user(error),
            RunError::Base { .. } => Self::config(error),
            RunError::Encode(_) | RunError::Record(_) => Self::host(error),
        }
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        Self::host(error)
    }
}

impl From<BindError> for Error {
    fn from(error: BindError) -> Self {
        let hint = match &error {
            BindError::MissingInput { name, .. } => Some(format!("add --input {name}=PATH")),
            BindError::Parameter { source, .. } => {
                use lockstep_runtime::step::ParameterError::{Missing, WrongKind};
                let (Missing { name, .. } | WrongKind { name, .. }) = source;
                Some(format!("add --param {name}=VALUE"))
            }
            _ => None,
        };
        let error = Self::user(error);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

impl From<InterfaceError> for Error {
    fn from(error: InterfaceError) -> Self {
        Self::config(error)
    }
}

impl From<PipelineError> for Error {
    fn from(error: PipelineError) -> Self {
        Self::config(error)
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        Self::config(error)
    }
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        match error {
            TaskError::Run(error) => error.into(),
            TaskError::When(_) | TaskError::Parts(_) => Self::new(Kind::Guest, error),
            TaskError::NotMade | TaskError::Elsewhere(_) => Self::host(error),
        }
    }
}

/// The registry could not be reached, or does not know who asks.
const LOGIN: &str = "`docker login HOST` writes ~/.docker/config.json, which is read; credential helpers are not asked";

impl From<BundleError> for Error {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::File { doing, path, source } => Self::file(doing, &path, &source),
            BundleError::Store(error) => error.into(),
            BundleError::Record(error) => error.into(),
            BundleError::Run(error) => error.into(),
            BundleError::Registry(error) => error.into(),
            BundleError::Exists { .. } => Self::user(error).hint("move it away, or give a path that ends in .tar"),
            BundleError::Compressed { .. } => Self::user(error).hint("name a file that ends in .tar, or gunzip it"),
            BundleError::Failed { .. } => Self::new(Kind::Guest, error),
            BundleError::Encode(_) => Self::host(error),
            // what is wrong is in the bundle, which may hold anything that a terminal should not be told
            _ => Self::config(fit(&error.to_string(), 1000)),
        }
    }
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Away { .. } => Self::host(cause(error))
                .hint("check the name and the network; a registry without TLS that is not on this machine needs --plain-http"),
            RegistryError::Refused { .. } => Self::new(Kind::Denied, error).hint(LOGIN),
            RegistryError::Plain { .. } => Self::new(Kind::Denied, error),
            RegistryError::Absent { .. } | RegistryError::NoBundle { .. } => Self::user(error),
            RegistryError::Trouble { .. } => Self::host(error).hint("try again later: what was sent is there already"),
            RegistryError::Answer { .. } | RegistryError::Threads { .. } => Self::host(error),
        }
    }
}

/// An error with what is at the bottom of it.
fn cause(error: impl std::error::Error) -> String {
    let (told, root) = (error.to_string(), innermost(&error));
    if told.contains(&root) {
        told
    } else {
        format!("{told}: {root}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_in_a_message_become_hints() {
        let error = Error::config("no toolchain\nhint: install one");
        assert_eq!(error.message, "no toolchain");
        assert_eq!(error.hints, ["install one"]);
    }

    #[test]
    fn every_kind_has_its_own_exit_code() {
        let codes: std::collections::BTreeSet<u8> = Kind::ALL.iter().map(|(kind, _)| kind.code()).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
        assert!(codes.iter().all(|code| *code > 1));
    }
}
