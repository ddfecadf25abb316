//! The readiness probe: whether the host can do its work now.

use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use lockstep_runtime::store::Store;
use lockstep_view::error::{Error, Result};
use lockstep_view::quantity;
use serde_json::{Value, json};

use super::extract::blocking;
use super::{Answer, Refusal, Server};

/// A check that succeeded holds for this time, since anyone may ask.
const HOLDS: Duration = Duration::from_secs(1);

/// Returns when the last check succeeded.
fn locked(server: &Server) -> MutexGuard<'_, Option<Instant>> {
    server.ready.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fails during a shutdown, if the store can't be written, and if its disk is nearly full.
pub async fn ready(State(server): State<Arc<Server>>) -> Answer<Json<Value>> {
    if server.gate.is_closing() {
        return Err(Refusal::busy("the host is shutting down"));
    }
    let ready = |checked: Option<Instant>| checked.is_some_and(|at| at.elapsed() < HOLDS);
    if ready(*locked(&server)) {
        return Ok(Json(json!({ "ready": true })));
    }
    blocking(move || {
        let surroundings = &server.surroundings;
        check(&surroundings.store, &surroundings.directory, server.settings.min_free())
            .map_err(|error| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, error))?;
        *locked(&server) = Some(Instant::now());
        Ok(Json(json!({ "ready": true })))
    })
    .await
}

fn check(store: &Store, directory: &Path, least: u64) -> Result<()> {
    let here = directory.display();
    let free = free(directory).map_err(|e| Error::file("look at the disk of", directory, &e))?;
    if free < least {
        return Err(Error::host(format_args!(
            "the disk of the store {here} has {} free, less than {}",
            quantity::bytes(free),
            quantity::bytes(least)
        ))
        .hint("free some space, such as with `lockstep gc`; `lockstep serve --min-free` sets the minimum"));
    }
    let written = store.staged_writer().and_then(|mut writer| writer.write_at(0, b"ready"));
    written.map_err(|e| {
        Error::host(format_args!("can't write to the store {here}: {e}"))
            .hint("check its permissions, and that its disk is mounted for writing")
    })
}

/// Returns the bytes that this process may still write to the file system of `path`.
fn free(path: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_store_must_be_writable_and_have_room() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        check(&store, directory.path(), 1).unwrap();
        let error = check(&store, directory.path(), u64::MAX).unwrap_err();
        assert!(error.message().contains(" free, less than "), "{error}");
        // root may write anywhere
        if rustix::process::geteuid().is_root() {
            std::fs::remove_dir_all(directory.path()).unwrap();
            std::fs::write(directory.path(), "a file").unwrap();
        } else {
            let entries = std::fs::read_dir(directory.path()).unwrap();
            let below = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
            below.for_each(|path| std::fs::set_permissions(path, Permissions::from_mode(0o500)).unwrap());
            std::fs::set_permissions(directory.path(), Permissions::from_mode(0o500)).unwrap();
        }
        let error = check(&store, directory.path(), 1).unwrap_err();
        assert!(error.message().starts_with("can't write to the store "), "{error}");
    }
}
