use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use futures::executor::block_on;
use futures::stream::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Name;
use object_store::{ObjectStore, ObjectStoreExt};

use super::StoreError;
use super::durability::{Durability, sync};
use super::index::{Index, Stamp};
use super::large::LargeFile;
use super::leases::{Lease, Leases};
use crate::digest::Digest;

/// Files up to this size, in bytes, are hashed on every read.
const SMALL: u64 = 64 << 10;

/// Immutable bytes by digest, in an object store. With a directory, files can be mapped, and staged files are moved in by renaming.
pub(super) struct Blobs {
    objects: Arc<dyn ObjectStore>,
    directory: Option<PathBuf>,
    durability: Durability,
    leases: Option<Arc<Leases>>,
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
        let objects = LocalFileSystem::new_with_prefix(&directory).map_err(StoreError::backend(&Name::default()))?;
        Ok(Self {
            objects: Arc::new(objects),
            leases: Some(Arc::new(Leases::new(&directory))),
            directory: Some(directory),
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
            objects: self.objects.clone(),
            directory: self.directory.clone(),
            durability: self.durability,
            leases: self.leases.clone(),
            lease: None,
        }
    }

    /// Returns the same blobs with a new lease on those that are used, in a directory store.
    pub(super) fn leased(&self) -> Self {
        Self {
            lease: self.leases.as_ref().map(Leases::lease),
            ..self.unleased()
        }
    }

    /// Adds an object to the lease. To be called before the object is looked for.
    fn hold(&self, digest: &Digest) -> Result<(), StoreError> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.hold(digest))
    }

    pub(super) fn over(objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            objects,
            directory: None,
            durability: Durability::None,
            leases: None,
            lease: None,
        }
    }

    pub(super) fn durability(&self) -> Durability {
        self.durability
    }

    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Stores bytes, unless they are there. Replaces a damaged file.
    pub(super) fn put(&self, digest: &Digest, bytes: Bytes) -> Result<(), StoreError> {
        self.hold(digest)?;
        let name = name("blobs", digest);
        match self.holds(&name, &bytes)? {
            true => Ok(()),
            false => self.put_object(&name, bytes, Durability::All),
        }
    }

    /// Stores a record, in place of an earlier one.
    pub(super) fn put_record(&self, digest: &Digest, json: Bytes) -> Result<(), StoreError> {
        self.hold(digest)?;
        self.put_object(&name("records", digest), json, Durability::Records)
    }

    fn put_object(&self, name: &Name, bytes: Bytes, least: Durability) -> Result<(), StoreError> {
        block_on(self.objects.put(name, bytes.into())).map_err(StoreError::backend(name))?;
        self.path(name).map_or(Ok(()), |path| self.settle(&path, least))
    }

    /// Returns whether an object has these bytes.
    fn holds(&self, name: &Name, bytes: &Bytes) -> Result<bool, StoreError> {
        let Some(path) = self.path(name) else {
            return self.has(name);
        };
        let failed = || StoreError::file("read", &path);
        match File::open(&path) {
            Ok(file) => {
                let len = file.metadata().map_err(failed())?.len();
                Ok(len == bytes.len() as u64 && map(&file, len).map_err(failed())? == *bytes)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(failed()(source)),
        }
    }

    /// Moves a complete file from the staging directory to its final name.
    pub(super) fn take(&self, digest: &Digest, file: tempfile::TempPath) -> Result<(), StoreError> {
        let Some(path) = self.path(&name("blobs", digest)) else {
            let bytes = fs::read(&file).map_err(StoreError::file("read", &file))?;
            return self.put(digest, bytes.into());
        };
        self.hold(digest)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(StoreError::file("create", parent))?;
        }
        file.persist(&path).map_err(|e| StoreError::File {
            doing: "write",
            path: path.clone(),
            source: e.error,
        })?;
        self.settle(&path, Durability::All)
    }

    pub(super) fn contains(&self, digest: &Digest) -> Result<bool, StoreError> {
        self.hold(digest)?;
        self.has(&name("blobs", digest))
    }

    /// Returns an error if the blob is missing or damaged. Reads it as [`get`](Self::get) does.
    pub(super) fn verify(&self, digest: &Digest, index: &Mutex<Index>) -> Result<(), StoreError> {
        if self.directory.is_none() {
            // bytes in memory don't change
            return self.contains(digest)?.then_some(()).ok_or(StoreError::Missing(*digest));
        }
        match self.get_large(digest, index)? {
            Some(_) => Ok(()),
            None => self.get(digest, index).map(drop),
        }
    }

    fn has(&self, name: &Name) -> Result<bool, StoreError> {
        if let Some(path) = self.path(name) {
            return Ok(path.exists());
        }
        match block_on(self.objects.head(name)) {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(source) => Err(StoreError::backend(name)(source)),
        }
    }

    pub(super) fn get(&self, digest: &Digest, index: &Mutex<Index>) -> Result<Bytes, StoreError> {
        self.hold(digest)?;
        let name = name("blobs", digest);
        let Some(path) = self.path(&name) else {
            let bytes = self.fetch(&name)?.ok_or(StoreError::Missing(*digest))?;
            return checked(digest, bytes);
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err(StoreError::Missing(*digest)),
            Err(source) => {
                return Err(StoreError::File {
                    doing: "read",
                    path,
                    source,
                });
            }
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
        let Some(path) = self.path(&name("blobs", digest)) else {
            return Ok(None);
        };
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
        let name = name("blobs", digest);
        if let Some(path) = self.path(&name)
            && let Some(file) = LargeFile::open(&path)?
        {
            let found = file.digest().map_err(StoreError::file("read", &path))?;
            return Ok(Some((found, file.len())));
        }
        let bytes = self.fetch(&name)?;
        Ok(bytes.map(|bytes| (Digest::of(&bytes), bytes.len() as u64)))
    }

    /// Maps the file of `digest` in a directory store, without verifying it.
    pub(super) fn peek(&self, digest: &Digest) -> Option<Bytes> {
        let file = File::open(self.path(&name("blobs", digest))?).ok()?;
        map(&file, file.metadata().ok()?.len()).ok()
    }

    /// Returns the modification time of an object's file, in a directory store.
    pub(super) fn changed(&self, kind: &str, digest: &Digest) -> Option<SystemTime> {
        self.path(&name(kind, digest))?.metadata().ok()?.modified().ok()
    }

    /// Returns the stamp of a blob's file, in a directory store.
    pub(super) fn stamp(&self, digest: &Digest) -> Option<Stamp> {
        let stat = self.path(&name("blobs", digest))?.metadata().ok()?;
        Some(Stamp::of(&stat))
    }

    pub(super) fn get_record(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.hold(digest)?;
        self.peek_record(digest)
    }

    /// Like [`get_record`](Self::get_record), but adds the record to no lease.
    pub(super) fn peek_record(&self, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.fetch(&name("records", digest))
    }

    fn fetch(&self, name: &Name) -> Result<Option<Bytes>, StoreError> {
        if let Some(path) = self.path(name) {
            return match fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes.into())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(StoreError::File {
                    doing: "read",
                    path,
                    source,
                }),
            };
        }
        match block_on(async { self.objects.get(name).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(StoreError::backend(name)(source)),
        }
    }

    /// Returns the digests of all objects of a kind (`blobs`, `records`), sorted. Ignores names that are not digests.
    pub(super) fn list(&self, kind: &str) -> Result<Vec<Digest>, StoreError> {
        let prefix = Name::from(kind);
        let all = block_on(self.objects.list(Some(&prefix)).try_collect::<Vec<_>>()).map_err(StoreError::backend(&prefix))?;
        let digest = |name: &Name| Digest::from_hex(name.filename()?).ok();
        let mut digests: Vec<_> = all.iter().filter_map(|meta| digest(&meta.location)).collect();
        digests.sort();
        Ok(digests)
    }

    pub(super) fn remove(&self, kind: &str, digest: &Digest) -> Result<(), StoreError> {
        let name = name(kind, digest);
        block_on(self.objects.delete(&name)).map_err(StoreError::backend(&name))
    }

    fn path(&self, name: &Name) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(name.as_ref()))
    }
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
fn map(file: &File, size: u64) -> std::io::Result<Bytes> {
    if size <= 16 << 10 {
        let mut bytes = Vec::with_capacity(size as usize);
        std::io::Read::read_to_end(&mut &*file, &mut bytes)?;
        return Ok(bytes.into());
    }
    // SAFETY: the map stays valid as long as nobody truncates the file. Files of the store get their final name when they are complete
    // and are never written again. A user who truncates one ends the process that maps it (SIGBUS), as in any program that maps its
    // data.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}
