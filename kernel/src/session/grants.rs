//! Files that a session imported, and whether they have changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lockstep_runtime::digest::Digest;

use super::Session;
use crate::compile::{Grant, Scope};

/// Returns the stamp of a file or directory: a digest of paths, sizes and times.
pub(super) fn stamp(path: &Path) -> Digest {
    stamp_without(path, &|_| false)
}

/// Returns the stamp of a crate's sources, without cargo's outputs and hidden files.
pub(super) fn crate_stamp(path: &Path) -> Digest {
    stamp_without(path, &|name| {
        name == "target" || name == "Cargo.lock" || name.starts_with('.')
    })
}

fn stamp_without(path: &Path, is_left_out: &dyn Fn(&str) -> bool) -> Digest {
    let mut lines = BTreeSet::new();
    collect(path, is_left_out, &mut lines);
    Digest::of(lines.into_iter().collect::<String>())
}

fn collect(path: &Path, is_left_out: &dyn Fn(&str) -> bool, lines: &mut BTreeSet<String>) {
    let Ok(stat) = path.metadata() else { return };
    lines.insert(line(path, &stat));
    if !stat.is_dir() {
        return;
    }
    for entry in path.read_dir().into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(is_left_out) {
            collect(&entry.path(), is_left_out, lines);
        }
    }
}

fn line(path: &Path, stat: &Metadata) -> String {
    // The time of a directory also changes with excluded files.
    let (size, time) = match stat.is_dir() {
        true => (0, (0, 0)),
        false => (stat.size(), (stat.mtime(), stat.mtime_nsec())),
    };
    format!("{}\0{size} {time:?} {}\n", path.display(), stat.ino())
}

/// The changed stamps that were already checked, by path.
#[derive(Default)]
pub(super) struct Checked(BTreeMap<String, Digest>);

/// Returns the living versions with a crate whose sources have changed since it was built.
pub(super) fn changed_crates(scope: &Scope, directory: &Path) -> Vec<usize> {
    let has_changed = |grant: &Grant| {
        let path = directory.join(&grant.path);
        grant.is_crate && path.is_dir() && crate_stamp(&path) != grant.stamp
    };
    let changed = scope.living().filter(|(_, version)| version.grants.iter().any(has_changed));
    changed.map(|(index, _)| index).collect()
}

impl Session {
    /// Returns notes about imported files that have changed, each once.
    pub(super) fn changed_files(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        for (_, version) in self.scope.living() {
            for grant in version.grants.iter().filter(|grant| !grant.is_crate) {
                let path = self.setup.directory.join(&grant.path);
                let now = stamp(&path);
                if now == grant.stamp || self.checked.0.get(&grant.path) == Some(&now) {
                    continue;
                }
                self.checked.0.insert(grant.path.clone(), now);
                let is = match self.setup.runtime.store.import(&path) {
                    Ok(artifact) if artifact.digest == grant.digest => continue,
                    Ok(_) => "has changed",
                    Err(_) => "has become unreadable",
                };
                notes.push(format!(
                    "`{}` {is} since [{number}] read it; re-run [{number}] to update",
                    grant.path,
                    number = version.number
                ));
            }
        }
        notes
    }
}
