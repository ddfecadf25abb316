//! Files that others may read at any moment.

use std::io::{self, Write};
use std::path::Path;

/// Writes a file, and its directory if need be; whoever reads it meanwhile sees the old one or the new.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}
