//! Pipelines as Jobs of a real Kubernetes, with the same digests as on this machine despite failures of pods, the API server
//! and the shared store. Also kernels in pods.
//!
//! `make e2e` starts the cluster and sets LOCKSTEP_CLUSTER to its kubeconfig; without it the tests are skipped with a
//! message. Each test has its own namespace, and its own bucket on a real S3 server that pods can reach.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::{Kernels, notebook, play};
use crate::examples::example;
use crate::gateway::{Host, holds_with};
use crate::notebook::digests;
use crate::setup::{Bucket, GUESTS, Place, ROOT, build, python, signal};

/// The address of this machine in the cluster.
const MACHINE: &str = "10.97.0.1";
/// The timeout of waits.
const PATIENCE: Duration = Duration::from_secs(240);

/// A namespace of the cluster with a shared store.
struct Namespace {
    kubeconfig: PathBuf,
    name: String,
    /// Namespaces of users, deleted with it.
    profiles: Vec<String>,
    /// A directory for manifests.
    files: tempfile::TempDir,
    bucket: Bucket,
}

impl Namespace {
    /// Creates a namespace. Prints a message and returns `None` if there is no cluster.
    fn new(name: &str) -> Option<Self> {
        let Some(kubeconfig) = std::env::var_os("LOCKSTEP_CLUSTER") else {
            println!("skipped: no cluster; start one with `make e2e`");
            return None;
        };
        let namespace = Self {
            kubeconfig: Path::new(ROOT).join(kubeconfig),
            name: format!("{name}-{}", std::process::id()),
            profiles: Vec::new(),
            files: tempfile::tempdir().unwrap(),
            bucket: Bucket::at(MACHINE),
        };
        namespace.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": namespace.name, "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
        }}));
        namespace.secret(Bucket::KEY);
        Some(namespace)
    }

    /// Applies the secret by which pods access the shared store, with this secret key.
    fn secret(&self, key: &str) {
        let mut access = BTreeMap::from(self.bucket.secret());
        access.insert("AWS_SECRET_ACCESS_KEY", key.to_owned());
        self.apply(
            &json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "lockstep-store", "namespace": self.name },
            "stringData": access }),
        );
    }

    fn kubectl(&self, arguments: &[&str]) -> Output {
        kubectl(&self.kubeconfig)
            .args(["--namespace", &self.name])
            .args(arguments)
            .output()
            .unwrap()
    }

    fn apply(&self, object: &Value) {
        let file = self.files.path().join("object.json");
        std::fs::write(&file, object.to_string()).unwrap();
        self.applies("-f", &file);
    }

    /// Writes a kustomization to `directory` and applies it.
    fn kustomize(&self, directory: &Path, kustomization: &Value) {
        std::fs::write(directory.join("kustomization.yaml"), kustomization.to_string()).unwrap();
        self.applies("-k", directory);
    }

    fn applies(&self, how: &str, what: &Path) {
        let applied = kubectl(&self.kubeconfig).args(["apply", how]).arg(what).output().unwrap();
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    }

    /// Creates a directory for a kustomization.
    fn directory(&self, name: &str) -> PathBuf {
        let directory = self.files.path().canonicalize().unwrap().join(name);
        std::fs::create_dir(&directory).unwrap();
        directory
    }

    /// Starts a host that creates a pod for each kernel, with a component of `deploy/kustomize` and these variables.
    fn host_of_kernels(&self, component: &str, settings: &[(&str, &str)]) {
        let image = std::env::var("LOCKSTEP_IMAGE_KERNEL");
        let image = image.unwrap_or_else(|_| format!("lockstep-kernel:{}", env!("CARGO_PKG_VERSION")));
        let own = [("LOCKSTEP_SHARED", Bucket::URL), ("LOCKSTEP_KERNEL_IMAGE", image.as_str())];
        let variables = own.iter().chain(settings);
        let env: Vec<Value> = variables
            .map(|(name, value)| json!({ "name": name, "value": value }))
            .collect();
        let host = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "lockstep" },
        "spec": { "template": { "spec": { "containers": [{ "name": "host", "image": image, "env": env }]}}}});
        let directory = self.directory("host");
        let kustomization = json!({ "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": self.name,
        "resources": [deploy(&directory, "base")],
        "components": [deploy(&directory, component)],
        "secretGenerator": [{ "name": "lockstep-token", "literals": [format!("LOCKSTEP_TOKEN={}", Host::TOKEN)],
            "options": { "disableNameSuffixHash": true } }],
        "patches": [
            { "patch": host.to_string() },
            any_port_of_the_bucket(),
        ]});
        self.kustomize(&directory, &kustomization);
        self.does(&["rollout", "status", "deployment/lockstep", "--timeout=180s"]);
    }

    /// Creates the namespace of a Kubeflow user, in which the host may create kernels.
    fn profile(&mut self, user: &str) {
        let name = format!("kubeflow-{}", user.replace(['@', '.'], "-"));
        self.apply(
            &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": {
                "pod-security.kubernetes.io/enforce": "restricted",
                "app.kubernetes.io/part-of": "kubeflow-profile",
            }}}),
        );
        self.profiles.push(name.clone());
        let directory = self.directory(&name);
        let profile = deploy(&directory, "overlays/kubeflow/profile");
        // kustomize accepts no files from other directories
        std::fs::copy(directory.join(&profile).join("kernels.yaml"), directory.join("kernels.yaml")).unwrap();
        let from = "/spec/ingress/0/from/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name";
        let access = BTreeMap::from(self.bucket.secret());
        let kustomization = json!({ "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": name,
        "resources": [profile, "kernels.yaml"],
        "patches": [
            patch("Secret", "lockstep-store", &json!({ "op": "add", "path": "/stringData", "value": access })),
            patch("RoleBinding", "lockstep-kernels", &json!({ "op": "replace", "path": "/subjects/0/namespace", "value": self.name })),
            patch("NetworkPolicy", "lockstep-kernels", &json!({ "op": "replace", "path": from, "value": self.name })),
            any_port_of_the_bucket(),
        ]});
        self.kustomize(&directory, &kustomization);
    }

    /// Allows this machine to connect to the host. Returns the address of its service.
    fn address(&self) -> String {
        self.apply(&json!({ "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": "this-machine", "namespace": self.name },
        "spec": {
            "podSelector": { "matchLabels": { "app.kubernetes.io/name": "lockstep", "app.kubernetes.io/component": "host" } },
            "policyTypes": ["Ingress"],
            "ingress": [{
                "from": [{ "ipBlock": { "cidr": format!("{MACHINE}/32") } }],
                "ports": [{ "port": 8080, "protocol": "TCP" }],
            }],
        }}));
        let service = self.kubectl(&["get", "service", "lockstep", "-o", "jsonpath={.spec.clusterIP}"]);
        let address = String::from_utf8(service.stdout).unwrap();
        until("the host is reached", || TcpStream::connect((address.as_str(), 80)).ok());
        address
    }

    /// Returns the environment variables for `clients/gateway.py`.
    fn gateway(&self) -> [(&'static str, String); 4] {
        [
            ("GATEWAY", self.address()),
            ("KUBECTL", json!(self.words()).to_string()),
            ("NAMESPACE", self.name.clone()),
            ("OBJECTS", self.bucket.objects().to_string_lossy().into_owned()),
        ]
    }

    /// Returns the kubectl command for this namespace.
    fn words(&self) -> Vec<String> {
        let mut kubectl = kubectl(&self.kubeconfig);
        kubectl.args(["--namespace", &self.name]);
        let words = std::iter::once(kubectl.get_program()).chain(kubectl.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// Runs kubectl and asserts success.
    fn does(&self, arguments: &[&str]) {
        let done = self.kubectl(arguments);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Returns the names of the existing pods.
    fn pods(&self) -> Vec<String> {
        let listed = self.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"]);
        String::from_utf8(listed.stdout)
            .unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    }

    /// Returns the number of pods ever created.
    fn created(&self) -> usize {
        let listed = self.kubectl(&["get", "events", "--field-selector=reason=Scheduled", "-o", "name"]);
        String::from_utf8(listed.stdout).unwrap().lines().count()
    }

    /// Waits until a pod logs that a task has started. Returns the pod's name.
    fn pod_at_work(&self) -> String {
        until("a pod is at work", || {
            self.pods().into_iter().find(|pod| {
                let log = self.kubectl(&["logs", pod]);
                String::from_utf8_lossy(&log.stdout).contains("\"event\":\"started\"")
            })
        })
    }

    /// Returns the command in `place`, configured for this cluster and its shared store.
    fn lockstep(&self, place: &Place, arguments: &[&str]) -> Command {
        let mut command = place.lockstep(arguments);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("LOCKSTEP_SHARED", Bucket::URL)
            .env("LOCKSTEP_IMAGE", image())
            .envs(self.bucket.secret());
        command
    }

    /// Runs a pipeline in the cluster. Returns the output of `--json`.
    fn run(&self, place: &Place, pipeline: &str, more: &[&str]) -> Value {
        let output = self.start(place, pipeline, more).wait_with_output().unwrap();
        told(&output)
    }

    fn start(&self, place: &Place, pipeline: &str, more: &[&str]) -> Child {
        self.lockstep(
            place,
            &["run", pipeline, "--on", "kubernetes", "--namespace", &self.name, "--json"],
        )
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let all = self.kubectl(&["get", "jobs,pods,configmaps,events", "-o", "wide"]);
            eprintln!("{}", String::from_utf8_lossy(&all.stdout));
        }
        let profiles = self.profiles.iter().map(String::as_str);
        let deleted: Vec<&str> = ["delete", "namespace", "--wait=false", &self.name]
            .into_iter()
            .chain(profiles)
            .collect();
        self.kubectl(&deleted);
    }
}

fn kubectl(kubeconfig: &Path) -> Command {
    let own = Path::new(ROOT).join("target/cluster/bin/kubectl");
    let mut command = Command::new(if own.exists() { own.as_path() } else { Path::new("kubectl") });
    command.arg("--kubeconfig").arg(kubeconfig);
    command
}

/// Returns the relative path from `directory` to a part of `deploy/kustomize`, as kustomizations require.
fn deploy(directory: &Path, name: &str) -> String {
    let up = "../".repeat(directory.components().count() - 1);
    let path = Path::new(ROOT).join("deploy/kustomize").join(name).canonicalize().unwrap();
    format!("{up}{}", path.strip_prefix("/").unwrap().display())
}

/// Returns a patch of an object in a kustomization.
fn patch(kind: &str, name: &str, change: &Value) -> Value {
    json!({ "target": { "kind": kind, "name": name }, "patch": json!([change]).to_string() })
}

/// Returns a patch that allows pods to reach the bucket at any port.
fn any_port_of_the_bucket() -> Value {
    patch(
        "NetworkPolicy",
        "lockstep-store",
        &json!({ "op": "remove", "path": "/spec/egress/0/ports" }),
    )
}

/// Returns the image that `make e2e` imported to the node.
fn image() -> String {
    std::env::var("LOCKSTEP_IMAGE").unwrap_or_else(|_| format!("lockstep-step:{}", env!("CARGO_PKG_VERSION")))
}

fn told(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!(
            "{e}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn until<T>(what: &str, mut is_so: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = is_so() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "timeout while waiting until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the penguins' pipeline and its digests on this machine.
fn penguins() -> (Place, BTreeMap<String, Value>) {
    let place = Place::new();
    let directory = Path::new(ROOT).join("examples/penguins");
    for file in ["penguins.yaml", "penguins.csv"] {
        std::fs::copy(directory.join(file), place.path(file)).unwrap();
    }
    std::fs::copy(build("examples/penguins", "penguins.wasm"), place.path("penguins.wasm")).unwrap();
    let here = place.json(&["run", "penguins.yaml"]);
    (fresh(place), digests(&here))
}

/// Empties the store of a place.
fn fresh(place: Place) -> Place {
    std::fs::remove_dir_all(place.store()).unwrap();
    place
}

/// Returns a pipeline that takes some seconds, with dependent tasks and instances, and its digests on this machine.
fn laborious() -> (Place, BTreeMap<String, Value>) {
    let place = Place::new();
    std::fs::copy(&*GUESTS, place.path("guests.wasm")).unwrap();
    std::fs::write(place.path("words.txt"), "words\n").unwrap();
    std::fs::write(
        place.path("work.yaml"),
        "name: work
tasks:
  first: { step: guests.wasm#busy, inputs: { text: words.txt }, parameters: { rounds: 2000000000 } }
  parts: { for_each: { n: [1, 2, 3] }, step: guests.wasm#busy, inputs: { text: first.text }, parameters: { rounds: \"{{ n }}\" } }
  last: { step: guests.wasm#gather, inputs: { parts: parts.text } }
",
    )
    .unwrap();
    let here = place.json(&["run", "work.yaml"]);
    (fresh(place), digests(&here))
}

#[test]
fn penguins_have_the_same_results_in_pods() {
    let Some(namespace) = Namespace::new("penguins") else { return };
    let (mut place, here) = penguins();
    let mut compiled = Vec::new();
    for (how, pods) in [("fused", 1), ("per-task", here_tasks(&here))] {
        place = fresh_if_any(place);
        let (before, begun) = (namespace.created(), Instant::now());
        let there = namespace.run(&place, "penguins.yaml", &["--pods", how, "--no-cache"]);
        let took = begun.elapsed().as_secs_f64();
        assert_eq!(digests(&there), here, "{how}");
        assert_eq!(namespace.created() - before, pods, "{how}");
        println!(
            "the penguins in {pods} pods, {} compiled code: {took:.2} s",
            if compiled.is_empty() { "without" } else { "with" }
        );
        if compiled.is_empty() {
            compiled = namespace.bucket.compiled();
        }
    }
    assert_eq!(compiled.len(), 1);
    assert_eq!(
        namespace.bucket.compiled(),
        compiled,
        "the other pods reuse the first pod's compiled code"
    );
    // results of other machines are found
    let before = namespace.created();
    let again = namespace.run(&fresh_if_any(place), "penguins.yaml", &[]);
    assert_eq!(digests(&again), here);
    assert_eq!(namespace.created(), before, "a cache hit creates no pod");
    let left = namespace.kubectl(&[
        "get",
        "jobs,configmaps",
        "-l",
        "app.kubernetes.io/managed-by=lockstep",
        "-o",
        "name",
    ]);
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "succeeded objects are removed");
}

#[test]
fn a_single_step_has_the_same_results_in_a_pod() {
    let Some(namespace) = Namespace::new("single") else { return };
    let place = Place::new();
    std::fs::copy(&*GUESTS, place.path("guests.wasm")).unwrap();
    std::fs::write(place.path("words.txt"), "words\n").unwrap();
    let step = [
        "run",
        "guests.wasm#busy",
        "--input",
        "text=words.txt",
        "--param",
        "rounds=1000",
    ];
    let here = place.json(&step);
    let place = fresh(place);
    let there = namespace
        .lockstep(&place, &step)
        .args([
            "--on",
            "kubernetes",
            "--namespace",
            &namespace.name,
            "--json",
            "-o",
            "text=there.txt",
        ])
        .output()
        .unwrap();
    let there = told(&there);
    assert_eq!(there["record"], here["record"]);
    assert!(place.path("there.txt").exists());
    assert_eq!(namespace.created(), 1);
}

fn here_tasks(digests: &BTreeMap<String, Value>) -> usize {
    let tasks: std::collections::BTreeSet<&str> = digests.keys().filter_map(|name| name.split('.').next()).collect();
    tasks.len()
}

fn fresh_if_any(place: Place) -> Place {
    if place.store().exists() { fresh(place) } else { place }
}

#[test]
fn flights_have_the_same_results_in_pods() {
    let Some(namespace) = Namespace::new("flights") else { return };
    let Some(place) = example("flights") else { return };
    let here = digests(&place.json(&["run", "flights.yaml"]));
    let place = fresh(place);
    let there = namespace.run(&place, "flights.yaml", &["--pod-memory", "1GiB"]);
    assert_eq!(digests(&there), here);
}

#[test]
fn instances_are_one_job() {
    let Some(namespace) = Namespace::new("instances") else {
        return;
    };
    let (place, here) = laborious();
    let there = namespace.run(&place, "work.yaml", &["--pods", "per-task", "--pod-cpu", "0.1"]);
    assert_eq!(digests(&there), here);
    assert_eq!(namespace.created(), 5);
}

#[test]
fn a_killed_pod_is_replaced() {
    let Some(namespace) = Namespace::new("killed") else { return };
    let (place, here) = laborious();
    let running = namespace.start(&place, "work.yaml", &[]);
    let pod = namespace.pod_at_work();
    namespace.kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"]);
    assert_eq!(digests(&told(&running.wait_with_output().unwrap())), here);
}

#[test]
fn an_evicted_pod_is_replaced() {
    let Some(namespace) = Namespace::new("evicted") else { return };
    let (place, here) = laborious();
    let running = namespace.start(&place, "work.yaml", &[]);
    let pod = namespace.pod_at_work();
    // like the kubelet under pressure: mark the pod as disrupted, and accept no other pod on the node for a while
    let taint = |change: &str| {
        let tainted = kubectl(&namespace.kubeconfig)
            .args(["taint", "node", "--all", change])
            .output()
            .unwrap();
        assert!(tainted.status.success(), "{}", String::from_utf8_lossy(&tainted.stderr));
    };
    taint("lockstep.dev/pressure=yes:NoSchedule");
    let eviction = namespace.files.path().join("eviction.json");
    let object =
        json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod, "namespace": namespace.name } });
    std::fs::write(&eviction, object.to_string()).unwrap();
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", namespace.name);
    namespace.does(&["create", "--raw", &path, "-f", eviction.to_str().unwrap()]);
    until("the next pod is unschedulable", || {
        let pending = namespace.kubectl(&[
            "get",
            "pods",
            "--field-selector=status.phase=Pending",
            "-o",
            "jsonpath={.items[*].status.conditions[*].reason}",
        ]);
        String::from_utf8_lossy(&pending.stdout)
            .contains("Unschedulable")
            .then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    taint("lockstep.dev/pressure-");
    let output = running.wait_with_output().unwrap();
    assert_eq!(digests(&told(&output)), here);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("is waiting: "),
        "the reason why a pod does not start is missing: {said}"
    );
}

#[test]
fn the_api_server_may_be_restarted() {
    let Some(namespace) = Namespace::new("restarted") else {
        return;
    };
    let (place, here) = laborious();
    let running = namespace.start(&place, "work.yaml", &["--pods", "per-task"]);
    namespace.pod_at_work();
    let killed = Command::new(Path::new(ROOT).join("tests/cluster/enter.sh"))
        .args(["sh", "-c", "kill -9 $(cat /run/kube-apiserver.pid)"])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(digests(&told(&running.wait_with_output().unwrap())), here);
}

#[test]
fn the_shared_store_may_be_unavailable_for_a_while() {
    let Some(mut namespace) = Namespace::new("away") else { return };
    let (place, here) = laborious();
    let running = namespace.start(&place, "work.yaml", &[]);
    namespace.pod_at_work();
    namespace.bucket.stop();
    std::thread::sleep(Duration::from_secs(15));
    namespace.bucket.resume();
    assert_eq!(digests(&told(&running.wait_with_output().unwrap())), here);
}

#[test]
fn expired_credentials_are_reported_and_can_be_renewed() {
    let Some(namespace) = Namespace::new("expired") else { return };
    let (place, here) = laborious();
    namespace.secret("expired");
    let failed = namespace.run(&place, "work.yaml", &[]);
    let told = failed.to_string();
    assert!(told.contains("refused") && told.contains("403"), "{told}");
    namespace.secret(Bucket::KEY);
    assert_eq!(digests(&namespace.run(&place, "work.yaml", &[])), here);
}

#[test]
fn a_detached_run_can_be_attached_to_and_cancelled() {
    let Some(namespace) = Namespace::new("attached") else { return };
    let (place, here) = laborious();
    let running = namespace.start(&place, "work.yaml", &[]);
    namespace.pod_at_work();
    signal(&running, "INT");
    let left = running.wait_with_output().unwrap();
    assert_eq!(left.status.code(), Some(130));
    let said = String::from_utf8_lossy(&left.stderr).into_owned();
    assert!(said.contains("lockstep attach"), "{said}");
    let attach = |more: &[&str]| {
        let output = namespace
            .lockstep(&place, &["attach", "--namespace", &namespace.name, "--json"])
            .args(more)
            .output()
            .unwrap();
        self::told(&output)
    };
    assert_eq!(digests(&attach(&[])), here);
    // nothing is left of a succeeded run
    assert_eq!(attach(&[])["plans"], json!([]));
    let running = namespace.start(&place, "work.yaml", &["--no-cache"]);
    namespace.pod_at_work();
    signal(&running, "INT");
    running.wait_with_output().unwrap();
    let plan = attach(&["--cancel"])["plan"].clone();
    assert!(plan.as_str().is_some());
    until("pods are gone", || namespace.pods().is_empty().then_some(()));
}

#[test]
fn failures_of_guests_are_not_retried_and_have_the_same_record() {
    let Some(namespace) = Namespace::new("failing") else { return };
    let place = Place::new();
    std::fs::copy(&*GUESTS, place.path("guests.wasm")).unwrap();
    std::fs::write(
        place.path("fail.yaml"),
        "name: fail\ntasks:\n  fail: { step: guests.wasm#error }\n",
    )
    .unwrap();
    let here = place.json(&["run", "fail.yaml"]);
    let place = fresh(place);
    let there = namespace.run(&place, "fail.yaml", &[]);
    assert_eq!(there["tasks"][0]["record"], here["tasks"][0]["record"]);
    assert_eq!(namespace.created(), 1);
}

#[test]
fn usage_errors_are_reported() {
    let Some(namespace) = Namespace::new("mistakes") else { return };
    let (place, _) = penguins();
    let said = |command: &mut Command| {
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let run = ["run", "penguins.yaml", "--on", "kubernetes", "--namespace"];
    let (code, text) = said(
        namespace
            .lockstep(&place, &run)
            .arg(&namespace.name)
            .env_remove("LOCKSTEP_SHARED"),
    );
    assert!(code == Some(2) && text.contains("--shared"), "{text}");
    let (code, text) = said(namespace.lockstep(&place, &run).arg("no-such-namespace"));
    assert!(code == Some(2) && text.contains("no-such-namespace"), "{text}");
    let (code, text) = said(
        namespace
            .lockstep(&place, &run)
            .arg(&namespace.name)
            .env("KUBECONFIG", "/nowhere"),
    );
    assert!(code == Some(3) && text.contains("KUBECONFIG"), "{text}");
}

#[test]
fn kernels_in_pods_through_jupyterlab() {
    let Some(namespace) = Namespace::new("kernels") else { return };
    namespace.host_of_kernels("components/kernels", &[]);
    let kernels = Kernels::Pods {
        kubeconfig: &namespace.kubeconfig,
        namespace: &namespace.name,
        kubectl: &namespace.words(),
    };
    play("pods", &kernels, || vec![("pods.ipynb", notebook())]);
}

#[test]
fn idle_kernels_in_pods_through_a_gateway_are_culled() {
    let Some(namespace) = Namespace::new("gateway") else { return };
    namespace.host_of_kernels("components/kernels", &[("LOCKSTEP_CULL_IDLE", "5s")]);
    holds_with(&namespace.gateway(), &["Clients", "Pods"]);
}

#[test]
fn users_have_kernels_in_their_own_namespaces() {
    let Some(mut namespace) = Namespace::new("users") else {
        return;
    };
    let users = ["ann", "bob", "carl"].map(|name| format!("{name}-{}@example.org", std::process::id()));
    // the last one has no namespace
    for user in &users[..2] {
        namespace.profile(user);
    }
    let trusted = ("LOCKSTEP_TRUST_HEADER", "kubeflow-userid");
    namespace.host_of_kernels("overlays/kubeflow/kernels", &[trusted]);
    let users = ("USERS", users.join(" "));
    holds_with(&[&namespace.gateway()[..], &[users]].concat(), &["Users"]);
}

/// Measures the time to the first reply of a kernel in a new pod, and in a warm one.
#[test]
fn the_start_of_kernels_is_measured() {
    let Some(namespace) = Namespace::new("starts") else { return };
    namespace.host_of_kernels("components/kernels", &[]);
    let place = Place::new();
    let mut install = place.lockstep(&[
        "kernel",
        "install",
        "--kubernetes",
        "--namespace",
        &namespace.name,
        "--prefix",
    ]);
    let installed = install.arg(place.path("prefix")).output().unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let start = || {
        let started = Command::new(python())
            .arg(Path::new(ROOT).join("tests/clients/start.py"))
            .arg("lockstep")
            .env("JUPYTER_PATH", place.path("prefix/share/jupyter"))
            .env("JUPYTER_RUNTIME_DIR", place.path("runtime"))
            .env("KUBECONFIG", &namespace.kubeconfig)
            .output()
            .unwrap();
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        String::from_utf8(started.stdout)
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" s, second cell: ")
    };
    println!("the first cell of a kernel in a new pod is answered in {} s", start());
    namespace.does(&["set", "env", "deployment/lockstep", "LOCKSTEP_KERNEL_WARM=1"]);
    namespace.does(&["rollout", "status", "deployment/lockstep", "--timeout=180s"]);
    until("a pod is ready", || {
        let selector = "app.kubernetes.io/component=kernel,!lockstep.dev/kernel";
        let ready = namespace.kubectl(&[
            "get",
            "pods",
            "-l",
            selector,
            "-o",
            "jsonpath={.items[*].status.containerStatuses[*].ready}",
        ]);
        (ready.stdout == b"true").then_some(())
    });
    println!("the first cell of a kernel in a warm pod is answered in {} s", start());
}

/// Kubernetes accepts every overlay, and the overlay `local` runs.
#[test]
fn kubernetes_accepts_the_installation() {
    let Some(namespace) = Namespace::new("installed") else {
        return;
    };
    // third-party kinds, defined here only by name
    for (group, kind) in [
        ("monitoring.coreos.com", "ServiceMonitor"),
        ("monitoring.coreos.com", "PrometheusRule"),
        ("networking.istio.io", "VirtualService"),
    ] {
        let plural = format!("{}s", kind.to_lowercase());
        namespace.apply(&json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": format!("{plural}.{group}") },
            "spec": { "group": group, "scope": "Namespaced", "names": { "kind": kind, "plural": plural }, "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }]},
        }));
    }
    for name in ["lockstep", "kubeflow-user-example-com"] {
        namespace.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }));
    }
    let overlay = |name: &str| Path::new(ROOT).join("deploy/kustomize/overlays").join(name);
    let apply = |name: &str, more: &[&str]| {
        let applied = kubectl(&namespace.kubeconfig)
            .arg("apply")
            .args(more)
            .arg("-k")
            .arg(overlay(name))
            .output()
            .unwrap();
        applied
            .status
            .success()
            .then_some(())
            .ok_or(String::from_utf8_lossy(&applied.stderr).into_owned())
    };
    for name in ["local", "team", "kubeflow", "kubeflow/profile"] {
        // a new kind takes a moment to become available
        let mut said = Ok(());
        for _ in 0..20 {
            said = apply(name, &["--dry-run=server"]);
            if said.is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        assert_eq!(said, Ok(()), "{name}");
    }
    assert_eq!(apply("local", &[]), Ok(()));
    let rolled = kubectl(&namespace.kubeconfig)
        .args([
            "--namespace",
            "lockstep",
            "rollout",
            "status",
            "deployment/lockstep",
            "--timeout=180s",
        ])
        .output()
        .unwrap();
    kubectl(&namespace.kubeconfig)
        .args(["delete", "--wait=false", "-k"])
        .arg(overlay("local"))
        .output()
        .unwrap();
    assert!(rolled.status.success(), "{}", String::from_utf8_lossy(&rolled.stderr));
}

/// A program that does nothing: `(module (func (export "_start")) (memory (export "memory") 1))`.
const NOTHING: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\x07\x13\x02\x06_start\0\0\x06memory\x02\0\x0a\x04\x01\x02\0\x0b";

/// Compares a trivial task with a bare Job of the same image, and a hundred tasks in one pod with a hundred bare Jobs.
#[test]
fn the_cost_of_tasks_is_measured() {
    let Some(namespace) = Namespace::new("measured") else { return };
    let place = Place::new();
    std::fs::write(place.path("nothing.wasm"), NOTHING).unwrap();
    let pipeline = |name: &str, count: usize| {
        let tasks = (0..count).map(|n| format!("  t{n}: {{ program: nothing.wasm, args: [{name}, \"{n}\"] }}\n"));
        let text = format!("name: {name}\ntasks:\n{}", tasks.collect::<String>());
        std::fs::write(place.path(&format!("{name}.yaml")), text).unwrap();
    };
    let timed = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let (mut tasks, mut bare) = (Vec::new(), Vec::new());
    for round in 0..3 {
        bare.push(timed(&mut || bare_jobs(&namespace, &format!("bare{round}"), 1)));
        pipeline(&format!("one{round}"), 1);
        tasks.push(timed(&mut || {
            let ran = namespace.run(&place, &format!("one{round}.yaml"), &[]);
            assert_eq!(ran["tasks"][0]["outcome"]["is"], "succeeded", "{ran:#}");
        }));
    }
    pipeline("hundred", 100);
    let fused = timed(&mut || {
        let ran = namespace.run(&place, "hundred.yaml", &[]);
        let tasks = ran["tasks"].as_array().unwrap();
        assert_eq!(tasks.iter().filter(|task| task["outcome"]["is"] == "succeeded").count(), 100);
    });
    let hundred = timed(&mut || bare_jobs(&namespace, "hundred", 100));
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[1]
    };
    let (one, one_bare) = (median(&mut tasks), median(&mut bare));
    println!(
        "trivial task: {one:.2} s, bare Job of the same image: {one_bare:.2} s, ratio {:.2}",
        one / one_bare
    );
    println!(
        "100 tasks in one pod: {fused:.2} s, 100 bare Jobs: {hundred:.2} s, {:.1} times faster",
        hundred / fused
    );
}

/// Creates `count` trivial Jobs at once, and waits until all are complete.
fn bare_jobs(namespace: &Namespace, name: &str, count: usize) {
    let job = |n: usize| {
        json!({ "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": format!("{name}-{n}"), "labels": { "bare": name } },
            "spec": { "template": { "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
                "containers": [{ "name": "task", "image": image(), "command": ["/lockstep", "--version"],
                    "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } } }],
            }}}
        })
    };
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": (0..count).map(job).collect::<Vec<_>>() });
    let file = namespace.files.path().join("jobs.json");
    std::fs::write(&file, list.to_string()).unwrap();
    namespace.does(&["create", "-f", file.to_str().unwrap()]);
    let selector = format!("bare={name}");
    namespace.does(&["wait", "job", "-l", &selector, "--for=condition=Complete", "--timeout=600s"]);
}
