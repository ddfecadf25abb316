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

use crate::invocation::Invocation;
use crate::pipelines::pair;

/// Where tasks are run, if not on this machine.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum On {
    /// As Jobs of a cluster
    Kubernetes,
}

/// How tasks share pods.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pods {
    /// Small tasks share one: the sandbox isolates them
    Fused,
    /// Each task has one of its own; instances of a task are the indices of one Job
    PerTask,
}

/// Which cluster is meant.
#[derive(Args, Clone)]
#[command(next_help_heading = "Kubernetes")]
pub struct WhereArgs {
    /// The namespace [default: that of the context]
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,

    /// The context of the kubeconfig [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// How tasks are run in a cluster.
#[derive(Args, Clone)]
#[command(next_help_heading = "Kubernetes")]
pub struct ClusterArgs {
    /// Run tasks there; the shared store (--shared) is where pods find what they need and leave what they make
    #[arg(long, value_name = "WHERE")]
    pub on: Option<On>,

    #[command(flatten)]
    pub place: WhereArgs,

    /// The image of pods [default: $LOCKSTEP_IMAGE, or lockstep-step and this version]
    #[arg(long, value_name = "REFERENCE")]
    image: Option<String>,

    /// How tasks share pods
    #[arg(long, value_name = "HOW", default_value = "fused")]
    pods: Pods,

    /// The processors that a pod asks for
    #[arg(long, value_name = "N", default_value = "1", value_parser = cpu)]
    pod_cpu: String,

    /// The memory for a pod's guests [default: what its tasks say, or took before]
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pod_memory: Option<u64>,

    /// A PodTemplateSpec as YAML, laid over that of every pod; the container is called `task`
    #[arg(long, value_name = "FILE")]
    pod_template: Option<PathBuf>,

    /// Only nodes with this label
    #[arg(long = "node-selector", value_name = "KEY=VALUE", value_parser = pair)]
    node_selectors: Vec<(String, String)>,

    /// Also nodes with this taint
    #[arg(long = "toleration", value_name = "KEY[=VALUE][:EFFECT]", value_parser = toleration)]
    tolerations: Vec<Toleration>,

    /// The queue of Kueue that admits the Jobs
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,

    /// The secret with AWS_ACCESS_KEY_ID and the others by which pods reach the shared store
    #[arg(long, value_name = "NAME", default_value = "lockstep-store")]
    store_secret: String,

    /// The service account of pods, whose token they don't get
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,

    /// The longest that a Job may take [default: unlimited]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    deadline: Option<Duration>,

    /// How long a Job that failed can be looked at; those that succeeded are removed at once
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    ttl: Duration,
}

impl WhereArgs {
    /// The cluster, reached.
    pub fn connect(&self) -> Result<Cluster> {
        Cluster::connect(self.context.as_deref(), self.namespace.as_deref())
    }
}

impl ClusterArgs {
    /// The settings of pods that carry out what `execution` says.
    pub fn settings(self, execution: &Execution, large_module: bool, invocation: &Invocation) -> Result<Settings> {
        let Some(shared) = invocation.locations.shared.clone() else {
            return Err(Error::user("pods need a store that they reach too")
                .hint("--shared s3://BUCKET/PREFIX, or LOCKSTEP_SHARED, names one"));
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

/// The arguments that pods get beside those that say what they run.
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
