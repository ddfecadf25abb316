//! A hermetic environment for each test: a separate store and directory, the real binary, the guests' module.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Machine, Ran, Reuse, Run, Runtime, bind, choose, parse_parameters};
use lockstep_runtime::sandbox::{Engine, EngineOptions, Interrupt};
use lockstep_runtime::step::{Limits, interfaces};
use lockstep_runtime::store::Store;
use serde_json::Value;

pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The guests' module, built by the command under test.
pub static GUESTS: LazyLock<PathBuf> = LazyLock::new(|| build("tests/guests", "guests.wasm"));

/// Returns the directory of this test binary's profile: `target/debug`.
fn profile() -> PathBuf {
    std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned()
}

/// Returns the `lockstep` binary, which `cargo test --workspace` builds.
pub fn binary() -> PathBuf {
    let binary = profile().join("lockstep");
    assert!(binary.exists(), "{} is missing: run `make test`", binary.display());
    binary
}

/// Returns the Python of the virtual environment that `make test` creates.
pub fn python() -> PathBuf {
    let python = Path::new(ROOT).join("target/venv/bin/python");
    assert!(python.exists(), "{} is missing: run `make test`", python.display());
    python
}

/// Builds the crate in `crate_directory` with the command under test. Returns the module's path.
pub fn build(crate_directory: &str, module: &str) -> PathBuf {
    let out = profile().join("tests");
    std::fs::create_dir_all(&out).unwrap();
    let out = out.join(module);
    let built = Command::new(binary())
        .arg("build")
        .arg(Path::new(ROOT).join(crate_directory))
        .arg("-o")
        .arg(&out)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    out
}

/// A directory with a separate store, for running the real command.
pub struct Place {
    pub directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Returns the command with an empty environment, except for the variables that locate the toolchain.
    pub fn lockstep(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env_clear()
            .env("LOCKSTEP_STORE", self.store())
            .current_dir(self.directory.path());
        for kept in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "XDG_CACHE_HOME"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
    }

    /// Runs the command with `--json` and returns its output, for any exit code.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.lockstep(arguments).arg("--json").output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
            panic!(
                "{e}: {}\n{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }
}

/// A shared store: an S3 server that checks signatures and keeps its objects in a directory.
pub struct Bucket {
    root: tempfile::TempDir,
    address: SocketAddr,
    server: Child,
}

impl Bucket {
    pub const URL: &'static str = "s3://team/lockstep";
    /// The secret key of the client.
    pub const KEY: &'static str = "secret";

    pub fn start() -> Self {
        Self::at("127.0.0.1")
    }

    /// Starts a server that listens at this address of the machine.
    pub fn at(host: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("team")).unwrap();
        let address = TcpListener::bind((host, 0)).unwrap().local_addr().unwrap();
        let server = s3(root.path(), address);
        Self { root, address, server }
    }

    /// Stops the server and keeps its objects.
    pub fn stop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Restarts the server at the same address.
    pub fn resume(&mut self) {
        self.server = s3(self.root.path(), self.address);
    }

    /// Returns the directory with the objects of [`Self::URL`].
    pub fn objects(&self) -> PathBuf {
        self.root.path().join("team/lockstep")
    }

    /// Returns the files of compiled code and their modification times.
    pub fn compiled(&self) -> Vec<(PathBuf, SystemTime)> {
        let of = |path: PathBuf| {
            std::fs::read_dir(path)
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().path())
        };
        let files = of(self.objects().join("native/sha256")).flat_map(of);
        files
            .map(|path| (path.clone(), path.metadata().unwrap().modified().unwrap()))
            .collect()
    }

    /// Returns the environment variables for clients, as in a cluster's secret.
    pub fn secret(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "lockstep".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", Self::KEY.to_owned()),
        ]
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts an S3 server for the buckets in `root`, and waits until it listens.
fn s3(root: &Path, address: SocketAddr) -> Child {
    let program = Path::new(ROOT).join("target/s3/bin/s3s-fs");
    assert!(program.exists(), "{} is missing: run `make test`", program.display());
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    let server = Command::new(program)
        .args(["--host", &host, "--port", &port])
        .args(["--access-key", "lockstep", "--secret-key", Bucket::KEY])
        .arg(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut tries = 0..1000;
    while TcpStream::connect(address).is_err() {
        assert!(tries.next().is_some(), "the S3 server does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    server
}

/// Sends a signal, such as `INT`.
pub fn signal(process: &std::process::Child, signal: &str) {
    let (signal, id) = (format!("-{signal}"), process.id().to_string());
    assert!(Command::new("kill").args([signal, id]).status().unwrap().success());
}

/// Returns a new runtime with a store in memory.
pub fn runtime(options: &EngineOptions) -> Runtime {
    over(Store::temporary().unwrap(), options)
}

pub fn over(store: Store, options: &EngineOptions) -> Runtime {
    let machine = Machine {
        name: "test".into(),
        version: "test".into(),
        clock: SystemTime::now,
    };
    Runtime::new(Engine::new(options).unwrap(), store, machine)
}

/// A guest with its inputs and parameters.
#[derive(Clone, Default, Debug)]
pub struct Guest {
    pub step: &'static str,
    pub inputs: BTreeMap<&'static str, Vec<u8>>,
    pub parameters: BTreeMap<&'static str, &'static str>,
}

impl Guest {
    pub fn new(step: &'static str) -> Self {
        Self { step, ..Self::default() }
    }

    pub fn input(mut self, name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        self.inputs.insert(name, bytes.into());
        self
    }

    pub fn parameter(mut self, name: &'static str, text: &'static str) -> Self {
        self.parameters.insert(name, text);
        self
    }

    /// Returns the run of this guest, with its inputs in `store`.
    pub fn run(&self, store: &Store) -> Run {
        let module = std::fs::read(&*GUESTS).unwrap();
        let all = interfaces(&module).unwrap();
        let interface = choose(&all, self.step).unwrap();
        let artifact = |bytes: &Vec<u8>| store.put_artifact(bytes.clone(), &Default::default()).unwrap();
        let inputs = self
            .inputs
            .iter()
            .map(|(name, bytes)| (name.to_string(), artifact(bytes)))
            .collect();
        let typed = self
            .parameters
            .iter()
            .map(|(name, text)| (name.to_string(), text.to_string()))
            .collect();
        let parameters = parse_parameters(interface, &typed).unwrap();
        bind(store.put(module).unwrap(), interface, inputs, &parameters, 0).unwrap()
    }

    /// Runs the guest in the sandbox of `runtime`.
    pub fn sandboxed(&self, runtime: &Runtime, limits: &Limits) -> Ran {
        runtime
            .run(
                &self.run(&runtime.store),
                Reuse::Records,
                limits,
                &Interrupt::default(),
                &mut |_, _| (),
            )
            .unwrap()
    }

    /// Returns the arguments of `lockstep run`, and writes the inputs to files in `place`.
    pub fn arguments(&self, place: &Place) -> Vec<String> {
        let mut arguments = vec!["run".to_owned(), format!("{}#{}", GUESTS.display(), self.step)];
        for (name, bytes) in &self.inputs {
            let path = place.path(&format!("{}-{name}", self.step));
            std::fs::write(&path, bytes).unwrap();
            arguments.push(format!("--input={name}={}", path.display()));
        }
        for (name, text) in &self.parameters {
            arguments.push(format!("--param={name}={text}"));
        }
        arguments
    }
}

/// Returns the digests of a run's outputs, by name.
pub fn digests(ran: &Ran) -> BTreeMap<String, Digest> {
    ran.record
        .outputs
        .iter()
        .map(|(name, artifact)| (name.clone(), artifact.digest))
        .collect()
}
