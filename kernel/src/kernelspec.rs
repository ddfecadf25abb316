//! The kernelspec, by which Jupyter finds the kernel: a directory with `kernel.json` and logos.
//!
//! Format: <https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs>.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jupyter_protocol::JupyterKernelspec;
use serde::Serialize;
use serde_json::json;

use crate::jupyter::PROTOCOL_VERSION;

/// The logo for launchers.
pub const LOGO_SVG: &[u8] = include_bytes!("kernelspec/logo-svg.svg");
/// The logo with 64 by 64 pixels.
pub const LOGO_PNG: &[u8] = include_bytes!("kernelspec/logo-64x64.png");

/// An error installing a kernelspec.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The name has characters that Jupyter does not allow.
    #[error("`{0}` is not a valid kernel name: use letters, digits, `-`, `_` and `.`")]
    Name(String),
    /// A file could not be written.
    #[error("can't write {}: install into a writable directory, for example with --user", path.display())]
    Write {
        /// the file
        path: PathBuf,
        /// why not
        source: io::Error,
    },
}

/// Writes or replaces the kernelspec `name` in a Jupyter data directory (`~/.local/share/jupyter` or
/// `<prefix>/share/jupyter`). Jupyter shows it as `shown` and starts the kernel as `executable arguments..`, where
/// `{connection_file}` is replaced by the path of the connection file. Returns the kernelspec's directory.
pub fn install(data: &Path, name: &str, shown: &str, executable: &Path, arguments: &[String]) -> Result<PathBuf, InstallError> {
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(valid) || name.starts_with('.') {
        return Err(InstallError::Name(name.to_owned()));
    }
    let directory = data.join("kernels").join(name);
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| InstallError::Write { path, source }
    };
    fs::create_dir_all(&directory).map_err(failed(&directory))?;
    let write = |file: &str, bytes: &[u8]| {
        let path = directory.join(file);
        fs::write(&path, bytes).map_err(failed(&path))
    };
    let executable = executable.to_string_lossy();
    let argv: Vec<&str> = std::iter::once(executable.as_ref())
        .chain(arguments.iter().map(String::as_str))
        .collect();
    let spec = spec(shown, &argv);
    write("logo-svg.svg", LOGO_SVG)?;
    write("logo-64x64.png", LOGO_PNG)?;
    let path = directory.join("kernel.json");
    let json = serde_json::to_string_pretty(&spec)
        .map_err(io::Error::other)
        .map_err(failed(&path))?;
    write("kernel.json", format!("{json}\n").as_bytes())?;
    Ok(directory)
}

/// The content of `kernel.json`, with what the crate lacks.
#[derive(Serialize)]
pub struct Kernelspec {
    #[serde(flatten)]
    spec: JupyterKernelspec,
    kernel_protocol_version: &'static str,
}

/// The display name of the kernel in Jupyter.
pub const SHOWN: &str = "Lockstep (Rust)";

/// Returns the content of `kernel.json` for a kernel that `argv` starts.
pub fn spec(shown: &str, argv: &[&str]) -> Kernelspec {
    Kernelspec {
        spec: JupyterKernelspec {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            display_name: shown.to_owned(),
            language: "rust".to_owned(),
            metadata: Some(HashMap::from([("debugger".to_owned(), json!(false))])),
            interrupt_mode: Some("message".to_owned()),
            env: Some(HashMap::new()),
        },
        kernel_protocol_version: PROTOCOL_VERSION,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spec_starts_the_given_program() {
        let data = tempfile::tempdir().unwrap();
        let arguments = ["kernel", "run", "{connection_file}"].map(str::to_owned);
        let at = install(data.path(), "lockstep", SHOWN, Path::new("/opt/lockstep"), &arguments).unwrap();
        assert_eq!(at, data.path().join("kernels/lockstep"));
        let spec: serde_json::Value = serde_json::from_slice(&fs::read(at.join("kernel.json")).unwrap()).unwrap();
        assert_eq!(
            spec,
            json!({
                "argv": ["/opt/lockstep", "kernel", "run", "{connection_file}"],
                "display_name": "Lockstep (Rust)",
                "language": "rust",
                "env": {},
                "interrupt_mode": "message",
                "kernel_protocol_version": "5.5",
                "metadata": { "debugger": false },
            })
        );
        install(data.path(), "lockstep", SHOWN, Path::new("/opt/lockstep"), &arguments).unwrap();
    }

    #[test]
    fn names_stay_inside_the_directory() {
        for name in ["", "..", "a/b", "a b"] {
            assert!(matches!(
                install(Path::new("/none"), name, SHOWN, Path::new("x"), &[]),
                Err(InstallError::Name(_))
            ));
        }
    }
}
