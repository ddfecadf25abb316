//! Kubernetes objects of a submitted plan: Jobs, and a ConfigMap that describes the plan and owns them.

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use lockstep_runtime::digest::{Digest, canonical_json};
use lockstep_runtime::step::OwnLimits;
use lockstep_view::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pod::{self, COMMAND, RETRIES};

/// Name of the container in a task's pod.
pub const CONTAINER: &str = "task";
/// Label of all objects of a plan: a prefix of its digest.
pub const PLAN_LABEL: &str = "lockstep.dev/plan";
/// Selector of all objects that lockstep creates.
pub const MANAGED: &str = "app.kubernetes.io/managed-by=lockstep";

/// Memory of a pod in addition to its guests, mostly for compilation: 512 MiB.
const OWN_MEMORY: u64 = 512 << 20;
/// Maximum concurrent tasks of a pod, memory permitting. Others work while some wait for the shared store.
const AT_A_TIME: u32 = 4;

/// Settings of pods. They are stored in the cluster, for `lockstep attach`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Image of pods.
    pub image: String,
    /// URL of the shared store in pods.
    pub shared: String,
    /// Secret with the environment variables for the shared store.
    pub secret: String,
    /// Whether small tasks share pods.
    pub fused: bool,
    /// Service account of pods.
    pub service_account: Option<String>,
    /// Kueue queue that admits Jobs.
    pub queue: Option<String>,
    /// Required node labels.
    pub node_selector: BTreeMap<String, String>,
    /// Tolerated node taints.
    pub tolerations: Vec<Toleration>,
    /// Template to merge into that of every pod.
    pub template: Option<PodTemplateSpec>,
    /// CPU request of a pod, a Kubernetes quantity.
    pub cpu: String,
    /// Memory of a pod's guests in bytes; overrides the expected usage.
    pub memory: Option<u64>,
    /// Deadline of a Job in seconds.
    pub deadline: Option<u64>,
    /// Time in seconds until a finished Job is deleted.
    pub ttl: u64,
    /// Default limits, for tasks without their own.
    pub limits: OwnLimits,
    /// Additional arguments of the command in pods, such as `--no-cache`.
    pub args: Vec<String>,
}

/// Work of a Job.
pub struct JobTasks<'a> {
    /// Digest of the submitted plan.
    pub plan: &'a Digest,
    /// Digest of the plan with the Job's tasks, an artifact in the shared store.
    pub part: &'a Digest,
    /// Names of its tasks.
    pub tasks: &'a [String],
    /// One pod per task, instead of one for all.
    pub indexed: bool,
    /// Expected peak memory of its guests in bytes.
    pub memory: u64,
}

/// Returns the name of a plan's objects: `lockstep-` and a prefix of its digest.
pub fn run_name(plan: &Digest) -> String {
    format!("lockstep-{}", short(plan))
}

/// Returns the ConfigMap that describes a submitted plan and owns its Jobs.
pub fn config_map(plan: &Digest, pipeline: &str, settings: &Settings) -> Result<ConfigMap> {
    read(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": run_name(plan), "labels": labels(plan) },
        "data": {
            "plan": plan.to_string(),
            "pipeline": pipeline,
            "settings": serde_json::to_string(settings).map_err(Error::host)?,
        },
    }))
}

/// Returns the Job for `work`. Its name has a digest of its spec, so the same Job is never created twice.
pub fn job(settings: &Settings, owner: &OwnerReference, work: &JobTasks) -> Result<Job> {
    let spec = job_spec(settings, work)?;
    let all = canonical_json(&spec).map_err(Error::host)?;
    let name = format!("{}-{}", run_name(work.plan), &Digest::of(all).hex()[..10]);
    let mut metadata = json!({ "name": name, "labels": labels(work.plan), "ownerReferences": [owner] });
    if let Some(queue) = &settings.queue {
        metadata["labels"]["kueue.x-k8s.io/queue-name"] = json!(queue);
    }
    metadata["annotations"] = annotations(work);
    read(json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec }))
}

fn job_spec(settings: &Settings, work: &JobTasks) -> Result<Value> {
    let fail = if work.indexed { "FailIndex" } else { "FailJob" };
    let mut spec = json!({
        "ttlSecondsAfterFinished": settings.ttl,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": { "rules": [
            // a drained or full node is not the task's fault
            { "action": "Ignore", "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }] },
            // a retry would fail in the same way
            { "action": fail, "onExitCodes": { "containerName": CONTAINER, "operator": "In", "values": deterministic() } },
        ]},
        "template": template(settings, work)?,
    });
    if let Some(deadline) = settings.deadline {
        spec["activeDeadlineSeconds"] = json!(deadline);
    }
    if settings.queue.is_some() {
        spec["suspend"] = json!(true);
    }
    if work.indexed {
        let count = work.tasks.len();
        spec["completionMode"] = json!("Indexed");
        spec["completions"] = json!(count);
        spec["parallelism"] = json!(count);
        spec["backoffLimitPerIndex"] = json!(RETRIES);
    } else {
        spec["backoffLimit"] = json!(RETRIES);
    }
    Ok(spec)
}

/// Returns the exit codes of deterministic failures.
fn deterministic() -> Vec<u8> {
    [Kind::User, Kind::Config, Kind::Guest, Kind::Denied].map(Kind::code).to_vec()
}

fn template(settings: &Settings, work: &JobTasks) -> Result<PodTemplateSpec> {
    let guests = settings.memory.unwrap_or(work.memory);
    let mut args = vec!["run".to_owned(), work.part.to_string(), "--events".to_owned()];
    args.extend(["--memory-budget".to_owned(), guests.to_string()]);
    args.extend(["--jobs".to_owned(), AT_A_TIME.to_string()]);
    if work.indexed {
        args.extend(["--only".to_owned(), "$(JOB_COMPLETION_INDEX)".to_owned()]);
    }
    args.extend_from_slice(&settings.args);
    let mut template: PodTemplateSpec = read(json!({
        "metadata": { "labels": labels(work.plan), "annotations": annotations(work) },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 10,
            "serviceAccountName": settings.service_account,
            "nodeSelector": settings.node_selector,
            "tolerations": settings.tolerations,
            "securityContext": pod::security(),
            "containers": [{
                "name": CONTAINER,
                "image": settings.image,
                "command": [COMMAND],
                "args": args,
                "env": pod::environment(&settings.shared, []),
                "envFrom": pod::environment_from(&settings.secret),
                "resources": pod::resources(&settings.cpu, guests + OWN_MEMORY),
                "securityContext": pod::container_security(),
                "volumeMounts": pod::mounts(),
            }],
            "volumes": pod::volumes(),
        },
    }))?;
    if let Some(over) = &settings.template {
        template.merge_from(over.clone());
    }
    Ok(template)
}

fn labels(plan: &Digest) -> Value {
    let mut labels = pod::labels(CONTAINER);
    labels[PLAN_LABEL] = json!(short(plan));
    labels
}

fn annotations(work: &JobTasks) -> Value {
    json!({ "lockstep.dev/plan": work.plan.to_string(), "lockstep.dev/tasks": lockstep_view::columns::fit(&work.tasks.join(", "), 1000) })
}

fn short(plan: &Digest) -> String {
    plan.hex()[..16].to_owned()
}

/// Returns the selector of all objects of a plan.
pub fn selector(plan: &Digest) -> String {
    format!("{MANAGED},{PLAN_LABEL}={}", short(plan))
}

/// Parses a Kubernetes object from JSON.
pub fn read<T: serde::de::DeserializeOwned>(object: Value) -> Result<T> {
    serde_json::from_value(object).map_err(|e| Error::host(format_args!("invalid Kubernetes object: {e}")))
}

/// Parses `KEY[=VALUE][:EFFECT]`.
pub fn toleration(text: &str) -> Result<Toleration, &'static str> {
    let (rest, effect) = match text.rsplit_once(':') {
        Some((rest, effect)) => (rest, Some(effect.to_owned())),
        None => (text, None),
    };
    let (key, value) = match rest.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (rest, None),
    };
    if key.is_empty() {
        return Err("expected KEY[=VALUE][:EFFECT]");
    }
    Ok(Toleration {
        key: Some(key.to_owned()),
        operator: Some(if value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value,
        effect,
        ..Toleration::default()
    })
}

/// Parses a CPU quantity: `2`, `0.5`, `500m`.
pub fn cpu(text: &str) -> Result<String, &'static str> {
    let number = text.strip_suffix('m').unwrap_or(text);
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(text.to_owned()),
        _ => Err("expected a CPU quantity such as 2, 0.5 or 500m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            image: "lockstep-step@sha256:ab".to_owned(),
            shared: "s3://bucket/a".to_owned(),
            secret: "lockstep-store".to_owned(),
            fused: true,
            service_account: None,
            queue: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            template: None,
            cpu: "1".to_owned(),
            memory: None,
            deadline: None,
            ttl: 60,
            limits: OwnLimits::default(),
            args: Vec::new(),
        }
    }

    fn made(settings: &Settings, indexed: bool) -> Job {
        let (plan, part) = (Digest::of("plan"), Digest::of("part"));
        let work = JobTasks {
            plan: &plan,
            part: &part,
            tasks: &["a".to_owned(), "b".to_owned()],
            indexed,
            memory: 1 << 30,
        };
        job(settings, &OwnerReference::default(), &work).unwrap()
    }

    #[test]
    fn the_same_work_has_the_same_name_and_other_work_another() {
        let name = |settings: &Settings| made(settings, false).metadata.name;
        assert_eq!(name(&settings()), name(&settings()));
        let other = Settings {
            image: "other".to_owned(),
            ..settings()
        };
        assert_ne!(name(&settings()), name(&other));
        assert_ne!(made(&settings(), true).metadata.name, name(&settings()));
        assert!(name(&settings()).unwrap().len() <= 63 - 6, "room for the index of a pod");
    }

    #[test]
    fn a_pod_may_do_nothing_that_it_need_not() {
        let pod = made(&settings(), false).spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.automount_service_account_token, Some(false));
        let container = &pod.containers[0];
        let security = container.security_context.as_ref().unwrap();
        assert_eq!(security.read_only_root_filesystem, Some(true));
        assert_eq!(security.allow_privilege_escalation, Some(false));
        let memory = |of: &Option<BTreeMap<_, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
            of.as_ref().unwrap()["memory"].0.clone()
        };
        let resources = container.resources.as_ref().unwrap();
        assert_eq!(
            (memory(&resources.requests), memory(&resources.limits)),
            ("1536Mi".to_owned(), "1536Mi".to_owned())
        );
        let text = serde_json::to_string(&pod).unwrap();
        assert!(!text.contains("SECRET_ACCESS_KEY"), "{text}");
    }

    #[test]
    fn a_template_is_laid_over_that_of_pods() {
        let over = json!({ "spec": {
            "priorityClassName": "low",
            "containers": [{ "name": CONTAINER, "env": [{ "name": "AWS_REGION", "value": "a" }] }],
        }});
        let with = Settings {
            template: Some(read(over).unwrap()),
            tolerations: vec![toleration("gpu=yes:NoSchedule").unwrap()],
            ..settings()
        };
        let pod = made(&with, false).spec.unwrap().template.spec.unwrap();
        assert_eq!(pod.priority_class_name.as_deref(), Some("low"));
        assert_eq!(pod.containers.len(), 1);
        let env: Vec<&str> = pod.containers[0].env.iter().flatten().map(|env| env.name.as_str()).collect();
        assert_eq!(env, ["LOCKSTEP_STORE", "LOCKSTEP_CACHE", "LOCKSTEP_SHARED", "AWS_REGION"]);
        assert_eq!(pod.tolerations.unwrap()[0].operator.as_deref(), Some("Equal"));
    }

    #[test]
    fn instances_are_the_indices_of_one_job() {
        let spec = made(&settings(), true).spec.unwrap();
        assert_eq!(
            (spec.completions, spec.completion_mode.as_deref()),
            (Some(2), Some("Indexed"))
        );
        let args = spec.template.spec.unwrap().containers[0].args.clone().unwrap();
        assert!(
            args.ends_with(&["--only".to_owned(), "$(JOB_COMPLETION_INDEX)".to_owned()]),
            "{args:?}"
        );
    }

    #[test]
    fn what_is_typed_is_checked() {
        assert_eq!(toleration("gpu:NoSchedule").unwrap().effect.as_deref(), Some("NoSchedule"));
        assert!(toleration("=x").is_err());
        assert_eq!(cpu("500m"), Ok("500m".to_owned()));
        assert!(cpu("-1").is_err() && cpu("many").is_err());
    }
}
