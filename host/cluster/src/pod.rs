//! Common parts of all pods. They have minimal permissions and write below `/tmp` only.

use std::fmt::Display;
use std::path::Path;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodTemplateSpec};
use lockstep_runtime::pipeline::yaml::documents;
use lockstep_view::error::{Error, Result};
use serde_json::{Value, json};

/// Command in images.
pub const COMMAND: &str = "/lockstep";
/// Path of the store in pods.
pub const STORE: &str = "/tmp/store";
/// Path of the cache in pods.
pub const CACHE: &str = "/tmp/cache";
/// Port of a host in its pod.
pub const PORT: u16 = 8080;
/// Name of that port.
pub const PORT_NAME: &str = "http";
/// Environment variable with the key for compiled code.
pub const CODE_KEY: &str = "LOCKSTEP_CODE_KEY";
/// Name of the secret with the key for compiled code.
const CODE_SECRET: &str = "lockstep-code";
/// Maximum retries of pods after failures that the task did not cause.
pub const RETRIES: u32 = 6;

/// Returns the labels of a component: `task`, `kernel`.
pub fn labels(component: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "lockstep",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": "lockstep",
    })
}

/// Returns the security context of a pod, according to the `restricted` pod security standard.
pub fn security() -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// Returns the security context of its container.
pub fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

/// Returns the environment of a container with the shared store `shared`, and additional variables.
pub fn environment<const N: usize>(shared: &str, more: [Value; N]) -> Vec<Value> {
    let stores = [
        ("LOCKSTEP_STORE", STORE),
        ("LOCKSTEP_CACHE", CACHE),
        ("LOCKSTEP_SHARED", shared),
    ];
    let stores = stores.map(|(name, value)| json!({ "name": name, "value": value }));
    stores.into_iter().chain(more).collect()
}

/// Returns references to the secrets with the variables for the shared store and with the key for compiled code, which is optional.
pub fn environment_from(secret: &str) -> Value {
    json!([
        { "secretRef": { "name": secret } },
        { "secretRef": { "name": CODE_SECRET, "optional": true } },
    ])
}

/// Returns the secret with the key with which pods of a namespace share compiled code.
pub fn code_secret(key: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": CODE_SECRET, "labels": labels("code") },
        "stringData": { CODE_KEY: key },
    })
}

/// Returns the resources of a container: CPU request, a Kubernetes quantity, and memory request and limit in bytes.
pub fn resources(cpu: &str, memory: u64) -> Value {
    let memory = format!("{}Mi", memory.div_ceil(1 << 20));
    json!({
        "requests": { "cpu": cpu, "memory": memory },
        "limits": { "memory": memory },
    })
}

/// Returns the volumes of a pod.
pub fn volumes() -> Value {
    json!([{ "name": "tmp", "emptyDir": {} }])
}

/// Returns the volume mounts of a container.
pub fn mounts() -> Value {
    json!([{ "name": "tmp", "mountPath": "/tmp" }])
}

/// Reads a pod template from a YAML file.
pub fn template(path: &Path) -> Result<PodTemplateSpec> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::file("read", path, &e))?;
    let wrong = |reason: &dyn Display| {
        Error::config(format_args!("{} is not a valid PodTemplateSpec: {reason}", path.display()))
            .hint("write the fields to merge in, such as `spec: { priorityClassName: low }`")
    };
    // parsed via JSON, as elsewhere: deserializers for YAML would add megabytes of code
    let documents = documents(&text).map_err(|fault| fault.of(path, &text))?;
    let [document] = &documents[..] else {
        return Err(wrong(&"expected one document"));
    };
    let value: Value = document.read().map_err(|fault| fault.of(path, &text))?;
    serde_json::from_value(value).map_err(|e| wrong(&e))
}

/// Returns the status of a container.
pub fn status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == container)
}

/// Returns why a container does not start, except for short normal delays.
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
