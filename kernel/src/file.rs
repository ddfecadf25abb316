//! Atomic file writes.

use std::io::{self, Write};
use std::path::Path;

/// Writes a file atomically, creating its directory if needed. Readers see either the old or the new content.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
