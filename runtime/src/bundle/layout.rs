use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::BundleError;
use super::oci::{INDEX_FILE, LAYOUT_FILE};
use crate::digest::Digest;

/// The files of an OCI image layout, in a directory or a tar archive. Rejects unexpected names and anything but regular files.
pub(super) struct Layout {
    path: PathBuf,
    files: BTreeMap<String, Part>,
}

/// The position of a file's bytes.
struct Part {
    /// The offset in the tar archive.
    offset: u64,
    size: u64,
}

/// Magic bytes of compressed files: gzip, zstd, xz, bzip2, zip.
const COMPRESSED: [&[u8]; 5] = [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ", b"BZh", b"PK\x03\x04"];

impl Layout {
    pub(super) fn open(path: &Path) -> Result<Self, BundleError> {
        let stat = fs::metadata(path).map_err(BundleError::file("read", path))?;
        let mut layout = Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
        };
        match stat.is_dir() {
            true => layout.list_directory("")?,
            false => layout.list_tar()?,
        }
        Ok(layout)
    }

    pub(super) fn size(&self, name: &str) -> Option<u64> {
        self.files.get(name).map(|part| part.size)
    }

    /// Returns the names of all files, with their sizes.
    pub(super) fn files(&self) -> BTreeMap<String, u64> {
        self.files.iter().map(|(name, part)| (name.clone(), part.size)).collect()
    }

    /// Opens a file for reading. The reader returns at most the file's declared size.
    pub(super) fn reader(&self, name: &str) -> Result<Box<dyn Read + Send>, BundleError> {
        let part = self
            .files
            .get(name)
            .ok_or_else(|| BundleError::Absent { name: name.to_owned() })?;
        let path = match self.path.is_dir() {
            true => self.path.join(name),
            false => self.path.clone(),
        };
        let mut file = File::open(&path).map_err(BundleError::file("read", &path))?;
        file.seek(SeekFrom::Start(part.offset))
            .map_err(BundleError::file("read", &path))?;
        Ok(Box::new(file.take(part.size)))
    }

    /// Reads a whole file. Fails if it is larger than `most` bytes.
    pub(super) fn read(&self, name: &str, most: u64) -> Result<Bytes, BundleError> {
        let mut reader = self.reader(name)?;
        let size = self.size(name).unwrap_or_default();
        if size > most {
            let what = format!("`{name}` in the bundle");
            return Err(BundleError::Large { what, size, most });
        }
        let mut bytes = Vec::with_capacity(size as usize);
        reader
            .read_to_end(&mut bytes)
            .map_err(BundleError::file("read", &self.path))?;
        match bytes.len() as u64 == size {
            true => Ok(bytes.into()),
            false => Err(short(name, size)),
        }
    }

    fn list_directory(&mut self, below: &str) -> Result<(), BundleError> {
        let directory = self.path.join(below);
        let failed = || BundleError::file("list", &directory);
        for entry in fs::read_dir(&directory).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            let stat = fs::symlink_metadata(entry.path()).map_err(failed())?;
            let kind = match stat.file_type() {
                kind if kind.is_dir() => {
                    check_directory(&name)?;
                    self.list_directory(&format!("{name}/"))?;
                    continue;
                }
                kind if kind.is_file() => None,
                kind if kind.is_symlink() => Some("symbolic link"),
                _ => Some("device, pipe or socket"),
            };
            if let Some(kind) = kind {
                return Err(BundleError::Kind { name, kind });
            }
            self.add(name, 0, stat.len())?;
        }
        Ok(())
    }

    fn list_tar(&mut self) -> Result<(), BundleError> {
        let path = self.path.clone();
        let failed = || BundleError::file("read", &path);
        // the crate's own message would quote the file's content
        let damaged = |_| BundleError::Archive { path: path.clone() };
        let mut file = File::open(&path).map_err(failed())?;
        let end = file.metadata().map_err(failed())?.len();
        refuse_compressed(&mut file, &path)?;
        // raw: no header extends another, so each header can be checked by itself
        for entry in tar::Archive::new(file).entries_with_seek().map_err(damaged)?.raw(true) {
            let entry = entry.map_err(damaged)?;
            let header = entry.header();
            let name = String::from_utf8_lossy(&header.path_bytes()).into_owned();
            let (offset, size) = (entry.raw_file_position(), header.entry_size().map_err(damaged)?);
            if header.entry_type() == tar::EntryType::Directory {
                check_directory(name.strip_prefix("./").unwrap_or(&name).trim_end_matches('/'))?;
                continue;
            }
            if let Some(kind) = kind(header.entry_type()) {
                return Err(BundleError::Kind { name, kind });
            }
            if offset.checked_add(size).is_none_or(|ends| ends > end) {
                return Err(short(&name, size));
            }
            self.add(name.strip_prefix("./").unwrap_or(&name).to_owned(), offset, size)?;
        }
        Ok(())
    }

    fn add(&mut self, name: String, offset: u64, size: u64) -> Result<(), BundleError> {
        let is_blob = |hex: &str| Digest::from_hex(hex).is_ok_and(|digest| digest.hex() == hex);
        if name != LAYOUT_FILE && name != INDEX_FILE && !name.strip_prefix("blobs/sha256/").is_some_and(is_blob) {
            return Err(BundleError::Name { name });
        }
        match self.files.insert(name.clone(), Part { offset, size }) {
            None => Ok(()),
            Some(_) => Err(BundleError::Twice { name }),
        }
    }
}

/// Returns the error for a truncated file.
pub(super) fn short(name: &str, size: u64) -> BundleError {
    let name = name.to_owned();
    BundleError::Short { name, size }
}

fn check_directory(name: &str) -> Result<(), BundleError> {
    match name {
        "" | "." | "blobs" | "blobs/sha256" => Ok(()),
        _ => Err(BundleError::Name { name: name.to_owned() }),
    }
}

fn kind(entry: tar::EntryType) -> Option<&'static str> {
    use tar::EntryType;
    match entry {
        EntryType::Regular => None,
        EntryType::Symlink => Some("symbolic link"),
        EntryType::Link => Some("hard link"),
        EntryType::Char | EntryType::Block | EntryType::Fifo => Some("device or pipe"),
        EntryType::GNUSparse => Some("sparse file"),
        _ => Some("extended header"),
    }
}

fn refuse_compressed(file: &mut File, path: &Path) -> Result<(), BundleError> {
    let mut start = Vec::new();
    let failed = || BundleError::file("read", path);
    file.by_ref().take(8).read_to_end(&mut start).map_err(failed())?;
    if COMPRESSED.iter().any(|magic| start.starts_with(magic)) {
        return Err(BundleError::Compressed { path: path.to_owned() });
    }
    file.rewind().map_err(failed())
}
