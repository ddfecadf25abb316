//! What all pods have in common: they may do nothing that they need not, and write below `/tmp` alone.

use std::fmt::Display;
use std::path::Path;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodTemplateSpec};
use lockstep_view::error::{Error, Result};
use serde_json::{Value, json};

/// What is started in images.
pub const COMMAND: &str = "/lockstep";
/// Where its store is in pods.
pub const STORE: &str = "/tmp/store";
/// Where its cache is in pods.
pub const CACHE: &str = "/tmp/cache";
/// Where a host listens in its pod.
pub const PORT: u16 = 8080;
/// What that port is called.
pub const PORT_NAME: &str = "http";
/// The variable with the secret that seals compiled code.
pub const CODE_KEY: &str = "LOCKSTEP_CODE_KEY";
/// The name of the secret with the key of compiled code.
const CODE_SECRET: &str = "lockstep-code";
/// So often is a pod replaced that failed for no fault of its task.
pub const RETRIES: u32 = 6;

/// The labels of what has this part to play: `task`, `kernel`.
pub fn labels(component: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "lockstep",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": "lockstep",
    })
}

/// The security context of a pod: that which the restricted standard asks for.
pub fn security() -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// The security context of its container.
pub fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

/// The environment of a container whose shared store is at `shared`, and more variables.
pub fn environment<const N: usize>(shared: &str, more: [Value; N]) -> Vec<Value> {
    let stores = [
        ("LOCKSTEP_STORE", STORE),
        ("LOCKSTEP_CACHE", CACHE),
        ("LOCKSTEP_SHARED", shared),
    ];
    let stores = stores.map(|(name, value)| json!({ "name": name, "value": value }));
    stores.into_iter().chain(more).collect()
}

/// The variables by which the shared store is reached, and the key of compiled code there, if the namespace has one.
pub fn environment_from(secret: &str) -> Value {
    json!([
        { "secretRef": { "name": secret } },
        { "secretRef": { "name": CODE_SECRET, "optional": true } },
    ])
}

/// The secret with the key by which the pods of a namespace take compiled code from one another.
pub fn code_secret(key: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": CODE_SECRET, "labels": labels("code") },
        "stringData": { CODE_KEY: key },
    })
}

/// What a container asks for: processors, as Kubernetes writes them, and memory in bytes, of which it gets no more.
pub fn resources(cpu: &str, memory: u64) -> Value {
    let memory = format!("{}Mi", memory.div_ceil(1 << 20));
    json!({
        "requests": { "cpu": cpu, "memory": memory },
        "limits": { "memory": memory },
    })
}

/// The volumes of a pod.
pub fn volumes() -> Value {
    json!([{ "name": "tmp", "emptyDir": {} }])
}

/// Where a container has the volumes.
pub fn mounts() -> Value {
    json!([{ "name": "tmp", "mountPath": "/tmp" }])
}

/// What is laid over the template of pods, from a file of YAML.
pub fn template(path: &Path) -> Result<PodTemplateSpec> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, &e))?;
    let wrong = |reason: &dyn Display| {
        Error::config(format_args!("{} is no PodTemplateSpec: {reason}", path.display()))
            .hint("write what is to be laid over it, such as `spec: { priorityClassName: low }`")
    };
    // by way of JSON, as that is what the objects of Kubernetes are read from elsewhere: a second reader of them all is megabytes of code
    let value: Value = serde_saphyr::from_str(&text).map_err(|e| wrong(&e))?;
    serde_json::from_value(value).map_err(|e| wrong(&e))
}

/// What Kubernetes tells of a container.
pub fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == container)
}

/// Why a container does not start, if that is more than that it takes a moment.
pub fn waiting(pod: &Pod, container: &str) -> Option<String> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let unschedulable = conditions.into_iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled" && condition.status == "False" && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unschedulable {
        return Some(condition.message.clone().unwrap_or_default());
    }
    let waiting = status(pod, container)?.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let is_moment = matches!(reason, "" | "ContainerCreating" | "PodInitializing");
    (!is_moment).then(|| match &waiting.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    })
}
