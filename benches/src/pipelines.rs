//! The cost of a task in a pipeline, including the whole process, compared with make and the installed orchestrators.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::measure::{ROOT, Surroundings, TRIVIAL, Table, median};

/// Number of tasks that do nothing.
const MANY: u32 = 1000;

pub fn measure(surroundings: &Surroundings, table: &mut Table) -> Result<()> {
    let here = Here::new(surroundings)?;
    let (executed, cached) = (here.executed(MANY, 3)?, here.cached(MANY)?);
    match make(&here.directory) {
        Ok((forked, checked)) => {
            table.ratio(
                "a task, executed and recorded, 2 workers",
                executed,
                "make -j2, a fork of sh",
                forked,
                "<= 1",
            );
            table.ratio(
                "a task, cached, 2 workers",
                cached,
                "make -j2, its up-to-date check",
                checked,
                "< 0.1 ms",
            );
        }
        Err(error) => table.missing("a task, executed and recorded, 2 workers", &format!("make: {error:#}")),
    }
    peers(&here.directory, executed, table)?;

    here.write("empty", 0)?;
    let empty = median(20, || here.lockstep("empty", &["run", "empty.yaml", "--quiet"]))?;
    table.time("an empty pipeline, the whole process", empty, "< 20 ms");

    here.write("planned", 10_000)?;
    let plan = |name: &str| here.timed("planned", &["plan", &format!("{name}.yaml"), "--json"]);
    let ten_thousand = plan("planned")?;
    table.time("plan of 10,000 tasks", ten_thousand, "< 1 s");
    here.write("large", 100_000)?;
    let large = plan("large")?;
    table.ratio(
        "plan: a task of 100,000",
        large / 100_000,
        "one of 10,000",
        ten_thousand / 10_000,
        "<= 1.5",
    );
    let (few, many) = (here.executed(10_000, 1)?, here.executed(100_000, 1)?);
    table.ratio("run: a task of 100,000", many, "one of 10,000", few, "<= 1.5");
    Ok(())
}

/// A directory with pipelines, and the command.
struct Here {
    directory: PathBuf,
    binary: PathBuf,
}

impl Here {
    fn new(surroundings: &Surroundings) -> Result<Self> {
        let directory = surroundings.directory.path().join("pipelines");
        std::fs::create_dir(&directory)?;
        std::fs::write(directory.join("trivial.wasm"), wat::parse_str(TRIVIAL)?)?;
        let binary = surroundings.binary.clone();
        Ok(Self { directory, binary })
    }

    /// Writes a pipeline of `tasks` tasks with different runs.
    fn write(&self, name: &str, tasks: u32) -> Result<()> {
        let mut text = format!("name: {name}\ntasks:{}\n", if tasks == 0 { " {}" } else { "" });
        for task in 0..tasks {
            writeln!(text, "  t{task}: {{ program: trivial.wasm, seed: {task} }}")?;
        }
        Ok(std::fs::write(self.directory.join(format!("{name}.yaml")), text)?)
    }

    fn lockstep(&self, store: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("LOCKSTEP_STORE", self.directory.join(store));
        run(command.current_dir(&self.directory))
    }

    fn timed(&self, store: &str, arguments: &[&str]) -> Result<Duration> {
        let start = Instant::now();
        self.lockstep(store, arguments)?;
        Ok(start.elapsed())
    }

    /// Returns the time per executed task: the best of several new stores.
    fn executed(&self, tasks: u32, times: usize) -> Result<Duration> {
        let name = format!("executed{tasks}");
        self.write(&name, tasks)?;
        let mut best = Duration::MAX;
        for time in 0..times {
            let store = format!("{name}-{time}");
            best = best.min(self.timed(&store, &["run", &format!("{name}.yaml"), "--jobs=2", "--quiet"])?);
        }
        Ok(best / tasks)
    }

    /// Returns the time per cached task, after [`executed`](Self::executed).
    fn cached(&self, tasks: u32) -> Result<Duration> {
        let name = format!("executed{tasks}");
        let again = [format!("{name}.yaml"), format!("{name}-0")];
        let whole = median(5, || self.lockstep(&again[1], &["run", &again[0], "--jobs=2", "--quiet"]))?;
        Ok(whole / tasks)
    }
}

/// Returns the time per target that make builds, each with a shell, and per target that is up to date.
fn make(directory: &Path) -> Result<(Duration, Duration)> {
    let directory = directory.join("make");
    std::fs::create_dir(&directory)?;
    let targets: String = (0..MANY).map(|target| format!(" t{target}")).collect();
    let source = "source:\n\t@: > $@\n";
    std::fs::write(
        directory.join("Makefile"),
        format!("all:{targets}\n{targets}: source\n\t@: > $@\n{source}"),
    )?;
    let once = || run(Command::new("make").arg("-j2").current_dir(&directory));
    let start = Instant::now();
    once().context("make is not installed")?;
    let forked = start.elapsed();
    Ok((forked / MANY, median(5, once)? / MANY))
}

/// Measures the orchestrators in `target/peers` and `target/peers-kfp`. Reports others as missing.
fn peers(directory: &Path, executed: Duration, table: &mut Table) -> Result<()> {
    let mut times = Map::new();
    for environment in ["peers", "peers-kfp"] {
        let python = Path::new(ROOT).join("target").join(environment).join("bin/python");
        if !python.exists() {
            continue;
        }
        let mut command = Command::new(python);
        command.arg(format!("{ROOT}/benches/pipelines.py")).current_dir(directory);
        let output = command.stderr(Stdio::inherit()).output()?.stdout;
        times.extend(serde_json::from_slice::<Map<String, Value>>(&output).context("benches/pipelines.py failed")?);
    }
    for (peer, target) in [
        ("doit", ""),
        ("luigi", ""),
        ("dagster", "<= 0.1"),
        ("snakemake", "<= 0.02"),
        ("prefect", ""),
        ("kfp", "<= 0.02"),
    ] {
        let title = "a task, executed and recorded, 2 workers";
        match times.get(peer).and_then(Value::as_f64) {
            Some(seconds) => table.ratio(title, executed, peer, Duration::from_secs_f64(seconds), target),
            None => table.missing(title, &format!("{peer} is not installed")),
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
