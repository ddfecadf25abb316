//! Takes the SDK's sources into the kernel, so that cells can be compiled where only the binary is: see src/toolchain/prelude.rs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use toml::{Table, Value};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const MEMBERS: [&str; 2] = ["runtime/sdk", "runtime/sdk/macros"];

fn main() -> Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    let root = root.canonicalize()?;
    let mut files = Vec::new();
    let mut inherited = BTreeSet::new();
    for member in MEMBERS {
        let manifest = root.join(member).join("Cargo.toml");
        inherited.extend(dependencies(&read(&manifest)?));
        files.push(manifest);
        collect(&root.join(member).join("src"), &mut files)?;
    }

    let workspace = toml::to_string(&workspace(read(&root.join("Cargo.toml"))?, &inherited)?)?;
    let lock = toml::to_string(&lock(read(&root.join("Cargo.lock"))?)?)?;
    let mut code = format!(
        "pub const WORKSPACE: &str = {workspace:?};\npub const FILES: &[(&str, &str)] = &[\n(\"Cargo.lock\", {lock:?}),\n"
    );
    files.sort();
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.strip_prefix(&root)?;
        writeln!(code, "({name:?}, include_str!({file:?})),")?;
    }
    code.push_str("];\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("sdk.rs"), code)?;
    Ok(())
}

fn read(path: &Path) -> Result<Table> {
    println!("cargo::rerun-if-changed={}", path.display());
    Ok(fs::read_to_string(path)?.parse()?)
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    println!("cargo::rerun-if-changed={}", dir.display());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The names in all dependency tables of a manifest.
fn dependencies(manifest: &Table) -> Vec<String> {
    let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = tables.iter().filter_map(|name| manifest.get(*name)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

/// The workspace's manifest with only the SDK in it.
fn workspace(manifest: Table, inherited: &BTreeSet<String>) -> Result<Table> {
    let all = manifest.get("workspace").and_then(Value::as_table).ok_or("no [workspace]")?;
    let mut own = Table::new();
    for (key, value) in all {
        let value = match (key.as_str(), value) {
            ("members", _) => Value::from(MEMBERS.to_vec()),
            ("dependencies", Value::Table(table)) => {
                let needed = |name: &String| inherited.contains(name) || name == "lockstep";
                table
                    .iter()
                    .filter(|(name, _)| needed(name))
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect::<Table>()
                    .into()
            }
            ("resolver" | "package" | "lints", value) => value.clone(),
            _ => continue,
        };
        own.insert(key.clone(), value);
    }
    Ok(Table::from_iter([("workspace".to_owned(), Value::Table(own))]))
}

/// The lock with only what the SDK can need, so that other changes of the workspace don't compile the prelude anew.
fn lock(mut lock: Table) -> Result<Table> {
    let packages = lock
        .get("package")
        .and_then(Value::as_array)
        .ok_or("no packages in Cargo.lock")?;
    let name = |package: &Value| package.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut needed = BTreeSet::new();
    let mut next = vec!["lockstep".to_owned()];
    while let Some(wanted) = next.pop() {
        if !needed.insert(wanted.clone()) {
            continue;
        }
        // By name alone, though it may stand with a version: one package too many does no harm, for cargo drops it.
        for package in packages.iter().filter(|package| name(package) == wanted) {
            let edges = package.get("dependencies").and_then(Value::as_array).into_iter().flatten();
            next.extend(
                edges
                    .filter_map(Value::as_str)
                    .filter_map(|edge| edge.split(' ').next())
                    .map(str::to_owned),
            );
        }
    }
    let kept: Vec<Value> = packages
        .iter()
        .filter(|package| needed.contains(&name(package)))
        .cloned()
        .collect();
    lock.insert("package".to_owned(), kept.into());
    Ok(lock)
}
