use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::BundleError;

/// The files of a layout with their sizes, sorted by name.
pub(super) type Files = BTreeMap<String, u64>;

/// Opens the source of a file that is written to a layout.
pub(super) type Open<'a> = &'a dyn Fn(&str) -> Result<Box<dyn Read + Send>, BundleError>;

/// Checks in advance whether a bundle can be written to `path`.
pub fn check_target(path: &Path) -> Result<(), BundleError> {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if matches!(extension, "gz" | "tgz" | "zst" | "xz" | "bz2" | "zip") {
        return Err(BundleError::Compressed { path: path.to_owned() });
    }
    match is_tar(path) || fs::symlink_metadata(path).is_err() {
        true => Ok(()),
        false => Err(BundleError::Exists { path: path.to_owned() }),
    }
}

pub(super) fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

/// Returns the parent directory of `path`.
pub fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| *parent != Path::new(""))
        .unwrap_or(Path::new("."))
}

/// Writes a layout atomically.
pub(super) fn write(path: &Path, files: &Files, open: Open) -> Result<(), BundleError> {
    check_target(path)?;
    match is_tar(path) {
        true => write_tar(path, files, open),
        false => write_directory(path, files, open),
    }
}

/// Writes a tar archive without times, owners or anything else that differs between machines.
fn write_tar(path: &Path, files: &Files, open: Open) -> Result<(), BundleError> {
    let failed = || BundleError::file("write", path);
    let file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(parent(path))
        .map_err(failed())?;
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(1 << 20, file));
    for (name, size) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(*size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, name, open(name)?).map_err(failed())?;
    }
    let file = tar.into_inner().map_err(failed())?;
    let file = file.into_inner().map_err(|e| failed()(e.into_error()))?;
    file.persist(path).map_err(|e| failed()(e.error))?;
    Ok(())
}

fn write_directory(path: &Path, files: &Files, open: Open) -> Result<(), BundleError> {
    let failed = || BundleError::file("write", path);
    let staging = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent(path))
        .map_err(failed())?;
    for name in files.keys() {
        let target = staging.path().join(name);
        fs::create_dir_all(parent(&target)).map_err(failed())?;
        let mut file = File::create(&target).map_err(failed())?;
        io::copy(&mut open(name)?, &mut file).map_err(failed())?;
    }
    fs::rename(staging.path(), path).map_err(failed())?;
    // it was renamed, so there is nothing to remove
    let _ = staging.keep();
    Ok(())
}
