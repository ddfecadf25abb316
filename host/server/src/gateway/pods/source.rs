//! Creation and lookup of kernel pods in the cluster of this host.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod as Object, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use lockstep_cluster as cluster;
use lockstep_cluster::new_secret;
use lockstep_cluster::pod::{template, waiting};
use lockstep_view::error::{Error, Kind, Result};

use super::super::cull::Cull;
use super::object::{self, COMPONENT, KERNEL_LABEL, Named, Shape};
use super::pod::Pod;
use crate::Settings;
use crate::machine::Surroundings;

/// Maximum time for a pod to start, including the image pull.
const PATIENCE: Duration = Duration::from_secs(120);
/// Interval of checks whether it has started.
const LOOK: Duration = Duration::from_millis(50);

/// Source of kernel pods.
pub struct Source {
    client: Client,
    http: reqwest::Client,
    shape: Shape,
    /// Namespace of pods, which may contain the placeholder `{user}`.
    namespace: String,
    /// Number of spare pods.
    pub warm: usize,
    pub cull: Option<Cull>,
    /// Key from which tokens are derived. It is the same after a restart of the host.
    key: String,
    /// The user of each namespace.
    claimed: Mutex<BTreeMap<String, Option<String>>>,
}

/// A user's pods in a namespace of the cluster.
pub struct PodScope {
    pub namespace: String,
    pub user: Option<String>,
    /// URL of the shared store of those pods.
    pub shared: String,
}

impl Source {
    /// Connects to the cluster; `None` if the settings do not ask for pods.
    pub async fn connect(settings: &Settings, surroundings: &Surroundings) -> Result<Option<Self>> {
        let Some(image) = settings.kernel_image() else {
            return Ok(None);
        };
        if surroundings.shared.is_none() {
            return Err(Error::config("kernels in pods need a shared store for their sessions")
                .hint("set --shared s3://BUCKET/PREFIX or LOCKSTEP_SHARED"));
        }
        let (client, own) = cluster::connect(None).await?;
        let key = key(&client, &own).await?;
        let http = reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(3));
        Ok(Some(Self {
            client,
            http: http.build().map_err(Error::host)?,
            shape: Shape {
                image: image.to_owned(),
                downloads: settings.downloads(),
                cpu: settings.kernel_cpu(),
                memory: settings.kernel_memory(),
                secret: settings.kernel_secret(),
                template: settings.kernel_template().map(template).transpose()?,
            },
            namespace: settings.kernel_namespace().map_or(own, str::to_owned),
            warm: settings.kernel_warm(),
            cull: Cull::new(settings),
            key,
            claimed: Mutex::default(),
        }))
    }

    /// Returns the place of the pods of `user`.
    pub fn place(&self, user: Option<&str>, shared: String) -> PodScope {
        PodScope {
            namespace: object::namespace(&self.namespace, user),
            user: user.map(str::to_owned),
            shared,
        }
    }

    /// Returns the memory limit of a pod in bytes.
    pub fn memory(&self) -> u64 {
        self.shape.memory
    }

    /// Whether `user` has a place: with a namespace per user, callers without a user have none.
    pub fn serves(&self, user: Option<&str>) -> bool {
        user.is_some() || !object::is_per_user(&self.namespace)
    }

    /// Fails if the place has the namespace of another user: with `{profile}`, names of users may differ, and those of namespaces not.
    pub fn claim(&self, place: &PodScope) -> Result<()> {
        if !object::is_per_user(&self.namespace) {
            return Ok(());
        }
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = claimed.entry(place.namespace.clone()).or_insert_with(|| place.user.clone());
        if *owner == place.user {
            return Ok(());
        }
        let name = |user: &Option<String>| user.clone().unwrap_or_default();
        let error = format_args!(
            "the users `{}` and `{}` would have their kernels in the same namespace {}, so those of the second are refused",
            name(owner),
            name(&place.user),
            place.namespace
        );
        Err(Error::new(Kind::Denied, error)
            .hint("use the placeholder {user} instead of {profile} in --kernel-namespace, or rename one of them"))
    }

    /// Lists the pods in `place`.
    pub async fn list(&self, place: &PodScope) -> Result<Vec<Object>> {
        let own = ListParams::default().labels(&object::selector(place.user.as_deref()));
        let pods = self.pods(place);
        let listed = cluster::patiently(|| async { pods.list(&own).await }).await?;
        Ok(listed.items)
    }

    /// Creates a pod with its secret, for `kernel` or as a spare pod. Does not wait for its start.
    pub async fn make(&self, place: &PodScope, kernel: Option<Named<'_>>) -> Result<String> {
        let name = format!("lockstep-kernel-{:08x}", rand::random::<u32>());
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &place.namespace);
        let pods = self.pods(place);
        let pod = object::pod(&self.shape, &name, place.user.as_deref(), &place.shared, kernel)?;
        let by = cluster::creating();
        let refused = |e: kube::Error| cluster::error(&e);
        cluster::make_code_key(&self.client, &place.namespace).await?;
        // its container waits for the secret, which names the pod as its owner
        let pod = pods.create(&by, &pod).await.map_err(refused)?;
        let secret = object::secret(&pod, &self.token(&name))?;
        if let Err(error) = secrets.create(&by, &secret).await {
            self.delete(place, &name, true).await?;
            return Err(refused(error));
        }
        Ok(name)
    }

    /// Assigns a spare pod to a kernel. Returns false if it has changed since it was listed: another kernel may have it.
    pub async fn claim_pod(&self, place: &PodScope, object: &Object, kernel: &Named<'_>) -> Result<bool> {
        let (pods, patch) = (self.pods(place), Patch::Merge(object::claim(object, kernel)));
        let name = object.metadata.name.as_deref().unwrap_or_default();
        cluster::patiently(|| async {
            match pods.patch(name, &PatchParams::default(), &patch).await {
                Ok(_) => Ok(true),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Waits until the pod `name` accepts requests.
    pub async fn started(&self, place: &PodScope, name: &str) -> Result<Pod> {
        let begun = Instant::now();
        let pods = self.pods(place);
        loop {
            let Some(object) = cluster::patiently(|| async { pods.get_opt(name).await }).await? else {
                return Err(does_not_start(place, name, "it was deleted"));
            };
            if let Some(pod) = self.running(&object)
                && pod.is_ready().await
            {
                return Ok(pod);
            }
            let why = waiting(&object, COMPONENT);
            match why {
                Some(why) if is_final(&why) => return Err(does_not_start(place, name, &why)),
                _ if has_ended(&object) => return Err(does_not_start(place, name, "it exited")),
                why if begun.elapsed() > PATIENCE => {
                    return Err(does_not_start(place, name, &why.unwrap_or_else(|| "timeout".to_owned())));
                }
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Returns the pod of an object, if it is running.
    pub fn running(&self, object: &Object) -> Option<Pod> {
        let status = object.status.as_ref()?;
        let name = object.metadata.name.as_deref()?;
        let address = status.pod_ip.as_deref()?;
        let runs = status.phase.as_deref() == Some("Running") && !is_leaving(object);
        runs.then(|| Pod::new(name, address, self.token(name), &self.http))
    }

    /// Whether the pod still exists and has not ended.
    pub async fn has(&self, place: &PodScope, name: &str) -> Result<bool> {
        let pods = self.pods(place);
        let found = cluster::patiently(|| async { pods.get_opt(name).await }).await?;
        Ok(found.is_some_and(|object| !is_leaving(&object) && !has_ended(&object)))
    }

    /// Deletes the pod; without a grace period if it is lost.
    pub async fn delete(&self, place: &PodScope, name: &str, is_lost: bool) -> Result<()> {
        let how = match is_lost {
            true => DeleteParams::default().grace_period(0),
            false => DeleteParams::default(),
        };
        cluster::remove(&self.pods(place), name, &how).await
    }

    fn pods(&self, place: &PodScope) -> Api<Object> {
        Api::namespaced(self.client.clone(), &place.namespace)
    }

    /// Returns the token of a pod.
    fn token(&self, pod: &str) -> String {
        // the key was checked
        object::token(&self.key, pod).unwrap_or_default()
    }
}

/// Returns the ID of a pod's kernel.
pub fn kernel_of(object: &Object) -> Option<&str> {
    object.metadata.labels.as_ref()?.get(KERNEL_LABEL).map(String::as_str)
}

/// Whether the pod is being deleted.
pub fn is_leaving(object: &Object) -> bool {
    object.metadata.deletion_timestamp.is_some()
}

pub fn has_ended(object: &Object) -> bool {
    let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

/// Whether the pod is without its secret for so long that the host that created it must have ended before it created the secret.
pub fn lacks_secret(object: &Object) -> bool {
    let created = object.metadata.creation_timestamp.as_ref();
    let age = created.map_or(0, |time| Timestamp::now().as_second() - time.0.as_second());
    age > PATIENCE.as_secs() as i64
        && waiting(object, COMPONENT).is_some_and(|why| why.starts_with("CreateContainerConfigError"))
}

/// Whether waiting longer would not help.
fn is_final(why: &str) -> bool {
    let reasons = [
        "ErrImageNeverPull",
        "ImagePullBackOff",
        "InvalidImageName",
        "CreateContainerError",
    ];
    reasons.iter().any(|reason| why.starts_with(reason))
}

fn does_not_start(place: &PodScope, name: &str, why: &str) -> Error {
    Error::host(format_args!("the kernel's pod {name} failed to start: {why}"))
        .hint(format_args!("check `kubectl --namespace {} get events`", place.namespace))
}

/// Returns the key from its secret in the host's namespace, which is created if it does not exist.
async fn key(client: &Client, namespace: &str) -> Result<String> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let new = object::key_secret(&new_secret())?;
    let by = cluster::creating();
    let get = || async { secrets.get_opt(object::KEY_SECRET).await };
    let found = match cluster::patiently(get).await? {
        Some(found) => found,
        None => {
            cluster::patiently(|| async {
                match secrets.create(&by, &new).await {
                    // another host was first
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                    other => other.map(drop),
                }
            })
            .await?;
            cluster::patiently(get).await?.unwrap_or_default()
        }
    };
    let data = found.data.as_ref().and_then(|data| data.get(object::KEY));
    let key = data.and_then(|key| String::from_utf8(key.0.clone()).ok());
    key.filter(|key| object::token(key, "").is_some()).ok_or_else(|| {
        let error = format_args!(
            "the Secret {} in the namespace {namespace} has no key of at least 32 bytes",
            object::KEY_SECRET
        );
        Error::config(error).hint(format_args!(
            "delete it, and the host creates a new one when it starts: `kubectl --namespace {namespace} delete secret {}`",
            object::KEY_SECRET
        ))
    })
}
