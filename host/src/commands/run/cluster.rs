use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::Toleration;
use lockstep_cluster::pod::template;
use lockstep_cluster::{Cluster, Settings, cpu, toleration};
use lockstep_runtime::pipeline::Execution;
use lockstep_runtime::run::Reuse;
use lockstep_runtime::step::OwnLimits;
use lockstep_view::artifacts::unique;
use lockstep_view::error::{Error, Result};
use lockstep_view::quantity::{parse_bytes, parse_duration};

use crate::executor::Backend;
use crate::invocation::Invocation;
use crate::pipelines::pair;

/// Where tasks run, if not on this machine.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// Jobs in a Kubernetes cluster
    Kubernetes,
}

/// How tasks are assigned to pods.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pods {
    /// Small tasks share a pod; the sandbox isolates them
    Fused,
    /// One pod per task; instances of a task become one indexed Job
    PerTask,
}

/// The cluster and namespace.
#[derive(Args, Clone)]
#[command(next_help_heading = "Kubernetes")]
pub struct WhereArgs {
    /// Namespace [default: namespace of the context]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,

    /// Context in the kubeconfig [default: current context]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// How tasks run in a cluster.
#[derive(Args, Clone)]
#[command(next_help_heading = "Kubernetes")]
pub struct ClusterArgs {
    /// Run tasks elsewhere; pods exchange data through the shared store (--shared)
    #[arg(long, value_name = "WHERE")]
    pub on: Option<On>,

    #[command(flatten)]
    pub place: WhereArgs,

    /// Image of the pods [default: $LOCKSTEP_IMAGE, or lockstep-step:VERSION]
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,

    /// How to assign tasks to pods
    #[arg(long, value_name = "HOW", default_value = "fused")]
    pods: Pods,

    /// CPU request of a pod
    #[arg(long, value_name = "N", default_value = "1", value_parser = cpu)]
    pod_cpu: String,

    /// Memory for the guests of a pod [default: from the limits or earlier runs of its tasks]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pod_memory: Option<u64>,

    /// YAML file with a PodTemplateSpec to merge into every pod; the container is named `task`
    #[arg(long, value_name = "FILE")]
    pod_template: Option<PathBuf>,

    /// Run only on nodes with this label
    #[arg(long = "node-selector", value_name = "KEY=VALUE", value_parser = pair)]
    node_selectors: Vec<(String, String)>,

    /// Tolerate this taint
    #[arg(long = "toleration", value_name = "KEY[=VALUE][:EFFECT]", value_parser = toleration)]
    tolerations: Vec<Toleration>,

    /// Kueue queue for the Jobs
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,

    /// Secret with AWS_ACCESS_KEY_ID and other AWS_* variables, for access to the shared store
    #[arg(long, value_name = "NAME", default_value = "lockstep-store")]
    store_secret: String,

    /// Service account of the pods; its token is not mounted
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,

    /// Maximum duration of a Job [default: unlimited]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    deadline: Option<Duration>,

    /// How long to keep failed Jobs; successful Jobs are deleted at once
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    ttl: Duration,
}

impl WhereArgs {
    /// Connects to the cluster.
    pub fn connect(&self) -> Result<Cluster> {
        Cluster::connect(self.context.as_deref(), self.namespace.as_deref())
    }
}

impl ClusterArgs {
    /// Returns where `--on` and `--host` say that runs are executed.
    pub fn backend(self, execution: &Execution, large_module: bool, invocation: &Invocation) -> Result<Backend> {
        if self.on.is_some() {
            let cluster = self.place.connect()?;
            return Ok(Backend::Cluster(
                cluster,
                Box::new(self.settings(execution, large_module, invocation)?),
            ));
        }
        Ok(invocation.remote()?.map_or(Backend::Here, Backend::Host))
    }

    /// Returns the settings of pods for `execution`.
    fn settings(self, execution: &Execution, large_module: bool, invocation: &Invocation) -> Result<Settings> {
        let Some(shared) = invocation.locations.shared.clone() else {
            return Err(Error::user("running in a cluster needs a shared store")
                .hint("give --shared s3://BUCKET/PREFIX, or set LOCKSTEP_SHARED"));
        };
        let image = self.image.or_else(|| invocation.locations.image.clone());
        Ok(Settings {
            image: image.unwrap_or_else(|| format!("lockstep-step:{}", env!("CARGO_PKG_VERSION"))),
            shared,
            secret: self.store_secret,
            fused: self.pods == Pods::Fused,
            service_account: self.service_account,
            queue: self.queue,
            node_selector: unique("--node-selector", self.node_selectors)?,
            tolerations: self.tolerations,
            template: self.pod_template.as_deref().map(template).transpose()?,
            cpu: self.pod_cpu,
            memory: self.pod_memory,
            deadline: self.deadline.map(|time| time.as_secs().max(1)),
            ttl: self.ttl.as_secs(),
            limits: OwnLimits::from(&execution.limits),
            args: args_of_pods(execution, large_module),
        })
    }
}

/// Returns the options that pods pass to `lockstep run`.
fn args_of_pods(execution: &Execution, large_module: bool) -> Vec<String> {
    let args = [
        ("--keep-going", execution.keep_going),
        ("--no-cache", execution.reuse != Reuse::Records),
        ("--large-module", large_module),
    ];
    args.into_iter()
        .filter(|(_, given)| *given)
        .map(|(arg, _)| arg.to_owned())
        .collect()
}
