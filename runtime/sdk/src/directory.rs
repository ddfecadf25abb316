use std::fmt;
use std::path::{Path, PathBuf};

use crate::artifact::media_type;
use crate::{Artifact, Context, Input, Result, bail};

/// A directory of files, which are read on demand.
///
/// As an artifact it is a list of other artifacts, so directories that share files share their bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Directory(PathBuf);

impl Directory {
    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the relative paths of all files, recursively, sorted.
    pub fn files(&self) -> Result<Vec<String>> {
        let mut files = Vec::new();
        collect(&self.0, "", &mut files)?;
        files.sort();
        Ok(files)
    }

    /// Reads the file at a relative path: `directory.read::<Csv>("2024/rows.csv")?`.
    pub fn read<T: Input>(&self, file: &str) -> Result<T> {
        T::open(&self.0.join(file)).with_context(|| format!("file `{file}` of the directory"))
    }
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<String>) -> Result<()> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("can't list {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => collect(&entry.path(), &format!("{name}/"), files)?,
            false => files.push(name),
        }
    }
    Ok(())
}

impl Artifact for Directory {
    const MEDIA_TYPE: &'static str = media_type::DIRECTORY;

    fn read(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            bail!("{} is no directory", path.display());
        }
        Ok(Self(path.to_owned()))
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)?;
        for file in self.files()? {
            let to = path.join(&file);
            if let Some(parent) = to.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::copy(self.0.join(&file), &to).with_context(|| format!("can't copy {file}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.files() {
            Ok(files) => f.debug_tuple("Directory").field(&files).finish(),
            Err(_) => f.debug_tuple("Directory").field(&self.0).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Text;

    #[test]
    fn a_directory_is_copied_with_all_that_is_in_it() {
        let place = tempfile::tempdir().unwrap();
        let from = place.path().join("from");
        std::fs::create_dir_all(from.join("b")).unwrap();
        std::fs::write(from.join("b/c.txt"), "c").unwrap();
        std::fs::write(from.join("a.txt"), "a").unwrap();
        let directory = <Directory as Artifact>::read(&from).unwrap();
        let to = place.path().join("to");
        directory.write_artifact(&to).unwrap();
        let copy = <Directory as Artifact>::read(&to).unwrap();
        assert_eq!(copy.files().unwrap(), ["a.txt", "b/c.txt"]);
        assert_eq!(copy.read::<Text>("b/c.txt").unwrap().0, "c");
        assert_eq!(format!("{copy:?}"), r#"Directory(["a.txt", "b/c.txt"])"#);
        assert!(<Directory as Artifact>::read(&to.join("a.txt")).is_err());
    }
}
