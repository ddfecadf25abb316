use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use lockstep_kernel::toolchain::sdk;
use lockstep_view::error::{Error, Result};
use lockstep_view::export::write;
use serde_json::json;

use crate::invocation::Invocation;

/// Create a crate of steps, with a test, a pipeline and a notebook
#[derive(Args)]
#[command(after_help = "Examples:
  lockstep new rivers && cd rivers
  lockstep run pipeline.yaml            # builds the crate, then runs its steps
  lockstep new penguins --example       # a complete example with data")]
pub struct NewArgs {
    /// Directory to create; its name is the name of the crate
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Create the penguins example: five steps, data, a pipeline and a notebook
    #[arg(long)]
    example: bool,
}

/// Names that a crate of steps can't have: crates that it uses, and keywords.
const TAKEN: [&str; 8] = ["lockstep", "std", "core", "alloc", "test", "fn", "mod", "crate"];

const MANIFEST: &str = "[package]
name = \"NAME\"
version = \"0.1.0\"
edition = \"2024\"

[dependencies]
";

const IGNORED: &str = "/target\n*.wasm\n.ipynb_checkpoints\n";

pub fn run(args: NewArgs, invocation: &Invocation) -> Result<()> {
    let NewArgs { directory, example } = args;
    let name = name_of(&directory)?;
    let is_taken = fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some());
    if is_taken || directory.is_file() {
        return Err(
            Error::user(format_args!("{} already exists", directory.display())).hint("choose a new or an empty directory")
        );
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Error::file("write", &path, &error)
    };
    let files = match example {
        true => penguins(&name),
        false => rivers(&name),
    };
    for (path, text) in &files {
        let path = directory.join(path);
        let parent = path.parent().unwrap_or(&directory);
        fs::create_dir_all(parent).map_err(failed(parent))?;
        write(&path, text.as_bytes())?;
    }
    sdk::write(&directory).map_err(failed(&directory))?;
    if !invocation.json && !invocation.quiet {
        let place = directory.display();
        anstream::eprintln!("Created crate `{name}` in {place}\nhint: cd {place} && lockstep run pipeline.yaml");
    }
    invocation.answer(format_args!(""), || json!({ "directory": directory, "name": name }))
}

/// Returns the crate name for a directory.
fn name_of(directory: &Path) -> Result<String> {
    let absolute = std::path::absolute(directory).map_err(|error| Error::file("find", directory, &error))?;
    let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let starts = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match starts && plain && !TAKEN.contains(&name.as_str()) {
        true => Ok(name),
        false => Err(Error::user(format_args!("`{name}` is not a valid crate name"))
            .hint("start with a letter and use only letters, digits, `-` and `_`, as in `lockstep new my-steps`")),
    }
}

/// Returns the files that every crate has.
fn common(name: &str, dependencies: &str) -> Vec<(&'static str, String)> {
    let manifest = format!("{MANIFEST}{dependencies}")
        .replace("NAME", name)
        .replace("SERIES", sdk::series());
    vec![
        ("Cargo.toml", manifest),
        ("Cargo.lock", sdk::cargo_lock()),
        (".cargo/config.toml", sdk::cargo_config()),
        (".gitignore", IGNORED.to_owned()),
    ]
}

fn rivers(name: &str) -> Vec<(&'static str, String)> {
    let cells = json!([
        cell("markdown", "1", &format!("# {name}\n\nSteps are functions in a cell too.")),
        cell("code", "2", ":input raw = rivers.csv\n:use ."),
        cell("code", "3", "let table = raw.table()?;\ntable.head(5)"),
        cell(
            "code",
            "4",
            &format!(
                "let rows = {}::top(&table, 10)?;\n{0}::mean(&rows, \"length_km\".to_owned())?",
                name.replace('-', "_")
            )
        ),
    ]);
    let kernel = json!({ "display_name": "Lockstep (Rust)", "language": "rust", "name": "lockstep" });
    let notebook = json!({ "cells": cells, "metadata": { "kernelspec": kernel }, "nbformat": 4, "nbformat_minor": 5 });
    let mut files = common(name, "lockstep = { package = \"lockstep-sdk\", version = \"SERIES\" }\n");
    files.extend([
        ("src/lib.rs", include_str!("new/lib.rs.txt").replace("NAME", name)),
        ("pipeline.yaml", include_str!("new/pipeline.yaml").replace("NAME", name)),
        ("rivers.csv", include_str!("new/rivers.csv").to_owned()),
        ("notebook.ipynb", format!("{notebook:#}\n")),
    ]);
    files
}

fn cell(kind: &str, id: &str, source: &str) -> serde_json::Value {
    let mut cell = json!({ "cell_type": kind, "id": id, "metadata": {}, "source": source });
    if kind == "code" {
        cell["execution_count"] = json!(null);
        cell["outputs"] = json!([]);
    }
    cell
}

fn penguins(name: &str) -> Vec<(&'static str, String)> {
    let dependencies = "lockstep = { package = \"lockstep-sdk\", version = \"SERIES\", features = [\"plotters\"] }\n";
    let dependencies = format!("{dependencies}{PENGUINS_NEED}");
    let mut files = common(name, &dependencies);
    let pipeline = include_str!("../../../examples/penguins/penguins.yaml");
    let notebook = include_str!("../../../examples/penguins/penguins.ipynb");
    files.extend([
        ("src/lib.rs", include_str!("../../../examples/penguins/src/lib.rs").to_owned()),
        (
            "src/model.rs",
            include_str!("../../../examples/penguins/src/model.rs").to_owned(),
        ),
        (
            "src/plot.rs",
            include_str!("../../../examples/penguins/src/plot.rs").to_owned(),
        ),
        (
            "penguins.csv",
            include_str!("../../../examples/penguins/penguins.csv").to_owned(),
        ),
        ("pipeline.yaml", pipeline.replace("penguins.wasm#", ".#")),
        (
            "notebook.ipynb",
            notebook.replace("penguins.wasm", &format!("{}.wasm", name.replace('-', "_"))),
        ),
    ]);
    files
}

/// Dependencies of the example besides the SDK. A test checks that the workspace has the same.
const PENGUINS_NEED: &str = "rand = { version = \"0.10\", default-features = false, features = [\"std_rng\"] }
smartcore = { version = \"0.7\", default-features = false, features = [\"serde\", \"std_rand\"] }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_needs_what_the_workspace_has() {
        let workspace = include_str!("../../../Cargo.toml");
        for line in PENGUINS_NEED.lines() {
            assert!(workspace.lines().any(|other| other == line), "{line}");
        }
    }

    #[test]
    fn a_name_is_that_of_a_crate() {
        assert_eq!(name_of(Path::new("a/my-steps")).unwrap(), "my-steps");
        assert!(name_of(Path::new("1st")).is_err());
        assert!(name_of(Path::new("lockstep")).is_err());
        assert!(name_of(Path::new("two words")).is_err());
    }
}
