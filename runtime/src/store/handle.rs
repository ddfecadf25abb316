use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Maximum number of files that handles keep open in this process. A process may open at least 256 on all systems.
const MAX_OPEN: usize = 64;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A file that is opened for each access if too many files are open, so that the number of artifacts in use has no limit.
pub(super) struct Handle<P> {
    path: P,
    writable: bool,
    file: Option<Kept>,
}

struct Kept(File);

impl<P: AsRef<Path>> Handle<P> {
    /// Takes over the open file at `path`.
    pub(super) fn new(path: P, file: File, writable: bool) -> Self {
        let kept = Kept::new(file);
        Self {
            path,
            writable,
            file: (OPEN.load(Ordering::Relaxed) <= MAX_OPEN).then_some(kept),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.path.as_ref()
    }

    pub(super) fn into_path(self) -> P {
        self.path
    }

    /// Calls `act` with the open file.
    pub(super) fn with<T>(&self, act: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        match &self.file {
            Some(Kept(file)) => act(file),
            None => act(&File::options().read(true).write(self.writable).open(&self.path)?),
        }
    }
}

impl Kept {
    fn new(file: File) -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        Self(file)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}
