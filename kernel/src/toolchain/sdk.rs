//! The SDK that this program brings: the package `lockstep-sdk`, whose library is called `lockstep`.
//!
//! A crate says `lockstep = { package = "lockstep-sdk", version = "0.1" }`. Its workspace gets a copy of the sources, in [`DIRECTORY`], and cargo
//! takes that copy instead of a registry's. The copy lies within the workspace because cargo puts the directory of a package, relative to that of
//! the workspace, into the names of compiled code: so the same crate gives the same module on every machine.

use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::{fs, iter};

use lockstep_runtime::digest::Digest;

use super::lock::{self, Package};
use super::shelf;

mod embedded {
    //! `FILES`: the files of the SDK's workspace, by path. `LOCK`: a `Cargo.lock` of what it needs. From kernel/build.rs.
    include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
}

/// What cargo calls the SDK.
pub const PACKAGE: &str = "lockstep-sdk";

/// What source code calls it.
pub const NAME: &str = "lockstep";

/// The version that this program brings.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the copy is, in the directory of a workspace.
pub const DIRECTORY: &str = ".lockstep/sdk";

/// Where in its own workspace the package is.
const PLACE: &str = "runtime/sdk";

/// The file of a copy that says of what it is one.
const COMPLETE: &str = ".digest";

/// What the SDK needs, with versions and checksums.
pub static PACKAGES: LazyLock<Vec<Package>> = LazyLock::new(|| lock::read(embedded::LOCK).unwrap_or_default());

/// The digest of all files.
pub static DIGEST: LazyLock<Digest> = LazyLock::new(|| {
    let files = embedded::FILES.iter().flat_map(|(path, text)| [*path, *text]);
    let sized = files
        .chain(iter::once(embedded::LOCK))
        .map(|text| format!("{}:{text}", text.len()));
    Digest::of(sized.collect::<String>())
});

/// The requirement that this version satisfies: `0.1`.
pub fn series() -> &'static str {
    VERSION.rsplit_once('.').map_or(VERSION, |(series, _)| series)
}

/// The directory of the package, relative to that of the workspace.
pub fn place() -> String {
    format!("{DIRECTORY}/{PLACE}")
}

/// The settings that make cargo take the copy, for `.cargo/config.toml` in the workspace.
pub fn cargo_config() -> String {
    format!("[patch.crates-io]\n{PACKAGE} = {{ path = \"{}\" }}\n", place())
}

/// The same as a `--config` argument, for the workspace in `root`.
pub(super) fn cargo_argument(root: &Path) -> String {
    let path = toml::Value::from(root.join(place()).to_string_lossy().into_owned());
    format!("patch.crates-io.{PACKAGE}.path={path}")
}

/// A `Cargo.lock` of the versions that are compiled for all crates; cargo adds what else a crate needs.
pub fn cargo_lock() -> String {
    lock::write(&PACKAGES).unwrap_or_default()
}

/// Writes the copy into the workspace in `root`, unless it is there.
pub fn write(root: &Path) -> io::Result<()> {
    let dir = root.join(DIRECTORY);
    let complete = dir.join(COMPLETE);
    let digest = DIGEST.to_string();
    if fs::read_to_string(&complete).is_ok_and(|found| found == digest) {
        return Ok(());
    }
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for (path, text) in embedded::FILES {
        shelf::write(&dir.join(path), text.as_bytes())?;
    }
    shelf::write(&complete, digest.as_bytes())
}
