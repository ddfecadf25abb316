//! Runs a function and discards its output.

use crate::Result;

#[cfg(target_os = "wasi")]
mod wasi {
    use std::fs::File;
    use std::os::fd::{IntoRawFd, RawFd};

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn fd_renumber(from: i32, to: i32) -> i32;
    }

    /// A stream that is redirected to `/dev/null` until this is dropped.
    pub struct Muted {
        stream: RawFd,
        kept: RawFd,
    }

    impl Muted {
        pub fn new(stream: RawFd) -> std::io::Result<Self> {
            let kept = File::options().write(true).open("/dev/null")?.into_raw_fd();
            let null = File::options().write(true).open("/dev/null")?.into_raw_fd();
            // SAFETY: preview 1 defines the call for any two numbers, and nothing else uses `kept` and `null`
            unsafe {
                fd_renumber(stream, kept);
                fd_renumber(null, stream);
            }
            Ok(Self { stream, kept })
        }
    }

    impl Drop for Muted {
        fn drop(&mut self) {
            // SAFETY: as above; `kept` is the original stream
            unsafe {
                fd_renumber(self.kept, self.stream);
            }
        }
    }
}

/// Runs `work`, discarding its stdout and stderr.
#[cfg(target_os = "wasi")]
pub fn quietly<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    use std::io::Write;
    std::io::stdout().flush()?;
    let _muted = [wasi::Muted::new(1)?, wasi::Muted::new(2)?];
    let made = work();
    std::io::stdout().flush()?;
    made
}

/// Runs `work`. Streams can be redirected only in the sandbox.
#[cfg(not(target_os = "wasi"))]
pub fn quietly<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    work()
}
