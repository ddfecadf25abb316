use std::collections::BTreeMap;
use std::fs::{self, File, FileType};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use super::index::Stamp;
use super::{Store, StoreError};
use crate::digest::{Digest, canonical_json};
use crate::step::{Artifact, MediaType};

/// Files of at least this size, in bytes, are not read again if they have not changed.
const LARGE: u64 = 1 << 20;

/// Maximum nesting depth of directories. Also stops at loops of symbolic links.
const DEPTH: usize = 64;

pub(super) fn import(store: &Store, path: &Path) -> Result<Artifact, StoreError> {
    let stat = fs::metadata(path).map_err(StoreError::file("read", path))?;
    let artifact = if stat.is_dir() {
        import_directory(store, path)?
    } else {
        import_file(store, path)?
    };
    store.index().add_artifact(&artifact)?;
    Ok(artifact)
}

fn import_file(store: &Store, path: &Path) -> Result<Artifact, StoreError> {
    let failed = || StoreError::file("read", path);
    // first: opening a FIFO waits for its writer
    check_kind(fs::metadata(path).map_err(failed())?.file_type()).map_err(failed())?;
    let mut file = File::open(path).map_err(failed())?;
    let stat = file.metadata().map_err(failed())?;
    check_kind(stat.file_type()).map_err(failed())?;
    let artifact = |digest, size| Artifact {
        digest,
        media_type: MediaType::of_path(path),
        size,
    };
    let stamp = Stamp::of(&stat);
    // not in the condition below, which would hold the index while it is used
    let known = match stat.len() >= LARGE {
        true => store.index().grant(&stamp)?,
        false => None,
    };
    if let Some(digest) = known
        && store.contains(&digest)?
    {
        return Ok(artifact(digest, stat.len()));
    }
    let mut writer = store.writer();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(failed()(source)),
        };
        writer
            .write_at(writer.len(), &buffer[..count])
            .map_err(StoreError::file("copy into the store", path))?;
    }
    let (digest, size) = writer.finish()?;
    if size >= LARGE
        && let Some(now) = store.blobs.stamp(&digest)
        && stamp.is_settled(&now)
    {
        store.index().set_grant(&stamp, &digest)?;
    }
    Ok(artifact(digest, size))
}

/// Returns an error unless `kind` is a regular file.
fn check_kind(kind: FileType) -> io::Result<()> {
    let what = match kind {
        _ if kind.is_file() => return Ok(()),
        _ if kind.is_fifo() => "a FIFO",
        _ if kind.is_socket() => "a socket",
        _ if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => "not a regular file or directory",
    };
    Err(io::Error::other(format!(
        "it is {what}; inputs are regular files and directories"
    )))
}

fn import_directory(store: &Store, path: &Path) -> Result<Artifact, StoreError> {
    let mut files = BTreeMap::new();
    let root = path.canonicalize().map_err(StoreError::file("read", path))?;
    collect(store, &root, path, "", DEPTH, &mut files)?;
    put_directory(store, &files)
}

/// Stores a directory of `files`. The media types of its files are derived from their names, so that its digest does not depend on who
/// created it.
pub(super) fn put_directory(store: &Store, files: &BTreeMap<String, Artifact>) -> Result<Artifact, StoreError> {
    let by_name = |(path, file): (&String, &Artifact)| {
        let media_type = MediaType::of_path(path.as_ref());
        (
            path.clone(),
            Artifact {
                media_type,
                ..file.clone()
            },
        )
    };
    let files: BTreeMap<String, Artifact> = files.iter().map(by_name).collect();
    let manifest = canonical_json(&files).map_err(|source| StoreError::Manifest {
        digest: Digest::of([]),
        reason: source.to_string(),
    })?;
    let directory = store.put_artifact(manifest, &MediaType::new(MediaType::DIRECTORY))?;
    store.index().add_entries(&directory.digest, files.values())?;
    Ok(directory)
}

/// Imports the files of a directory. Follows symbolic links to targets in `root`.
fn collect(
    store: &Store,
    root: &Path,
    directory: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, Artifact>,
) -> Result<(), StoreError> {
    let failed = |path: &Path| StoreError::file("read", path);
    if depth == 0 {
        let reason = format!("directories are nested more than {DEPTH} levels deep, or symbolic links form a loop");
        return Err(failed(directory)(io::Error::other(reason)));
    }
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(failed(&path)(io::Error::other("the file name is not valid UTF-8")));
        };
        let name = format!("{prefix}{name}");
        if fs::symlink_metadata(&path).map_err(failed(&path))?.is_symlink() {
            check_link(&path, root).map_err(failed(&path))?;
        }
        if fs::metadata(&path).map_err(failed(&path))?.is_dir() {
            collect(store, root, &path, &format!("{name}/"), depth - 1, files)?;
        } else {
            files.insert(name, import_file(store, &path)?);
        }
    }
    Ok(())
}

/// Checks that the target of a symbolic link exists and is in `root`.
fn check_link(path: &Path, root: &Path) -> io::Result<()> {
    let target = path.canonicalize().map_err(|source| {
        let target = fs::read_link(path).unwrap_or_default();
        io::Error::other(format!("it is a symbolic link to {}: {source}", target.display()))
    })?;
    let parent = path.parent().unwrap_or(root).canonicalize()?;
    match target.starts_with(root) {
        true if parent.starts_with(&target) => Err(io::Error::other(
            "it is a symbolic link to a directory that contains it; remove the link",
        )),
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "it is a symbolic link to {}, outside of the input directory; replace the link with a copy of its target",
            target.display()
        ))),
    }
}
