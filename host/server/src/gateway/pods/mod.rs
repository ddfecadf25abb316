//! Kernels in pods of their own. A kernel's pod is a host with that one kernel, and this host passes on what clients say to it and hear from it:
//! what it was asked, and what it has not been told yet, is the pod's affair ([`super::here`]).
//!
//! Which kernels there are, the cluster knows: pods have labels, so that a host that is started again finds them. A pod that is lost is replaced,
//! and the new one goes on from the kernel's copy in the shared store ([`super::mirror`]).

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
use self::source::{Place, has_ended, is_leaving, kernel_of};
use super::ID;
use super::hosted::{Env, Model};
use super::journal::Copy;
use super::mirror::note;

pub use pod::Pod;
pub use source::Source;

/// How often pods are looked after.
const LOOK: Duration = Duration::from_secs(2);
/// How long a pod that is there may say nothing before it is given up.
const SILENCE: Duration = Duration::from_secs(20);

/// The kernels of a namespace, in pods.
pub struct Pods {
    source: Arc<Source>,
    place: Place,
    shared: Shared,
    kernels: Mutex<BTreeMap<String, Arc<Kernel>>>,
    /// Whether the pods of an earlier host were looked for.
    found: OnceCell<()>,
}

struct Kernel {
    id: String,
    env: Env,
    /// Where it is. Held as long as it is on its way to a pod, or to its end.
    pod: tokio::sync::Mutex<Option<Pod>>,
    /// Whether it has been ended: it gets no pod any more.
    has_ended: AtomicBool,
    /// What its pod said of it last.
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
            }),
        })
    }

    fn named(&self) -> Named<'_> {
        Named {
            id: &self.id,
            env: &self.env,
        }
    }

    /// Whether it is in a pod, and not on its way to one.
    fn has_pod(&self) -> bool {
        self.pod.try_lock().is_ok_and(|pod| pod.is_some())
    }

    /// What is told of it: what its pod says, or said last. `None` if that says that there is none.
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
    /// The kernels of `user`, whose shared store is `shared`. To be called within tokio.
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

    /// Finds the kernels that an earlier host left.
    async fn find(&self) -> Result<()> {
        let found = self.found.get_or_try_init(|| async {
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

    /// How many there are.
    pub fn count(&self) -> usize {
        self.kernels().len()
    }

    /// What there is to tell of each.
    pub async fn models(&self) -> Result<Vec<Model>> {
        self.find().await?;
        let kernels: Vec<_> = self.kernels().values().cloned().collect();
        let told = join_all(kernels.iter().map(|kernel| kernel.told())).await;
        Ok(told.into_iter().flatten().collect())
    }

    /// Starts a kernel in a pod; or gives the one whose id `env` names.
    pub async fn create(&self, env: Env) -> Result<Model> {
        self.find().await?;
        let id = super::id_in(&env)?.unwrap_or_else(Uuid::new_v4).to_string();
        let kernel = {
            let mut kernels = self.kernels();
            let new = || Kernel::new(&id, env, None);
            kernels.entry(id.clone()).or_insert_with(new).clone()
        };
        let reached = self.reach(&kernel).await;
        if reached.is_err() && kernel.pod.lock().await.is_none() {
            self.kernels().remove(&id);
        }
        match reached? {
            Some((_, model)) => Ok(model),
            None => Err(Error::host("the kernel ended when it was asked for").hint("try again")),
        }
    }

    /// The kernel's pod, and what it says of the kernel; a new one if the old one is lost. `None` if there is no such kernel.
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

    /// A kernel whose pod was lost while no host looked: it has a copy. One whose id its client chose is asked for with that again, and may have
    /// been left to its copy for being idle.
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
                    tracing::warn!("kernel {}: its pod {} is lost", kernel.id, pod.name);
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
        tracing::info!("kernel {}: in pod {}", kernel.id, pod.name);
        kernel.tell(&model);
        *place = Some(pod.clone());
        Ok(Some((pod, model)))
    }

    /// Asks a pod for its kernel until it answers, or is known to be lost.
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

    /// A pod that is ready: one that waits for a kernel, or a new one.
    async fn pod_for(&self, kernel: &Kernel) -> Result<Pod> {
        if self.source.warm > 0 {
            for object in self.source.list(&self.place).await? {
                if kernel_of(&object).is_none()
                    && let Some(pod) = self.source.running(&object)
                    && pod.is_ready().await
                {
                    self.source.give(&self.place, &pod.name, &kernel.named()).await?;
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

    /// Ends a kernel and its pod. What nobody shut down keeps the session of its notebook, if it has a name to be asked for by.
    pub async fn end(&self, id: &str, session_stays: bool) -> Result<bool> {
        self.find().await?;
        let Some(kernel) = self.kernels().get(id).cloned() else {
            return Ok(false);
        };
        // not off the list before all of it is gone, or whoever asks for it meanwhile would have it back from its copy
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

    /// Removes pods that have ended, replaces those that are lost, ends kernels that nobody uses, and keeps pods ready.
    async fn look_after(self: &Arc<Self>) -> Result<()> {
        self.find().await?;
        let objects = self.source.list(&self.place).await?;
        let (there, ended): (Vec<Object>, Vec<Object>) = objects.into_iter().partition(|object| !has_ended(object));
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
        // a pod may take longer to start than a kernel may be idle
        let placed: Vec<_> = kernels.iter().filter(|kernel| kernel.has_pod()).collect();
        let told = join_all(placed.iter().map(|kernel| kernel.told())).await;
        for (kernel, told) in placed.into_iter().zip(told) {
            match told {
                // a client ended it, and its pod is to go
                None => self.reach_later(kernel),
                Some(model) if self.source.cull.is_some_and(|cull| cull.takes(&model, SystemTime::now())) => {
                    tracing::info!("kernel {}: nobody used it", model.id);
                    self.end(&model.id, true).await?;
                }
                Some(_) => {}
            }
        }
        self.keep_warm(&there).await
    }

    /// Sees to the kernel's pod, while nobody waits for it.
    fn reach_later(self: &Arc<Self>, kernel: &Arc<Kernel>) {
        let (pods, kernel) = (self.clone(), kernel.clone());
        tokio::spawn(async move {
            if let Err(error) = pods.reach(&kernel).await {
                tracing::warn!("kernel {} has no pod for now: {error}", kernel.id);
            }
        });
    }

    /// Of users who are told apart, only those have pods ready who have kernels.
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

/// What a look at a kernel's pod gave.
enum Seen {
    There(Model),
    /// The pod is there, and the kernel has ended.
    Ended,
    Lost,
}

/// What a kernel was asked for with, as its pod tells.
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
