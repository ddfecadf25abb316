use std::io;
use std::path::PathBuf;

use super::base::BaseError;
use super::cargo::CargoError;
use super::sources::SourcesError;

/// An error compiling a prelude.
#[derive(Debug, thiserror::Error)]
pub enum PreludeError {
    /// Cargo failed: the network, a crate or a version is not available.
    #[error(transparent)]
    Cargo(CargoError),
    /// A crate can't be compiled.
    #[error("`{name}` failed to compile{}\n{first}{}", if *.for_target { " for wasm32-wasip1, the target of cells" } else { "" }, more(*.count))]
    Crate {
        /// the crate
        name: String,
        /// whether it is compiled for cells and not a build script or proc macro
        for_target: bool,
        /// the first error
        first: String,
        /// the number of errors
        count: usize,
    },
    /// The base can't be built.
    #[error(transparent)]
    Base(BaseError),
    /// A directory can't be used as a crate.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// A file in the cache can't be written or read.
    #[error("can't access {} in the cache: {source}\nhint: run `lockstep doctor`", path.display())]
    Cache {
        /// the file or directory
        path: PathBuf,
        /// why not
        source: io::Error,
    },
    /// A manifest or a lock can't be read or written.
    #[error("can't process {what}: {problem}\nhint: run `lockstep doctor`")]
    Written {
        /// the manifest or lock
        what: &'static str,
        /// what is wrong
        problem: String,
    },
    /// Cargo did not report a compiled crate.
    #[error("cargo did not compile crate `{name}`\nhint: check that it has a library target")]
    NoCrate {
        /// the crate
        name: String,
    },
    /// The build was interrupted.
    #[error("interrupted")]
    Interrupted,
}

fn more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        count => format!("\n(further errors: {})", count - 1),
    }
}

impl From<CargoError> for PreludeError {
    fn from(error: CargoError) -> Self {
        match error {
            CargoError::Interrupted => Self::Interrupted,
            CargoError::Compile {
                first,
                count,
                package,
                library,
                ..
            } => Self::Crate {
                name: package_name(&package),
                for_target: library,
                first: first.trim_end().to_owned(),
                count,
            },
            error => Self::Cargo(error),
        }
    }
}

/// Returns the name and version in cargo's id of a package: `registry+https://...#mio@1.0.0`, `path+file:///.../mio#1.0.0`.
fn package_name(id: &str) -> String {
    let (before, fragment) = id.rsplit_once('#').unwrap_or(("", id));
    match fragment.split_once('@') {
        Some((name, version)) => format!("{name} {version}"),
        None => format!("{} {fragment}", before.rsplit('/').next().unwrap_or_default()),
    }
}

impl From<BaseError> for PreludeError {
    fn from(error: BaseError) -> Self {
        match error {
            BaseError::Interrupted => Self::Interrupted,
            error => Self::Base(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_package_has_its_name() {
        assert_eq!(package_name("registry+https://example.org/index#mio@1.0.0"), "mio 1.0.0");
        assert_eq!(package_name("path+file:///a/b/mio#1.0.0"), "mio 1.0.0");
    }
}
