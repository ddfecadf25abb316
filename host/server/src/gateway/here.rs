//! Kernels in this process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use lockstep_kernel::jupyter::Stopped;
use lockstep_kernel::session::SessionFile;
use lockstep_view::error::{Error, Result};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use uuid::Uuid;

use super::cull::Cull;
use super::hosted::{Env, Hosted};
use super::journal::{Copy, Journal};
use super::mirror::Mirror;
use super::running::Ground;
use super::{ID, NOTEBOOK, id_in, too_many};
use crate::Answer;

/// The kernels of a namespace, in this process.
pub struct Here {
    ground: Arc<Ground>,
    /// Their copies in the shared store.
    mirror: Option<Arc<Mirror>>,
    held: Mutex<BTreeMap<String, Arc<Hosted>>>,
    stopped: UnboundedSender<(String, Stopped)>,
}

impl Here {
    /// Opens the kernels of a namespace. Requests that an earlier process left unsettled run again. Must be called within a tokio runtime.
    pub fn open(ground: Ground, cull: Option<Cull>) -> Result<Arc<Self>> {
        let (stopped, told) = unbounded_channel();
        let kernels = Arc::new(Self {
            mirror: Mirror::behind(&ground.runtime.store)?,
            ground: Arc::new(ground),
            held: Mutex::default(),
            stopped,
        });
        kernels.find();
        tokio::spawn(end_stopped(Arc::downgrade(&kernels), told));
        if let Some(cull) = cull {
            tokio::spawn(watch(cull, Arc::downgrade(&kernels)));
        }
        Ok(kernels)
    }

    /// Finds the kernels of an earlier process. Those with pending requests start now, the others when a client needs them.
    fn find(&self) {
        let found = std::fs::read_dir(self.directory()).into_iter().flatten().flatten();
        for entry in found {
            let id = entry.file_name().to_string_lossy().into_owned();
            let journal = match Uuid::parse_str(&id) {
                // the host ended, or had no place on its disk, while it created or removed the kernel
                Ok(_) if Journal::is_missing(&entry.path()) => {
                    let _ = std::fs::remove_dir_all(entry.path());
                    continue;
                }
                Ok(_) => Journal::open(entry.path(), &self.ground.sessions, self.mirror.clone()),
                Err(_) => Err("its name is not the ID of a kernel".to_owned()),
            };
            let journal = match journal {
                Ok(journal) => journal,
                Err(reason) => {
                    let path = entry.path();
                    tracing::error!("can't restore the kernel in {}: {reason}. Its files are kept", path.display());
                    continue;
                }
            };
            let hosted = self.hosted(&id, journal, "idle");
            let woken = if hosted.has_requests() { hosted.wake() } else { Ok(()) };
            if let Err(error) = woken {
                anstream::eprintln!("note: {error}");
            }
            self.held().insert(id, hosted);
        }
    }

    /// Starts a kernel, or returns the existing one with the ID in `env`. Refused beyond `most` kernels.
    pub fn create(&self, env: Env, most: usize) -> Answer<Arc<Hosted>> {
        let id = id_in(&env)?.unwrap_or_else(Uuid::new_v4).to_string();
        let hosted = {
            let mut held = self.held();
            if let Some(there) = held.get(&id) {
                return Ok(there.clone());
            }
            if held.len() >= most {
                return Err(too_many(most));
            }
            let journal = self.journal(&id, env, &held)?;
            let hosted = self.hosted(&id, journal, "starting");
            held.insert(id, hosted.clone());
            hosted
        };
        hosted.wake()?;
        Ok(hosted)
    }

    /// Creates the journal of a requested kernel, from the copy of a kernel on another machine if there is one.
    fn journal(&self, id: &str, env: Env, held: &BTreeMap<String, Arc<Hosted>>) -> Result<Journal> {
        let failed = |e: std::io::Error| Error::host(format_args!("the host can't save a new kernel: {e}"));
        let (directory, mirror) = (self.directory().join(id), self.mirror.clone());
        if Journal::exists(&directory) {
            let error = format_args!("kernel {id} can't be restored, and its files are kept; the host's log has the reason");
            return Err(Error::config(error).hint(format_args!(
                "use the version of lockstep that wrote them, or give the kernel up: `rm -r {}`",
                directory.display()
            )));
        }
        // a kernel without a requested ID is always new
        let asked = mirror.as_ref().filter(|_| env.contains_key(ID));
        let copy = asked.map_or(Ok(None), |mirror| mirror.copy(id))?;
        if let Some(copy) = copy.and_then(|json| Copy::read(&json)) {
            return Journal::restore(directory, env, &self.ground.sessions, copy, mirror).map_err(failed);
        }
        let notebook = env.get(NOTEBOOK).map(PathBuf::from);
        let notebook = notebook.filter(|path| path.is_absolute() && self.ground.confined.is_none());
        let free = notebook.filter(|path| held.values().all(|hosted| hosted.session() != *path));
        let place = SessionFile {
            directory: self.ground.sessions.clone(),
            notebook: free.unwrap_or_else(|| id.into()),
        };
        Journal::create(directory, env, place, mirror).map_err(failed)
    }

    /// Waits up to `patience` until the shared store has copies of all kernels.
    pub fn flush(&self, patience: Duration) {
        if self.mirror.as_ref().is_some_and(|mirror| !mirror.flush(patience)) {
            tracing::warn!("the shared store lacks the latest copies of kernels: it is slow or unreachable");
        }
    }

    /// Prepares for the end of the process: cells that are running run again in the next one.
    pub fn note_shutdown(&self) {
        self.all().iter().for_each(|hosted| hosted.note_shutdown());
    }

    fn hosted(&self, id: &str, journal: Journal, state: &str) -> Arc<Hosted> {
        Arc::new(Hosted::new(id, &self.ground, journal, state, self.stopped.clone()))
    }

    pub fn get(&self, id: &str) -> Option<Arc<Hosted>> {
        self.held().get(id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Hosted>> {
        self.held().values().cloned().collect()
    }

    /// Ends a kernel. If `session_stays`, its notebook's session is kept.
    pub async fn end(&self, id: &str, session_stays: bool) -> bool {
        let hosted = {
            let mut held = self.held();
            let hosted = held.remove(id);
            // before a new kernel with the same ID can use the same directory
            hosted.inspect(|hosted| hosted.forget(session_stays))
        };
        match hosted {
            Some(hosted) => {
                hosted.end().await;
                true
            }
            None => false,
        }
    }

    fn directory(&self) -> PathBuf {
        self.ground.directory.join("kernels")
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Hosted>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shuts down idle kernels until `kernels` is dropped.
async fn watch(cull: Cull, kernels: Weak<Here>) {
    loop {
        tokio::time::sleep(cull.interval()).await;
        let Some(kernels) = kernels.upgrade() else { return };
        for hosted in kernels.all() {
            if cull.takes(&hosted.model(), SystemTime::now()) {
                kernels.end(&hosted.id, true).await;
            }
        }
    }
}

/// Handles shutdown and restart requests that clients send as messages.
async fn end_stopped(kernels: Weak<Here>, mut told: UnboundedReceiver<(String, Stopped)>) {
    while let Some((id, stopped)) = told.recv().await {
        let Some(kernels) = kernels.upgrade() else { return };
        // lets the reply go out first
        tokio::time::sleep(Duration::from_millis(50)).await;
        match (stopped.restart, kernels.get(&id)) {
            (true, Some(hosted)) => {
                if let Err(error) = hosted.restart().await {
                    anstream::eprintln!("note: {error}");
                }
            }
            (true, None) => {}
            (false, _) => drop(kernels.end(&id, false).await),
        }
    }
}
