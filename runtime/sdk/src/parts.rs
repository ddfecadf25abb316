use std::fmt;
use std::path::{Path, PathBuf};

use crate::artifact::media_type;
use crate::step::Ports;
use crate::{Artifact, Context, Input, Outputs, Result, bail};

/// The entries of a directory, sorted by name and read one after the other, such as the outputs of a task's instances in a
/// pipeline with `for_each`.
///
/// A step may also return parts. They become a directory that a pipeline can iterate over with `for_each`:
///
/// ```
/// use lockstep::prelude::*;
///
/// /// The tables, one below the other.
/// #[step(output = "rows")]
/// fn join(tables: Parts<Table>) -> Result<Table> {
///     let tables = tables.map(|part| Ok(part?.1)).collect::<Result<Vec<_>>>()?;
///     Table::concat(&tables)
/// }
///
/// /// A part for each word.
/// #[step(output = "words")]
/// fn split(text: Text) -> Parts<Text> {
///     text.split_whitespace().map(|word| (word, Text(word.to_uppercase()))).collect()
/// }
///
/// let names: Vec<String> = split(Text("b a".into())).names().map(str::to_owned).collect();
/// assert_eq!(names, ["a", "b"]);
/// ```
pub struct Parts<T>(std::vec::IntoIter<(String, Part<T>)>);

enum Part<T> {
    File(PathBuf),
    Value(T),
}

impl<T> Parts<T> {
    /// Returns the names of the remaining parts.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.as_slice().iter().map(|(name, _)| name.as_str())
    }

    /// Sorts the parts. Of several with the same name, keeps the last.
    fn new(mut parts: Vec<(String, Part<T>)>) -> Self {
        parts.reverse();
        parts.sort_by(|(a, _), (b, _)| a.cmp(b));
        parts.dedup_by(|(a, _), (b, _)| a == b);
        Self(parts.into_iter())
    }
}

/// Iterates over the parts in order. Each is read when it is requested.
impl<T: Input> Iterator for Parts<T> {
    type Item = Result<(String, T)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (name, part) = self.0.next()?;
        let read = match part {
            Part::Value(value) => Ok(value),
            Part::File(path) => T::open(&path).with_context(|| format!("part `{name}`")),
        };
        Some(read.map(|value| (name, value)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T: Input> ExactSizeIterator for Parts<T> {}

impl<T, N: Into<String>> FromIterator<(N, T)> for Parts<T> {
    fn from_iter<I: IntoIterator<Item = (N, T)>>(parts: I) -> Self {
        let parts = parts.into_iter();
        Self::new(parts.map(|(name, value)| (name.into(), Part::Value(value))).collect())
    }
}

impl<T, N: Into<String>, const COUNT: usize> From<[(N, T); COUNT]> for Parts<T> {
    fn from(parts: [(N, T); COUNT]) -> Self {
        parts.into_iter().collect()
    }
}

impl<T> fmt::Debug for Parts<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl<T: Input> Input for Parts<T> {
    const MEDIA_TYPE: &'static str = media_type::DIRECTORY;

    fn open(path: &Path) -> Result<Self> {
        let listed = || format!("{} is not a directory that can be read", path.display());
        let mut parts = Vec::new();
        for entry in std::fs::read_dir(path).with_context(listed)? {
            let entry = entry.with_context(listed)?;
            match entry.file_name().into_string() {
                Ok(name) => parts.push((name, Part::File(entry.path()))),
                Err(name) => bail!("the name of part {name:?} is not UTF-8"),
            }
        }
        Ok(Self::new(parts))
    }
}

impl<T: Artifact> Parts<T> {
    /// Writes the remaining parts to files in a new directory.
    pub(crate) fn write_to(&self, directory: &Path) -> Result<()> {
        std::fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
        for (name, part) in self.0.as_slice() {
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
                bail!("{name:?} can't be the name of a part: use a plain file name");
            }
            let path = directory.join(name);
            match part {
                Part::Value(value) => value.write_artifact(&path)?,
                Part::File(from) => T::read(from)?.write_artifact(&path)?,
            }
        }
        Ok(())
    }
}

impl<T: Artifact> Outputs for Parts<T> {
    const PORTS: Ports = Ports::One(media_type::DIRECTORY);

    fn write_outputs(self, out: &Path, name: &str) -> Result<()> {
        self.write_to(&out.join(name))
    }
}
