use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::BundleError;

/// What a layout consists of: names with sizes, in the order of the names.
pub(super) type Files = BTreeMap<String, u64>;

/// Opens a file of a layout that is written.
pub(super) type Open<'a> = &'a dyn Fn(&str) -> Result<Box<dyn Read + Send>, BundleError>;

/// An error if no bundle can be written to `path`, as far as that can be told before.
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

/// The directory that `path` is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| *parent != Path::new(""))
        .unwrap_or(Path::new("."))
}

/// Writes a layout, whole or not at all.
pub(super) fn write(path: &Path, files: &Files, open: Open) -> Result<(), BundleError> {
    check_target(path)?;
    match is_tar(path) {
        true => write_tar(path, files, open),
        false => write_directory(path, files, open),
    }
}

/// Without times, owners or whatever else two machines may have different.
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
    // it has another name now, so there is nothing to remove
    let _ = staging.keep();
    Ok(())
}
