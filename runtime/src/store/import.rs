use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
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
    let mut file = File::open(path).map_err(failed())?;
    let stat = file.metadata().map_err(failed())?;
    if !stat.is_file() {
        return Err(failed()(std::io::Error::other("not a regular file or directory")));
    }
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
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
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

fn import_directory(store: &Store, path: &Path) -> Result<Artifact, StoreError> {
    let mut files = BTreeMap::new();
    collect(store, path, "", DEPTH, &mut files)?;
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

fn collect(
    store: &Store,
    directory: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, Artifact>,
) -> Result<(), StoreError> {
    let failed = |path: &Path| StoreError::file("read", path);
    if depth == 0 {
        let reason = format!("directories are nested more than {DEPTH} levels deep, or symbolic links form a loop");
        return Err(failed(directory)(std::io::Error::other(reason)));
    }
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(failed(&path)(std::io::Error::other("the file name is not valid UTF-8")));
        };
        let name = format!("{prefix}{name}");
        if fs::metadata(&path).map_err(failed(&path))?.is_dir() {
            collect(store, &path, &format!("{name}/"), depth - 1, files)?;
        } else {
            files.insert(name, import_file(store, &path)?);
        }
    }
    Ok(())
}
