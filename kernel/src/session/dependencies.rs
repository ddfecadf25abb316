//! `:dep`: the crates of a session.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::crates::Crates;
use super::execute::Execution;
use super::failure;
use crate::cell::Directive;
use crate::output::{CellError, MimeBundle, Output, Stream};
use crate::toolchain::{
    CargoError, Confinement, Dependencies, Dependency, Doing, Lock, Prelude, PreludeError, PreludeReady, Watch,
};

/// How often an interrupt is checked.
const POLL: Duration = Duration::from_millis(20);

/// A dependency of a cell, and its place in the cell.
type Asked<'a> = (&'a Range<usize>, &'a Dependency);

/// Returns the name of the crate in a directory.
fn package_in(dir: &Path) -> Result<String, String> {
    let manifest = dir.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
    let read: toml::Table = text.parse().map_err(|error| format!("{}: {error}", manifest.display()))?;
    let name = read.get("package").and_then(|package| package.get("name")?.as_str());
    name.map(str::to_owned)
        .ok_or_else(|| format!("{} names no package", manifest.display()))
}

impl Execution<'_> {
    /// Adds the cell's dependencies to the crates that it and later cells can name. Returns whether they were compiled
    /// before.
    pub(super) fn depend(&mut self, directives: &[(Range<usize>, Directive)]) -> Result<bool, CellError> {
        let mut named = Vec::new();
        for (range, directive) in directives {
            if let Directive::Dependency(dependency) = directive {
                let mut dependency = dependency.clone();
                if let (true, Some(path)) = (dependency.name.is_empty(), &dependency.requirement.path) {
                    let package = self.setup.path(path).and_then(|dir| package_in(&dir));
                    dependency.name = package.map_err(|problem| self.refuse(range.clone(), &problem))?;
                }
                named.push((range, dependency));
            }
        }
        let asked: Vec<Asked<'_>> = named.iter().map(|(range, dependency)| (*range, dependency)).collect();
        if asked.is_empty() {
            return Ok(true);
        }
        if let Some((range, _)) = asked.iter().find(|(_, dependency)| dependency.name == "lockstep") {
            return Err(self.refuse((*range).clone(), "`lockstep` is already available in every cell"));
        }
        for (range, dependency) in &asked {
            let within = self.setup.within(&dependency.requirement);
            within.map_err(|problem| self.refuse((*range).clone(), &problem))?;
        }
        let mut dependencies = self.crates.prelude.lock.dependencies.clone();
        dependencies.extend(asked.iter().map(|(_, asked)| (asked.name.clone(), asked.requirement.clone())));
        let (ready, was_ready) = self.made(dependencies, &asked)?;
        let note = self.different(&ready);
        self.crates = self.loaded(ready)?;
        let mut lock = self.crates.prelude.lock.clone();
        lock.base = Some(self.crates.base.digest());
        let said = summary(&self.crates.prelude, &asked);
        self.output
            .display(MimeBundle::text(said).with(Lock::MEDIA_TYPE, serde_json::json!(lock)), None);
        if let Some(note) = note.filter(|locked| *locked != self.crates.base.digest()) {
            let note = format!(
                "note: the notebook's lock names base {}, built by another version of lockstep or the compiler\n",
                note.short()
            );
            self.output.stream(Stream::Stderr, note.as_bytes());
        }
        Ok(was_ready)
    }

    /// Returns the base that the notebook was locked with, if `ready` still follows that lock.
    fn different(&self, ready: &PreludeReady) -> Option<lockstep_runtime::digest::Digest> {
        let lock = self
            .setup
            .locks
            .iter()
            .rfind(|lock| lock.dependencies == ready.lock.dependencies)?;
        (lock.packages == ready.lock.packages).then_some(lock.base)?
    }

    /// Returns the compiled crates, and whether they were compiled before.
    fn made(&mut self, dependencies: Dependencies, asked: &[Asked<'_>]) -> Result<(PreludeReady, bool), CellError> {
        let mut locks = self.setup.locks.clone();
        let current = &self.crates.prelude.lock;
        locks.extend((!current.dependencies.is_empty()).then(|| current.clone()));
        let prelude = Prelude::with(dependencies, &self.setup.directory, &locks);
        let toolchain = &self.setup.toolchain;
        let cache = &toolchain.locations().cache;
        if let Some(ready) = prelude.ready(toolchain, cache) {
            return Ok((ready, true));
        }
        let names: Vec<_> = asked.iter().map(|(_, dependency)| dependency.to_string()).collect();
        let said = format!("compiling {} (first use on this machine)\n", names.join(", "));
        self.output.stream(Stream::Stderr, said.as_bytes());
        let mut shown = Shown::new(&mut *self.output);
        let made = prelude.make(
            toolchain,
            cache,
            &mut Watch {
                interrupt: &|| self.interrupt.is_triggered(),
                tell: &mut |doing| shown.show(&doing),
            },
        );
        shown.finish();
        let ready = made.map_err(|error| self.failed(&error, asked))?;
        if let Some(gap) = Confinement::gap() {
            let note = format!("note: build scripts and proc macros of these crates have access to {gap}\n");
            self.output.stream(Stream::Stderr, note.as_bytes());
        }
        Ok((ready, false))
    }

    /// Returns the crates with their base ready to run. An interrupt does not stop this work: it continues in the background
    /// and is done the next time.
    fn loaded(&mut self, ready: PreludeReady) -> Result<Crates, CellError> {
        if ready.base == self.crates.prelude.base {
            return Ok(Crates {
                prelude: Arc::new(ready),
                base: self.crates.base.clone(),
            });
        }
        let (sender, receiver) = channel();
        let runtime = self.setup.runtime.clone();
        std::thread::spawn(move || sender.send(Crates::load(&runtime, ready)));
        let mut shown = Shown::new(&mut *self.output);
        let start = Instant::now();
        let loaded = loop {
            match receiver.recv_timeout(POLL) {
                Ok(loaded) => break loaded.map_err(CellError::from),
                Err(RecvTimeoutError::Timeout) if !self.interrupt.is_triggered() => {}
                Err(_) => break Err(failure::interrupted()),
            }
            if start.elapsed() > PATIENCE {
                shown.say("compiling the base for this machine");
            }
        };
        shown.finish();
        loaded
    }

    /// Returns the error, placed at the dependency that caused it.
    fn failed(&self, error: &PreludeError, asked: &[Asked<'_>]) -> CellError {
        if let PreludeError::Interrupted = error {
            return failure::interrupted();
        }
        let message = error.to_string();
        let named = |(_, dependency): &&Asked<'_>| message.contains(&format!("`{}", dependency.name));
        let Some((range, _)) = asked.iter().find(named).or(asked.first()) else {
            return CellError::new("Error", message);
        };
        let (text, hint) = match message.split_once("\nhint: ") {
            Some((text, hint)) => (text, Some(hint.to_owned())),
            None => (message.as_str(), hint(error, &message)),
        };
        let (title, details) = text.split_once('\n').unwrap_or((text, ""));
        let hint = hint.map_or(String::new(), |hint| format!("\nhint: {hint}"));
        let mut refused = self.refuse((*range).clone(), &format!("{title}{hint}"));
        refused.traceback.extend(details.lines().map(str::to_owned));
        refused
    }
}

/// Returns a hint for the error, if there is one.
fn hint(error: &PreludeError, message: &str) -> Option<String> {
    if let PreludeError::Cargo(CargoError::BuildScript { .. }) = error {
        return Some("build scripts run without network access and can only access their own files".to_owned());
    }
    let missing = message.strip_prefix("no matching package named `")?.split('`').next()?;
    let known = Prelude::known_crates();
    let near = known.iter().map(|known| (strsim::damerau_levenshtein(missing, known), known));
    let (_, nearest) = near.filter(|(distance, _)| *distance <= 2).min()?;
    Some(format!("did you mean `{nearest}`?"))
}

/// Returns a one-line summary: `regex 1.11.1, 4 crates locked`.
fn summary(prelude: &PreludeReady, asked: &[Asked<'_>]) -> String {
    let names = asked.iter().map(|(_, dependency)| match prelude.version(&dependency.name) {
        Some(version) => format!("{} {version}", dependency.name),
        None => dependency.name.clone(),
    });
    let mut said = names.collect::<Vec<_>>().join(", ");
    said.push_str(&match prelude.lock.packages.len() {
        1 => ", 1 crate locked".to_owned(),
        count => format!(", {count} crates locked"),
    });
    said
}

/// The progress display while crates are compiled: a bar, and a line that is overwritten.
pub(super) struct Shown<'a> {
    output: &'a mut dyn Output,
    drawn: bool,
    line: String,
    last: Option<Instant>,
}

/// The width of the line, in characters.
const WIDTH: usize = 72;
/// The minimum time between changes of the line.
const PAUSE: Duration = Duration::from_millis(200);

/// The delay before a slow operation is reported.
const PATIENCE: Duration = Duration::from_secs(1);

impl<'a> Shown<'a> {
    pub(super) fn new(output: &'a mut dyn Output) -> Self {
        Self {
            output,
            drawn: false,
            line: String::new(),
            last: None,
        }
    }

    pub(super) fn show(&mut self, doing: &Doing) {
        let Doing::Compiling(at) = doing else {
            return self.say(&doing.to_string());
        };
        if self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        self.say(&doing.to_string());
        self.output.progress(Some(at.percent()));
        self.drawn = true;
    }

    fn say(&mut self, text: &str) {
        let line: String = text.chars().take(WIDTH).collect();
        if line != self.line {
            self.output.stream(Stream::Stderr, format!("\r{line:<WIDTH$}").as_bytes());
            self.line = line;
            self.last = Some(Instant::now());
        }
    }

    pub(super) fn finish(self) {
        if !self.line.is_empty() {
            self.output.stream(Stream::Stderr, format!("\r{:<WIDTH$}\r", "").as_bytes());
        }
        if self.drawn {
            self.output.progress(None);
        }
    }
}
