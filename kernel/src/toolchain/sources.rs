//! Directories of path dependencies, which are copied before compilation.
//!
//! The name of a copy contains its digest, so a compiled crate never changes while a kernel uses it. The copy is at the same
//! place in every workspace, so names in compiled code are the same on all machines. Build scripts can only read the copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use lockstep_runtime::digest::{Digest, Hasher};

use super::Toolchain;
use super::cargo::{self, CargoError};
use super::dependency::Dependencies;

/// The modification time of sources (2006-07-24, the same as cargo uses for packages). Cargo compares times, so equal sources
/// must have equal times for a set to reuse the compiled crates of another.
const WRITTEN: u64 = 1_153_704_088;

/// The maximum size of a crate, in bytes.
const MOST: u64 = 256 << 20;

/// An error copying a directory.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// The directory is not a crate.
    #[error("no Cargo.toml in {}\nhint: the path must be the directory of a crate, relative to the notebook", dir.display())]
    NoCrate {
        /// the directory
        dir: PathBuf,
    },
    /// The directory is too large.
    #[error("{} is larger than {} MB\nhint: move data out of the crate's directory", dir.display(), MOST >> 20)]
    TooLarge {
        /// the directory
        dir: PathBuf,
    },
    /// A file can't be read or copied.
    #[error("can't copy {}: {source}", path.display())]
    Copy {
        /// the file
        path: PathBuf,
        /// why not
        source: io::Error,
    },
    /// The manifest can't be read.
    #[error(transparent)]
    Cargo(#[from] CargoError),
}

/// The directories of path dependencies, including transitive ones.
#[derive(Debug, Default)]
pub struct Sources {
    /// The digests of packages, by directory.
    packages: BTreeMap<PathBuf, Digest>,
    /// The digests of packages, by name.
    named: BTreeMap<String, Digest>,
    /// Manifests of workspaces that packages inherit settings from.
    roots: BTreeSet<PathBuf>,
    /// The common parent directory.
    above: PathBuf,
}

impl Sources {
    /// Finds all directories by reading manifests with cargo. Executes none of their code.
    pub fn find(toolchain: &Toolchain, dependencies: &Dependencies, notebook: &Path) -> Result<Self, SourcesError> {
        let paths = dependencies.values().filter_map(|requirement| requirement.path.as_ref());
        let mut next: Vec<PathBuf> = paths.map(|path| plain(&notebook.join(path))).collect();
        let mut sources = Self::default();
        while let Some(dir) = next.pop() {
            if sources.packages.contains_key(&dir) {
                continue;
            }
            let manifest = dir.join("Cargo.toml");
            if !manifest.is_file() {
                return Err(SourcesError::NoCrate { dir });
            }
            let digest = digest(&dir)?;
            sources.packages.insert(dir.clone(), digest);
            let known = cargo::manifests(toolchain, &dir)?;
            if known.workspace_root != dir {
                sources.roots.insert(known.workspace_root.join("Cargo.toml"));
            }
            let own = known.packages.iter().find(|package| package.manifest_path == manifest);
            sources.named.extend(own.map(|package| (package.name.clone(), digest)));
            let needed = own.into_iter().flat_map(|package| &package.dependencies);
            let needed = needed.filter(|dependency| dependency.kind.as_deref() != Some("dev"));
            next.extend(needed.filter_map(|dependency| dependency.path.as_deref().map(plain)));
        }
        let roots = sources.roots.iter().filter_map(|root| root.parent());
        let all = roots.chain(sources.packages.keys().map(PathBuf::as_path));
        sources.above = all.map(Path::to_owned).reduce(|a, b| common(&a, &b)).unwrap_or_default();
        Ok(sources)
    }

    /// Returns the digests of all files and directories. A copy is up to date if they are unchanged.
    pub fn digests(&self) -> Result<BTreeMap<PathBuf, Digest>, SourcesError> {
        let mut digests = self.packages.clone();
        for root in &self.roots {
            digests.insert(root.clone(), digest(root)?);
        }
        Ok(digests)
    }

    /// Returns the digest of the package with this name.
    pub fn digest_of(&self, package: &str) -> Option<Digest> {
        self.named.get(package).copied()
    }

    /// Returns the path of a directory's copy, relative to the workspace.
    pub fn place(&self, dir: &Path) -> Result<String, SourcesError> {
        let below = plain(dir);
        let below = below.strip_prefix(&self.above).unwrap_or(&below);
        Ok(Path::new(&self.home()?)
            .join(below)
            .to_string_lossy()
            .trim_end_matches('/')
            .to_owned())
    }

    fn home(&self) -> Result<String, SourcesError> {
        let mut hasher = Hasher::default();
        for (path, digest) in self.digests()? {
            let path = path.strip_prefix(&self.above).unwrap_or(&path).to_string_lossy().into_owned();
            hasher.update(format!("{}:{path}{digest}", path.len()).as_bytes());
        }
        Ok(format!("{DIRECTORY}/{}", hasher.finish().short()))
    }

    /// Copies all directories into `workspace`.
    pub fn copy(&self, workspace: &Path) -> Result<(), SourcesError> {
        if self.packages.is_empty() {
            return Ok(());
        }
        let home = workspace.join(self.home()?);
        let files = self.packages.keys().map(|dir| files(dir)).collect::<Result<Vec<_>, _>>()?;
        for path in files.into_iter().flatten().chain(self.roots.iter().cloned()) {
            let failed = |source| SourcesError::Copy {
                path: path.clone(),
                source,
            };
            let to = home.join(path.strip_prefix(&self.above).unwrap_or(&path));
            let bytes = fs::read(&path).map_err(failed)?;
            write(&to, &bytes).map_err(failed)?;
        }
        Ok(())
    }
}

/// The directory of copies in a workspace.
pub const DIRECTORY: &str = "sources";

/// Returns the digest of a file, or of all files of a crate with their names.
pub fn digest(path: &Path) -> Result<Digest, SourcesError> {
    let mut hasher = Hasher::default();
    let files = if path.is_dir() {
        files(path)?
    } else {
        BTreeSet::from([path.to_owned()])
    };
    for file in files {
        let failed = |source| SourcesError::Copy {
            path: file.clone(),
            source,
        };
        let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned();
        let mut bytes = Hasher::default();
        io::copy(&mut File::open(&file).map_err(failed)?, &mut Write(&mut bytes)).map_err(failed)?;
        hasher.update(format!("{}:{name}{}", name.len(), bytes.finish()).as_bytes());
    }
    Ok(hasher.finish())
}

struct Write<'a>(&'a mut Hasher);

impl io::Write for Write<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the files of the crate in `dir`, without hidden files, cargo's outputs and other crates.
fn files(dir: &Path) -> Result<BTreeSet<PathBuf>, SourcesError> {
    let mut found = BTreeSet::new();
    let mut size = 0;
    let mut next = vec![dir.to_owned()];
    while let Some(at) = next.pop() {
        let failed = |source| SourcesError::Copy {
            path: at.clone(),
            source,
        };
        for entry in fs::read_dir(&at).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed)?;
            let is_apart = || path.join("Cargo.toml").is_file() || path.join("CACHEDIR.TAG").is_file();
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') || (at == dir && name == "Cargo.lock") {
                continue;
            } else if kind.is_dir() && !is_apart() && !(at == dir && name == "target") {
                next.push(path);
            } else if !kind.is_dir() && path.is_file() {
                size += path.metadata().map_err(failed)?.len();
                found.insert(path);
            }
            if size > MOST {
                return Err(SourcesError::TooLarge { dir: dir.to_owned() });
            }
        }
    }
    Ok(found)
}

/// Returns the path without `.` and `..`, and without links if it exists.
fn plain(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| {
        let mut plain = PathBuf::new();
        for part in path.components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => drop(plain.pop()),
                part => plain.push(part),
            }
        }
        plain
    })
}

fn common(a: &Path, b: &Path) -> PathBuf {
    let parts = a.components().zip(b.components());
    parts.take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

/// Writes a file with the modification time of sources.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, bytes)?;
    File::options()
        .write(true)
        .open(path)?
        .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(WRITTEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_covers_only_the_crates_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        };
        for name in ["Cargo.toml", "src/lib.rs"] {
            write(name);
        }
        let before = digest(dir.path()).unwrap();
        for name in [
            ".git/config",
            "target/x",
            "Cargo.lock",
            "other/Cargo.toml",
            "other/src/lib.rs",
        ] {
            write(name);
        }
        assert_eq!(digest(dir.path()).unwrap(), before);
        write("src/data");
        assert_ne!(digest(dir.path()).unwrap(), before);
    }

    #[test]
    fn the_common_directory() {
        assert_eq!(common(Path::new("/a/b/c"), Path::new("/a/bb")), Path::new("/a"));
    }
}
