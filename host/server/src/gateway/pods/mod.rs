//! Kernels in one pod each. A kernel's pod is a host with that one kernel, and this host forwards its messages. Requests and undelivered
//! messages are managed in the pod ([`super::here`]).
//!
//! Labels of pods record which kernels exist, so that a restarted host finds them. A lost pod is replaced, and the new pod resumes the
//! kernel from its copy in the shared store ([`super::mirror`]).

mod object;
mod pod;
mod source;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod as Object;
use lockstep_runtime::store::Shared;
use lockstep_view::error::{Error, Result};
use tokio::sync::OnceCell;
use uuid::Uuid;

use self::object::{ENV_ANNOTATION, Named};
use self::source::{PodScope, has_ended, is_leaving, kernel_of, lacks_secret};
use super::hosted::{Details, Env, Model};
use super::journal::Copy;
use super::mirror::note;
use super::{ID, NOTEBOOK, UNNAMED, too_many};
use crate::Answer;

pub use pod::Pod;
pub use source::Source;

/// Interval of maintenance.
const LOOK: Duration = Duration::from_secs(2);
/// Time without a response after which an existing pod counts as lost.
const SILENCE: Duration = Duration::from_secs(20);

/// The kernels of a namespace, in pods.
pub struct Pods {
    source: Arc<Source>,
    place: PodScope,
    shared: Shared,
    kernels: Mutex<BTreeMap<String, Arc<Kernel>>>,
    /// Set once the pods of an earlier host were searched for.
    found: OnceCell<()>,
}

struct Kernel {
    id: String,
    env: Env,
    /// Its pod. Locked while the kernel gets a pod or ends.
    pod: tokio::sync::Mutex<Option<Pod>>,
    /// Whether the kernel was shut down; then it gets no new pod.
    has_ended: AtomicBool,
    /// Last known model.
    model: Mutex<Model>,
}

impl Kernel {
    fn new(id: &str, env: Env, pod: Option<Pod>) -> Arc<Self> {
        Arc::new(Self {
            id: id.to_owned(),
            env,
            pod: tokio::sync::Mutex::new(pod),
            has_ended: AtomicBool::new(false),
            model: Mutex::new(Model {
                id: id.to_owned(),
                last_activity: SystemTime::now(),
                execution_state: "starting".to_owned(),
                connections: 0,
                details: Details::default(),
            }),
        })
    }

    fn named(&self) -> Named<'_> {
        Named {
            id: &self.id,
            env: &self.env,
        }
    }

    /// Whether the kernel has a pod, and is not waiting for one.
    fn has_pod(&self) -> bool {
        self.pod.try_lock().is_ok_and(|pod| pod.is_some())
    }

    /// Returns the model from the pod, or the last known one. `None` if the pod has no such kernel.
    async fn told(&self) -> Option<Model> {
        if let Ok(pod) = self.pod.try_lock()
            && let Some(pod) = &*pod
        {
            match pod.model(&self.id).await {
                Ok(Some(model)) => self.tell(&model),
                Ok(None) => return None,
                Err(_) => {}
            }
        }
        Some(self.model.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn tell(&self, model: &Model) {
        *self.model.lock().unwrap_or_else(PoisonError::into_inner) = model.clone();
    }
}

impl Pods {
    /// Opens the kernels of `user`, whose shared store is `shared`. Must be called within a tokio runtime.
    pub fn open(source: &Arc<Source>, user: Option<&str>, shared: Shared) -> Arc<Self> {
        let pods = Arc::new(Self {
            place: source.place(user, shared.url().to_owned()),
            source: source.clone(),
            shared,
            kernels: Mutex::default(),
            found: OnceCell::new(),
        });
        if source.serves(user) {
            tokio::spawn(look_after(Arc::downgrade(&pods)));
        }
        pods
    }

    /// Finds the kernels of an earlier host.
    async fn find(&self) -> Result<()> {
        let found = self.found.get_or_try_init(|| async {
            self.source.claim(&self.place)?;
            for object in self.source.list(&self.place).await? {
                if let (Some(id), Some(pod)) = (kernel_of(&object), self.source.running(&object)) {
                    let kernel = Kernel::new(id, env_of(&object), Some(pod));
                    self.kernels().insert(id.to_owned(), kernel);
                }
            }
            Ok::<_, Error>(())
        });
        found.await.copied()
    }

    /// Returns the number of kernels.
    pub fn count(&self) -> usize {
        self.kernels().len()
    }

    /// Returns the models of all kernels.
    pub async fn models(&self) -> Result<Vec<Model>> {
        self.find().await?;
        let kernels: Vec<_> = self.kernels().values().cloned().collect();
        let told = join_all(kernels.iter().map(|kernel| kernel.told())).await;
        let named = kernels.iter().zip(told).filter_map(|(kernel, told)| {
            let mut model = told?;
            model.details.notebook = kernel.env.get(NOTEBOOK).cloned();
            model.details.memory = Some(self.source.memory());
            Some(model)
        });
        Ok(named.collect())
    }

    /// Starts a kernel in a pod, or returns the existing one with the ID in `env`. Refused beyond `most` kernels.
    pub async fn create(&self, mut env: Env, most: usize) -> Answer<Model> {
        self.find().await?;
        let id = super::id_in(&env)?.unwrap_or_else(Uuid::new_v4).to_string();
        // set for the pod, and not by clients
        env.remove(UNNAMED);
        let kernel = {
            let mut kernels = self.kernels();
            if kernels.len() >= most && !kernels.contains_key(&id) {
                return Err(too_many(most));
            }
            let new = || Kernel::new(&id, env, None);
            kernels.entry(id.clone()).or_insert_with(new).clone()
        };
        let reached = self.reach(&kernel).await;
        if reached.is_err() && kernel.pod.lock().await.is_none() {
            self.kernels().remove(&id);
        }
        match reached? {
            Some((_, model)) => Ok(model),
            None => Err(Error::host("the kernel ended during the request").hint("try again").into()),
        }
    }

    /// Returns the kernel's pod and model. Replaces a lost pod. `None` if the kernel does not exist.
    pub async fn at(&self, id: &str) -> Result<Option<(Pod, Model)>> {
        self.find().await?;
        let held = self.kernels().get(id).cloned();
        let kernel = match held {
            Some(kernel) => kernel,
            None => match self.lost(id).await? {
                Some(kernel) => self.kernels().entry(id.to_owned()).or_insert(kernel).clone(),
                None => return Ok(None),
            },
        };
        self.reach(&kernel).await
    }

    /// Returns a kernel whose pod was lost while no host was running, from its copy. Not one whose ID was chosen by its client: that may have
    /// been culled, and its client requests it again by ID.
    async fn lost(&self, id: &str) -> Result<Option<Arc<Kernel>>> {
        if Uuid::parse_str(id).is_err() {
            return Ok(None);
        }
        let copy = tokio::task::block_in_place(|| self.shared.note(&note(id)))?;
        let copy = copy.and_then(|json| Copy::read(&json));
        let env = copy.and_then(|copy| pod::env_of_unnamed(copy.env().clone()));
        Ok(env.map(|env| Kernel::new(id, env, None)))
    }

    async fn reach(&self, kernel: &Kernel) -> Result<Option<(Pod, Model)>> {
        let mut place = kernel.pod.lock().await;
        if kernel.has_ended.load(Relaxed) {
            return Ok(None);
        }
        if let Some(pod) = &*place {
            match self.look(pod, &kernel.id).await? {
                Seen::There(model) => {
                    kernel.tell(&model);
                    return Ok(Some((pod.clone(), model)));
                }
                Seen::Ended => {
                    kernel.has_ended.store(true, Relaxed);
                    self.kernels().remove(&kernel.id);
                    self.leave(pod, false).await?;
                    return Ok(None);
                }
                Seen::Lost => {
                    tracing::warn!("kernel {}: lost pod {}", kernel.id, pod.name);
                    self.leave(pod, true).await?;
                    *place = None;
                }
            }
        }
        let pod = self.pod_for(kernel).await?;
        let model = match pod.create(&kernel.id, &kernel.env).await {
            Ok(model) => model,
            Err(error) => {
                self.leave(&pod, true).await?;
                return Err(error.into());
            }
        };
        tracing::info!("kernel {}: running in pod {}", kernel.id, pod.name);
        kernel.tell(&model);
        *place = Some(pod.clone());
        Ok(Some((pod, model)))
    }

    /// Requests the kernel's model until the pod responds, or counts as lost.
    async fn look(&self, pod: &Pod, id: &str) -> Result<Seen> {
        let begun = Instant::now();
        loop {
            match pod.model(id).await {
                Ok(Some(model)) => return Ok(Seen::There(model)),
                Ok(None) => return Ok(Seen::Ended),
                Err(pod::AskError::Refused(_)) => return Ok(Seen::Lost),
                Err(pod::AskError::Away(_)) => {}
            }
            if begun.elapsed() > SILENCE || !self.source.has(&self.place, &pod.name).await? {
                return Ok(Seen::Lost);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns a pod that is ready: a spare pod, or a new one.
    async fn pod_for(&self, kernel: &Kernel) -> Result<Pod> {
        if self.source.warm > 0 {
            for object in self.source.list(&self.place).await? {
                if kernel_of(&object).is_none()
                    && let Some(pod) = self.source.running(&object)
                    && pod.is_ready().await
                    && self.source.claim_pod(&self.place, &object, &kernel.named()).await?
                {
                    return Ok(pod);
                }
            }
        }
        let name = self.source.make(&self.place, Some(kernel.named())).await?;
        match self.source.started(&self.place, &name).await {
            Ok(pod) => Ok(pod),
            Err(error) => {
                self.source.delete(&self.place, &name, true).await?;
                Err(error)
            }
        }
    }

    /// Ends a kernel and its pod. If `session_stays`, its copy is kept if the client chose its ID and so can request it again.
    pub async fn end(&self, id: &str, session_stays: bool) -> Result<bool> {
        self.find().await?;
        let Some(kernel) = self.kernels().get(id).cloned() else {
            return Ok(false);
        };
        // removed from the list last, or a concurrent request would restore it from its copy
        let mut place = kernel.pod.lock().await;
        if kernel.has_ended.swap(true, Relaxed) {
            return Ok(false);
        }
        let stays = session_stays && kernel.env.contains_key(ID);
        let removed = self.remove(&kernel.id, place.take(), stays).await;
        self.kernels().remove(id);
        removed.map(|()| true)
    }

    async fn remove(&self, id: &str, pod: Option<Pod>, session_stays: bool) -> Result<()> {
        if let Some(pod) = &pod {
            let ended = if session_stays { Ok(()) } else { pod.shut_down(id).await };
            self.leave(pod, ended.is_err()).await?;
        }
        if !session_stays {
            tokio::task::block_in_place(|| self.shared.remove_note(&note(id)))?;
        }
        Ok(())
    }

    async fn leave(&self, pod: &Pod, is_lost: bool) -> Result<()> {
        pod.is_gone();
        self.source.delete(&self.place, &pod.name, is_lost).await
    }

    /// Deletes ended pods, replaces lost ones, culls idle kernels, and maintains spare pods.
    async fn look_after(self: &Arc<Self>) -> Result<()> {
        self.find().await?;
        let objects = self.source.list(&self.place).await?;
        let is_there = |object: &Object| !has_ended(object) && !lacks_secret(object);
        let (there, ended): (Vec<Object>, Vec<Object>) = objects.into_iter().partition(is_there);
        for name in ended.iter().filter_map(|object| object.metadata.name.as_deref()) {
            self.source.delete(&self.place, name, true).await?;
        }
        let there: Vec<&Object> = there.iter().filter(|object| !is_leaving(object)).collect();
        let kernels: Vec<_> = self.kernels().values().cloned().collect();
        for kernel in &kernels {
            let Ok(place) = kernel.pod.try_lock() else { continue };
            let is_there = |pod: &Pod| there.iter().any(|object| object.metadata.name.as_ref() == Some(&pod.name));
            if let Some(pod) = place.as_ref().filter(|pod| !is_there(pod)) {
                pod.is_gone();
                drop(place);
                self.reach_later(kernel);
            }
        }
        // without a pod a kernel is not idle: the pod may take longer to start than the culling time
        let placed: Vec<_> = kernels.iter().filter(|kernel| kernel.has_pod()).collect();
        let told = join_all(placed.iter().map(|kernel| kernel.told())).await;
        for (kernel, told) in placed.into_iter().zip(told) {
            match told {
                // a client shut it down, so its pod must be deleted
                None => self.reach_later(kernel),
                Some(model) if self.source.cull.is_some_and(|cull| cull.takes(&model, SystemTime::now())) => {
                    tracing::info!("kernel {}: idle, shutting down", model.id);
                    self.end(&model.id, true).await?;
                }
                Some(_) => {}
            }
        }
        self.keep_warm(&there).await
    }

    /// Checks or replaces the kernel's pod in the background.
    fn reach_later(self: &Arc<Self>, kernel: &Arc<Kernel>) {
        let (pods, kernel) = (self.clone(), kernel.clone());
        tokio::spawn(async move {
            if let Err(error) = pods.reach(&kernel).await {
                tracing::warn!("kernel {}: no pod, will retry: {error}", kernel.id);
            }
        });
    }

    /// Creates or deletes spare pods. A user without kernels has none.
    async fn keep_warm(&self, there: &[&Object]) -> Result<()> {
        let is_wanted = self.place.user.is_none() || self.count() > 0;
        let wanted = if is_wanted { self.source.warm } else { 0 };
        let warm: Vec<&str> = there
            .iter()
            .filter(|object| kernel_of(object).is_none())
            .filter_map(|object| object.metadata.name.as_deref())
            .collect();
        for _ in warm.len()..wanted {
            self.source.make(&self.place, None).await?;
        }
        for name in warm.iter().skip(wanted) {
            self.source.delete(&self.place, name, false).await?;
        }
        Ok(())
    }

    fn kernels(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Kernel>>> {
        self.kernels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Result of a check of a kernel's pod.
enum Seen {
    There(Model),
    /// The pod exists, but the kernel has ended.
    Ended,
    Lost,
}

/// Returns a kernel's requested environment, from its pod.
fn env_of(object: &Object) -> Env {
    let annotations = object.metadata.annotations.as_ref();
    let env = annotations.and_then(|annotations| annotations.get(ENV_ANNOTATION));
    env.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

async fn look_after(pods: Weak<Pods>) {
    while let Some(pods) = pods.upgrade() {
        if let Err(error) = pods.look_after().await {
            tracing::warn!("kernels in {}: {error}", pods.place.namespace);
        }
        drop(pods);
        tokio::time::sleep(LOOK).await;
    }
}
