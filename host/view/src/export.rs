//! Export of artifacts to files.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lockstep_runtime::step::{Artifact, GuestPath};
use lockstep_runtime::store::Store;

use crate::error::{Error, Result};

/// Writes `artifact` to `path` atomically. Replaces a file; a directory must not exist.
pub fn export(store: &Store, artifact: &Artifact, path: &Path) -> Result<()> {
    match artifact.is_directory() {
        true => export_directory(store, artifact, path),
        false => {
            let content = store.open_file(&artifact.digest)?;
            write_with(path, |file| content.copy_to(file))
        }
    }
}

/// Writes `bytes` to the file `path` atomically.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |mut file| file.write_all(bytes))
}

fn write_with(path: &Path, fill: impl FnOnce(&File) -> io::Result<()>) -> Result<()> {
    check_parent(path)?;
    let write = || -> io::Result<()> {
        // the umask applies, as for any file
        let file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(parent(path))?;
        fill(file.as_file())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|e| Error::file("write", path, &e))
}

/// Returns an error if the parent directory of `path` does not exist.
pub fn check_parent(path: &Path) -> Result<()> {
    let parent = parent(path);
    if parent.is_dir() {
        return Ok(());
    }
    Err(Error::user(format_args!(
        "can't write {}: directory {} does not exist",
        path.display(),
        parent.display()
    ))
    .hint(format_args!("mkdir -p {}", parent.display())))
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| *parent != Path::new(""))
        .unwrap_or(Path::new("."))
}

fn export_directory(store: &Store, artifact: &Artifact, path: &Path) -> Result<()> {
    check_parent(path)?;
    if path.exists() {
        return Err(Error::user(format_args!("{} already exists", path.display()))
            .hint("directories are not overwritten: move it, or give another path"));
    }
    let failed = |e: io::Error| Error::file("write", path, &e);
    let permissions = Permissions::from_mode(0o777);
    let staging = tempfile::Builder::new()
        .permissions(permissions)
        .tempdir_in(parent(path))
        .map_err(failed)?;
    for (name, file) in store.list_directory(artifact)? {
        // a manifest may come from anywhere: its names must stay in the directory
        let inside = GuestPath::try_from(format!("/{name}")).map_err(Error::host)?;
        let target = inside.parts().fold(staging.path().to_owned(), |at, part| at.join(part));
        let directory = target.parent().unwrap_or(staging.path());
        std::fs::create_dir_all(directory).map_err(failed)?;
        let content = store.open_file(&file.digest)?;
        let written = File::create(&target).and_then(|file| content.copy_to(&file));
        written.map_err(failed)?;
    }
    std::fs::rename(staging.path(), path).map_err(failed)?;
    // it was renamed: there is nothing to remove
    let _ = staging.keep();
    Ok(())
}
