//! Initialization of a cache from a read-only one.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use lockstep_kernel::file::write_whole;

/// Directory of compiled modules. They are copied, as they are only loaded from files that the user owns.
const NATIVE: &str = "native";

/// Directory of compiled crates. Each set has a subdirectory that never changes.
const SETS: &str = "sets";

/// Adds to `to` everything in `from` that it lacks: links to files and to sets of crates, and copies of compiled modules.
pub fn start_from(from: &Path, to: &Path) -> io::Result<()> {
    take(from, to, false)
}

fn take(from: &Path, to: &Path, copies: bool) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, destination) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() && !from.ends_with(SETS) {
            take(&source, &destination, copies || entry.file_name() == NATIVE)?;
        } else if destination.symlink_metadata().is_err() {
            let taken = match copies {
                // atomic, and accessible to this user only
                true => write_whole(&destination, &fs::read(&source)?),
                false => symlink(&source, &destination),
            };
            // another process may have created it
            taken.or_else(|e| (e.kind() == io::ErrorKind::AlreadyExists).then_some(()).ok_or(e))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_the_rest_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        for (name, text) in [
            ("prelude/a/b", "b"),
            ("prelude/a/c", "c"),
            ("prelude/a/sets/s/r", "r"),
            ("native/x/m.cwasm", "m"),
        ] {
            let path = from.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(to.join("prelude/a")).unwrap();
        fs::write(to.join("prelude/a/c"), "mine").unwrap();
        start_from(&from, &to).unwrap();
        start_from(&from, &to).unwrap();
        let text = |name: &str| fs::read_to_string(to.join(name)).unwrap();
        assert_eq!(
            (text("prelude/a/b"), text("prelude/a/c")),
            ("b".to_owned(), "mine".to_owned())
        );
        assert_eq!(text("prelude/a/sets/s/r"), "r");
        assert!(to.join("prelude/a/sets/s").symlink_metadata().unwrap().is_symlink());
        let native = to.join("native/x/m.cwasm");
        assert!(native.symlink_metadata().unwrap().is_file());
        assert_eq!(text("native/x/m.cwasm"), "m");
    }
}
