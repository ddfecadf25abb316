use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Ran, bind, choose, parse_parameters};
use lockstep_runtime::step::{Artifact, Interface, MediaType, Outcome, Port, interfaces};

use super::crates::Crates;
use super::execute::{Emit, Execution};
use super::grants::stamp;
use super::{SessionError, failure, fetch, saved, uses};
use crate::cell::{Bind, Cell, Directive, KNOWN, Rust};
use crate::compile::{self, Generated, Grant, Held, Maker, Scope, Variable, Version, Via, Without, type_of};
use crate::output::{CellError, MimeBundle, Stream};

impl Execution<'_> {
    /// Executes a directive. Returns whether its result was cached.
    pub(super) fn obey(&mut self, range: Range<usize>, directive: &Directive) -> Result<bool, CellError> {
        match directive {
            Directive::Run {
                module,
                step,
                given,
                outputs,
            } => {
                let wanted = Wanted {
                    module: module.as_deref(),
                    step: step.as_deref(),
                    given,
                    outputs,
                };
                return self.run_step(&range, &wanted);
            }
            Directive::Input { name, path } => {
                let artifact = self.import(&range, path)?;
                let made = self.variable(name, artifact, "");
                self.output.display(summary(&[("", &made)], None), None);
                self.leave(Version {
                    makes: BTreeMap::from([(name.clone(), made)]),
                    ..Version::default()
                });
            }
            Directive::Fetch { name, url, digest } => {
                let (artifact, known) = self.fetch(&range, &fetch::Wanted { url, digest: *digest })?;
                let made = self.variable(name, artifact, "");
                self.output.display(summary(&[("", &made)], None), None);
                self.leave(Version {
                    makes: BTreeMap::from([(name.clone(), made)]),
                    ..Version::default()
                });
                return Ok(known);
            }
            Directive::Use { path, name } => self.use_module(
                &range,
                &uses::Wanted {
                    path,
                    name: name.as_deref(),
                },
            )?,
            // `depend` handles all dependencies of the cell at once, before everything else.
            Directive::Dependency(_) => {}
            Directive::Type(name) => match self.scope.variables().get(name) {
                Some(variable) => self.output.display(MimeBundle::text(variable.type_name.clone()), None),
                None => return Err(self.refuse(range, &format!("no variable `{name}`{}", self.available()))),
            },
            Directive::Version => self
                .output
                .display(MimeBundle::text(concat!("lockstep ", env!("CARGO_PKG_VERSION"))), None),
            Directive::NoEffect(word, why) => {
                let note = format!("note: `:{word}` has no effect: {why}\n");
                self.output.stream(Stream::Stderr, note.as_bytes());
            }
            Directive::Variables => self.output.display(listing(&self.scope), None),
            Directive::Clear => {
                self.scope = self.scope.cleared();
                self.leave(Version::default());
            }
            Directive::Undo => match self.scope.undo() {
                Some(scope) => self.scope = scope,
                None => return Err(self.refuse(range, "no cell to undo")),
            },
            Directive::Restore => self.restore(range)?,
            Directive::RunStale => self.run_stale()?,
            Directive::Help => {
                let width = KNOWN.iter().map(|(form, _)| form.len()).max().unwrap_or_default();
                let lines: Vec<_> = KNOWN.iter().map(|(form, what)| format!("{form:<width$}  {what}")).collect();
                self.output.display(MimeBundle::text(lines.join("\n")), None);
            }
        }
        Ok(true)
    }

    /// Restores the session from before the last restart, followed by the cells executed since.
    fn restore(&mut self, range: Range<usize>) -> Result<(), CellError> {
        let Some(place) = &self.setup.place else {
            return Err(self.refuse(range, "no saved session: this kernel does not know the notebook's path"));
        };
        let before = match saved::read(&place.previous()) {
            Ok(Some(before)) => before,
            Ok(None) => return Err(self.refuse(range, "no saved session from before a restart")),
            Err(reason) => {
                let said = format!("can't restore {}: {reason}", place.previous().display());
                return Err(self.refuse(range, &said));
            }
        };
        let cells = saved::with_what_is_left(before.cells, &self.setup.runtime.store);
        self.scope = cells.followed_by(&self.scope);
        if let Some(crates) = Crates::again(self.setup, before.lock)? {
            self.crates = crates;
        }
        self.output.display(listing(&self.scope), None);
        Ok(())
    }

    /// Re-runs stale cells, oldest first, until none is left. Skips cells whose inputs turn out to be unchanged.
    fn run_stale(&mut self) -> Result<(), CellError> {
        let mut left = self.scope.versions().len();
        while let Some(stale) = self.scope.first_stale() {
            let version = self.scope.versions()[stale].clone();
            let cell = Cell {
                id: Some(version.id.clone()),
                code: version.text.clone(),
                number: version.number,
            };
            self.output
                .display(MimeBundle::text(format!("re-running [{}]:", version.number)), None);
            let scope = self.scope.before(Some(&version.id));
            let mut again = Execution::new(self.setup, self.crates.clone(), scope, &cell, self.output, self.interrupt);
            let done = again.execute()?;
            (self.scope, self.crates) = (again.scope, again.crates);
            if let Some(result) = done.result {
                self.output.display(result, None);
            }
            left -= 1;
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    fn run_step(&mut self, range: &Range<usize>, wanted: &Wanted<'_>) -> Result<bool, CellError> {
        let refuse = |this: &Self, problem: &dyn std::fmt::Display| this.refuse(range.clone(), &problem.to_string());
        let (module, generated) = self.module(range, wanted)?;
        let wasm = self.setup.runtime.store.get(&module).map_err(SessionError::from)?;
        let known = interfaces(&wasm).map_err(|error| refuse(self, &error))?;
        let interface = match (wanted.step, &known[..]) {
            (Some(step), _) => choose(&known, step).map_err(|error| refuse(self, &error))?,
            (None, [only]) => only,
            (None, steps) => {
                let names: Vec<_> = steps.iter().map(|i| format!("#{}", i.step)).collect();
                let problem = format!("the module has {} steps\nhint: choose one: {}", steps.len(), names.join(", "));
                return Err(refuse(self, &problem));
            }
        };
        let bound = bound(interface, wanted.outputs).map_err(|problem| refuse(self, &problem))?;
        let (mut inputs, mut typed, mut reads, mut makers) =
            (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (name, value) in wanted.given {
            if interface.parameters.iter().any(|parameter| parameter.name == *name) {
                typed.insert(name.clone(), value.clone());
            } else {
                let artifact = self.artifact(range, value, &mut reads)?;
                if let Some(variable) = reads.get(value) {
                    let maker = Maker {
                        variable: value.clone(),
                        version: variable.made_by,
                    };
                    makers.insert(name.clone(), maker);
                }
                inputs.insert(name.clone(), artifact);
            }
        }
        let parameters = parse_parameters(interface, &typed).map_err(|error| refuse(self, &error))?;
        let mut run = bind(module, interface, inputs, &parameters, self.setup.seed).map_err(|error| refuse(self, &error))?;
        if let Some(own) = &generated {
            run.modules.extend(own.modules.clone());
        }
        let (ran, said) = self.carry_out(&run)?;
        if !ran.record.outcome.succeeded() {
            let shown = MimeBundle::text(ran.record.outcome.to_string()).with(Ran::MEDIA_TYPE, ran.to_json());
            self.output.display(shown, None);
        }
        match (&ran.record.outcome, generated) {
            (Outcome::Succeeded, _) => {}
            (outcome, Some(own)) => return Err(failure::of_outcome(outcome, &said, &own, &|place| self.titled(place))),
            (outcome @ Outcome::Failed(_), None) => {
                return Err(refuse(self, &format!("step `{}` {outcome}", interface.step)));
            }
            (Outcome::Interrupted { .. }, None) => return Err(failure::interrupted()),
        }
        let (mut makes, mut outputs) = (BTreeMap::new(), BTreeMap::new());
        for (port, variable) in bound {
            outputs.insert(variable.to_owned(), port.name.clone());
            if let Some(artifact) = ran.record.outputs.get(&port.name) {
                // Prefer the media type that the step declares: an older caller's record may be less specific.
                let artifact = Artifact {
                    media_type: port.media_type.clone(),
                    ..artifact.clone()
                };
                makes.insert(
                    variable.to_owned(),
                    (port.name.as_str(), self.variable(variable, artifact, &port.type_name)),
                );
            }
        }
        let rows: Vec<_> = makes.values().map(|(output, variable)| (*output, variable)).collect();
        let time = (!ran.cached).then_some(ran.observed.wall_us);
        let shown = summary(&rows, Some((&interface.step, time))).with(Ran::MEDIA_TYPE, ran.to_json());
        self.output.display(shown, None);
        let makes = makes.into_iter().map(|(name, (_, variable))| (name, variable)).collect();
        self.leave(Version {
            reads,
            makes,
            record: Some(ran.digest),
            inputs: makers,
            outputs,
            ..Version::default()
        });
        Ok(ran.cached)
    }

    /// Returns the module that holds the step, with its source if it is the session's own.
    fn module(&mut self, range: &Range<usize>, wanted: &Wanted<'_>) -> Result<(Digest, Option<Generated>), CellError> {
        if let Some(path) = wanted.module {
            return Ok((self.import(range, path)?.digest, None));
        }
        let step = wanted.step.unwrap_or_default();
        if !compile::has_step(&self.scope, step) {
            let problem = format!("no cell defines a step `{step}`\nhint: add #[step] before its `fn`");
            return Err(self.refuse(range.clone(), &problem));
        }
        let generate = |without: &Without| compile::generate_steps(&self.scope, step, without);
        let (generated, built, _) = self.build_without(&generate, &Rust::default(), Emit::Module)?;
        Ok((built.module.ok_or(SessionError::Silent)?, Some(generated)))
    }

    /// Returns the artifact that `value` names: a variable, or a file relative to the notebook.
    fn artifact(
        &mut self,
        range: &Range<usize>,
        value: &str,
        reads: &mut BTreeMap<String, Variable>,
    ) -> Result<Artifact, CellError> {
        let Some(variable) = self.scope.variables().get(value).cloned() else {
            return self.import(range, value);
        };
        match &variable.held {
            Held::Artifact { artifact, .. } => {
                reads.insert(value.to_owned(), variable.clone());
                Ok(artifact.clone())
            }
            Held::Remade => {
                let problem = format!(
                    "`{value}` has type {}, which can't be stored as an artifact",
                    variable.type_name
                );
                Err(self.refuse(range.clone(), &problem))
            }
        }
    }

    /// Returns a hint with the variables, if there are any.
    fn available(&self) -> String {
        let variables: Vec<_> = self.scope.variables().keys().map(String::as_str).collect();
        match variables.is_empty() {
            true => String::new(),
            false => format!("\nhint: available variables: {}", variables.join(", ")),
        }
    }

    /// Imports a file or directory, relative to the notebook, into the store.
    pub(super) fn import(&mut self, range: &Range<usize>, path: &str) -> Result<Artifact, CellError> {
        let whole = self
            .setup
            .path(path)
            .map_err(|problem| self.refuse(range.clone(), &problem))?;
        if !whole.exists() {
            let hint = self.available();
            let problem = format!("`{path}` is neither a variable nor a file in the notebook's directory{hint}");
            return Err(self.refuse(range.clone(), &problem));
        }
        let stamp = stamp(&whole);
        let imported = self.setup.runtime.store.import(Path::new(&whole));
        let artifact = imported.map_err(|error| self.refuse(range.clone(), &error.to_string()))?;
        self.grants.push(Grant {
            path: path.to_owned(),
            digest: artifact.digest,
            stamp,
            is_crate: false,
        });
        Ok(artifact)
    }

    /// Returns a variable that holds an artifact, with a type that fits its media type.
    fn variable(&self, name: &str, artifact: Artifact, type_name: &str) -> Variable {
        let via = if artifact.media_type.as_str() == MediaType::VALUE {
            Via::Value
        } else {
            Via::Artifact
        };
        Variable {
            name: name.to_owned(),
            type_name: type_of(&artifact.media_type, type_name).to_owned(),
            mutable: false,
            held: Held::Artifact { artifact, via },
            made_by: self.scope.versions().len(),
        }
    }
}

/// The arguments of `:run`.
struct Wanted<'a> {
    module: Option<&'a str>,
    step: Option<&'a str>,
    given: &'a [(String, String)],
    outputs: &'a [Bind],
}

/// Returns which output is bound to which variable.
fn bound<'a>(interface: &'a Interface, binds: &'a [Bind]) -> Result<Vec<(&'a Port, &'a str)>, String> {
    let known = || {
        interface
            .outputs
            .iter()
            .map(|port| port.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let port = |(i, bind): (usize, &'a Bind)| {
        let found = match &bind.output {
            Some(name) => interface.outputs.iter().find(|port| port.name == *name),
            None => interface.outputs.get(i),
        };
        let problem = || match &bind.output {
            Some(name) => format!(
                "step `{}` has no output `{name}`\nhint: available outputs: {}",
                interface.step,
                known()
            ),
            None => format!(
                "step `{}` has only {} outputs, none for `{}`\nhint: available outputs: {}",
                interface.step,
                interface.outputs.len(),
                bind.variable,
                known()
            ),
        };
        Ok((found.ok_or_else(problem)?, bind.variable.as_str()))
    };
    binds.iter().enumerate().map(port).collect()
}

/// Returns a table of the new variables, titled with the step and its run time.
fn summary(made: &[(&str, &Variable)], step: Option<(&str, Option<u64>)>) -> MimeBundle {
    let mut rows = Vec::new();
    for (output, variable) in made {
        let Held::Artifact { artifact, .. } = &variable.held else {
            continue;
        };
        let name = match *output == variable.name || output.is_empty() {
            true => variable.name.clone(),
            false => format!("{output} -> {}", variable.name),
        };
        rows.push([
            name,
            artifact.media_type.to_string(),
            size(artifact.size),
            artifact.digest.short(),
        ]);
    }
    let title = step.map(|(step, time)| match time {
        Some(us) => format!("{step}: ran in {:.1} ms", us as f64 / 1000.0),
        None => format!("{step}: cached"),
    });
    table(title, &["variable", "media type", "size", "digest"], &rows)
}

fn listing(scope: &Scope) -> MimeBundle {
    let row = |variable: &Variable| {
        let held = match &variable.held {
            Held::Artifact { artifact, .. } => format!("{}, {}", size(artifact.size), artifact.digest.short()),
            Held::Remade => "recomputed when needed".to_owned(),
        };
        let number = scope.versions().get(variable.made_by).map_or(0, |version| version.number);
        let mutable = if variable.mutable { "mut " } else { "" };
        [
            format!("{mutable}{}", variable.name),
            variable.type_name.clone(),
            held,
            format!("[{number}]"),
        ]
    };
    let rows: Vec<_> = scope.variables().values().map(row).collect();
    table(None, &["variable", "type", "value", "cell"], &rows)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// Renders a small table as text and as HTML.
fn table<const COLUMNS: usize>(title: Option<String>, heads: &[&str; COLUMNS], rows: &[[String; COLUMNS]]) -> MimeBundle {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut text = String::new();
    let mut html = String::new();
    if let Some(title) = &title {
        text.push_str(title);
        let _ = write!(html, "<p>{}</p>", escape(title));
    }
    let widths: [usize; COLUMNS] = std::array::from_fn(|i| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.max().unwrap_or_default()
    });
    for row in rows {
        let line: Vec<_> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        let _ = write!(
            text,
            "{}{}",
            if text.is_empty() { "" } else { "\n" },
            line.join("  ").trim_end()
        );
    }
    if !rows.is_empty() {
        let head: String = heads.iter().map(|head| format!("<th>{head}</th>")).collect();
        let cells = |row: &[String; COLUMNS]| {
            row.iter()
                .map(|cell| format!("<td>{}</td>", escape(cell)))
                .collect::<String>()
        };
        let body: String = rows.iter().map(|row| format!("<tr>{}</tr>", cells(row))).collect();
        let _ = write!(html, "<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>");
    }
    MimeBundle::text(text).with("text/html", html)
}
