use std::ffi::OsStr;
use std::path::PathBuf;

use super::Toolchain;

/// A rust-analyzer that can be started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RustAnalyzer {
    /// The program.
    pub path: PathBuf,
    /// What it says of its version, in a line.
    pub version: String,
    /// The directory with the sources of std, if there is one; without it rust-analyzer knows nothing of std.
    pub library: Option<PathBuf>,
}

/// Where Debian's package has the sources of std.
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library";

impl Toolchain {
    /// The rust-analyzer beside rustc, that of rustup, or the one on `PATH`. Rustup's proxies are there without what they stand for, so each
    /// is asked for its version.
    pub fn rust_analyzer(&self) -> Option<RustAnalyzer> {
        let name = "rust-analyzer";
        let by_rustup = || {
            self.locations
                .ask("rustup", &["which", name])
                .map(|path| PathBuf::from(path.trim_end()))
        };
        let on_path = || self.locations.which(OsStr::new(name));
        let answering = |path: PathBuf| {
            let version = self.locations.ask(&path, &["--version"])?.trim_end().to_owned();
            Some(RustAnalyzer {
                path,
                version,
                library: self.library(),
            })
        };
        answering(self.rustc.with_file_name(name))
            .or_else(|| by_rustup().and_then(answering))
            .or_else(|| on_path().and_then(answering))
    }

    /// The sources of std: where `RUST_SRC_PATH` says (rust-analyzer goes by it too), the toolchain's own, or Debian's. What is a version
    /// apart still has nearly the same names.
    fn library(&self) -> Option<PathBuf> {
        let said = self.locations.environment.get(OsStr::new("RUST_SRC_PATH")).map(PathBuf::from);
        let own = self.std_sources().0.join("library");
        let places = said.into_iter().chain([own, DEBIAN_LIBRARY.into()]);
        places.into_iter().find(|place| place.join("std/src/lib.rs").is_file())
    }
}
