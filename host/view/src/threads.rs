//! Threads for those who wait for others over the network.

use crate::error::{Error, Result};

/// What drives connections on so many threads called `name`, while whoever asks waits.
pub fn threads(name: &str, count: usize) -> Result<tokio::runtime::Runtime> {
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(count)
        .thread_name(name)
        .enable_all()
        .build();
    threads.map_err(|e| Error::host(format_args!("the system gave no threads: {e}")))
}
