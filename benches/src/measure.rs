//! Timing, and the table of results.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use lockstep_runtime::run::{Machine, Ran, Reuse, Run, Runtime, bind, choose};
use lockstep_runtime::sandbox::{Engine, EngineOptions, Interrupt};
use lockstep_runtime::step::{Artifact, Limits, interfaces};
use lockstep_runtime::store::Store;
use serde_json::Value;

/// The root of the repository.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A module that does nothing and has no imports.
pub const TRIVIAL: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// Resources that all measurements share.
pub struct Surroundings {
    /// A scratch directory on the same disk as the build.
    pub directory: tempfile::TempDir,
    /// The module of `benches/work`.
    pub module: Vec<u8>,
    /// The `lockstep` binary.
    pub binary: PathBuf,
}

impl Surroundings {
    /// Builds the command and the module of steps.
    pub fn prepare() -> Result<Self> {
        let target = Path::new(ROOT).join("target");
        let cargo = Command::new("cargo")
            .args(["build", "--release", "-p", "lockstep-host"])
            .current_dir(ROOT)
            .status()?;
        ensure!(cargo.success(), "cargo build failed");
        let binary = target.join("release/lockstep");
        let directory = tempfile::tempdir_in(&target)?;
        let module = directory.path().join("work.wasm");
        let built = Command::new(&binary)
            .arg("build")
            .arg(format!("{ROOT}/benches/work"))
            .arg("-o")
            .arg(&module)
            .status()?;
        ensure!(built.success(), "lockstep build benches/work failed");
        Ok(Self {
            module: std::fs::read(&module)?,
            directory,
            binary,
        })
    }

    /// Creates a runtime with a new directory store.
    pub fn runtime(&self, name: &str) -> Result<Runtime> {
        let store = Store::open(&self.directory.path().join(name))?;
        let options = EngineOptions {
            native_cache: Some(self.directory.path().join("native")),
            ..EngineOptions::default()
        };
        Ok(runtime_over(Engine::new(&options)?, store))
    }

    /// Creates the run of a step of `benches/work`.
    pub fn step(&self, store: &Store, name: &str, input: Option<Artifact>, parameters: &[(&str, Value)]) -> Result<Run> {
        let all = interfaces(&self.module)?;
        let inputs = input.into_iter().map(|artifact| ("input".to_owned(), artifact)).collect();
        let parameters = parameters
            .iter()
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect();
        Ok(bind(
            store.put(self.module.clone())?,
            choose(&all, name)?,
            inputs,
            &parameters,
            0,
        )?)
    }
}

/// Creates a runtime with the real time.
pub fn runtime_over(engine: Engine, store: Store) -> Runtime {
    Runtime::new(
        engine,
        store,
        Machine {
            name: "bench".into(),
            version: "bench".into(),
            clock: SystemTime::now,
        },
    )
}

/// Executes `run` without the cache. Fails if the run fails.
pub fn execute(runtime: &Runtime, run: &Run) -> Result<Ran> {
    let ran = runtime.run(run, Reuse::Nothing, &Limits::default(), &Interrupt::default(), &mut |_, _| ())?;
    ensure!(ran.record.outcome.succeeded(), "{}", ran.record.outcome);
    Ok(ran)
}

/// Converts an error of the bare engine.
pub fn engine_error(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// Returns the median time of `work`, called `times` times after one call to warm up.
pub fn median(times: usize, mut work: impl FnMut() -> Result<()>) -> Result<Duration> {
    work()?;
    let mut all = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        work()?;
        all.push(start.elapsed());
    }
    all.sort();
    Ok(all[times / 2])
}

/// The table of results.
#[derive(Default)]
pub struct Table(Vec<[String; 6]>);

impl Table {
    /// Adds a time and the time of a peer.
    pub fn ratio(&mut self, what: &str, ours: Duration, peer: &str, theirs: Duration, target: &str) {
        let ratio = format!("{:.2}", ours.as_secs_f64() / theirs.as_secs_f64());
        self.add([what.into(), show(ours), peer.into(), show(theirs), ratio, target.into()]);
    }

    /// Adds a row, and prints it, because the whole table takes long.
    fn add(&mut self, row: [String; 6]) {
        eprintln!("  {}", row.join("  "));
        self.0.push(row);
    }

    /// Adds a time alone.
    pub fn time(&mut self, what: &str, ours: Duration, target: &str) {
        self.add([
            what.into(),
            show(ours),
            String::new(),
            String::new(),
            String::new(),
            target.into(),
        ]);
    }

    /// Adds a measurement that is missing, and the reason.
    pub fn missing(&mut self, what: &str, why: &str) {
        self.add([
            what.into(),
            "-".into(),
            why.into(),
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
}

fn show(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    if us < 1e3 {
        format!("{us:.0} us")
    } else if us < 1e6 {
        format!("{:.1} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "lockstep", "against", "its time", "ratio", "target"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(&head).chain(&self.0).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..6).map(width).collect();
        for row in &rows {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let right = matches!(column, 1 | 3 | 4);
                if right {
                    write!(f, "{cell:>width$}  ")?
                } else {
                    write!(f, "{cell:width$}  ")?
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
