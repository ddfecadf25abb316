//! Kernels on `lockstep serve`, used by `clients/gateway.py` with and without Jupyter's own clients. `browser.rs` tests them
//! with JupyterLab.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::setup::{Bucket, Place, ROOT, binary, python};

/// A host that is restarted at the same address whenever it ends.
pub struct Host {
    pub url: String,
    /// The file with its PID.
    pub process: PathBuf,
    ending: Arc<AtomicBool>,
    keeper: Option<JoinHandle<()>>,
}

impl Host {
    pub const TOKEN: &str = "token-of-the-gateway-tests";

    pub fn start() -> Self {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap().to_string();
        drop(held);
        let place = Place::new();
        let process = place.path("process");
        let ending = Arc::new(AtomicBool::new(false));
        let mut host = Self {
            url: format!("http://{address}"),
            process: process.clone(),
            ending: ending.clone(),
            keeper: None,
        };
        let begin = move || {
            let mut serve = place.lockstep(&["serve", "--bind", &address]);
            serve
                .env("LOCKSTEP_TOKEN", Self::TOKEN)
                .stdin(Stdio::null())
                .stderr(Stdio::null());
            let host = serve.spawn().unwrap();
            // write the file atomically
            fs::write(place.path("begun"), host.id().to_string()).unwrap();
            fs::rename(place.path("begun"), place.path("process")).unwrap();
            host
        };
        let mut first = begin();
        host.keeper = Some(std::thread::spawn(move || {
            loop {
                first.wait().unwrap();
                if ending.load(Ordering::SeqCst) {
                    return;
                }
                first = begin();
            }
        }));
        host
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        let process = fs::read_to_string(&self.process).unwrap();
        let _ = Command::new("kill").args(["-9", &process]).status();
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Runs the classes `names` of `clients/gateway.py`.
fn holds(names: &[&str]) {
    holds_with(&[], names);
}

/// Like [`holds`], with additional environment variables.
pub fn holds_with(environment: &[(&str, String)], names: &[&str]) {
    let place = Place::new();
    let output = Command::new(python())
        .arg(format!("{ROOT}/tests/clients/gateway.py"))
        .arg(binary())
        .args(names)
        .current_dir(place.directory.path())
        .env("JUPYTER_CONFIG_DIR", place.path("config"))
        .env("JUPYTER_RUNTIME_DIR", place.path("runtime"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_host_answers_all_requests_of_jupyters_server() {
    holds(&["Rest", "Culled"]);
}

#[test]
fn channels_lose_nothing_and_are_bounded() {
    holds(&["Channels"]);
}

#[test]
fn cells_outlive_a_killed_host() {
    holds(&["Killed", "Stopped"]);
}

#[test]
fn cells_take_turns_and_kernels_are_limited() {
    holds(&["Turns", "Limited"]);
}

#[test]
fn cells_outlive_a_lost_machine() {
    let bucket = Bucket::start();
    let objects = bucket.objects().to_string_lossy().into_owned();
    let shared = [("LOCKSTEP_SHARED", Bucket::URL.to_owned()), ("OBJECTS", objects)];
    holds_with(&[&shared[..], &bucket.secret()].concat(), &["Moved"]);
}

#[test]
fn many_kernels_take_little_memory() {
    holds(&["Many"]);
}

#[test]
fn nbclient_works_through_a_gateway() {
    holds(&["Clients"]);
}

#[test]
fn a_remote_kernel_outlives_its_host_and_its_process() {
    holds(&["Remote"]);
}

#[test]
fn a_remote_kernel_conforms_to_jupyters_suite() {
    let host = Host::start();
    let place = Place::new();
    let installed = place
        .lockstep(&["kernel", "install", "--host", &host.url, "--prefix"])
        .arg(place.path("prefix"))
        .output()
        .unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let output = Command::new(python())
        .arg(format!("{ROOT}/tests/clients/conformance.py"))
        .args(["Suite", "Welcome", "Interrupt", "Stdin", "Subshells"])
        .current_dir(place.directory.path())
        .env("JUPYTER_PATH", place.path("prefix/share/jupyter"))
        .env("JUPYTER_RUNTIME_DIR", place.path("runtime"))
        .env("LOCKSTEP_TOKEN", Host::TOKEN)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
