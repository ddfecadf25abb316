//! Kubernetes objects of a kernel: the pod, and the secret with the token for the host.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
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
use sha2::Sha256;

/// Component of kernel pods, and the name of their container.
pub const COMPONENT: &str = "kernel";
/// Label with the ID of a pod's kernel. Spare pods do not have it.
pub const KERNEL_LABEL: &str = "lockstep.dev/kernel";
/// Label of a user's pods: a prefix of the digest of the user's name.
const USER_LABEL: &str = "lockstep.dev/user";
/// Annotation with the kernel's requested environment, as JSON.
pub const ENV_ANNOTATION: &str = "lockstep.dev/env";
/// Placeholder for the user in the name of a namespace. No two users have the same namespace.
const USER: &str = "{user}";
/// Placeholder for the user in the name of a namespace, written as Kubeflow writes it in the name of a profile. Users whose names differ only in case and
/// signs have the same.
const PROFILE: &str = "{profile}";
/// Key of the token in its secret.
const TOKEN: &str = "token";
/// Minimum length of a key in bytes; a shorter one could be guessed.
const SHORTEST_KEY: usize = 32;
/// Maximum length of the name of a namespace.
const LONGEST: usize = 63;
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

/// Returns the patch that assigns the spare pod `object` to a kernel. Kubernetes refuses it if the pod has changed since it was read, for example
/// because it has another kernel now.
pub fn claim(object: &Pod, kernel: &Named) -> Value {
    let mut metadata = of_kernel(kernel);
    metadata["resourceVersion"] = json!(object.metadata.resource_version);
    json!({ "metadata": metadata })
}

/// Returns the secret of a pod, which has its name and is deleted with it.
pub fn secret(pod: &Pod, token: &str) -> Result<Secret> {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    read(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": owner.name, "labels": labels(COMPONENT), "ownerReferences": [owner] },
        "stringData": { TOKEN: token },
    }))
}

/// Name of the secret with the key of the tokens of pods, in the host's namespace.
pub const KEY_SECRET: &str = "lockstep-kernel-key";
/// Key in this secret.
pub const KEY: &str = "key";

/// Returns the secret with the key from which the tokens of pods are derived.
pub fn key_secret(key: &str) -> Result<Secret> {
    read(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": KEY_SECRET, "labels": labels("kernel-key") },
        "stringData": { KEY: key },
    }))
}

/// Returns the token of the pod `name`: an HMAC-SHA-256 (RFC 2104) of its name. `None` if the key is too short.
pub fn token(key: &str, name: &str) -> Option<String> {
    if key.len() < SHORTEST_KEY {
        return None;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok()?;
    mac.update(b"token of a kernel's pod\0");
    mac.update(name.as_bytes());
    Some(mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Returns the selector of the pods of `user`; without one, of those that belong to no user.
pub fn selector(user: Option<&str>) -> String {
    let all = format!("{},app.kubernetes.io/component={COMPONENT}", lockstep_cluster::job::MANAGED);
    match user {
        Some(user) => format!("{all},{USER_LABEL}={}", user_label(user)),
        None => format!("{all},!{USER_LABEL}"),
    }
}

/// Whether each user has a namespace, with this pattern.
pub fn is_per_user(pattern: &str) -> bool {
    pattern.contains(USER) || pattern.contains(PROFILE)
}

/// Returns the namespace for `user`, whose name replaces [`USER`] or [`PROFILE`] in `pattern`.
pub fn namespace(pattern: &str, user: Option<&str>) -> String {
    let user = user.unwrap_or("nobody");
    let name: String = user
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    let name = name.trim_matches('-');
    if !pattern.contains(USER) {
        return shortened(&pattern.replace(PROFILE, name), LONGEST).to_owned();
    }
    // the digest tells apart what the readable part does not, and must not be cut off
    let digest = &user_label(user)[..10];
    let free = LONGEST.saturating_sub(pattern.len() - USER.len() + digest.len() + 1);
    let own = format!("{}-{digest}", shortened(name, free));
    shortened(&pattern.replace(USER, own.trim_start_matches('-')), LONGEST).to_owned()
}

/// Returns the start of an ASCII name, without a `-` at its end.
fn shortened(name: &str, most: usize) -> &str {
    name.get(..most).unwrap_or(name).trim_end_matches('-')
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
        let profile = |user| namespace("kubeflow-{profile}", Some(user));
        assert_eq!(profile("Ann@example.org"), "kubeflow-ann-example-org");
        assert_eq!(profile("ann.example@org"), profile("Ann@example.org"));
        assert!(is_per_user("kubeflow-{profile}") && is_per_user("{user}") && !is_per_user("kernels"));
    }

    #[test]
    fn users_whose_names_differ_in_signs_have_different_namespaces() {
        let long = "x".repeat(80);
        let users = [
            "ann@example.org",
            "Ann@example.org",
            "ann.example@org",
            "--",
            "ü",
            &long,
            &format!("{long}y"),
        ];
        let names: std::collections::BTreeSet<String> = users.iter().map(|user| namespace("a-{user}-b", Some(user))).collect();
        assert_eq!(names.len(), users.len(), "{names:?}");
        for name in &names {
            let is_label = name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            assert!(
                is_label && name.len() <= 63 && name.starts_with("a-") && name.ends_with("-b"),
                "{name}"
            );
        }
        assert_eq!(namespace("a-{user}", Some("ann")), "a-ann-49915e0d7d");
    }

    #[test]
    fn a_token_depends_on_the_pod_and_on_the_key_only() {
        let key = "k".repeat(32);
        let (one, other) = (token(&key, "a").unwrap(), token(&key, "b").unwrap());
        assert_eq!((one.len(), &one), (64, &token(&key, "a").unwrap()));
        assert!(one != other && one != token(&"l".repeat(32), "a").unwrap());
        assert_eq!(token("short", "a"), None);
    }

    #[test]
    fn a_claim_names_the_version_of_the_pod_and_a_secret_its_pod() {
        let mut made = pod(&shape(), "p", None, "s3://team/a", None).unwrap();
        made.metadata.resource_version = Some("17".to_owned());
        made.metadata.uid = Some("u".to_owned());
        let env = BTreeMap::new();
        let claimed = claim(&made, &Named { id: "k", env: &env })["metadata"].clone();
        assert_eq!(
            (&claimed["resourceVersion"], &claimed["labels"][KERNEL_LABEL]),
            (&json!("17"), &json!("k"))
        );
        let secret = secret(&made, "t").unwrap();
        let owners = secret.metadata.owner_references.unwrap();
        assert_eq!(secret.metadata.name.as_deref(), Some("p"));
        assert_eq!(
            (owners.len(), owners[0].uid.as_str(), owners[0].kind.as_str()),
            (1, "u", "Pod")
        );
    }
}
