use std::path::Path;

use serde::Serialize;

use super::{Confinement, Locations, Prelude, TARGET, Toolchain, ToolchainError};

/// The check of one requirement.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Check {
    /// The requirement.
    pub name: &'static str,
    /// The result.
    pub state: CheckState,
    /// Details, in one line.
    pub detail: String,
    /// The command that fixes it.
    pub mend: Option<String>,
}

/// The result of a check.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// The requirement is met.
    Ok,
    /// The requirement is optional, or lockstep fulfils it when needed.
    Warning,
    /// The requirement is not met, and some commands will fail.
    Missing,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            state: CheckState::Ok,
            detail: detail.into(),
            mend: None,
        }
    }

    fn bad(name: &'static str, state: CheckState, detail: impl Into<String>, mend: &str) -> Self {
        Self {
            name,
            state,
            detail: detail.into(),
            mend: Some(mend.to_owned()),
        }
    }
}

/// Checks the requirements of cells and step crates. Running modules needs none of them. `jupyter` is the Jupyter command, if
/// the caller found one.
pub fn doctor(locations: &Locations, jupyter: Option<&Path>) -> Vec<Check> {
    let mut checks = Vec::new();
    match Toolchain::find(locations) {
        Ok(toolchain) => {
            checks.push(Check::ok(
                "rustc",
                format!("{} at {}", toolchain.title(), toolchain.rustc().display()),
            ));
            checks.push(Check::ok("cargo", toolchain.cargo().display().to_string()));
            checks.push(Check::ok("target", TARGET));
            let linker = toolchain.linker();
            checks.push(match linker.is_file() {
                true => Check::ok("linker", linker.display().to_string()),
                false => Check::bad(
                    "linker",
                    CheckState::Missing,
                    format!("{} is missing", linker.display()),
                    "lockstep toolchain install",
                ),
            });
            let ready = |prelude: Prelude| prelude.ready(&toolchain, &locations.cache).is_some();
            checks.push(match ready(Prelude::new()) {
                true => Check::ok("prelude", "built"),
                false => Check::bad(
                    "prelude",
                    CheckState::Warning,
                    "not built yet: the first notebook will take a minute to start",
                    "lockstep toolchain install",
                ),
            });
            checks.push(match ready(Prelude::common()) {
                true => Check::ok("crates", "common crates are compiled"),
                false => Check::bad(
                    "crates",
                    CheckState::Warning,
                    "common crates are not compiled: `:dep` compiles them when needed",
                    "lockstep toolchain install --crates",
                ),
            });
            checks.push(confined());
            checks.push(analyzer(&toolchain));
        }
        Err(error) => checks.extend(without_toolchain(locations, &error)),
    }
    checks.push(match jupyter {
        Some(path) => Check::ok("jupyter", path.display().to_string()),
        None => Check::bad(
            "jupyter",
            CheckState::Warning,
            "not found: required for notebooks",
            "pip install jupyterlab",
        ),
    });
    checks.push(cache_dir(&locations.cache));
    checks
}

fn confined() -> Check {
    let name = "confined";
    match Confinement::gap() {
        None => Check::ok(
            name,
            "build scripts and proc macros have no network and can only access their own files",
        ),
        Some(gap) => {
            let detail = format!("build scripts and proc macros have access to {gap}");
            Check::bad(
                name,
                CheckState::Warning,
                detail,
                "use Linux 6.2 or later with Landlock enabled",
            )
        }
    }
}

fn analyzer(toolchain: &Toolchain) -> Check {
    let name = "rust-analyzer";
    match toolchain.rust_analyzer() {
        None => Check::bad(
            name,
            CheckState::Warning,
            "not found: completion is limited to names of the session",
            "rustup component add rust-analyzer rust-src",
        ),
        Some(found) if found.library.is_none() => Check::bad(
            name,
            CheckState::Warning,
            format!(
                "{} found, but not the sources of std: no completion of std names",
                found.version
            ),
            "rustup component add rust-src",
        ),
        Some(found) => Check::ok(name, format!("{} at {}", found.version, found.path.display())),
    }
}

fn without_toolchain(locations: &Locations, error: &ToolchainError) -> Vec<Check> {
    let look = |name: &'static str| match locations.ask(name, &["--version"]) {
        Some(version) => Check::ok(name, version.trim_end()),
        None => Check::bad(name, CheckState::Missing, "not found on PATH", "lockstep toolchain install"),
    };
    let text = error.to_string();
    let detail = text.lines().next().unwrap_or_default();
    let mend = match error {
        ToolchainError::TooOld { .. } => "rustup update stable",
        _ => "lockstep toolchain install",
    };
    vec![
        look("rustc"),
        look("cargo"),
        Check::bad("target", CheckState::Missing, detail, mend),
    ]
}

fn cache_dir(cache: &Path) -> Check {
    let written = std::fs::create_dir_all(cache).and_then(|()| tempfile::tempfile_in(cache));
    match written {
        Ok(_) => Check::ok("cache", cache.display().to_string()),
        Err(error) => {
            let detail = format!("can't write to {}: {error}", cache.display());
            Check::bad(
                "cache",
                CheckState::Missing,
                detail,
                "export XDG_CACHE_HOME=/path/to/a/writable/directory",
            )
        }
    }
}
