//! Which modules of a crate use which, read from its syntax trees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use syn::visit::{self, Visit};

/// The path of a module below the root of its crate.
pub type Module = Vec<String>;

/// Returns the paths within the crate that each module uses. Unit tests are left out.
pub fn of_crate(source: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut uses = BTreeMap::new();
    read(source, &Vec::new(), &mut uses);
    uses
}

fn read(directory: &Path, module: &Module, uses: &mut BTreeMap<Module, BTreeSet<Module>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let below = || module.iter().cloned().chain([name.clone()]).collect::<Module>();
        if path.is_dir() {
            read(&path, &below(), uses);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !matches!(name.as_str(), "tests" | "main") {
            let module = match name.as_str() {
                "mod" | "lib" => module.clone(),
                _ => below(),
            };
            let text = std::fs::read_to_string(&path).unwrap();
            let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut found = Uses {
                module: module.clone(),
                paths: BTreeSet::new(),
            };
            found.visit_file(&file);
            uses.entry(module).or_default().extend(found.paths);
        }
    }
}

struct Uses {
    module: Module,
    paths: BTreeSet<Module>,
}

impl Uses {
    /// Adds a path if it leads into this crate.
    fn add(&mut self, path: &[String]) {
        let mut resolved = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self") => self.module.clone(),
            Some("super") => self.module[..self.module.len().saturating_sub(1)].to_vec(),
            _ => return,
        };
        for part in &path[1..] {
            match part.as_str() {
                "super" => drop(resolved.pop()),
                part => resolved.push(part.to_owned()),
            }
        }
        self.paths.insert(resolved);
    }

    fn tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.tree(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before)),
        }
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let is_cfg = attribute.path().is_ident("cfg");
        is_cfg && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'a> Visit<'a> for Uses {
    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.tree(&item.tree, &[]);
        }
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_test(&item.attrs) {
            self.module.push(item.ident.to_string());
            visit::visit_item_mod(self, item);
            self.module.pop();
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let parts: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&parts);
        visit::visit_path(self, path);
    }
}

/// Returns for each child of `parent` the other children that it uses.
pub fn between(uses: &BTreeMap<Module, BTreeSet<Module>>, parent: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let children: BTreeSet<&String> = uses
        .keys()
        .filter(|module| module.starts_with(parent))
        .filter_map(|module| module.get(parent.len()))
        .collect();
    let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, paths) in uses.iter().filter(|(module, _)| module.starts_with(parent)) {
        let Some(child) = module.get(parent.len()) else { continue };
        let used = paths.iter().filter(|path| path.starts_with(parent));
        let used = used.filter_map(|path| path.get(parent.len()));
        let others = used.filter(|other| *other != child && children.contains(other));
        edges.entry(child.clone()).or_default().extend(others.cloned());
    }
    edges
}

/// Returns the paths of all modules that have children.
pub fn parents(uses: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let below = |module: &Module| (0..module.len()).map(|length| module[..length].to_vec()).collect::<Vec<_>>();
    uses.keys().flat_map(below).collect()
}

/// Returns the names that are part of a circle.
pub fn circle(edges: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut left: BTreeMap<&String, BTreeSet<&String>> =
        edges.iter().map(|(name, used)| (name, used.iter().collect())).collect();
    loop {
        let used: BTreeSet<&String> = left.values().flatten().copied().collect();
        let free: Vec<&String> = left
            .iter()
            .filter(|(name, below)| below.is_empty() || !used.contains(*name))
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            return left.into_keys().cloned().collect();
        }
        for name in free {
            left.remove(name);
            for below in left.values_mut() {
                below.remove(name);
            }
        }
    }
}

#[test]
fn every_form_of_use_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a; mod b; mod c;");
    write("a.rs", "use crate::{b::{self, Thing as Other}, c::*};");
    write("b/mod.rs", "mod inner; fn f() -> usize { super::c::count() }");
    write(
        "b/inner.rs",
        "#[cfg(test)] mod tests { use crate::a; } mod own { use super::super::super::a::X; }",
    );
    write("c.rs", "pub fn count() -> usize { 1 }");
    let uses = of_crate(dir.path());
    let edges = between(&uses, &[]);
    let of = |name: &str| edges[name].iter().map(String::as_str).collect::<Vec<_>>();
    assert_eq!((of("a"), of("b"), of("c")), (vec!["b", "c"], vec!["a", "c"], vec![]));
    assert_eq!(circle(&edges), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    assert_eq!(parents(&uses), BTreeSet::from([vec![], vec!["b".to_owned()]]));
}
