//! The SDK included in this program: the package `lockstep-sdk`, whose library is `lockstep`.
//!
//! A crate declares `lockstep = { package = "lockstep-sdk", version = "0.1" }`. Its workspace gets a copy of the sources in
//! [`DIRECTORY`], which cargo uses instead of the registry's. The copy is inside the workspace, because cargo includes a
//! package's path relative to the workspace in the names of compiled code. So the same crate gives the same module everywhere.

use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::{fs, iter};

use lockstep_runtime::digest::Digest;

use super::lock::{self, Package};
use super::sources;

mod embedded {
    //! `FILES`: the files of the SDK's workspace, by path. `LOCK`: a `Cargo.lock` of its dependencies. From kernel/build.rs.
    include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
}

/// The package name of the SDK.
pub const PACKAGE: &str = "lockstep-sdk";

/// The crate name of the SDK in source.
pub const NAME: &str = "lockstep";

/// The version of the included SDK.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The directory of the copy in a workspace.
pub const DIRECTORY: &str = ".lockstep/sdk";

/// The directory of the package in the SDK's own workspace.
const PLACE: &str = "runtime/sdk";

/// The file in a complete copy that holds its digest.
const COMPLETE: &str = ".digest";

/// The dependencies of the SDK, with versions and checksums.
pub static PACKAGES: LazyLock<Vec<Package>> = LazyLock::new(|| lock::read(embedded::LOCK).unwrap_or_default());

/// The digest of all files.
pub static DIGEST: LazyLock<Digest> = LazyLock::new(|| {
    let files = embedded::FILES.iter().flat_map(|(path, text)| [*path, *text]);
    let sized = files
        .chain(iter::once(embedded::LOCK))
        .map(|text| format!("{}:{text}", text.len()));
    Digest::of(sized.collect::<String>())
});

/// Returns the version requirement for this SDK: `0.1`.
pub fn series() -> &'static str {
    VERSION.rsplit_once('.').map_or(VERSION, |(series, _)| series)
}

/// Returns the directory of the package, relative to the workspace.
pub fn place() -> String {
    format!("{DIRECTORY}/{PLACE}")
}

/// Returns the settings by which cargo uses the copy, for `.cargo/config.toml` in the workspace.
pub fn cargo_config() -> String {
    format!("[patch.crates-io]\n{PACKAGE} = {{ path = \"{}\" }}\n", place())
}

/// Returns the same settings as a `--config` argument, for the workspace in `root`.
pub(super) fn cargo_argument(root: &Path) -> String {
    let path = toml::Value::from(root.join(place()).to_string_lossy().into_owned());
    format!("patch.crates-io.{PACKAGE}.path={path}")
}

/// Returns a `Cargo.lock` with the SDK's dependencies. Cargo adds other dependencies of a crate.
pub fn cargo_lock() -> String {
    lock::write(&PACKAGES).unwrap_or_default()
}

/// Writes the copy into the workspace in `root`, unless it exists.
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
        sources::write(&dir.join(path), text.as_bytes())?;
    }
    sources::write(&complete, digest.as_bytes())
}
