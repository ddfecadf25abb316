//! Embeds the sources of the SDK, so that the binary alone can compile steps and cells; see src/toolchain/sdk.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use toml::{Table, Value};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The crate where the walk over the workspace's crates starts.
const SDK: &str = "runtime/sdk";

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    let manifest = read(&root.join("Cargo.toml"))?;
    let all = manifest.get("workspace").and_then(Value::as_table).ok_or("no [workspace]")?;
    let shared = all
        .get("dependencies")
        .and_then(Value::as_table)
        .ok_or("no [workspace.dependencies]")?;

    let mut members = BTreeMap::new();
    let mut used = Table::new();
    let mut next = vec![SDK.to_owned()];
    while let Some(path) = next.pop() {
        let mut member = read(&root.join(&path).join("Cargo.toml"))?;
        // The embedded copy is not tested, so test dependencies are not needed.
        member.remove("dev-dependencies");
        for (name, _) in member.get("dependencies").and_then(Value::as_table).into_iter().flatten() {
            let Some(requirement) = shared.get(name) else { continue };
            used.insert(name.clone(), requirement.clone());
            next.extend(requirement.get("path").and_then(Value::as_str).map(str::to_owned));
        }
        members.insert(path, member);
    }
    let mut workspace = Table::new();
    for key in ["resolver", "package", "lints"] {
        workspace.extend(all.get(key).map(|value| (key.to_owned(), value.clone())));
    }
    workspace.insert("members".to_owned(), members.keys().cloned().collect::<Vec<_>>().into());
    workspace.insert("dependencies".to_owned(), used.into());
    let workspace = Table::from_iter([("workspace".to_owned(), Value::from(workspace))]);

    let lock = lock(read(&root.join("Cargo.lock"))?, &members)?;
    let mut code = format!("pub const LOCK: &str = {:?};\n", toml::to_string(&lock)?);
    code.push_str("pub const FILES: &[(&str, &str)] = &[\n");
    writeln!(code, "(\"Cargo.toml\", {:?}),", toml::to_string(&workspace)?)?;
    for (path, member) in members {
        writeln!(code, "({:?}, {:?}),", format!("{path}/Cargo.toml"), toml::to_string(&member)?)?;
        for file in sources(&root.join(path).join("src"))? {
            writeln!(code, "({:?}, include_str!({file:?})),", file.strip_prefix(&root)?)?;
        }
    }
    code.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("sdk.rs"), code)?;
    Ok(())
}

fn read(path: &Path) -> Result<Table> {
    println!("cargo::rerun-if-changed={}", path.display());
    Ok(fs::read_to_string(path)?.parse()?)
}

/// Returns all Rust files below `dir`, sorted.
fn sources(dir: &Path) -> Result<BTreeSet<PathBuf>> {
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path);
        }
    }
    Ok(found)
}

/// Reduces the lock to the packages that the SDK needs, so that other changes of the workspace don't recompile the prelude.
fn lock(mut lock: Table, members: &BTreeMap<String, Table>) -> Result<Table> {
    let mut packages = lock
        .get("package")
        .and_then(Value::as_array)
        .ok_or("no packages in Cargo.lock")?
        .clone();
    packages
        .iter_mut()
        .filter_map(Value::as_table_mut)
        .for_each(|package| without_tests(package, members));
    let name = |package: &Value| package.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut needed = BTreeSet::new();
    let mut next = vec!["lockstep-sdk".to_owned()];
    while let Some(wanted) = next.pop() {
        if !needed.insert(wanted.clone()) {
            continue;
        }
        // Compare names without versions: cargo drops an extra package.
        for package in packages.iter().filter(|package| name(package) == wanted) {
            let edges = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
            let names = edges.filter_map(Value::as_str).filter_map(|edge| edge.split(' ').next());
            next.extend(names.map(str::to_owned));
        }
    }
    packages.retain(|package| needed.contains(&name(package)));
    lock.insert("package".to_owned(), packages.into());
    Ok(lock)
}

/// Removes test dependencies of a workspace member from its lock entry.
fn without_tests(package: &mut Table, members: &BTreeMap<String, Table>) {
    let is_this = |member: &&Table| member.get("package").and_then(|own| own.get("name")) == package.get("name");
    let Some(member) = members.values().find(is_this) else {
        return;
    };
    let needed = member
        .get("dependencies")
        .and_then(Value::as_table)
        .cloned()
        .unwrap_or_default();
    let edges = package.get_mut("dependencies").and_then(Value::as_array_mut);
    let name = |edge: &Value| {
        edge.as_str()
            .and_then(|edge| edge.split(' ').next())
            .unwrap_or_default()
            .to_owned()
    };
    edges
        .into_iter()
        .for_each(|edges| edges.retain(|edge| needed.contains_key(&name(edge))));
}
