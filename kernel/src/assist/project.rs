//! The crates of a draft, as a `rust-project.json` ("Non-Cargo Based Projects" in rust-analyzer's manual).
//!
//! Loading all dependencies takes twice the time and memory of loading only the crates that cells can name, and few of them
//! matter in a cell. So only crates that a session mentions are loaded with all dependencies, and std without its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::Surroundings;
use crate::toolchain::TARGET;

/// Crates that are always loaded with all their few dependencies, because the SDK's interface uses them.
const BASIC: [&str; 3] = ["anyhow", "serde", "serde_json"];

/// cargo's metadata of a package and all its dependencies.
pub(super) struct Packages {
    file: PathBuf,
    packages: BTreeMap<String, Package>,
    nodes: BTreeMap<String, Node>,
    root: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    root: Option<String>,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    /// `None` for a local directory, such as the SDK's.
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
    edition: String,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    features: Vec<String>,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    name: String,
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// `None` for a dependency of the crate itself, not of its build script or tests.
    kind: Option<String>,
}

/// Returns the path of the draft, in a missing directory of the package, so that only the sent text is read.
pub(super) fn file(package: &Path) -> PathBuf {
    package.join("draft").join("cell.rs")
}

/// Returns the public crates of std.
fn standard(library: &Path) -> [Value; 3] {
    let names = ["core", "alloc", "std"];
    let place = |place: usize| {
        let below = names[..place].iter().enumerate();
        json!({
            "display_name": names[place],
            "root_module": library.join(names[place]).join("src/lib.rs"),
            "edition": "2024",
            "deps": below.map(|(place, name)| json!({ "name": name, "crate": place })).collect::<Vec<_>>(),
            "cfg": [],
            "target": TARGET,
            "is_workspace_member": false,
        })
    };
    [place(0), place(1), place(2)]
}

impl Packages {
    /// Reads cargo's metadata without network access. Returns `None` if cargo fails.
    pub fn read(around: &Surroundings) -> Option<Self> {
        let mut command = around.toolchain.cargo_command();
        command
            .args(["metadata", "--format-version=1", "--offline", "--filter-platform", TARGET])
            .current_dir(&around.package);
        let output = command.output().ok().filter(|output| output.status.success())?;
        Self::parse(file(&around.package), &output.stdout)
    }

    fn parse(file: PathBuf, json: &[u8]) -> Option<Self> {
        let metadata: Metadata = serde_json::from_slice(json).ok()?;
        let by_id = |package: Package| (package.id.clone(), package);
        Some(Self {
            file,
            packages: metadata.packages.into_iter().map(by_id).collect(),
            nodes: metadata
                .resolve
                .nodes
                .into_iter()
                .map(|node| (node.id.clone(), node))
                .collect(),
            root: metadata.resolve.root?,
        })
    }

    /// Returns the crates that cells can name and that may be loaded without dependencies.
    pub fn optional(&self) -> BTreeSet<String> {
        let named = self.edges(&self.root).map(|edge| edge.name.clone());
        named
            .filter(|name| name != "lockstep" && !BASIC.contains(&name.as_str()))
            .collect()
    }

    /// Returns the project with the crates that cells can name, those in `whole` with all dependencies.
    pub fn project(&self, whole: &BTreeSet<String>, sysroot: &Path, library: Option<&Path>) -> Value {
        let mut taken = BTreeMap::from([(self.root.as_str(), false)]);
        for edge in self.edges(&self.root) {
            self.take(edge, whole.contains(&edge.name), &mut taken);
        }
        let libraries = taken.keys().filter_map(|id| Some((*id, self.library(id)?)));
        let libraries: Vec<(&str, (&Package, &Target))> = libraries.collect();
        let places = libraries.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
        let crates: Vec<Value> = libraries
            .iter()
            .map(|(id, (package, target))| self.describe(id, package, target, &places))
            .collect();
        let std = library.map(|library| json!({ "crates": standard(library) }));
        json!({ "sysroot": sysroot, "sysroot_src": library, "sysroot_project": std, "crates": crates })
    }

    fn edges(&self, id: &str) -> impl Iterator<Item = &Edge> {
        let edges = self.nodes.get(id).into_iter().flat_map(|node| &node.deps);
        edges.filter(|edge| {
            edge.dep_kinds.iter().any(|dependency| dependency.kind.is_none()) && self.library(&edge.pkg).is_some()
        })
    }

    fn library(&self, id: &str) -> Option<(&Package, &Target)> {
        let package = self.packages.get(id)?;
        let is_library = |kind: &String| kind.ends_with("lib") || kind == "proc-macro";
        let target = package.targets.iter().find(|target| target.kind.iter().any(is_library))?;
        Some((package, target))
    }

    fn take<'a>(&'a self, edge: &'a Edge, is_whole: bool, taken: &mut BTreeMap<&'a str, bool>) {
        let is_whole = is_whole || BASIC.contains(&edge.name.as_str());
        match taken.insert(&edge.pkg, is_whole) {
            Some(was) if was || !is_whole => drop(taken.insert(&edge.pkg, was)),
            _ => {
                for next in self.edges(&edge.pkg) {
                    let is_close = BASIC.contains(&next.name.as_str()) || self.packages[&next.pkg].source.is_none();
                    if is_whole || is_close {
                        self.take(next, is_whole, taken);
                    }
                }
            }
        }
    }

    fn describe(&self, id: &str, package: &Package, target: &Target, places: &BTreeMap<&str, usize>) -> Value {
        let is_root = id == self.root;
        let edges = self
            .edges(id)
            .filter_map(|edge| Some((&edge.name, places.get(edge.pkg.as_str())?)));
        let deps: Vec<Value> = edges.map(|(name, place)| json!({ "name": name, "crate": place })).collect();
        let features = self.nodes.get(id).into_iter().flat_map(|node| &node.features);
        let cfg: Vec<String> = features.map(|feature| format!("feature={feature:?}")).collect();
        let (name, path) = match is_root {
            true => ("cell".to_owned(), &self.file),
            false => (target.name.replace('-', "_"), &target.src_path),
        };
        json!({
            "display_name": name,
            "root_module": path,
            "edition": target.edition,
            "version": package.version,
            "deps": deps,
            "cfg": cfg,
            "env": { "CARGO_PKG_NAME": package.name, "CARGO_PKG_VERSION": package.version },
            "target": TARGET,
            "is_workspace_member": is_root,
            "is_proc_macro": target.kind.iter().any(|kind| kind == "proc-macro"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a package of the registry, or a local one if `source` is `None`.
    fn package(name: &str, source: Option<&str>, needs: &[(&str, Option<&str>)]) -> (Value, Value) {
        let target = json!({ "name": name, "kind": ["lib"], "src_path": format!("/{name}/lib.rs"), "edition": "2021" });
        let package = json!({ "id": name, "name": name, "version": "1.0.0", "source": source, "targets": [target] });
        let edge = |(name, kind): &(&str, Option<&str>)| json!({ "name": name.replace('-', "_"), "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let edges: Vec<_> = needs.iter().map(edge).collect();
        (package, json!({ "id": name, "features": ["std"], "deps": edges }))
    }

    fn packages() -> Packages {
        let registry = Some("registry");
        let all = [
            package("prelude", None, &[("arrow", None), ("lockstep", None), ("serde", None)]),
            package(
                "lockstep",
                None,
                &[("arrow-array", None), ("lockstep-macros", None), ("anyhow", None)],
            ),
            package("lockstep-macros", None, &[("syn", None)]),
            package("arrow", registry, &[("arrow-array", None), ("cc", Some("build"))]),
            package("arrow-array", registry, &[("half", None)]),
            package("serde", registry, &[("serde-core", None)]),
            package("anyhow", registry, &[]),
            package("cc", registry, &[]),
            package("half", registry, &[]),
            package("serde-core", registry, &[]),
            package("syn", registry, &[]),
        ];
        let (packages, nodes): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let json = json!({ "packages": packages, "resolve": { "root": "prelude", "nodes": nodes } });
        Packages::parse(PathBuf::from("/draft/cell.rs"), json.to_string().as_bytes()).unwrap()
    }

    fn names(project: &Value) -> Vec<&str> {
        let crates = project["crates"].as_array().unwrap();
        crates
            .iter()
            .map(|described| described["display_name"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn only_mentioned_crates_have_all_dependencies() {
        let packages = packages();
        assert_eq!(packages.optional(), BTreeSet::from(["arrow".to_owned()]));
        let project = |whole: &BTreeSet<String>| packages.project(whole, Path::new("/sysroot"), None);
        let least = [
            "anyhow",
            "arrow",
            "lockstep",
            "lockstep_macros",
            "cell",
            "serde",
            "serde_core",
        ];
        assert_eq!(names(&project(&BTreeSet::new())), least);
        let all = [
            "anyhow",
            "arrow",
            "arrow_array",
            "half",
            "lockstep",
            "lockstep_macros",
            "cell",
            "serde",
            "serde_core",
        ];
        assert_eq!(names(&project(&packages.optional())), all);
    }

    #[test]
    fn a_crate_lists_its_loaded_dependencies() {
        let project = packages().project(&BTreeSet::new(), Path::new("/sysroot"), Some(Path::new("/std")));
        let cell = &project["crates"][4];
        let deps =
            json!([{ "name": "arrow", "crate": 1 }, { "name": "lockstep", "crate": 2 }, { "name": "serde", "crate": 5 }]);
        assert_eq!((&cell["root_module"], &cell["deps"]), (&json!("/draft/cell.rs"), &deps));
        assert_eq!(project["crates"][1]["deps"], json!([]));
        assert_eq!(project["crates"][1]["cfg"], json!(["feature=\"std\""]));
        let std = &project["sysroot_project"]["crates"][2];
        assert_eq!(std["root_module"], "/std/std/src/lib.rs");
        assert_eq!(
            std["deps"],
            json!([{ "name": "core", "crate": 0 }, { "name": "alloc", "crate": 1 }])
        );
    }
}
