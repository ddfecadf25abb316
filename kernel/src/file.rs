//! Atomic file writes.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use lockstep_runtime::store::Durability;

/// Writes a file atomically, creating its directory if needed. Readers see either the old or the new content.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_lasting(path, bytes, Durability::None)
}

/// Like [`write_whole`]. Unless the durability is [`Durability::None`], this holds after a power failure too.
pub fn write_lasting(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    if durability == Durability::None {
        file.persist(path)?;
        return Ok(());
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(directory)?.sync_all()
}
