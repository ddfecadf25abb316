//! Creation and lookup of kernel pods in the cluster of this host.

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod as Object, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use lockstep_cluster as cluster;
use lockstep_cluster::new_secret;
use lockstep_cluster::pod::{template, waiting};
use lockstep_kernel::file::write_whole;
use lockstep_runtime::digest::Digest;
use lockstep_view::error::{Error, Result};
use serde_json::json;

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
            // the configured token survives the loss of the host's own files, for example with its pod
            key: match &surroundings.token {
                Some(token) => token.clone(),
                None => key(&surroundings.host_directory().join("kernel-key"))?,
            },
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

    /// Whether `user` has a place: with a namespace per user, callers without a user have none.
    pub fn serves(&self, user: Option<&str>) -> bool {
        user.is_some() || !self.namespace.contains(object::USER)
    }

    /// Lists the pods in `place`.
    pub async fn list(&self, place: &PodScope) -> Result<Vec<Object>> {
        let own = ListParams::default().labels(&object::selector(place.user.as_deref()));
        let pods = self.pods(place);
        let listed = cluster::patiently(|| async { pods.list(&own).await }).await?;
        Ok(listed.items)
    }

    /// Creates a pod, for `kernel` or as a spare pod. Does not wait for its start.
    pub async fn make(&self, place: &PodScope, kernel: Option<Named<'_>>) -> Result<String> {
        let name = format!("lockstep-kernel-{:08x}", rand::random::<u32>());
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &place.namespace);
        let pods = self.pods(place);
        let pod = object::pod(&self.shape, &name, place.user.as_deref(), &place.shared, kernel)?;
        let secret = object::secret(&name, &self.token(&name))?;
        let by = cluster::creating();
        let refused = |e: kube::Error| cluster::error(&e);
        cluster::make_code_key(&self.client, &place.namespace).await?;
        secrets.create(&by, &secret).await.map_err(refused)?;
        let pod = pods.create(&by, &pod).await.map_err(refused)?;
        let owned = Patch::Merge(object::owned_by(&pod));
        let owned = secrets.patch(&name, &PatchParams::default(), &owned).await;
        owned.map_err(refused)?;
        Ok(name)
    }

    /// Assigns the spare pod `name` to a kernel.
    pub async fn give(&self, place: &PodScope, name: &str, kernel: &Named<'_>) -> Result<()> {
        let patch = Patch::Merge(json!({ "metadata": object::of_kernel(kernel) }));
        let pods = self.pods(place);
        cluster::patiently(|| async { pods.patch(name, &PatchParams::default(), &patch).await }).await?;
        Ok(())
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

    /// Returns the token of a pod, derived from the key.
    fn token(&self, pod: &str) -> String {
        Digest::of(format!("{pod}\0{}", self.key)).hex()
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

/// Reads the key from the file at `path`. Creates the file if it does not exist, readable by this user only.
fn key(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(key) => Ok(key),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = new_secret();
            write_whole(path, key.as_bytes()).map_err(|e| Error::file("write", path, &e))?;
            Ok(key)
        }
        Err(e) => Err(Error::file("read", path, &e)),
    }
}
