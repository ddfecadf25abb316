use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr;

/// Which files survive a power failure or a crash of the operating system, once they are written. A killed process loses nothing in any case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Durability {
    /// No guarantee. Reads detect missing and truncated files, and runs recompute them.
    #[default]
    None,
    /// Records, the index of runs, pins, signatures and sessions of notebooks. Artifacts can be computed again, except for imported files.
    Records,
    /// Artifacts too.
    All,
}

impl Durability {
    /// All values, with their names.
    pub const NAMES: [(&str, Self); 3] = [("none", Self::None), ("records", Self::Records), ("all", Self::All)];
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::NAMES.into_iter().find(|(name, _)| *name == text);
        known.map_or_else(|| Err("expected none, records or all".to_owned()), |(_, value)| Ok(value))
    }
}

/// Waits until the disk has a file and its name.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}
