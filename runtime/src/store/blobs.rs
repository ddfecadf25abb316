use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use object_store::path::Path as Name;
use tempfile::TempPath;

use super::StoreError;
use super::durability::{Durability, sync};
use super::index::{Index, Stamp};
use super::large::LargeFile;
use super::leases::{Lease, Leases};
use crate::digest::Digest;

/// Files up to this size, in bytes, are hashed on every read.
const SMALL: u64 = 64 << 10;

/// Immutable bytes by digest, in a directory. A file is written in `staging` and moved to its name when it is complete.
pub(super) struct Blobs {
    directory: PathBuf,
    durability: Durability,
    leases: Arc<Leases>,
    lease: Option<Lease>,
}

impl Blobs {
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        for part in ["blobs/sha256", "records/sha256", "staging"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(StoreError::file("create the store directory", &path))?;
        }
        let directory = directory
            .canonicalize()
            .map_err(StoreError::file("open the store", directory))?;
        Ok(Self {
            leases: Arc::new(Leases::new(&directory)),
            directory,
            durability: Durability::None,
            lease: None,
        })
    }

    /// Returns the same blobs with another durability.
    pub(super) fn lasting(&self, durability: Durability) -> Self {
        Self {
            durability,
            ..self.leased()
        }
    }

    /// Waits until the disk has an object that was written, if the durability requires it. `least` is the lowest durability that does.
    pub(super) fn settle(&self, path: &Path, least: Durability) -> Result<(), StoreError> {
        match self.durability >= least {
            true => sync(path).map_err(StoreError::file("sync", path)),
            false => Ok(()),
        }
    }

    /// Returns the same blobs without a lease.
    pub(super) fn unleased(&self) -> Self {
        Self {
            directory: self.directory.clone(),
            durability: self.durability,
            leases: self.leases.clone(),
            lease: None,
        }
    }

    /// Returns the same blobs with a new lease on those that are used.
    pub(super) fn leased(&self) -> Self {
        Self {
            lease: Some(self.leases.lease()),
            ..self.unleased()
        }
    }

    /// Adds an object to the lease. To be called before the object is looked for.
    fn hold(&self, digest: &Digest) -> Result<(), StoreError> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.hold(digest))
    }

    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Creates an empty file in `staging`, which is removed if it does not land.
    pub(super) fn stage(&self) -> io::Result<(File, TempPath)> {
        let file = tempfile::Builder::new().tempfile_in(self.directory.join("staging"))?;
        Ok(file.into_parts())
    }

    /// Stores bytes, unless they are there. Replaces a damaged file.
    pub(super) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        self.hold(digest)?;
        let path = self.path("blobs", digest);
        match is_there(&path, bytes).map_err(StoreError::file("read", &path))? {
            true => Ok(()),
            false => self.write(path, bytes, Durability::All),
        }
    }

    /// Stores a record, in place of an earlier one.
    pub(super) fn put_record(&self, digest: &Digest, json: &[u8]) -> Result<(), StoreError> {
        self.hold(digest)?;
        self.write(self.path("records", digest), json, Durability::Records)
    }

    fn write(&self, path: PathBuf, bytes: &[u8], least: Durability) -> Result<(), StoreError> {
        let staged = || {
            let (mut file, staged) = self.stage()?;
            file.write_all(bytes)?;
            file.set_permissions(Permissions::from_mode(0o444))?;
            Ok(staged)
        };
        let staged = staged().map_err(StoreError::file("write", &path))?;
        self.land(staged, path, least)
    }

    /// Moves a complete file from the staging directory to its final name.
    pub(super) fn take(&self, digest: &Digest, file: TempPath) -> Result<(), StoreError> {
        self.hold(digest)?;
        self.land(file, self.path("blobs", digest), Durability::All)
    }

    fn land(&self, file: TempPath, path: PathBuf, least: Durability) -> Result<(), StoreError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(StoreError::file("create", parent))?;
        }
        file.persist(&path).map_err(|e| StoreError::File {
            doing: "write",
            path: path.clone(),
            source: e.error,
        })?;
        self.settle(&path, least)
    }

    pub(super) fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.hold(digest)?;
        Ok(self.path("blobs", digest).exists())
    }

    /// Returns an error if the blob is missing or damaged. Reads it as [`get`](Self::get) does.
    pub(super) fn verify(&self, digest: &Digest, index: &Mutex<Index>) -> Result<(), StoreError> {
        match self.get_large(digest, index)? {
            Some(_) => Ok(()),
            None => self.get(digest, index).map(drop),
        }
    }

    pub(super) fn get(&self, digest: &Digest, index: &Mutex<Index>) -> Result<Bytes, StoreError> {
        self.hold(digest)?;
        let path = self.path("blobs", digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StoreError::Missing(*digest)),
            Err(source) => return Err(StoreError::file("read", &path)(source)),
        };
        let stat = file.metadata().map_err(StoreError::file("read", &path))?;
        let bytes = map(&file, stat.len()).map_err(StoreError::file("map", &path))?;
        let stamp = Stamp::of(&stat);
        let index = || index.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if stat.size() > SMALL && index().is_verified(digest, &stamp)? {
            return Ok(bytes);
        }
        let bytes = checked(digest, bytes)?;
        if stat.size() > SMALL {
            index().set_verified(digest, &stamp)?;
        }
        Ok(bytes)
    }

    /// Opens the file of `digest` if it is large, and verifies its content.
    pub(super) fn get_large(&self, digest: &Digest, index: &Mutex<Index>) -> Result<Option<LargeFile>, StoreError> {
        self.hold(digest)?;
        let path = self.path("blobs", digest);
        let Some(file) = LargeFile::open(&path)? else {
            return Ok(None);
        };
        let failed = || StoreError::file("read", &path);
        let stamp = Stamp::of(&file.metadata().map_err(failed())?);
        let index = || index.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if index().is_verified(digest, &stamp)? {
            return Ok(Some(file));
        }
        let found = file.digest().map_err(failed())?;
        if found != *digest {
            return Err(StoreError::Corrupt {
                expected: *digest,
                found,
            });
        }
        index().set_verified(digest, &stamp)?;
        Ok(Some(file))
    }

    /// Returns the digest of a blob's content, and its size; `None` if it is missing. Reads it in pieces.
    pub(super) fn measure(&self, digest: &Digest) -> Result<Option<(Digest, u64)>, StoreError> {
        let path = self.path("blobs", digest);
        if let Some(file) = LargeFile::open(&path)? {
            let found = file.digest().map_err(StoreError::file("read", &path))?;
            return Ok(Some((found, file.len())));
        }
        let bytes = fetch(&path)?;
        Ok(bytes.map(|bytes| (Digest::of(&bytes), bytes.len() as u64)))
    }

    /// Maps the file of `digest`, without verifying it.
    pub(super) fn peek(&self, digest: &Digest) -> Option<Bytes> {
        let file = File::open(self.path("blobs", digest)).ok()?;
        map(&file, file.metadata().ok()?.len()).ok()
    }

    /// Returns the modification time of an object's file.
    pub(super) fn changed(&self, kind: &str, digest: &Digest) -> Option<SystemTime> {
        self.path(kind, digest).metadata().ok()?.modified().ok()
    }

    /// Returns the stamp of a blob's file.
    pub(super) fn stamp(&self, digest: &Digest) -> Option<Stamp> {
        let stat = self.path("blobs", digest).metadata().ok()?;
        Some(Stamp::of(&stat))
    }

    pub(super) fn get_record(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.hold(digest)?;
        self.peek_record(digest)
    }

    /// Like [`get_record`](Self::get_record), but adds the record to no lease.
    pub(super) fn peek_record(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        fetch(&self.path("records", digest))
    }

    /// Returns the digests of all objects of a kind (`blobs`, `records`), sorted. Ignores names that are not digests.
    pub(super) fn list(&self, kind: &str) -> Result<Vec<Digest>, StoreError> {
        let top = self.directory.join(kind).join("sha256");
        let mut digests = Vec::new();
        for directory in names(&top)? {
            let names = names(&top.join(directory))?;
            digests.extend(names.iter().filter_map(|name| Digest::from_hex(name).ok()));
        }
        digests.sort();
        Ok(digests)
    }

    pub(super) fn remove(&self, kind: &str, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(kind, digest);
        fs::remove_file(&path).map_err(StoreError::file("remove", &path))
    }

    fn path(&self, kind: &str, digest: &Digest) -> PathBuf {
        self.directory.join(name(kind, digest).as_ref())
    }
}

/// Returns whether a file has these bytes.
fn is_there(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => {
            let len = file.metadata()?.len();
            Ok(len == bytes.len() as u64 && map(&file, len)? == bytes)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns the content of a file; `None` if it is missing.
fn fetch(path: &Path) -> Result<Option<Bytes>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StoreError::file("read", path)(source)),
    }
}

/// Returns the names in a directory. There are none if it is missing or a file.
fn names(directory: &Path) -> Result<Vec<String>, StoreError> {
    let failed = || StoreError::file("read", directory);
    let entries = match fs::read_dir(directory) {
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.map_err(failed())?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry.map_err(failed())?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect()
}

/// Returns the name of an object of a kind: `blobs/sha256/ab/ab12...`.
pub(super) fn name(kind: &str, digest: &Digest) -> Name {
    let hex = digest.hex();
    Name::from(format!("{kind}/sha256/{}/{hex}", &hex[..2]))
}

fn checked(digest: &Digest, bytes: Bytes) -> Result<Bytes, StoreError> {
    let found = Digest::of(&bytes);
    if found == *digest {
        Ok(bytes)
    } else {
        Err(StoreError::Corrupt {
            expected: *digest,
            found,
        })
    }
}

/// Reads small files and maps large ones.
fn map(file: &File, size: u64) -> io::Result<Bytes> {
    if size <= 16 << 10 {
        let mut bytes = Vec::with_capacity(size as usize);
        io::Read::read_to_end(&mut &*file, &mut bytes)?;
        return Ok(bytes.into());
    }
    // SAFETY: the map stays valid as long as nobody truncates the file. Files of the store get their final name when they are complete
    // and are never written again. A user who truncates one ends the process that maps it (SIGBUS), as in any program that maps its
    // data.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}
