//! Tasks as Jobs of Kubernetes. A pod is given the digest of a plan of its own tasks, runs it as any machine would, and puts what that comes to into
//! the shared store; here it is decided what can run, and what was run before makes no pod.

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

/// Who applies objects, to Kubernetes.
pub const MANAGER: &str = "lockstep";
/// How long the API is asked again before it is given up.
const PATIENCE: Duration = Duration::from_secs(300);

/// A namespace of a cluster.
pub struct Cluster {
    client: Client,
    namespace: String,
    /// Drives connections. Whoever asks waits.
    threads: tokio::runtime::Runtime,
}

/// A run of a plan that the cluster knows.
pub struct Known {
    /// The plan.
    pub plan: Digest,
    /// What its pipeline is called.
    pub pipeline: String,
    /// How it is carried out.
    pub settings: Settings,
    /// When it was first submitted, as Kubernetes writes it.
    pub created: String,
}

impl Cluster {
    /// The cluster of a context of the kubeconfig, or the current one, or the one around this pod; a namespace of it, or that of the context.
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

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The runs of plans that the namespace knows.
    pub fn known(&self) -> Result<Vec<Known>> {
        let maps = self.threads.block_on(patiently(|| async {
            self.config_maps().list(&ListParams::default().labels(job::MANAGED)).await
        }))?;
        Ok(maps.items.into_iter().filter_map(known).collect())
    }

    /// Deletes what carries out `plan`, if there is anything.
    pub fn delete(&self, plan: &Digest) -> Result<()> {
        let (maps, name) = (self.config_maps(), job::run_name(plan));
        let with_all = DeleteParams::background();
        self.threads.block_on(remove(&maps, &name, &with_all))?;
        let (jobs, own) = (self.jobs(), ListParams::default().labels(&job::selector(plan)));
        self.threads.block_on(patiently(|| async {
            jobs.delete_collection(&with_all, &own).await.map(drop)
        }))
    }

    /// Says what is carried out: what is to own the Jobs.
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

    /// Sees that the Job is there and has not ended: one that is at work is left alone.
    async fn submit(&self, job: &Job) -> Result<()> {
        let (jobs, name) = (self.jobs(), job.metadata.name.clone().unwrap_or_default());
        let found = patiently(|| async { jobs.get_opt(&name).await }).await?;
        if let Some(found) = found {
            let is_leaving = found.metadata.deletion_timestamp.is_some();
            if !is_leaving && follow::ended(&found).is_none() {
                return Ok(());
            }
            // it ended and did not do its work, or what it did is lost
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

/// A client for the cluster of a context, as [`Cluster::connect`] finds it, and the context's namespace. To be called within tokio.
pub async fn connect(context: Option<&str>) -> Result<(Client, String)> {
    // a process has one: whichever comes first serves all
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = config(context).await?;
    let namespace = config.default_namespace.clone();
    Ok((Client::try_from(config).map_err(|e| error(&e))?, namespace))
}

async fn config(context: Option<&str>) -> Result<Config> {
    let hint = "set KUBECONFIG, or look whether `kubectl cluster-info` finds the cluster";
    let Some(context) = context else {
        let found = Config::infer().await;
        return found.map_err(|e| Error::config(format_args!("no cluster is known: {e}")).hint(hint));
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

/// Sees that the pods of a namespace have a key by which they take compiled code from one another. Where one may not make it they do without.
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

/// How objects are made that must not be there yet.
pub fn creating() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// Deletes the object called `name`, if it is there.
pub async fn remove<K: Clone + DeserializeOwned + Debug>(objects: &Api<K>, name: &str, how: &DeleteParams) -> Result<()> {
    patiently(|| async {
        match objects.delete(name, how).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    })
    .await
}

/// Asks until there is an answer, while the API can't be reached or has too much to do.
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

/// What to tell of an error of Kubernetes.
pub fn error(error: &kube::Error) -> Error {
    match error {
        kube::Error::Api(status) => {
            let kind = match status.code {
                401 | 403 => Kind::Denied,
                400..500 => Kind::User,
                _ => Kind::Host,
            };
            let error = Error::new(kind, format_args!("the cluster refuses: {}", status.message));
            match status.code {
                401 | 403 => error.hint(
                    "see what one may do there with `kubectl auth can-i --list`; deploy/kustomize has a Role that suffices",
                ),
                404 => error.hint("see `kubectl get namespaces`; --namespace names another"),
                _ => error,
            }
        }
        other => {
            Error::host(format_args!("the cluster can't be reached: {}", innermost(other))).hint("see `kubectl cluster-info`")
        }
    }
}
