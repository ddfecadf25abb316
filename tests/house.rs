//! Checks the dependencies between crates and between modules of the runtime, as ARCHITECTURE.md describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::uses;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The crates of the workspace, and the workspace crates that each may depend on, without tests.
const EDGES: [(&str, &[&str]); 14] = [
    (
        "lockstep-host",
        &[
            "lockstep-client",
            "lockstep-cluster",
            "lockstep-kernel",
            "lockstep-kubeflow",
            "lockstep-registry",
            "lockstep-runtime",
            "lockstep-server",
            "lockstep-view",
        ],
    ),
    (
        "lockstep-server",
        &["lockstep-cluster", "lockstep-kernel", "lockstep-runtime", "lockstep-view"],
    ),
    (
        "lockstep-kubeflow",
        &["lockstep-cluster", "lockstep-view", "lockstep-runtime"],
    ),
    ("lockstep-cluster", &["lockstep-view", "lockstep-runtime"]),
    ("lockstep-client", &["lockstep-view", "lockstep-runtime"]),
    ("lockstep-registry", &["lockstep-view", "lockstep-runtime"]),
    ("lockstep-view", &["lockstep-runtime", "lockstep-sdk"]),
    ("lockstep-kernel", &["lockstep-runtime"]),
    ("lockstep-runtime", &[]),
    ("lockstep-sdk", &["lockstep-csv", "lockstep-macros", "lockstep-start"]),
    ("lockstep-csv", &[]),
    ("lockstep-macros", &[]),
    ("lockstep-start", &[]),
    ("penguins", &["lockstep-sdk"]),
];

/// External crates that only these workspace crates may depend on.
const OWNED: [(&str, &[&str]); 10] = [
    ("wasmtime", &["lockstep-runtime"]),
    ("rusqlite", &["lockstep-runtime", "lockstep-server"]),
    ("object_store", &["lockstep-runtime"]),
    ("zeromq", &["lockstep-kernel"]),
    ("landlock", &["lockstep-kernel"]),
    ("seccompiler", &["lockstep-kernel"]),
    // the server's settings are also arguments of `lockstep serve`
    ("clap", &["lockstep-host", "lockstep-server"]),
    ("axum", &["lockstep-server"]),
    // the server runs kernels in pods
    ("kube", &["lockstep-cluster", "lockstep-server"]),
    ("k8s-openapi", &["lockstep-cluster", "lockstep-host", "lockstep-server"]),
];

/// The modules of the runtime, and the modules that each may use.
const ROOMS: [(&str, &[&str]); 7] = [
    ("digest", &[]),
    ("step", &["digest"]),
    ("sandbox", &["digest", "step"]),
    ("store", &["digest", "step"]),
    ("run", &["digest", "step", "sandbox", "store"]),
    ("pipeline", &["digest", "step", "sandbox", "store", "run"]),
    ("bundle", &["digest", "step", "sandbox", "store", "run", "pipeline"]),
];

/// The sources of the crates of the house.
const SOURCES: [&str; 12] = [
    "runtime/src",
    "runtime/sdk/src",
    "runtime/sdk/macros/src",
    "kernel/src",
    "host/src",
    "host/view/src",
    "host/client/src",
    "host/cluster/src",
    "host/kubeflow/src",
    "host/registry/src",
    "host/server/src",
    "benches/src",
];

/// Modules that use each other: the sources of their crate, the module that they are in, their names. This list only gets shorter.
const CIRCLES: [(&str, &str, &[&str]); 1] = [
    // A value is an artifact, and what writes values opens the files of artifacts.
    ("runtime/sdk/src", "", &["artifact", "encoding"]),
];

/// Paths that only one module of the runtime may use.
const OWNED_WORDS: [(&str, &str); 4] = [
    ("wasmtime::", "sandbox"),
    ("rusqlite::", "store"),
    ("object_store::", "store"),
    ("tar::", "bundle"),
];

/// Functions that a library must not call: its caller passes the values in.
const TAKEN: [&str; 6] = [
    "std::env::var",
    "env::var_os(",
    "env::vars(",
    "SystemTime::now(",
    "home_dir(",
    "env::temp_dir(",
];

#[test]
fn crates_use_only_those_below() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let edges: BTreeMap<_, _> = EDGES.into_iter().collect();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let shipped = package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|d| d["kind"].is_null());
        let used: BTreeSet<&str> = shipped.filter_map(|d| d["name"].as_str()).collect();
        for (owned, owners) in OWNED {
            let allowed = owners.contains(&name) || !edges.contains_key(name);
            assert!(
                allowed || !used.contains(owned),
                "{name} depends on {owned}; only {owners:?} may depend on it"
            );
        }
        if let Some(allowed) = edges.get(name) {
            let ours = used.iter().filter(|used| edges.contains_key(**used));
            let wrong: Vec<_> = ours.filter(|used| !allowed.contains(used)).collect();
            assert!(wrong.is_empty(), "{name} depends on {wrong:?}; it may depend on {allowed:?}");
        }
    }
}

#[test]
fn rooms_use_only_those_before() {
    let runtime = Path::new(ROOT).join("runtime/src");
    let edges = uses::between(&uses::of_crate(&runtime), &[]);
    for (room, allowed) in ROOMS {
        for other in &edges[room] {
            let is_room = ROOMS.iter().any(|(room, _)| room == other);
            assert!(
                !is_room || allowed.contains(&other.as_str()),
                "room {room} of the runtime uses {other}; it may use {allowed:?}"
            );
        }
        for (file, text) in sources(&runtime.join(room)) {
            for (word, owner) in OWNED_WORDS {
                assert!(
                    room == owner || !text.contains(word),
                    "{} names {word}, which only room {owner} may use",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn modules_beside_each_other_form_no_circle() {
    for source in SOURCES {
        let uses = uses::of_crate(&Path::new(ROOT).join(source));
        for parent in uses::parents(&uses) {
            let edges = uses::between(&uses, &parent);
            let circle = uses::circle(&edges);
            let known = CIRCLES
                .iter()
                .find(|(at, path, _)| *at == source && *path == parent.join("::"));
            let known: BTreeSet<String> = known
                .map_or(&[][..], |(_, _, known)| known)
                .iter()
                .map(|name| (*name).to_owned())
                .collect();
            let edges: Vec<_> = circle
                .iter()
                .map(|name| (name, edges[name].intersection(&circle).collect::<Vec<_>>()))
                .collect();
            assert_eq!(circle, known, "circle in {source} {parent:?}: {edges:?}");
        }
    }
}

#[test]
fn libraries_are_given_their_surroundings() {
    for library in ["runtime/src", "kernel/src"] {
        let sources = sources(&Path::new(ROOT).join(library));
        assert!(sources.len() > 20, "the sources of {library} have moved");
        for (file, text) in sources {
            for taken in TAKEN {
                assert!(
                    !text.contains(taken),
                    "{} calls {taken}; take the value as an argument instead",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn the_top_level_holds_nothing_else() {
    let known = "Cargo.toml Cargo.lock Makefile README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE \
                 deny.toml clippy.toml rustfmt.toml runtime kernel host examples deploy docs tests benches target";
    for entry in std::fs::read_dir(ROOT).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            name.starts_with('.') || known.split_whitespace().any(|known| known == name),
            "unexpected top-level entry `{name}`"
        );
    }
}

/// Returns the Rust files below `directory`, without unit tests.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let code: String = code
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .collect::<Vec<_>>()
                .join("\n");
            found.push((path, code));
        }
    }
    found
}
