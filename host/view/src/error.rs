//! Errors as users see them: message, details, hints and exit code.

use std::fmt;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use lockstep_runtime::bundle::BundleError;
use lockstep_runtime::pipeline::{PipelineError, PlanError, TaskError};
use lockstep_runtime::run::{BindError, RecordError, RunError};
use lockstep_runtime::sandbox::SandboxError;
use lockstep_runtime::step::InterfaceError;
use lockstep_runtime::store::{SharedError, StoreError};
use serde_json::{Value, json};

use crate::columns::fit;
use crate::terminal;

/// The kind of an error. Each kind has an exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The command line is invalid, or names something that does not exist.
    User,
    /// A pipeline, a module, a configuration file or the toolchain is invalid.
    Config,
    /// The guest failed.
    Guest,
    /// The guest or the user is not allowed to do this.
    Denied,
    /// The machine, the store or lockstep itself failed.
    Host,
    /// It was interrupted, or timed out.
    Interrupted,
}

impl Kind {
    /// All kinds with their descriptions in `--help`.
    pub const ALL: [(Self, &str); 6] = [
        (Self::User, "invalid command line, or a name that does not exist"),
        (Self::Config, "invalid pipeline, module, configuration or toolchain"),
        (Self::Guest, "a step or program failed"),
        (Self::Denied, "permission denied, or not allowed"),
        (Self::Host, "failure of the machine, the store or lockstep itself"),
        (Self::Interrupted, "interrupted or timed out"),
    ];

    /// Returns the exit code.
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

    /// Returns the name that `--json` reports.
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

/// The error of a command: a message, details and hints.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    details: Vec<String>,
    hints: Vec<String>,
    /// Whether `--json` has already printed it to stdout.
    reported: bool,
}

/// The result of a command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an error. Lines of `message` that start with `hint: ` become hints.
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

    /// Creates an error of kind [`Kind::User`].
    pub fn user(message: impl fmt::Display) -> Self {
        Self::new(Kind::User, message)
    }

    /// Creates an error of kind [`Kind::Config`].
    pub fn config(message: impl fmt::Display) -> Self {
        Self::new(Kind::Config, message)
    }

    /// Creates an error of kind [`Kind::Host`].
    pub fn host(message: impl fmt::Display) -> Self {
        Self::new(Kind::Host, message)
    }

    /// Creates the error of a file operation. `doing` is its verb, such as `read`.
    pub fn file(doing: &str, path: &std::path::Path, source: &io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::PermissionDenied => Kind::Denied,
            io::ErrorKind::StorageFull => Kind::Host,
            _ => Kind::User,
        };
        Self::new(kind, format_args!("can't {doing} {}: {source}", path.display()))
    }

    /// Prefixes the message with `subject`.
    pub fn of(mut self, subject: impl fmt::Display) -> Self {
        self.message = format!("{subject}: {}", self.message);
        self
    }

    /// Adds a hint: a line that says what to do next.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the details.
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// Returns the hints.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Adds details: lines below the message, such as a location.
    pub fn detail(mut self, detail: impl fmt::Display) -> Self {
        self.details.extend(detail.to_string().lines().map(str::to_owned));
        self
    }

    /// Marks the error as already printed by `--json`.
    pub fn reported(mut self) -> Self {
        self.reported = true;
        self
    }

    /// Prints the error to stderr and, with `json`, as JSON to stdout. Returns the exit code.
    pub fn report(&self, json: bool) -> ExitCode {
        let red = AnsiColor::Red.on_default().bold();
        let cyan = AnsiColor::Cyan.on_default().bold();
        let dim = Style::new().dimmed();
        let shown = |text: &str| match io::stderr().is_terminal() {
            true => terminal::safe(text).into_owned(),
            false => text.to_owned(),
        };
        anstream::eprintln!("{red}error{red:#}: {}", shown(&self.message));
        for line in &self.details {
            anstream::eprintln!("  {dim}{}{dim:#}", shown(line));
        }
        for hint in &self.hints {
            anstream::eprintln!("{cyan}hint{cyan:#}: {}", shown(hint));
        }
        if json && !self.reported {
            // the exit code tells of the error if stdout is closed
            let _ = terminal::write(&format!("{}\n", self.to_json()));
        }
        ExitCode::from(self.kind.code())
    }

    /// Returns an object `error` with `kind`, `message`, `details` and `hints`.
    pub fn to_json(&self) -> Value {
        json!({ "error": {
            "kind": self.kind.name(),
            "message": self.message,
            "details": self.details,
            "hints": self.hints,
        }})
    }
}

/// Writes message, details and hints, one per line.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.details.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
        self.hints.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

/// Returns the innermost cause, such as `Connection refused`.
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
            StoreError::Missing(_) => Self::user(&error).hint("`lockstep log` lists the runs in this store"),
            StoreError::Shared(error) => error.into(),
            StoreError::Unknown { program, .. } => Self::config(&error)
                .hint(match program {
                    Some(program) => format!("lockstep {program} wrote it: install that version or a newer one"),
                    None => "a newer version of lockstep wrote it: install that version".to_owned(),
                })
                .hint("--store DIR selects another store"),
            StoreError::Version { path, .. } => Self::config(&error).hint(format_args!(
                "if this version of lockstep wrote the store, `rm {}`; the file is then written again",
                path.display()
            )),
            StoreError::File { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::new(Kind::Denied, &error)
            }
            _ => Self::host(&error),
        }
    }
}

/// The hint for a shared store that can't be reached.
pub const REACH: &str = "check the network, AWS_ENDPOINT_URL and AWS_REGION; without AWS_ACCESS_KEY_ID, credentials come from the instance metadata service";

impl From<&SharedError> for Error {
    fn from(error: &SharedError) -> Self {
        match error {
            SharedError::Url { .. } => Self::user(error),
            SharedError::Settings { .. } => Self::config(error).hint(REACH),
            SharedError::Threads { .. } => Self::host(error),
            SharedError::Refused { .. } => Self::new(Kind::Denied, error).hint(
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, that the bucket exists, and its permissions",
            ),
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
            SandboxError::Budget { .. }
            | SandboxError::CompileTime { .. }
            | SandboxError::CompilerEnded { .. }
            | SandboxError::UnknownImport { .. } => Kind::Denied,
            SandboxError::CompileInterrupted { .. } => Kind::Interrupted,
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
            RunError::Base { .. } | RunError::Calls { .. } | RunError::UnknownBuiltIn { .. } => Self::config(error),
            RunError::Encode(_) | RunError::Record(_) | RunError::BuiltIn { .. } => Self::host(error),
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
            TaskError::NotMade | TaskError::Elsewhere(_) | TaskError::Panicked(_) => Self::host(error),
        }
    }
}

impl From<BundleError> for Error {
    fn from(error: BundleError) -> Self {
        match error {
            BundleError::File { doing, path, source } => Self::file(doing, &path, &source),
            BundleError::Store(error) => error.into(),
            BundleError::Record(error) => error.into(),
            BundleError::Run(error) => error.into(),
            BundleError::Exists { .. } => Self::user(error).hint("move it, or give a path that ends in .tar"),
            BundleError::Compressed { .. } => {
                Self::user(error).hint("give a file that ends in .tar, or decompress it with gunzip")
            }
            BundleError::Failed { .. } => Self::new(Kind::Guest, error),
            BundleError::Encode(_) => Self::host(error),
            // the message may quote the bundle, which may contain control characters
            _ => Self::config(fit(&error.to_string(), 1000)),
        }
    }
}

/// Returns the message of an error with its innermost cause.
pub fn cause(error: impl std::error::Error) -> String {
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
