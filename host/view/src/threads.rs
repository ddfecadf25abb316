//! Threads for network clients.

use crate::error::{Error, Result};

/// Starts an async runtime with `count` threads called `name`, for blocking callers.
pub fn threads(name: &str, count: usize) -> Result<tokio::runtime::Runtime> {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(count)
        .thread_name(name)
        .enable_all()
        .build();
    threads.map_err(|e| Error::host(format_args!("can't start threads: {e}")))
}
