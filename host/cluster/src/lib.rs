//! Tasks as Kubernetes Jobs. A pod gets the digest of a plan with its tasks, executes it like any machine, and writes the results to the
//! shared store. This crate decides which tasks can run; cached tasks need no pod.

mod carry;
mod follow;
mod forward;
mod group;
pub mod job;
pub mod pod;
mod secret;

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use lockstep_runtime::digest::Digest;
use lockstep_view::error::{Error, Kind, Result, innermost};
use lockstep_view::threads::threads;
use serde::de::DeserializeOwned;

pub use carry::Carried;
pub use forward::Forward;
pub use job::{Settings, cpu, toleration};
pub use secret::new_secret;

/// Field manager of objects.
pub const MANAGER: &str = "lockstep";
/// Maximum time for retries of API requests.
const PATIENCE: Duration = Duration::from_secs(300);

/// A namespace of a cluster.
pub struct Cluster {
    client: Client,
    namespace: String,
    /// Runtime for connections; callers block.
    threads: tokio::runtime::Runtime,
}

/// A submitted plan in the cluster.
pub struct Known {
    /// The plan.
    pub plan: Digest,
    /// Name of its pipeline.
    pub pipeline: String,
    /// Settings of its Jobs.
    pub settings: Settings,
    /// Creation timestamp from Kubernetes.
    pub created: String,
}

impl Cluster {
    /// Connects to the cluster of a kubeconfig context: `context`, the current one, or the cluster of this pod. The default namespace is that
    /// of the context.
    pub fn connect(context: Option<&str>, namespace: Option<&str>) -> Result<Self> {
        let threads = threads("cluster", 2)?;
        let (client, own) = threads.block_on(connect(context))?;
        let namespace = namespace.map_or(own, str::to_owned);
        Ok(Self {
            client,
            namespace,
            threads,
        })
    }

    /// Returns the namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Lists the submitted plans in the namespace.
    pub fn known(&self) -> Result<Vec<Known>> {
        let maps = self.threads.block_on(patiently(|| async {
            self.config_maps().list(&ListParams::default().labels(job::MANAGED)).await
        }))?;
        Ok(maps.items.into_iter().filter_map(known).collect())
    }

    /// Deletes the objects of `plan`.
    pub fn delete(&self, plan: &Digest) -> Result<()> {
        let (maps, name) = (self.config_maps(), job::run_name(plan));
        let with_all = DeleteParams::background();
        self.threads.block_on(remove(&maps, &name, &with_all))?;
        let (jobs, own) = (self.jobs(), ListParams::default().labels(&job::selector(plan)));
        self.threads.block_on(patiently(|| async {
            jobs.delete_collection(&with_all, &own).await.map(drop)
        }))
    }

    /// Creates or updates the ConfigMap of a plan. Returns a reference to it, as the owner of Jobs.
    fn announce(&self, plan: &Digest, pipeline: &str, settings: &Settings) -> Result<OwnerReference> {
        let map = job::config_map(plan, pipeline, settings)?;
        let (maps, name) = (self.config_maps(), job::run_name(plan));
        let apply = PatchParams::apply(MANAGER).force();
        let applied = self
            .threads
            .block_on(patiently(|| async { maps.patch(&name, &apply, &Patch::Apply(&map)).await }))?;
        self.threads.block_on(make_code_key(&self.client, &self.namespace))?;
        Ok(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name,
            uid: applied.metadata.uid.unwrap_or_default(),
            ..OwnerReference::default()
        })
    }

    /// Creates the Job, unless it exists and is still running.
    async fn submit(&self, job: &Job) -> Result<()> {
        let (jobs, name) = (self.jobs(), job.metadata.name.clone().unwrap_or_default());
        let found = patiently(|| async { jobs.get_opt(&name).await }).await?;
        if let Some(found) = found {
            let is_leaving = found.metadata.deletion_timestamp.is_some();
            if !is_leaving && follow::ended(&found).is_none() {
                return Ok(());
            }
            // it failed, or its results are lost
            remove(&jobs, &name, &DeleteParams::background()).await?;
            while patiently(|| async { jobs.get_opt(&name).await }).await?.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let apply = PatchParams::apply(MANAGER).force();
        patiently(|| async { jobs.patch(&name, &apply, &Patch::Apply(job)).await }).await?;
        Ok(())
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// Returns a client for the cluster of a context, see [`Cluster::connect`], and the context's namespace. Must be called within a tokio runtime.
pub async fn connect(context: Option<&str>) -> Result<(Client, String)> {
    // one per process; later calls fail, which is fine
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = config(context).await?;
    let namespace = config.default_namespace.clone();
    Ok((Client::try_from(config).map_err(|e| error(&e))?, namespace))
}

async fn config(context: Option<&str>) -> Result<Config> {
    let hint = "set KUBECONFIG, and check that `kubectl cluster-info` finds the cluster";
    let Some(context) = context else {
        let found = Config::infer().await;
        return found.map_err(|e| Error::config(format_args!("no cluster configured: {e}")).hint(hint));
    };
    let options = KubeConfigOptions {
        context: Some(context.to_owned()),
        ..KubeConfigOptions::default()
    };
    let wrong = |e: kube::config::KubeconfigError| Error::config(format_args!("context {context}: {e}")).hint(hint);
    let file = Kubeconfig::read().map_err(wrong)?;
    Config::from_custom_kubeconfig(file, &options).await.map_err(wrong)
}

fn known(map: ConfigMap) -> Option<Known> {
    let data = map.data?;
    Some(Known {
        plan: data.get("plan")?.parse().ok()?,
        pipeline: data.get("pipeline")?.clone(),
        settings: serde_json::from_str(data.get("settings")?).ok()?,
        created: map
            .metadata
            .creation_timestamp
            .map(|time| time.0.to_string())
            .unwrap_or_default(),
    })
}

/// Creates the key with which pods of a namespace share compiled code, if it does not exist. Without permission, pods do not share code.
pub async fn make_code_key(client: &Client, namespace: &str) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = job::read(pod::code_secret(&new_secret()))?;
    let by = creating();
    patiently(|| async {
        match secrets.create(&by, &secret).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 409) => Ok(()),
            other => other.map(drop),
        }
    })
    .await
}

/// Returns parameters for the creation of objects.
pub fn creating() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// Deletes the object `name`, if it exists.
pub async fn remove<K: Clone + DeserializeOwned + Debug>(objects: &Api<K>, name: &str, how: &DeleteParams) -> Result<()> {
    patiently(|| async {
        match objects.delete(name, how).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    })
    .await
}

/// Repeats a request while the API is unreachable or overloaded.
pub async fn patiently<T, F: Future<Output = kube::Result<T>>>(ask: impl Fn() -> F) -> Result<T> {
    let start = std::time::Instant::now();
    let mut pause = Duration::from_millis(200);
    loop {
        match ask().await {
            Err(e) if is_passing(&e) && start.elapsed() < PATIENCE => tokio::time::sleep(pause).await,
            other => return other.map_err(|e| error(&e)),
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 429 | 500..),
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// Converts an error from Kubernetes.
pub fn error(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => {
            let kind = match status.code {
                401 | 403 => Kind::Denied,
                400..500 => Kind::User,
                _ => Kind::Host,
            };
            let error = Error::new(kind, format_args!("the cluster refused the request: {}", status.message));
            match status.code {
                401 | 403 => error.hint(
                    "check your permissions with `kubectl auth can-i --list`; deploy/kustomize has a Role with the required ones",
                ),
                404 => error.hint("check `kubectl get namespaces`; select another namespace with --namespace"),
                _ => error,
            }
        }
        other => {
            Error::host(format_args!("can't reach the cluster: {}", innermost(other))).hint("check `kubectl cluster-info`")
        }
    }
}
