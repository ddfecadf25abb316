//! The version of a store: the file `version` in its directory.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;

/// The version of the layout and of the formats in a store. A store without the file has version 1.
pub(super) const VERSION: u32 = 1;

const FILE: &str = "version";

#[derive(Serialize, Deserialize)]
struct Version {
    store: u32,
    /// The version of lockstep that created the store.
    lockstep: String,
}

/// Checks that this program can use the store in `directory`. Writes the version of a new store.
pub(super) fn check(directory: &Path) -> Result<(), StoreError> {
    let path = directory.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return write(directory, &path).map_err(StoreError::file("write", &path));
        }
        Err(error) => return Err(StoreError::file("read", &path)(error)),
    };
    let version: Version = serde_json::from_slice(&bytes).map_err(|error| StoreError::Version {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    match version.store {
        VERSION => Ok(()),
        found => Err(StoreError::Unknown {
            path,
            found: found.into(),
            known: VERSION.into(),
            program: Some(version.lockstep),
        }),
    }
}

fn write(directory: &Path, path: &Path) -> io::Result<()> {
    let version = Version {
        store: VERSION,
        lockstep: env!("CARGO_PKG_VERSION").to_owned(),
    };
    // the umask applies, as for any file
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(directory.join("staging"))?;
    file.write_all(&serde_json::to_vec(&version)?)?;
    file.write_all(b"\n")?;
    file.persist(path)?;
    Ok(())
}
