use std::ffi::OsStr;
use std::path::PathBuf;

use super::Toolchain;

/// A working rust-analyzer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RustAnalyzer {
    /// The program.
    pub path: PathBuf,
    /// Its version, in one line.
    pub version: String,
    /// The directory with std's sources; without it, rust-analyzer can't complete names of std.
    pub library: Option<PathBuf>,
}

/// The directory of std's sources in Debian's package.
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library";

impl Toolchain {
    /// Finds the rust-analyzer next to rustc, from rustup, or on `PATH`. Each candidate must report its version, because
    /// rustup's proxies exist even without the component.
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

    /// Finds the sources of std: in `RUST_SRC_PATH` (which rust-analyzer also uses), in the toolchain, or in Debian's package.
    /// A slightly different version has nearly the same names.
    fn library(&self) -> Option<PathBuf> {
        let said = self.locations.environment.get(OsStr::new("RUST_SRC_PATH")).map(PathBuf::from);
        let own = self.std_sources().0.join("library");
        let places = said.into_iter().chain([own, DEBIAN_LIBRARY.into()]);
        places.into_iter().find(|place| place.join("std/src/lib.rs").is_file())
    }
}
