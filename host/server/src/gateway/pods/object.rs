//! Kubernetes objects of a kernel: the pod, and the secret with the token for the host.

use std::collections::BTreeMap;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use lockstep_cluster::job::read;
use lockstep_cluster::pod::{
    COMMAND, PORT, PORT_NAME, container_security, environment, environment_from, labels, mounts, resources, security, volumes,
};
use lockstep_kernel::session::Downloads;
use lockstep_runtime::digest::Digest;
use lockstep_view::error::Result;
use serde_json::{Value, json};

/// Component of kernel pods, and the name of their container.
pub const COMPONENT: &str = "kernel";
/// Label with the ID of a pod's kernel. Spare pods do not have it.
pub const KERNEL_LABEL: &str = "lockstep.dev/kernel";
/// Label of a user's pods: a prefix of the digest of the user's name.
const USER_LABEL: &str = "lockstep.dev/user";
/// Annotation with the kernel's requested environment, as JSON.
pub const ENV_ANNOTATION: &str = "lockstep.dev/env";
/// Placeholder for the user in the name of a namespace.
pub const USER: &str = "{user}";
/// Key of the token in its secret.
const TOKEN: &str = "token";
/// Directory in the pod that cells may access.
const FILES: &str = "/tmp/files";

/// Settings of kernel pods.
pub struct Shape {
    pub image: String,
    /// What the kernel may download.
    pub downloads: Downloads,
    /// CPU request, a Kubernetes quantity.
    pub cpu: String,
    /// Memory request and limit in bytes.
    pub memory: u64,
    /// Secret with the environment variables for the shared store.
    pub secret: String,
    /// Template to merge in.
    pub template: Option<PodTemplateSpec>,
}

/// A kernel in the metadata of its pod.
pub struct Named<'a> {
    pub id: &'a str,
    pub env: &'a BTreeMap<String, String>,
}

/// Returns the arguments of the command in a kernel pod.
fn args(downloads: &Downloads) -> Vec<String> {
    let fixed = [
        "serve",
        "--bind",
        &format!("0.0.0.0:{PORT}"),
        "--files",
        FILES,
        "--grace",
        "5s",
    ]
    .map(str::to_owned);
    let limit = format!("--fetch-limit={}", downloads.size);
    let servers = downloads.servers.iter().map(|server| format!("--fetch-from={server}"));
    fixed.into_iter().chain([limit]).chain(servers).collect()
}

/// Returns the pod `name` of `user`, whose shared store is at `shared`, for `kernel` or as a spare pod.
pub fn pod(shape: &Shape, name: &str, user: Option<&str>, shared: &str, kernel: Option<Named>) -> Result<Pod> {
    let mut labels = labels(COMPONENT);
    if let Some(user) = user {
        labels[USER_LABEL] = json!(user_label(user));
    }
    let mut template: PodTemplateSpec = read(json!({
        "metadata": { "labels": labels },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": 10,
            "securityContext": security(),
            "containers": [{
                "name": COMPONENT,
                "image": shape.image,
                "command": [COMMAND],
                "args": args(&shape.downloads),
                "env": environment(shared, [
                    json!({ "name": "LOCKSTEP_TOKEN", "valueFrom": { "secretKeyRef": { "name": name, "key": TOKEN } } }),
                ]),
                "envFrom": environment_from(&shape.secret),
                "ports": [{ "name": PORT_NAME, "containerPort": PORT }],
                "readinessProbe": { "httpGet": { "path": "/health/ready", "port": PORT_NAME }, "periodSeconds": 5 },
                "resources": resources(&shape.cpu, shape.memory),
                "securityContext": container_security(),
                "volumeMounts": mounts(),
            }],
            "volumes": volumes(),
        },
    }))?;
    if let Some(over) = &shape.template {
        template.merge_from(over.clone());
    }
    let mut metadata = json!(template.metadata);
    metadata["name"] = json!(name);
    if let Some(kernel) = kernel {
        let of = of_kernel(&kernel);
        metadata["labels"][KERNEL_LABEL] = of["labels"][KERNEL_LABEL].clone();
        metadata["annotations"][ENV_ANNOTATION] = of["annotations"][ENV_ANNOTATION].clone();
    }
    read(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template.spec }))
}

/// Returns the metadata that assigns a pod to a kernel.
pub fn of_kernel(kernel: &Named) -> Value {
    json!({
        "labels": { KERNEL_LABEL: kernel.id },
        "annotations": { ENV_ANNOTATION: json!(kernel.env).to_string() },
    })
}

/// Returns the secret for the pod of the same name.
pub fn secret(name: &str, token: &str) -> Result<Secret> {
    read(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name, "labels": labels(COMPONENT) },
        "stringData": { TOKEN: token },
    }))
}

/// Returns a patch that makes `pod` the owner of its secret, so that they are deleted together.
pub fn owned_by(pod: &Pod) -> Value {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    json!({ "metadata": { "ownerReferences": [owner] } })
}

/// Returns the selector of the pods of `user`; without one, of those that belong to no user.
pub fn selector(user: Option<&str>) -> String {
    let all = format!("{},app.kubernetes.io/component={COMPONENT}", lockstep_cluster::job::MANAGED);
    match user {
        Some(user) => format!("{all},{USER_LABEL}={}", user_label(user)),
        None => format!("{all},!{USER_LABEL}"),
    }
}

/// Returns the namespace for `user`, whose name replaces [`USER`] in `pattern`.
pub fn namespace(pattern: &str, user: Option<&str>) -> String {
    let name: String = user.unwrap_or("nobody").to_ascii_lowercase();
    let name: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let whole: String = pattern.replace(USER, name.trim_matches('-')).chars().take(63).collect();
    whole.trim_end_matches('-').to_owned()
}

fn user_label(user: &str) -> String {
    Digest::of(user).hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            image: "lockstep-kernel@sha256:ab".to_owned(),
            downloads: Downloads {
                servers: vec!["*.example.org".parse().unwrap()],
                size: 1 << 20,
            },
            cpu: "500m".to_owned(),
            memory: 2 << 30,
            secret: "lockstep-store".to_owned(),
            template: None,
        }
    }

    #[test]
    fn a_pod_says_which_kernel_it_has_and_nothing_secret() {
        let env = BTreeMap::from([("A".to_owned(), "b".to_owned())]);
        let kernel = Named { id: "k", env: &env };
        let made = pod(&shape(), "p", Some("ann@example.org"), "s3://team/a", Some(kernel)).unwrap();
        let labels = made.metadata.labels.clone().unwrap();
        assert_eq!(labels[KERNEL_LABEL], "k");
        assert_eq!(labels[USER_LABEL].len(), 16);
        assert_eq!(made.metadata.annotations.clone().unwrap()[ENV_ANNOTATION], r#"{"A":"b"}"#);
        let spec = made.spec.unwrap();
        assert_eq!(spec.automount_service_account_token, Some(false));
        let token = spec.containers[0]
            .env
            .iter()
            .flatten()
            .find(|env| env.name == "LOCKSTEP_TOKEN");
        assert_eq!(token.unwrap().value, None);
    }

    #[test]
    fn a_ready_pod_is_of_no_kernel_and_a_template_is_laid_over_it() {
        let over = json!({ "metadata": { "labels": { "team": "a" } }, "spec": { "priorityClassName": "low" } });
        let shape = Shape {
            template: Some(read(over).unwrap()),
            ..shape()
        };
        let made = pod(&shape, "p", None, "s3://team/a", None).unwrap();
        let labels = made.metadata.labels.unwrap();
        assert_eq!((labels.get(KERNEL_LABEL), labels["team"].as_str()), (None, "a"));
        assert_eq!(made.spec.unwrap().priority_class_name.as_deref(), Some("low"));
    }

    #[test]
    fn users_have_namespaces() {
        assert_eq!(namespace("kernels", Some("ann@example.org")), "kernels");
        assert_eq!(
            namespace("kubeflow-{user}", Some("Ann@example.org")),
            "kubeflow-ann-example-org"
        );
        assert_eq!(namespace("a-{user}", Some(&"x".repeat(80))).len(), 63);
    }
}
