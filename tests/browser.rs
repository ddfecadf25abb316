//! JupyterLab in Chromium with the real kernel, controlled by `browser/notebook.mjs`. All traffic stays on the loopback
//! interface.
//!
//! `make test` installs the requirements. If one is missing, the tests are skipped with a message on stderr.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gateway::Host;
use crate::setup::{Place, ROOT, build, python};

/// Settings by which JupyterLab sends no requests to the network and renders all cells.
const SETTINGS: &str = r#"{
  "@jupyterlab/apputils-extension:notification": { "fetchNews": "false", "checkForUpdates": false },
  "@jupyterlab/notebook-extension:tracker": { "windowingMode": "none" }
}"#;

/// Flags for a free port on the loopback interface, and no confirmation on Ctrl-C.
const FLAGS: [&str; 10] = [
    "-y",
    "--no-browser",
    "--allow-root",
    "--expose-app-in-browser",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port=0",
    "--ServerApp.terminals_enabled=False",
    "--LabApp.news_url=None",
    "--LabApp.extension_manager=readonly",
    "--IdentityProvider.token=browser-test",
];

/// The timeout for starting and stopping JupyterLab.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn cells_of_every_kind_show_in_jupyterlab() {
    play("cells", &Kernels::Here, Vec::new);
}

#[test]
fn interrupt_and_restart_work_in_jupyterlab() {
    play("control", &Kernels::Here, || vec![("control.ipynb", notebook())]);
}

#[test]
fn a_killed_kernel_comes_back_with_its_variables_in_jupyterlab() {
    play("restore", &Kernels::Here, || vec![("restore.ipynb", notebook())]);
}

#[test]
fn penguins_run_in_jupyterlab() {
    play("penguins", &Kernels::Here, || {
        let example = |name: &str| fs::read(Path::new(ROOT).join("examples/penguins").join(name)).unwrap();
        let module = build("examples/penguins", "penguins.wasm");
        vec![
            ("penguins.wasm", fs::read(module).unwrap()),
            ("penguins.csv", example("penguins.csv")),
            ("penguins.ipynb", example("penguins.ipynb")),
        ]
    });
}

#[test]
fn a_cell_outlives_its_host_in_jupyterlab_with_a_gateway() {
    let host = Host::start();
    play("hosted", &Kernels::Gateway(&host), || vec![("hosted.ipynb", notebook())]);
}

#[test]
fn a_cell_outlives_its_host_in_jupyterlab_with_a_remote_kernel() {
    let host = Host::start();
    play("hosted", &Kernels::Remote(&host), || vec![("hosted.ipynb", notebook())]);
}

/// Where the kernels of JupyterLab run.
pub enum Kernels<'a> {
    Here,
    /// On a host that Jupyter's server uses as a gateway.
    Gateway(&'a Host),
    /// On a host that the kernel process connects to.
    Remote(&'a Host),
    /// In pods of a host in a cluster, which the kernel process connects to.
    Pods {
        kubeconfig: &'a Path,
        namespace: &'a str,
        /// The kubectl command for that namespace.
        kubectl: &'a [String],
    },
}

/// Returns a notebook with one empty cell.
pub fn notebook() -> Vec<u8> {
    let cell =
        json!({"cell_type": "code", "id": "first", "metadata": {}, "source": "", "outputs": [], "execution_count": null});
    let kernel = json!({"name": "lockstep", "display_name": "Lockstep (Rust)", "language": "rust"});
    let notebook = json!({"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5});
    notebook.to_string().into_bytes()
}

/// Runs `scenario` of notebook.mjs in a new JupyterLab with `files`, or prints why it is skipped.
pub fn play(scenario: &str, kernels: &Kernels<'_>, files: fn() -> Vec<(&'static str, Vec<u8>)>) {
    let parts = match Parts::find() {
        Ok(parts) => parts,
        Err(missing) => return skip(scenario, missing),
    };
    let lab = Lab::start(&parts.jupyter_lab, &files(), kernels);
    let (host, kubectl) = match kernels {
        Kernels::Here => (None, None),
        Kernels::Gateway(host) | Kernels::Remote(host) => (Some(&host.process), None),
        Kernels::Pods { kubectl, .. } => (None, Some(kubectl)),
    };
    let setting = json!({
        "url": lab.info["url"],
        "token": lab.info["token"],
        "server": lab.server.id(),
        "host": host,
        "kubectl": kubectl,
        "browser": parts.browser,
        "screenshots": Path::new(ROOT).join("target/screenshots"),
    });
    let played = Command::new(parts.node)
        .arg(format!("{ROOT}/tests/browser/notebook.mjs"))
        .args([scenario, &setting.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success(), "{said}\n--- the server\n{}", lab.log());
}

/// Reports a skipped test on stderr directly, because the harness captures the output of passing tests.
pub fn skip(scenario: &str, missing: &str) {
    let line = format!("skipped: browser test `{scenario}`: {missing} is missing; install it with tests/browser/install.sh\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// The required programs.
struct Parts {
    node: PathBuf,
    browser: PathBuf,
    jupyter_lab: PathBuf,
}

impl Parts {
    /// Finds the programs. Returns the name of a missing one as an error.
    fn find() -> Result<Self, &'static str> {
        let (node, browser) = browser_parts("playwright-core")?;
        let jupyter_lab = python().with_file_name("jupyter-lab");
        if !jupyter_lab.exists() {
            return Err("JupyterLab");
        }
        Ok(Self {
            node,
            browser,
            jupyter_lab,
        })
    }
}

/// Finds Node.js with `package` installed, and Chromium. Returns the name of a missing one as an error.
pub fn browser_parts(package: &'static str) -> Result<(PathBuf, PathBuf), &'static str> {
    let package_directory = Path::new(ROOT).join("target/browser/node_modules").join(package);
    if !package_directory.exists() {
        return Err(package);
    }
    let node = on_path(&["node"]).ok_or("Node.js")?;
    let browser = on_path(&["chromium", "google-chrome"]).ok_or("Chromium")?;
    Ok((node, browser))
}

/// Returns the first program on `PATH` with one of `names`.
fn on_path(names: &[&str]) -> Option<PathBuf> {
    let directories: Vec<_> = std::env::split_paths(&std::env::var_os("PATH")?).collect();
    let mut candidates = names.iter().flat_map(|name| directories.iter().map(move |d| d.join(name)));
    candidates.find(|candidate| candidate.is_file())
}

/// A running JupyterLab with all its files in a separate place.
struct Lab {
    place: Place,
    server: Child,
    /// The server's info file: `url`, `token` and more.
    info: Value,
}

impl Lab {
    fn start(jupyter_lab: &Path, files: &[(&str, Vec<u8>)], kernels: &Kernels<'_>) -> Self {
        let place = Place::new();
        write(
            &place.path("config/labconfig/default_setting_overrides.json"),
            SETTINGS.as_bytes(),
        );
        for (name, bytes) in files {
            write(&place.path("notebooks").join(name), bytes);
        }
        fs::create_dir_all(place.path("notebooks")).unwrap();
        if !matches!(kernels, Kernels::Pods { .. }) {
            // the first kernel on a machine compiles for minutes
            succeed(&mut place.lockstep(&["toolchain", "install"]));
        }
        let mut install = place.lockstep(&["kernel", "install", "--prefix"]);
        install.arg(place.path("prefix"));
        let mut server = server(jupyter_lab, &place);
        match kernels {
            Kernels::Here => {}
            Kernels::Gateway(host) => {
                let url = format!("--GatewayClient.url={}", host.url);
                server.arg(url).env("JUPYTER_GATEWAY_AUTH_TOKEN", Host::TOKEN);
            }
            Kernels::Remote(host) => {
                install.args(["--host", &host.url]);
                server.env("LOCKSTEP_TOKEN", Host::TOKEN);
            }
            Kernels::Pods {
                kubeconfig, namespace, ..
            } => {
                install.args(["--kubernetes", "--namespace", namespace]);
                install.env("KUBECONFIG", kubeconfig);
                server.env("LOCKSTEP_TOKEN", Host::TOKEN).env("KUBECONFIG", kubeconfig);
            }
        }
        succeed(&mut install);
        let server = server.spawn().unwrap();
        let mut lab = Self {
            place,
            server,
            info: Value::Null,
        };
        lab.info = lab.wait_for_info();
        lab
    }

    /// Waits for the info file that the server writes once it listens.
    fn wait_for_info(&mut self) -> Value {
        let path = self.place.path(&format!("runtime/jpserver-{}.json", self.server.id()));
        let begun = Instant::now();
        loop {
            let info = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(info) = info {
                return info;
            }
            assert!(
                self.runs() && begun.elapsed() < PATIENCE,
                "JupyterLab did not start:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn runs(&mut self) -> bool {
        matches!(self.server.try_wait(), Ok(None))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path("log")).unwrap_or_default()
    }
}

impl Drop for Lab {
    /// Stops the server, which stops its kernels. If it is killed, the kernels end by themselves.
    fn drop(&mut self) {
        if self.runs() {
            let _ = Command::new("kill").arg(self.server.id().to_string()).status();
        }
        let begun = Instant::now();
        while self.runs() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn server(jupyter_lab: &Path, place: &Place) -> Command {
    let log = File::create(place.path("log")).unwrap();
    let mut server = Command::new(jupyter_lab);
    server
        .args(FLAGS)
        .arg(format!("--ServerApp.root_dir={}", place.path("notebooks").display()))
        .env("JUPYTER_CONFIG_DIR", place.path("config"))
        .env("JUPYTER_DATA_DIR", place.path("data"))
        .env("JUPYTER_RUNTIME_DIR", place.path("runtime"))
        .env("JUPYTER_PATH", place.path("prefix/share/jupyter"))
        .env("LOCKSTEP_STORE", place.store())
        .current_dir(place.directory.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    server
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
