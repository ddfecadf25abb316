//! Notebook cells compared with ipykernel and evcxr, all driven by the same client.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::measure::{ROOT, Surroundings, Table};

/// Installs the kernel for Jupyter. Returns the prefix.
pub fn install(surroundings: &Surroundings) -> Result<PathBuf> {
    let prefix = surroundings.directory.path().join("prefix");
    let installed = Command::new(&surroundings.binary)
        .args(["kernel", "install", "--name", "lockstep", "--prefix"])
        .arg(&prefix)
        .stdout(Stdio::null())
        .status()?;
    ensure!(installed.success(), "lockstep kernel install failed");
    Ok(prefix)
}

pub fn measure(surroundings: &Surroundings, table: &mut Table) -> Result<()> {
    let prefix = install(surroundings)?;
    install_evcxr(&prefix)?;
    let output = Command::new(Path::new(ROOT).join("target/venv/bin/python"))
        .arg(format!("{ROOT}/benches/kernels.py"))
        .env("JUPYTER_PATH", prefix.join("share/jupyter"))
        // evcxr installs itself here when it starts
        .env("JUPYTER_DATA_DIR", prefix.join("share/jupyter"))
        .env("LOCKSTEP_STORE", surroundings.directory.path().join("kernel-store"))
        .current_dir(surroundings.directory.path())
        .stderr(Stdio::inherit())
        .output()
        .context("can't run target/venv/bin/python: run `make bench`")?;
    ensure!(output.status.success(), "benches/kernels.py failed");
    let all: Value = serde_json::from_slice(&output.stdout)?;
    let time = |kernel: &str, what: &str| all[kernel][what].as_f64().map(Duration::from_secs_f64);
    // the last two columns are the target ratios to evcxr and to ipykernel
    let rows = [
        ("start", "kernel start to first reply", "< 100 ms", "<= 0.2"),
        ("new", "new cell: an expression", "<= 0.5", ""),
        ("function", "new cell: a function", "<= 0.5", ""),
        ("variable", "new cell: an earlier variable", "<= 0.5", ""),
        ("many", "new cell: one of 10 million floats", "", ""),
        ("rows", "new cell: one of 300,000 structs", "", ""),
        ("loop", "new cell: a loop of 5 million steps", "", "<= 0.5"),
        ("println", "new cell: println", "<= 0.5", ""),
        ("error", "new cell: a compile error", "<= 0.5", ""),
        ("lines", "20,000 println", "<= 0.33", ""),
        ("repeated", "the same cell again", "", "<= 1"),
    ];
    for (what, title, against_evcxr, against_ipykernel) in rows {
        let Some(ours) = time("lockstep", what) else { continue };
        for (peer, target) in [("evcxr", against_evcxr), ("ipykernel", against_ipykernel)] {
            match time(peer, what) {
                Some(theirs) => table.ratio(title, ours, peer, theirs, target),
                None => table.missing(title, &format!("{peer} is not installed")),
            }
        }
    }
    if let (Some(late), Some(early)) = (time("lockstep", "hundredth"), time("lockstep", "tenth")) {
        table.ratio("a cell around the 100th", late, "one around the 10th", early, "<= 1.3");
    }
    Ok(())
}

/// Installs evcxr for Jupyter, if `make bench` could build it.
fn install_evcxr(prefix: &Path) -> Result<()> {
    let program = Path::new(ROOT).canonicalize()?.join("target/evcxr/bin/evcxr_jupyter");
    if !program.exists() {
        return Ok(());
    }
    let directory = prefix.join("share/jupyter/kernels/rust");
    std::fs::create_dir_all(&directory)?;
    let spec = json!({
        "argv": [program, "--control_file", "{connection_file}"],
        "display_name": "Rust",
        "language": "rust",
        "interrupt_mode": "message",
    });
    Ok(std::fs::write(directory.join("kernel.json"), spec.to_string())?)
}
