//! Runs cargo and parses its JSON: `cargo metadata` and `--message-format=json` ("External tools" in the Cargo book).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::command::{self, Said};
use super::confine::Confinement;
use super::{BuildProgress, Diagnostic, Toolchain, flags};
use crate::file::write_whole;

/// The script in a target directory that cargo runs as the compiler.
const RUSTC: &str = "lockstep-rustc";

/// An error of a cargo command.
#[derive(Debug, thiserror::Error)]
pub enum CargoError {
    /// Cargo can't be started.
    #[error("can't run {}: {source}", cargo.display())]
    Start {
        /// the cargo
        cargo: PathBuf,
        /// why not
        source: io::Error,
    },
    /// The compiler script can't be written.
    #[error("can't write {}: {source}", path.display())]
    Script {
        /// the file
        path: PathBuf,
        /// why not
        source: io::Error,
    },
    /// Cargo failed.
    #[error("{said}")]
    Failed {
        /// its message
        said: String,
    },
    /// Compilation failed.
    #[error("{rendered}")]
    Compile {
        /// the errors, rendered by rustc
        rendered: String,
        /// the first error
        first: String,
        /// the number of errors
        count: usize,
        /// cargo's id of the package with the error
        package: String,
        /// whether that is a library and not a build script or a proc macro
        library: bool,
    },
    /// A build script failed.
    #[error("the build script of {package} failed\n{said}")]
    BuildScript {
        /// the package, with its version
        package: String,
        /// the script's output
        said: String,
    },
    /// The command was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The output is malformed.
    #[error("can't parse the output of cargo: {source}\nhint: check that {} is cargo", cargo.display())]
    Answer {
        /// the cargo
        cargo: PathBuf,
        /// what is wrong with the output
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

/// The packages of a workspace, from their manifests.
#[derive(Deserialize)]
pub struct Manifests {
    pub packages: Vec<Package>,
    pub workspace_root: PathBuf,
}

#[derive(Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    pub manifest_path: PathBuf,
    /// `None` for a local directory.
    pub source: Option<String>,
    pub targets: Vec<Target>,
    pub dependencies: Vec<Dependency>,
    /// Its features, each with the features that it enables.
    pub features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
pub struct Dependency {
    pub name: String,
    /// `dev` or `build`; `None` for a normal dependency.
    pub kind: Option<String>,
    /// The directory of a path dependency.
    pub path: Option<PathBuf>,
}

#[derive(Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
}

impl Target {
    /// Returns whether other crates can use the target.
    pub fn is_library(&self) -> bool {
        self.kind
            .iter()
            .any(|kind| matches!(kind.as_str(), "lib" | "rlib" | "dylib" | "proc-macro"))
    }
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
    /// The enabled features.
    pub features: BTreeSet<String>,
}

/// A dependency on a package, with its name in source.
#[derive(Deserialize)]
pub struct Edge {
    pub name: String,
    pub pkg: String,
}

/// A target that cargo has built or found up to date.
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
        package_id: String,
        target: Target,
        message: Diagnostic,
    },
    BuildScriptExecuted {
        linked_paths: Vec<String>,
    },
    #[serde(other)]
    Other,
}

/// The result of a build.
#[derive(Default)]
pub struct Made {
    pub artifacts: Vec<Artifact>,
    /// Directories of native libraries, in the form of `-L`.
    pub native: BTreeSet<String>,
    /// Warnings of the workspace's packages, rendered by rustc.
    pub warnings: Vec<String>,
}

/// Runs `cargo metadata` for the package in `dir` on the target. Fetches missing dependencies, but executes none of their code.
pub fn metadata(
    toolchain: &Toolchain,
    dir: &Path,
    arguments: &[String],
    interrupt: &dyn Fn() -> bool,
) -> Result<Metadata, CargoError> {
    let mut command = toolchain.cargo_command();
    command.args(["metadata", "--format-version=1", "--filter-platform", super::TARGET]);
    command.args(["--manifest-path", "Cargo.toml"]).args(arguments);
    // Settings in the user's directory must not apply to the package.
    command.current_dir(dir);
    read(toolchain, &asked(toolchain, &mut command, interrupt)?)
}

/// Returns the manifests of the workspace of the package in `dir`. Resolves and fetches nothing.
pub fn manifests(toolchain: &Toolchain, dir: &Path) -> Result<Manifests, CargoError> {
    let mut command = toolchain.cargo_command();
    command.args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
    command.args(["--manifest-path", "Cargo.toml"]).current_dir(dir);
    read(toolchain, &asked(toolchain, &mut command, &|| false)?)
}

/// Fetches all dependencies of the package in `dir`, for the target and for this machine. Executes none of their code.
pub fn fetch(
    toolchain: &Toolchain,
    dir: &Path,
    offline: bool,
    arguments: &[String],
    interrupt: &dyn Fn() -> bool,
) -> Result<(), CargoError> {
    let mut command = toolchain.cargo_command();
    let host = toolchain.host();
    command.args(["fetch", "--locked", "--target", super::TARGET, "--target", host]);
    command.args(offline.then_some("--offline")).args(arguments);
    command.args(["--manifest-path", "Cargo.toml"]).current_dir(dir);
    asked(toolchain, &mut command, interrupt).map(drop)
}

/// Runs a cargo command. Returns its stdout.
fn asked(toolchain: &Toolchain, command: &mut Command, interrupt: &dyn Fn() -> bool) -> Result<String, CargoError> {
    let (mut answer, mut said) = (String::new(), Vec::new());
    let status = command::run_guarded(command, None, interrupt, &mut |line| match line {
        Said::Out(line) => answer.push_str(&line),
        Said::Err(line) => said.push(line),
    });
    let start = |source| CargoError::Start {
        cargo: toolchain.cargo().to_owned(),
        source,
    };
    match status.map_err(start)? {
        Some(status) if status.success() => Ok(answer),
        Some(_) => Err(failed(&said)),
        None => Err(CargoError::Interrupted),
    }
}

fn read<T: DeserializeOwned>(toolchain: &Toolchain, json: &str) -> Result<T, CargoError> {
    let answer = |source| CargoError::Answer {
        cargo: toolchain.cargo().to_owned(),
        source,
    };
    serde_json::from_str(json).map_err(answer)
}

/// Extracts the error from cargo's output, without progress lines and internal directories.
fn failed(said: &[String]) -> CargoError {
    const SCRIPT: &str = "error: failed to run custom build command for `";
    let start = said.iter().position(|line| line.starts_with("error")).unwrap_or(0);
    let of_script = said[start..].iter().find_map(|line| line.strip_prefix(SCRIPT));
    if let Some(package) = of_script {
        let package = package.split(['`', '(']).next().unwrap_or_default();
        let heard = said
            .iter()
            .position(|line| line.trim() == "--- stderr")
            .map_or(start, |at| at + 1);
        return CargoError::BuildScript {
            package: package.trim().to_owned(),
            said: said[heard..]
                .iter()
                .map(|line| line.trim())
                .filter(|line| !line.is_empty())
                .collect::<Vec<_>>()
                .join("\n"),
        };
    }
    let of_ours = |line: &&String| line.contains("required by package `prelude ") || line.trim().is_empty();
    let lines: Vec<_> = said[start..]
        .iter()
        .filter(|line| !of_ours(line))
        .map(String::as_str)
        .collect();
    let text = lines.join("\n");
    CargoError::Failed {
        said: text.strip_prefix("error: ").unwrap_or(&text).to_owned(),
    }
}

/// Returns the flags of all crates as a `--config` argument. In this form they are added to those of the user's configuration.
pub fn rustflags() -> String {
    format!(
        "target.{}.rustflags={}",
        super::TARGET,
        serde_json::Value::from(flags::crate_flags())
    )
}

/// Makes `command` replace this machine's directories by fixed names in compiled code. Because cargo recompiles everything when
/// flags change, a script in `target_directory` adds the flags to calls of rustc.
pub fn remap(
    toolchain: &Toolchain,
    metadata: &Metadata,
    target_directory: &Path,
    command: &mut Command,
) -> Result<(), CargoError> {
    let path = target_directory.join(RUSTC);
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    let rustc = quoted(&toolchain.rustc().to_string_lossy());
    let remaps: String = remaps(toolchain, metadata, target_directory)
        .iter()
        .map(|flag| format!(" {}", quoted(flag)))
        .collect();
    let script = format!("#!/bin/sh\nexec {rustc} \"$@\"{remaps}\n");
    // Don't rewrite the script while it may be running.
    if fs::read_to_string(&path).is_ok_and(|found| found == script) {
        command.env("RUSTC", path);
        return Ok(());
    }
    let written = fs::create_dir_all(target_directory)
        .and_then(|()| write_whole(&path, script.as_bytes()))
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o755)));
    written.map_err(|source| CargoError::Script {
        path: path.clone(),
        source,
    })?;
    command.env("RUSTC", path);
    Ok(())
}

fn remaps(toolchain: &Toolchain, metadata: &Metadata, target_directory: &Path) -> Vec<String> {
    let mut remaps = BTreeSet::new();
    remaps.extend(
        toolchain
            .cargo_home()
            .map(|home| flags::remap(&home.join("git/checkouts"), "/cargo")),
    );
    for package in &metadata.packages {
        let Some(dir) = package.manifest_path.parent() else { continue };
        match dir.parent() {
            _ if package.source.as_ref().is_some_and(|source| source.starts_with("git+")) => false,
            Some(registry) if package.source.is_some() => remaps.insert(flags::remap(registry, "/cargo")),
            _ if !dir.starts_with(&metadata.workspace_root) => remaps.insert(flags::remap(dir, &format!("/{}", package.name))),
            _ => false,
        };
    }
    let (sources, name) = toolchain.std_sources();
    let mut all = vec![flags::remap(&sources, &name)];
    all.extend(remaps);
    // rustc applies the last matching flag, so the target directory comes after the workspace that may contain it.
    all.push(flags::remap(target_directory, "target"));
    all
}

/// Runs a build command of cargo with `--message-format=json`.
pub fn build(
    toolchain: &Toolchain,
    command: &mut Command,
    confinement: Option<&Confinement>,
    interrupt: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(BuildProgress),
) -> Result<Made, CargoError> {
    command.envs([
        ("CARGO_TERM_PROGRESS_WHEN", "always"),
        ("CARGO_TERM_PROGRESS_WIDTH", "200"),
        ("CARGO_TERM_COLOR", "never"),
    ]);
    let mut made = Made::default();
    let (mut errors, mut said) = (Vec::new(), Vec::new());
    let status = command::run_guarded(command, confinement, interrupt, &mut |line| match line {
        Said::Out(line) => match serde_json::from_str(&line) {
            Ok(Message::CompilerArtifact(artifact)) => made.artifacts.push(artifact),
            Ok(Message::BuildScriptExecuted { linked_paths }) => made.native.extend(linked_paths),
            Ok(Message::Diagnostic {
                package_id,
                target,
                message,
            }) => {
                let error = message.is_error();
                let text = message.rendered.unwrap_or(message.message);
                if error {
                    errors.push(((package_id, target.kind), text))
                } else {
                    made.warnings.push(text)
                }
            }
            Ok(Message::Other) | Err(_) => {}
        },
        Said::Err(line) => match BuildProgress::parse(&line) {
            Some(step) => progress(step),
            None if line.trim().is_empty() => {}
            None => said.push(line),
        },
    });
    let start = |source| CargoError::Start {
        cargo: toolchain.cargo().to_owned(),
        source,
    };
    match (status.map_err(start)?, errors.first().cloned()) {
        (None, _) => Err(CargoError::Interrupted),
        (Some(status), _) if status.success() => Ok(made),
        (Some(_), Some(((package, kind), first))) => Err(CargoError::Compile {
            library: kind.iter().all(|kind| kind != "custom-build" && kind != "proc-macro"),
            rendered: errors.iter().map(|(_, text)| text.as_str()).collect(),
            first,
            count: errors.len(),
            package,
        }),
        (Some(_), None) => Err(failed(&said)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortened(said: &str) -> String {
        let lines: Vec<_> = said.lines().map(str::to_owned).collect();
        failed(&lines).to_string()
    }

    #[test]
    fn errors_omit_internal_details() {
        let said = "    Updating crates.io index\nerror: no matching package named `regx` found\nlocation searched: crates.io index\nrequired by package `prelude v0.0.0 (/home/a/work)`";
        assert_eq!(
            shortened(said),
            "no matching package named `regx` found\nlocation searched: crates.io index"
        );
        let said = "   Compiling a v0.1.0\nerror: failed to run custom build command for `a v0.1.0 (/home/a)`\n\nCaused by:\n  process didn't exit successfully: `/x` (exit status: 101)\n  --- stdout\n  cargo:x\n\n  --- stderr\n\n  it is broken";
        assert_eq!(shortened(said), "the build script of a v0.1.0 failed\nit is broken");
    }
}
