//! What cargo says in JSON: `cargo metadata` and `--message-format=json` ("External tools" in the Cargo book).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::command::{self, Said};
use super::{BuildProgress, Diagnostic, Toolchain, flags};

/// A command of cargo that failed before any source was compiled, or that could not be run.
#[derive(Debug, thiserror::Error)]
pub enum CargoError {
    /// It can't be started.
    #[error("can't run {}: {source}", cargo.display())]
    Start {
        /// the cargo
        cargo: PathBuf,
        /// why not
        source: io::Error,
    },
    /// It failed.
    #[error("{said}")]
    Failed {
        /// what it said
        said: String,
    },
    /// Some sources can't be compiled.
    #[error("{rendered}")]
    Compile {
        /// the errors as rustc renders them
        rendered: String,
    },
    /// It said something else than expected.
    #[error("cargo's answer can't be read: {source}\nhint: is {} a cargo?", cargo.display())]
    Answer {
        /// the cargo
        cargo: PathBuf,
        /// what is wrong with the answer
        source: serde_json::Error,
    },
}

/// The packages of a build.
#[derive(Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
    pub workspace_root: PathBuf,
    pub workspace_members: Vec<String>,
    pub target_directory: PathBuf,
    pub resolve: Resolve,
}

#[derive(Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub manifest_path: PathBuf,
    /// None for a package that is a directory of this machine.
    pub source: Option<String>,
    pub targets: Vec<Target>,
    pub dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
pub struct Dependency {
    pub name: String,
}

#[derive(Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
}

#[derive(Deserialize)]
pub struct Resolve {
    pub root: Option<String>,
    pub nodes: Vec<Node>,
}

#[derive(Deserialize)]
pub struct Node {
    pub id: String,
    pub deps: Vec<Edge>,
}

/// That a package uses another under a name.
#[derive(Deserialize)]
pub struct Edge {
    pub name: String,
    pub pkg: String,
}

/// What cargo has built, or found to be built.
#[derive(Deserialize)]
pub struct Artifact {
    pub package_id: String,
    pub target: Target,
    pub filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact(Artifact),
    #[serde(rename = "compiler-message")]
    Diagnostic {
        message: Diagnostic,
    },
    BuildScriptExecuted {
        linked_paths: Vec<String>,
    },
    #[serde(other)]
    Other,
}

/// What a build made.
#[derive(Default)]
pub struct Made {
    pub artifacts: Vec<Artifact>,
    /// Directories of native libraries, as `-L` takes them.
    pub native: BTreeSet<String>,
    /// Warnings of the packages of the workspace, as rustc renders them.
    pub warnings: Vec<String>,
}

/// `cargo metadata` of the package in `dir`, with what it needs on the target. Fetches what is missing.
pub fn metadata(toolchain: &Toolchain, dir: &Path, arguments: &[String]) -> Result<Metadata, CargoError> {
    let mut command = toolchain.cargo_command();
    command.args([
        "metadata",
        "--format-version=1",
        "--filter-platform",
        super::TARGET,
        "--manifest-path",
    ]);
    command.arg(dir.join("Cargo.toml")).args(arguments);
    let start = |source| CargoError::Start {
        cargo: toolchain.cargo().to_owned(),
        source,
    };
    let output = command.output().map_err(start)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        return Err(CargoError::Failed { said });
    }
    read(toolchain, &output.stdout)
}

fn read<T: DeserializeOwned>(toolchain: &Toolchain, json: &[u8]) -> Result<T, CargoError> {
    let answer = |source| CargoError::Answer {
        cargo: toolchain.cargo().to_owned(),
        source,
    };
    serde_json::from_slice(json).map_err(answer)
}

/// The flags of crates, among them those that keep this machine's directories out of the modules, as a `--config` argument. In this form they
/// are added to those of the user's own configuration.
pub fn rustflags(toolchain: &Toolchain, metadata: &Metadata) -> String {
    let mut remaps = BTreeSet::new();
    for package in &metadata.packages {
        let Some(dir) = package.manifest_path.parent() else { continue };
        match dir.parent() {
            // The directory of the registry, not of the crate: the flags should change seldom, for a change recompiles all.
            Some(registry) if package.source.is_some() => remaps.insert(flags::remap(registry, "/cargo")),
            _ if !dir.starts_with(&metadata.workspace_root) => remaps.insert(flags::remap(dir, &format!("/{}", package.name))),
            _ => false,
        };
    }
    let (sources, name) = toolchain.std_sources();
    let mut all = flags::crate_flags();
    all.push(flags::remap(&sources, &name));
    all.extend(remaps);
    // rustc takes the last that fits, so the target directory comes after the workspace that it may be in.
    all.push(flags::remap(&metadata.target_directory, "target"));
    format!("target.{}.rustflags={}", super::TARGET, serde_json::Value::from(all))
}

/// Runs a build command of cargo that has no `--message-format` yet.
pub fn build(
    toolchain: &Toolchain,
    command: &mut Command,
    progress: &mut dyn FnMut(BuildProgress),
) -> Result<Made, CargoError> {
    command.args(["--message-format=json"]);
    command.envs([
        ("CARGO_TERM_PROGRESS_WHEN", "always"),
        ("CARGO_TERM_PROGRESS_WIDTH", "200"),
        ("CARGO_TERM_COLOR", "never"),
    ]);
    let mut made = Made::default();
    let (mut errors, mut said) = (Vec::new(), Vec::new());
    let status = command::run(command, &|| false, &mut |line| match line {
        Said::Out(line) => match serde_json::from_str(&line) {
            Ok(Message::CompilerArtifact(artifact)) => made.artifacts.push(artifact),
            Ok(Message::BuildScriptExecuted { linked_paths }) => made.native.extend(linked_paths),
            Ok(Message::Diagnostic { message }) => {
                let error = message.is_error();
                let text = message.rendered.unwrap_or(message.message);
                if error { errors.push(text) } else { made.warnings.push(text) }
            }
            Ok(Message::Other) | Err(_) => {}
        },
        Said::Err(line) => match BuildProgress::parse(&line) {
            Some(step) => progress(step),
            None if line.trim().is_empty() => {}
            None => said.push(line),
        },
    });
    match status {
        Ok(Some(status)) if status.success() => Ok(made),
        Ok(_) if !errors.is_empty() => Err(CargoError::Compile {
            rendered: errors.concat(),
        }),
        Ok(_) => Err(CargoError::Failed { said: said.join("\n") }),
        Err(source) => Err(CargoError::Start {
            cargo: toolchain.cargo().to_owned(),
            source,
        }),
    }
}
