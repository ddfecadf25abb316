use std::fs::{DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::{CodeKey, SandboxError};
use crate::digest::Digest;

/// The length of the SHA-256 that follows the code in each file.
const CHECKSUM: usize = 32;
/// Opening a symbolic link fails. Its value depends on the processor.
const NO_FOLLOW: i32 = OFlags::NOFOLLOW.bits() as i32;

/// Compiled code on disk: `<directory>/<compatibility>/<digest>.cwasm`, where the compatibility is a digest of the engine's version,
/// settings and processor features.
///
/// A file consists of the code and its SHA-256. It is written under another name, synced and renamed, so neither a killed process nor a
/// power failure leaves an incomplete file. The checksum detects corruption. The cache is only a copy of what compiling gives, so after
/// any error the module is compiled again.
pub(super) struct NativeCache {
    directory: PathBuf,
    compatibility: Digest,
    owner: u32,
}

impl NativeCache {
    pub(super) fn open(directory: &Path, engine: &wasmtime::Engine) -> Result<Self, SandboxError> {
        let mut compatibility = Compatibility::default();
        engine.precompile_compatibility_hash().hash(&mut compatibility);
        let compatibility = compatibility.0.finish();
        let directory = directory.join(compatibility.hex());
        let unusable = |source| SandboxError::NativeCache {
            path: directory.display().to_string(),
            source,
        };
        let owner = prepare(&directory).map_err(unusable)?;
        Ok(Self {
            directory,
            compatibility,
            owner,
        })
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{}.cwasm", digest.hex()))
    }

    /// Returns the name of a module's code in a cache shared by several engines.
    pub(super) fn name(&self, digest: &Digest) -> Digest {
        Digest::of(format!("native {} {}", self.compatibility.hex(), digest.hex()))
    }

    /// Returns whether the cache has code for the module, which may be damaged.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Returns the sealed code of a module, if it is cached and intact.
    pub(super) fn sealed(&self, digest: &Digest, key: &CodeKey) -> Option<Vec<u8>> {
        let mut code = Vec::new();
        self.open_whole(digest)?.read_to_end(&mut code).ok()?;
        code.truncate(code.len() - CHECKSUM);
        key.seal(&self.name(digest), &mut code);
        Some(code)
    }

    /// Caches the code of a module from another machine, if its seal is valid. Returns whether it was cached.
    pub(super) fn admit(&self, sealed: &[u8], digest: &Digest, key: &CodeKey) -> bool {
        let code = key.open(&self.name(digest), sealed);
        code.is_some_and(|code| self.write(code, digest).is_ok())
    }

    /// Returns the compiled module, if it is cached and intact.
    pub(super) fn get(&self, engine: &wasmtime::Engine, digest: &Digest) -> Option<wasmtime::Module> {
        let file = self.open_whole(digest)?;
        // SAFETY: deserializing is sound for the output of `Module::serialize` of a compatible engine, as long as nobody changes the
        // file while it is mapped. We wrote this file: it is opened only once, belongs to this user, is not writable by anyone else,
        // and has the checksum from `write`. What we write comes from `serialize`, either here or on a machine with the key of its
        // seal. Nobody changes it: `write` never modifies a file with a final name, but replaces it.
        unsafe { wasmtime::Module::deserialize_open_file(engine, file) }.ok()
    }

    /// Opens the file of a module, if it is private and intact.
    fn open_whole(&self, digest: &Digest) -> Option<File> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(NO_FOLLOW)
            .open(self.path(digest))
            .ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || !is_private(&metadata, self.owner) {
            return None;
        }
        check(&mut file).ok()?;
        file.rewind().ok()?;
        Some(file)
    }

    /// Caches a compiled module. Ignores errors, which only cost time later.
    pub(super) fn put(&self, module: &wasmtime::Module, digest: &Digest) {
        if let Ok(code) = module.serialize() {
            let _ = self.write(&code, digest);
        }
    }

    fn write(&self, code: &[u8], digest: &Digest) -> io::Result<()> {
        // `tempfile` creates files that only their owner can read and write, and removes this one if it is not persisted
        let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
        file.write_all(code)?;
        file.write_all(&Sha256::digest(code))?;
        file.as_file().sync_all()?;
        file.persist(self.path(digest))?;
        Ok(())
    }
}

/// Creates the directory if necessary, and checks that no other user can write to it. Returns the user id of this process.
fn prepare(directory: &Path) -> io::Result<u32> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // a new file belongs to the effective user
    let owner = tempfile::tempfile_in(directory)?.metadata()?.uid();
    match is_private(&directory.metadata()?, owner) {
        true => Ok(owner),
        false => Err(io::Error::other("other users can write to it")),
    }
}

fn is_private(metadata: &std::fs::Metadata, owner: u32) -> bool {
    metadata.uid() == owner && metadata.mode() & 0o022 == 0
}

/// Checks that the file ends with the SHA-256 of its content.
fn check(file: &mut File) -> io::Result<()> {
    let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut hasher = Sha256::new();
    let mut left = len.checked_sub(CHECKSUM).ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut buf = vec![0; 64 << 10];
    while left > 0 {
        let piece = buf.len().min(left);
        file.read_exact(&mut buf[..piece])?;
        hasher.update(&buf[..piece]);
        left -= piece;
    }
    let mut checksum = [0; CHECKSUM];
    file.read_exact(&mut checksum)?;
    match hasher.finalize()[..] == checksum {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// A SHA-256 hasher for `Hash` types, so that the result is the same in each build.
#[derive(Default)]
struct Compatibility(crate::digest::Hasher);

impl Hasher for Compatibility {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}
