//! Garbage collection: finds and removes unneeded objects.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::leases;
use super::parts::parts;
use super::signatures::{self, signed};
use super::{Role, Row, Store, StoreError};
use crate::digest::Digest;

/// A staging file that was not written to for this long is stale.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Number of objects that are removed while other processes wait.
const BATCH: usize = 1000;

/// The rules for what to keep.
#[derive(Clone, Debug)]
pub struct Keep {
    /// The current time.
    pub now: SystemTime,
    /// Remove older runs, unless a root needs them.
    pub older_than: Option<Duration>,
    /// Remove the oldest runs until at most this many bytes remain, unless a root needs them.
    pub size: Option<u64>,
    /// Never remove anything younger: a process may be about to use it.
    pub grace: Duration,
    /// Artifacts and records to keep, with everything they were made from.
    pub roots: BTreeSet<Digest>,
    /// Directories of incomplete files, such as uploads. Those that were not written to for a day are removed.
    pub partial: Vec<PathBuf>,
}

/// The unneeded objects of a store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sweep {
    /// Runs that exceed the age or the size.
    pub records: Vec<Digest>,
    /// Artifacts that no remaining run and no root needs, with their sizes.
    pub artifacts: Vec<(Digest, u64)>,
    /// Files of killed processes, and signatures of removed records, with their sizes.
    pub leftovers: Vec<(PathBuf, u64)>,
    /// Number of artifacts to keep.
    pub kept: u64,
    /// Total size of these artifacts, in bytes.
    pub kept_bytes: u64,
    pub(super) before: Option<SystemTime>,
    /// The roots, with what running work used.
    pub(super) roots: BTreeSet<Digest>,
    /// All records that existed.
    pub(super) known: BTreeSet<Digest>,
    /// What the records to remove need.
    pub(super) needs: BTreeMap<Digest, BTreeSet<Digest>>,
}

impl Sweep {
    /// Returns the number of bytes to free.
    pub fn bytes(&self) -> u64 {
        let artifacts = self.artifacts.iter().map(|(_, size)| size);
        artifacts.chain(self.leftovers.iter().map(|(_, size)| size)).sum()
    }

    /// Returns the number of files to remove.
    pub fn count(&self) -> usize {
        self.records.len() + self.artifacts.len() + self.leftovers.len()
    }
}

/// A file of the store.
struct File {
    size: u64,
    changed: SystemTime,
}

/// The files of the store.
#[derive(Default)]
struct Inventory {
    blobs: BTreeMap<Digest, File>,
    records: BTreeMap<Digest, File>,
    /// Signatures, with their records.
    signatures: Vec<(Digest, PathBuf, File)>,
    /// Files without a final name, which were being written.
    unnamed: Vec<(PathBuf, File)>,
}

impl Inventory {
    fn read(directory: &Path, partial: &[PathBuf]) -> Result<Self, StoreError> {
        let mut inventory = Self {
            signatures: signatures(&directory.join(signatures::DIRECTORY))?,
            unnamed: entries(&directory.join("staging"))?,
            ..Self::default()
        };
        for directory in partial.iter().filter(|directory| directory.is_dir()) {
            inventory.unnamed.extend(entries(directory)?);
        }
        for part in ["blobs", "records"] {
            for shelf in directories(&directory.join(part).join("sha256"))? {
                for (path, file) in entries(&shelf)? {
                    let name = path.file_name().and_then(|name| name.to_str());
                    match (name.and_then(|name| Digest::from_hex(name).ok()), part) {
                        (Some(digest), "blobs") => drop(inventory.blobs.insert(digest, file)),
                        (Some(digest), _) => drop(inventory.records.insert(digest, file)),
                        (None, _) => inventory.unnamed.push((path, file)),
                    }
                }
            }
        }
        Ok(inventory)
    }
}

/// The blobs to keep.
struct Kept<'a> {
    store: &'a Store,
    blobs: &'a BTreeMap<Digest, File>,
    digests: BTreeSet<Digest>,
    bytes: u64,
}

impl Kept<'_> {
    /// Returns those of these blobs and their parts that exist and are not kept yet, and their total size.
    fn missing(&self, digests: impl IntoIterator<Item = Digest>) -> (BTreeSet<Digest>, u64) {
        let (mut open, mut all, mut bytes): (Vec<Digest>, _, _) = (digests.into_iter().collect(), BTreeSet::new(), 0);
        while let Some(digest) = open.pop() {
            let Some(file) = self.blobs.get(&digest) else { continue };
            if !self.digests.contains(&digest) && all.insert(digest) {
                bytes += file.size;
                open.extend(self.store.blobs.peek(&digest).map_or_else(Vec::new, |bytes| parts(&bytes)));
            }
        }
        (all, bytes)
    }

    /// Keeps these blobs, unless that exceeds `most` bytes in total. Returns whether they are kept.
    fn keep(&mut self, digests: impl IntoIterator<Item = Digest>, most: u64) -> bool {
        let (digests, bytes) = self.missing(digests);
        let fits = self.bytes + bytes <= most;
        if fits {
            self.digests.extend(digests);
            self.bytes += bytes;
        }
        fits
    }
}

impl Keep {
    fn is_older(&self, time: SystemTime, than: Duration) -> bool {
        self.now.duration_since(time).is_ok_and(|age| age > than)
    }

    fn is_too_old(&self, row: &Row) -> bool {
        let started = SystemTime::UNIX_EPOCH + Duration::from_millis(row.started_ms);
        self.older_than.is_some_and(|limit| self.is_older(started, limit))
    }
}

impl Store {
    /// Finds the unneeded objects of the store. `rows` are the rows of all records.
    pub(crate) fn plan_sweep(&self, rows: &[Row], keep: &Keep) -> Result<Sweep, StoreError> {
        let directory = self.directory();
        let mut roots = leases::held(directory)?;
        roots.extend(&keep.roots);
        let inventory = Inventory::read(directory, &keep.partial)?;
        let mut kept = Kept {
            store: self,
            blobs: &inventory.blobs,
            digests: BTreeSet::new(),
            bytes: 0,
        };
        let rooted = rooted(rows, &roots);
        let stays = |row: &&Row| {
            let file = inventory.records.get(&row.record);
            rooted.contains(&row.record) || file.is_none_or(|file| !keep.is_older(file.changed, keep.grace))
        };
        let (fixed, mut free): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(stays);
        kept.keep(roots.iter().copied(), u64::MAX);
        kept.keep(fixed.into_iter().flat_map(Row::needs), u64::MAX);
        free.sort_by_key(|row| (Reverse(row.started_ms), row.record));
        let most = keep.size.unwrap_or(u64::MAX);
        let fits = |row: &&&Row| !keep.is_too_old(row) && kept.keep(row.needs(), most);
        let left = free.iter().take_while(fits).count();
        let needs = free[left..].iter().map(|row| (row.record, row.needs().collect()));
        Ok(Sweep {
            roots,
            known: rows.iter().map(|row| row.record).collect(),
            ..sweep(&inventory, &kept.digests, needs.collect(), keep)
        })
    }

    /// Removes the objects of a sweep, except for those that were written or used since. Calls `tell` for each file.
    pub(crate) fn carry_out(
        &self,
        sweep: &Sweep,
        row: impl Fn(&Digest, &[u8]) -> Option<Row>,
        mut tell: impl FnMut(),
    ) -> Result<(), StoreError> {
        let directory = self.directory();
        // records first, so that an interruption leaves no record without its artifacts
        let records = sweep.records.iter().map(|record| ("records", *record));
        let objects = records.chain(sweep.artifacts.iter().map(|(digest, _)| ("blobs", *digest)));
        let objects: Vec<(&str, Digest)> = objects.collect();
        let mut used = Used::default();
        for batch in objects.chunks(BATCH) {
            let _closed = leases::close(directory)?;
            used.update(self, directory, sweep, &row)?;
            let is_new = |kind, digest| {
                self.blobs
                    .changed(kind, digest)
                    .is_some_and(|changed| Some(changed) >= sweep.before)
            };
            let mut removed: BTreeMap<&str, Vec<Digest>> = BTreeMap::new();
            for (kind, digest) in batch {
                if !used.objects.contains(digest) && !is_new(kind, digest) {
                    gone(self.blobs.remove(kind, digest))?;
                    removed.entry(kind).or_default().push(*digest);
                } else if let Some(needs) = sweep.needs.get(digest) {
                    used.add(self, needs.iter().copied());
                }
                tell();
            }
            let of = |kind: &str| removed.get(kind).map_or(&[][..], Vec::as_slice);
            self.index().forget(of("records"), of("blobs"))?;
        }
        let is_kept = |record| self.blobs.changed("records", &record).is_some();
        for (path, _) in &sweep.leftovers {
            if !signed(path).is_some_and(is_kept) {
                // another sweep may have removed it
                let _ = fs::remove_file(path);
            }
            tell();
        }
        Ok(())
    }
}

/// What work has used since a sweep was planned, with everything that this needs.
#[derive(Default)]
struct Used {
    objects: BTreeSet<Digest>,
    /// New records.
    records: BTreeSet<Digest>,
}

impl Used {
    fn update(
        &mut self,
        store: &Store,
        directory: &Path,
        sweep: &Sweep,
        row: impl Fn(&Digest, &[u8]) -> Option<Row>,
    ) -> Result<(), StoreError> {
        let mut roots = leases::held(directory)?;
        roots.extend(store.pins()?);
        for root in roots.difference(&sweep.roots) {
            let needs = sweep.needs.get(root).into_iter().flatten();
            self.add(store, needs.chain([root]).copied());
        }
        for record in store.blobs.list("records")? {
            if !sweep.known.contains(&record) && self.records.insert(record) {
                let json = store.blobs.peek_record(&record)?;
                let row = json.and_then(|json| row(&record, &json));
                self.add(store, row.iter().flat_map(Row::needs));
            }
        }
        Ok(())
    }

    /// Adds objects and their parts.
    fn add(&mut self, store: &Store, digests: impl IntoIterator<Item = Digest>) {
        let mut open: Vec<Digest> = digests.into_iter().collect();
        while let Some(digest) = open.pop() {
            if self.objects.insert(digest) {
                open.extend(store.blobs.peek(&digest).map_or_else(Vec::new, |bytes| parts(&bytes)));
            }
        }
    }
}

fn sweep(inventory: &Inventory, kept: &BTreeSet<Digest>, needs: BTreeMap<Digest, BTreeSet<Digest>>, keep: &Keep) -> Sweep {
    let needless = |digest: &Digest, file: &File| !kept.contains(digest) && keep.is_older(file.changed, keep.grace);
    let needless = inventory.blobs.iter().filter(|(digest, file)| needless(digest, file));
    let artifacts: Vec<(Digest, u64)> = needless.map(|(digest, file)| (*digest, file.size)).collect();
    let stale = inventory
        .unnamed
        .iter()
        .filter(|(_, file)| keep.is_older(file.changed, STALE));
    let stale = stale.map(|(path, file)| (path.clone(), file.size));
    let orphaned = |(record, _, file): &&(Digest, PathBuf, File)| {
        let goes = needs.contains_key(record) || !inventory.records.contains_key(record);
        goes && keep.is_older(file.changed, keep.grace)
    };
    let orphaned = inventory.signatures.iter().filter(orphaned);
    let leftovers = stale.chain(orphaned.map(|(_, path, file)| (path.clone(), file.size)));
    let leftovers = leftovers.collect();
    let all: u64 = inventory.blobs.values().map(|file| file.size).sum();
    Sweep {
        records: needs.keys().copied().collect(),
        needs,
        kept: (inventory.blobs.len() - artifacts.len()) as u64,
        kept_bytes: all - artifacts.iter().map(|(_, size)| size).sum::<u64>(),
        artifacts,
        leftovers,
        before: keep.now.checked_sub(keep.grace),
        ..Sweep::default()
    }
}

/// Returns the signatures below `directory`, which exists only if something was signed.
fn signatures(directory: &Path) -> Result<Vec<(Digest, PathBuf, File)>, StoreError> {
    let mut found = Vec::new();
    if !directory.is_dir() {
        return Ok(found);
    }
    for shelf in directories(directory)? {
        let named = |(path, file): (PathBuf, File)| Some((signed(&path)?, path, file));
        found.extend(entries(&shelf)?.into_iter().filter_map(named));
    }
    Ok(found)
}

/// Returns the records among the roots, the records that made the roots, and the records of everything these were made from.
fn rooted(rows: &[Row], roots: &BTreeSet<Digest>) -> BTreeSet<Digest> {
    let mut makers: BTreeMap<Digest, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        for link in row.links.iter().filter(|link| link.role == Role::Output) {
            makers.entry(link.artifact).or_default().push(row);
        }
    }
    let mut rooted = BTreeSet::new();
    let is_root = |row: &&Row| roots.contains(&row.record);
    let made = roots.iter().filter_map(|root| makers.get(root)).flatten().copied();
    let mut open: Vec<&Row> = rows.iter().filter(is_root).chain(made).collect();
    while let Some(row) = open.pop() {
        if rooted.insert(row.record) {
            let read = row.links.iter().filter(|link| link.role == Role::Input);
            open.extend(read.filter_map(|link| makers.get(&link.artifact)).flatten());
        }
    }
    rooted
}

/// Ignores the error that the object does not exist.
fn gone(removed: Result<(), StoreError>) -> Result<(), StoreError> {
    match removed {
        Err(StoreError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Returns the files of a directory. Ignores files that disappear meanwhile.
fn entries(directory: &Path) -> Result<Vec<(PathBuf, File)>, StoreError> {
    let mut files = Vec::new();
    for path in paths(directory)? {
        let Ok(stat) = path.metadata() else { continue };
        if let (true, Ok(changed)) = (stat.is_file(), stat.modified()) {
            let size = stat.len();
            files.push((path, File { size, changed }));
        }
    }
    Ok(files)
}

fn directories(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    Ok(paths(directory)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn paths(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = fs::read_dir(directory).map_err(StoreError::file("list", directory))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    paths.map_err(StoreError::file("list", directory))
}
