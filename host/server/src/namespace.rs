//! The data of one user.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_kernel::session::Confined;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Runtime;
use lockstep_runtime::step::Interface;
use lockstep_runtime::store::{Shared, Store};
use lockstep_view::error::{Error, Result};
use quick_cache::sync::Cache;
use tokio::runtime::Handle;

use super::answers::Answers;
use super::fair::Owner;
use super::machine::runtime_over;
use super::room::Room;
use super::schedules::Schedules;
use super::works::{WorkItem, Works};
use super::{Server, gateway};

/// The data of one user, or of all callers on a host without users: a separate store and the host's data beside it.
pub struct Namespace {
    pub runtime: Runtime,
    /// The user, for whom work takes turns.
    pub owner: Owner,
    /// Directory for the host's data.
    pub directory: PathBuf,
    pub works: Arc<Works>,
    pub schedules: Schedules,
    pub kernels: gateway::Kernels,
    pub answers: Answers,
    pub uploads: Uploads,
    /// Cache of facts about recently used modules.
    pub modules: Cache<Digest, Arc<ModuleFacts>>,
    pub room: Arc<Room>,
}

/// Name of the file in the host's directory that a running host has locked.
pub const LOCK: &str = "lock";

/// Marks the store as served by this process until the file is dropped. Fails if another process serves it.
pub fn lock(host: &Path) -> Result<File> {
    std::fs::create_dir_all(host).map_err(|e| Error::file("create", host, &e))?;
    let path = host.join(LOCK);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| Error::file("write", &path, &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let store = host.parent().unwrap_or(host).display();
            Err(Error::host(format_args!("another host serves the store {store}"))
                .hint("stop it first, or give this host a store of its own with --store DIR"))
        }
        Err(TryLockError::Error(e)) => Err(Error::file("lock", &path, &e)),
    }
}

/// Facts about a module.
pub struct ModuleFacts {
    /// Its steps.
    pub interfaces: Vec<Interface>,
    /// Its base module.
    pub base: Option<Digest>,
}

impl Namespace {
    /// Opens the namespace of `user`. Also returns its unfinished work.
    pub(super) fn open(user: Option<&str>, server: &Server) -> Result<(Self, Vec<Arc<WorkItem>>)> {
        let surroundings = &server.surroundings;
        let (store, directory) = match user {
            None => (surroundings.store.clone(), surroundings.host_directory()),
            Some(user) => {
                let own = user_directory(&surroundings.directory, user);
                (
                    Store::open(&own)?.lasting(surroundings.durability)?.unleased(),
                    own.join("host"),
                )
            }
        };
        let runtime = runtime_over(server.engine.clone(), store, surroundings.code_key.as_ref())?;
        let owner = Owner::from(user.unwrap_or_default());
        let room = Arc::new(Room::new(runtime.store.clone()));
        let (works, unfinished) = Works::open(
            &directory,
            owner.clone(),
            surroundings.durability,
            room.clone(),
            &server.metrics,
        )?;
        let namespace = Self {
            kernels: kernels(user, server, &runtime, &directory)?,
            runtime,
            owner,
            directory,
            schedules: Schedules::open(&works.table)?,
            works: Arc::new(works),
            answers: Answers::default(),
            uploads: Uploads::default(),
            modules: Cache::new(256),
            room,
        };
        Ok((namespace, unfinished))
    }
}

fn kernels(user: Option<&str>, server: &Server, runtime: &Runtime, directory: &Path) -> Result<gateway::Kernels> {
    let surroundings = &server.surroundings;
    if let (Some(source), Some(shared)) = (&server.pods, &surroundings.shared) {
        let own = match user {
            None => shared.clone(),
            Some(user) => format!("{}/users/{}", shared.trim_end_matches('/'), directory_name(user)),
        };
        let shared = Shared::open(&own, &surroundings.shared_settings)?;
        return Ok(gateway::Kernels::Pods(gateway::Pods::open(source, user, shared)));
    }
    // users must not access files of the host process
    let files = match user {
        None => server.settings.files().map(Path::to_owned),
        Some(_) => Some(directory.join("files")),
    };
    if let Some(files) = &files {
        std::fs::create_dir_all(files).map_err(|e| Error::file("create", files, &e))?;
    }
    let downloads = server.settings.downloads();
    let confined = files.map(|files| Confined { files, downloads });
    let ground = gateway::Ground {
        runtime: Arc::new(runtime.clone()),
        workshop: server.workshop.clone(),
        directory: directory.to_owned(),
        confined,
        sessions: runtime.store.directory().join("sessions"),
        gate: server.gate.clone(),
        owner: Owner::from(user.unwrap_or_default()),
        threads: Handle::current(),
    };
    let here = gateway::Here::open(ground, gateway::Cull::new(&server.settings))?;
    Ok(gateway::Kernels::Here(here))
}

/// Lists the users that have a directory in the store `store`.
pub fn users(store: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(store.join("users")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| user_of(&entry.file_name().into_string().ok()?))
        .collect()
}

/// Returns the directory of a user's store in the store `store`.
pub fn user_directory(store: &Path, user: &str) -> PathBuf {
    store.join("users").join(directory_name(user))
}

/// Returns the directory name of a user. Letters, digits, `-` and `_` are kept, `.` and `@` too except at the start; other bytes become
/// `%` and hexadecimal digits. So no two users share a directory, and no name is a path.
fn directory_name(user: &str) -> String {
    let mut name = String::new();
    for (at, byte) in user.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte as char),
            b'.' | b'@' if at > 0 => name.push(byte as char),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name
}

fn user_of(directory: &str) -> Option<String> {
    let user = percent_encoding::percent_decode_str(directory)
        .decode_utf8()
        .ok()?
        .into_owned();
    (directory_name(&user) == directory).then_some(user)
}

/// Uploads in progress.
#[derive(Default)]
pub struct Uploads(Arc<Mutex<BTreeSet<Digest>>>);

/// Marks an upload as in progress until dropped.
pub struct Sending(Arc<Mutex<BTreeSet<Digest>>>, Digest);

impl Uploads {
    /// Starts an upload. `None` if one of the same artifact is in progress.
    pub fn begin(&self, digest: &Digest) -> Option<Sending> {
        let new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(*digest);
        new.then(|| Sending(self.0.clone(), *digest))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_a_directory_of_its_own() {
        for (user, name) in [
            ("ann@example.org", "ann@example.org"),
            ("..", "%2e."),
            ("a b", "a%20b"),
            ("a%20b", "a%2520b"),
            ("ü", "%c3%bc"),
        ] {
            assert_eq!(directory_name(user), name);
            assert_eq!(user_of(name).as_deref(), Some(user));
        }
        assert_eq!(user_of("%C3%BC"), None);
    }

    #[test]
    fn an_artifact_is_sent_once_at_a_time() {
        let uploads = Uploads::default();
        let digest = Digest::of("a");
        let sending = uploads.begin(&digest);
        assert!(sending.is_some() && uploads.begin(&digest).is_none());
        drop(sending);
        assert!(uploads.begin(&digest).is_some());
    }
}
