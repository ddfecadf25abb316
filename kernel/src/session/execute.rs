use std::collections::BTreeMap;
use std::ops::Range;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Entry, Ran, Run};
use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::step::{Artifact, Interruption, MediaType, Outcome};
use serde::{Deserialize, Serialize};

use super::crates::Crates;
use super::streams::{Displays, Prompt, Streams};
use super::{Account, Done, SessionError, Setup, failure};
use crate::cell::{self, Binding, Cell, Kind, Rust};
use crate::compile::{self, CellRef, Generated, Grant, Held, Report, Scope, Titled, Variable, Version, Via, Without};
use crate::output::{CellError, MimeBundle, Output, Stream, Unanswered};
use crate::toolchain::{CompileError, Compiled, Diagnostic, compile_cell, compile_key};

/// The result of compiling a source.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Emit {
    /// A module.
    Module,
    /// Nothing; the source is only checked.
    Nothing,
}

/// The input with the text typed on stdin. Variables can't have this name.
const STDIN: &str = "stdin.txt";

/// The output that lists the cell's variables. Variables can't have this name.
const SAID: &str = "cell.json";

const TESTS: &str =
    "`#[test]` and `#[cfg(test)]` are left out, as in a program; to check something, write `assert!(..);` as a statement";

/// The execution of one cell.
pub(super) struct Execution<'a> {
    pub setup: &'a Setup,
    /// The crates that the cell can name, and the base of its module.
    pub crates: Crates,
    /// The definitions visible to the cell; after execution, also its own.
    pub scope: Scope,
    pub cell: &'a Cell,
    pub output: &'a mut dyn Output,
    pub interrupt: &'a Interrupt,
    /// The results so far, as digests.
    pub account: Account,
    /// Files imported since the last version was added to the scope.
    pub grants: Vec<Grant>,
    /// Downloads so far, by URL.
    pub fetched: BTreeMap<String, Digest>,
}

/// The result of compiling a source, kept in the store under the compile key.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Built {
    /// The module; `None` if the source was only checked, or if it must leave something out.
    pub(super) module: Option<Digest>,
    /// What it must leave out.
    #[serde(default)]
    without: Without,
    #[serde(default)]
    warnings: Vec<Diagnostic>,
}

/// The content of `cell.json`, as written by `lockstep::cell`.
#[derive(Deserialize)]
struct Said {
    variables: BTreeMap<String, SaidVariable>,
    result: Option<MimeBundle>,
}

#[derive(Deserialize)]
struct SaidVariable {
    #[serde(rename = "type")]
    type_name: String,
    via: Option<Via>,
    media_type: Option<MediaType>,
}

impl<'a> Execution<'a> {
    pub fn new(
        setup: &'a Setup,
        crates: Crates,
        scope: Scope,
        cell: &'a Cell,
        output: &'a mut dyn Output,
        interrupt: &'a Interrupt,
    ) -> Self {
        Self {
            setup,
            crates,
            scope,
            cell,
            output,
            interrupt,
            account: Account::default(),
            grants: Vec::new(),
            fetched: setup.fetched.clone(),
        }
    }

    /// Executes the cell: its directives, then its Rust.
    pub fn execute(&mut self) -> Result<Done, CellError> {
        let done = self.obey_and_run()?;
        Ok(Done {
            account: std::mem::take(&mut self.account),
            ..done
        })
    }

    fn obey_and_run(&mut self) -> Result<Done, CellError> {
        let parsed = cell::parse(&self.cell.code).map_err(|(range, error)| self.refuse(range, &error.to_string()))?;
        let mut cached = self.depend(&parsed.directives)?;
        for (range, directive) in &parsed.directives {
            cached &= self.obey(range.clone(), directive)?;
        }
        match Rust::parse_with(&parsed.rust, &self.scope.macros()) {
            Ok(rust) if rust.items.is_empty() && rust.statements.is_empty() => Ok(Done {
                cached,
                ..Done::default()
            }),
            Ok(rust) => {
                let has_tests = rust.has_tests;
                let mut done = if rust.statements.is_empty() {
                    self.check(rust)?
                } else {
                    self.run(rust)?
                };
                if has_tests {
                    done.notes.push(TESTS.to_owned());
                }
                Ok(Done {
                    cached: cached && done.cached,
                    ..done
                })
            }
            Err(syntax) => Err(self.broken(&parsed.rust, &syntax)),
        }
    }

    /// Returns an error about a range of the cell.
    pub fn refuse(&self, range: Range<usize>, message: &str) -> CellError {
        failure::at(self.titled(CellRef::Current), range, "error", "Error", message)
    }

    /// Compiles text that does not parse to get rustc's explanation.
    fn broken(&self, text: &str, syntax: &cell::SyntaxError) -> CellError {
        if syntax.message.starts_with("unexpected end of input") {
            // rustc's message would be about a brace of the generated source
            let end = text.trim_end().len();
            return failure::at(
                self.titled(CellRef::Current),
                end..end,
                "error",
                "CompileError",
                &syntax.message,
            );
        }
        let generated = compile::generate_broken(text);
        match self.compile(&generated.source, Emit::Nothing) {
            Err(CompileError::Source(diagnostics)) => self.rejected(&diagnostics, &generated),
            Err(CompileError::Interrupted) => failure::interrupted(),
            Err(_) | Ok(_) => failure::at(
                self.titled(CellRef::Current),
                syntax.range.clone(),
                "error",
                "CompileError",
                &syntax.message,
            ),
        }
    }

    /// Checks a cell that consists of items only. There is nothing to run.
    fn check(&mut self, rust: Rust) -> Result<Done, CellError> {
        let (generated, built, without) = self.build(&rust, Emit::Nothing)?;
        self.warn(&built, &generated);
        let notes = self.unfit(&without);
        self.leave(Version {
            rust,
            has_rust: true,
            uses: generated.uses,
            unfit: without.items,
            ..Version::default()
        });
        Ok(Done {
            notes,
            ..Done::default()
        })
    }

    fn warn(&mut self, built: &Built, generated: &Generated) {
        for warning in self.reports(&built.warnings, generated) {
            self.output
                .stream(Stream::Stderr, format!("{}\n", warning.rendered).as_bytes());
        }
    }

    fn run(&mut self, rust: Rust) -> Result<Done, CellError> {
        self.build_again(&rust)?;
        let (generated, built, without) = self.build(&rust, Emit::Module)?;
        let module = built.module.ok_or(SessionError::Silent)?;
        self.warn(&built, &generated);
        let mut modules = generated.modules.clone();
        modules.extend(self.setup.runtime.called(&module).map_err(SessionError::from)?);
        let bytes = || MediaType::new(MediaType::BYTES);
        let mut outputs: BTreeMap<_, _> = generated.saves.iter().map(|saved| (saved.name.clone(), bytes())).collect();
        outputs.insert(SAID.to_owned(), MediaType::new(MediaType::JSON));
        let mut run = Run {
            module,
            entry: program(None),
            inputs: generated
                .inputs
                .iter()
                .map(|(name, artifact)| (name.clone(), artifact.clone().into()))
                .collect(),
            outputs,
            modules,
            seed: self.setup.seed,
        };
        let (again, times) = &generated.again;
        let shown = again.iter().flat_map(|version| &self.scope.versions()[*version].displays);
        let displays = Displays {
            name: self.output.name(),
            earlier: shown.cloned().collect(),
            times: *times,
            own: Vec::new(),
        };
        let (ran, said, displays) = self.carry_out_asking(&mut run, displays)?;
        if ran.record.outcome != Outcome::Succeeded {
            return Err(failure::of_outcome(&ran.record.outcome, &said, &generated, &|place| {
                self.titled(place)
            }));
        }
        self.account.stdin = run.inputs.get(STDIN).map(|input| input.artifact.digest);
        self.account.log = ran.record.log.as_ref().filter(|log| log.size > 0).map(|log| log.digest);
        self.account.record = Some(ran.digest);
        let done = self.take_in(rust, generated, without, &ran)?;
        self.scope.shown(displays.own);
        Ok(done)
    }

    /// Runs a cell and shows its output. When it reads from stdin, asks the front end and runs the cell again with the answers
    /// so far. Runs are deterministic, so it reaches the same place and continues. The recorded run has all answers and can be
    /// repeated without input.
    fn carry_out_asking(&mut self, run: &mut Run, displays: Displays) -> Result<(Ran, String, Displays), CellError> {
        let mut streams = Streams::default();
        streams.displays = displays;
        let mut answers = String::new();
        let asking = self.interrupt.asking();
        let input = Outcome::Interrupted { by: Interruption::Input };
        loop {
            let ran = self.run_with(run, &mut streams, &asking)?;
            if ran.record.outcome != input {
                let said = streams.finish(self.output);
                return Ok((ran, said, streams.displays));
            }
            let Prompt { prompt, password } = streams.take_prompt();
            match self.output.ask(&prompt, password) {
                Ok(answer) => answers.extend([answer.trim_end_matches('\n'), "\n"]),
                Err(Unanswered::Interrupted) => return Err(failure::interrupted()),
                Err(error @ Unanswered::NotAllowed) => return Err(CellError::new("StdinNotAllowed", error.to_string())),
            }
            let text = MediaType::new(MediaType::TEXT);
            let artifact = self.setup.runtime.store.put_artifact(answers.clone(), &text);
            run.inputs
                .insert(STDIN.to_owned(), artifact.map_err(SessionError::from)?.into());
            run.entry = program(Some(STDIN.to_owned()));
        }
    }

    /// Carries out a run and shows its output, except for the part that `streams` have already seen. The log of a run is the
    /// same each time, and is a prefix of the log of the same cell with more on stdin.
    fn run_with(&mut self, run: &Run, streams: &mut Streams, interrupt: &Interrupt) -> Result<Ran, SessionError> {
        let output = &mut *self.output;
        let mut seen = streams.seen();
        let mut log = |stream: Stream, bytes: &[u8]| {
            let old = usize::try_from(seen).unwrap_or(usize::MAX).min(bytes.len());
            seen -= old as u64;
            if old < bytes.len() {
                streams.push(stream, &bytes[old..], output);
            }
        };
        let Setup {
            runtime, limits, reuse, ..
        } = self.setup;
        Ok(runtime.run(run, *reuse, limits, interrupt, &mut log)?)
    }

    /// Carries out a run and shows its output. Also returns the guest's failure message.
    pub fn carry_out(&mut self, run: &Run) -> Result<(Ran, String), SessionError> {
        let mut streams = Streams::default();
        let interrupt = self.interrupt;
        let ran = self.run_with(run, &mut streams, interrupt)?;
        Ok((ran, streams.finish(self.output)))
    }

    /// Compiles the cell, or finds its module in the cache. Also returns the code that was left out because rustc rejected it.
    fn build(&self, rust: &Rust, emit: Emit) -> Result<(Generated, Built, Without), CellError> {
        let generate = |without: &Without| compile::generate(&self.scope, &self.cell.code, rust, without);
        self.build_without(&generate, rust, emit)
    }

    /// Returns what `generate` generates, compiled now or before. Leaves out what rustc rejects, if the cell can do without.
    pub fn build_without(
        &self,
        generate: &dyn Fn(&Without) -> Generated,
        rust: &Rust,
        emit: Emit,
    ) -> Result<(Generated, Built, Without), CellError> {
        let mut without = Without::default();
        loop {
            let generated = generate(&without);
            let built = self.built(&generated, rust, emit)?;
            if !without.extend(built.without.clone()) {
                return Ok((generated, built, without));
            }
        }
    }

    /// Returns the result of compiling a source, now or before.
    fn built(&self, generated: &Generated, rust: &Rust, emit: Emit) -> Result<Built, CellError> {
        let store = &self.setup.runtime.store;
        let key = compile_key(&self.setup.toolchain, &self.crates.prelude, &generated.source);
        if let Some(digest) = store.recall(&key).map_err(SessionError::from)? {
            // An unreadable result is rebuilt.
            let known = store
                .get(&digest)
                .ok()
                .and_then(|json| serde_json::from_slice::<Built>(&json).ok());
            let is_there = |built: &Built| built.module.is_none_or(|module| store.contains(&module).unwrap_or(false));
            if let Some(built) = known.filter(is_there) {
                return Ok(built);
            }
        }
        let built = match self.compile(&generated.source, emit) {
            Ok(compiled) => {
                let module = compiled
                    .wasm
                    .map(|wasm| store.put(wasm))
                    .transpose()
                    .map_err(SessionError::from)?;
                let warnings = compiled.diagnostics.into_iter().filter(|d| !d.spans.is_empty()).collect();
                Built {
                    module,
                    without: Without::default(),
                    warnings,
                }
            }
            Err(CompileError::Source(diagnostics)) => match compile::without(&diagnostics, generated, &self.scope, rust) {
                Some(without) => Built {
                    module: None,
                    without,
                    warnings: Vec::new(),
                },
                None => {
                    let outdated = self.outdated(&diagnostics, generated);
                    return Err(outdated.unwrap_or_else(|| self.rejected(&diagnostics, generated)));
                }
            },
            Err(error) => return Err(SessionError::Compile(error).into()),
        };
        let malformed = |source| SessionError::Malformed {
            what: "rustc's messages",
            source,
        };
        let json = serde_json::to_vec(&built).map_err(malformed)?;
        let digest = store.put(json).map_err(SessionError::from)?;
        store.remember(&key, &digest).map_err(SessionError::from)?;
        Ok(built)
    }

    /// Compiles a source without storing the result.
    pub fn compile(&self, source: &str, emit: Emit) -> Result<Compiled, CompileError> {
        let Setup { toolchain, scratch, .. } = self.setup;
        let Crates { prelude, base, .. } = &self.crates;
        let base = (emit == Emit::Module).then_some(&**base);
        compile_cell(toolchain, prelude, base, source, scratch, &|| self.interrupt.is_triggered())
    }

    /// Returns the error of a cell that needs a variable whose type has changed.
    fn outdated(&self, diagnostics: &[Diagnostic], generated: &Generated) -> Option<CellError> {
        let missing = diagnostics
            .iter()
            .filter(|d| d.code.as_ref().is_some_and(|code| code.code == "E0425"));
        let mut places = missing
            .flat_map(|error| &error.spans)
            .filter(|span| span.is_primary)
            .filter_map(|span| {
                let outer = span.outermost();
                generated.map.locate(&(outer.byte_start as usize..outer.byte_end as usize))
            });
        places.find_map(|(place, range)| {
            let Titled { title, text } = self.titled(place);
            let (name, outdated) = generated
                .outdated
                .iter()
                .find(|(name, _)| text.get(range.clone()) == Some(name))?;
            let made = self.titled(CellRef::Earlier(outdated.made_by)).title;
            let now = match outdated.now == place {
                true => "this cell".to_owned(),
                false => self.titled(outdated.now).title,
            };
            let message = format!(
                "{made} made `{name}` with another type `{}` than {now} defines\nhint: run {made} again",
                outdated.type_name
            );
            Some(failure::at(Titled { title, text }, range, "error", "CompileError", &message))
        })
    }

    /// Returns the error of a cell that does not compile.
    fn rejected(&self, diagnostics: &[Diagnostic], generated: &Generated) -> CellError {
        let reports = self.reports(diagnostics, generated);
        match failure::command(&self.cell.code, &reports) {
            Some(range) => self.refuse(range, failure::NO_COMMANDS),
            None => failure::compile(&reports),
        }
    }

    fn reports(&self, diagnostics: &[Diagnostic], generated: &Generated) -> Vec<Report> {
        compile::reports(diagnostics, &generated.map, &|place| self.titled(place))
    }

    /// Returns the cell at a place, with its title in errors.
    pub fn titled(&self, place: CellRef) -> Titled<'_> {
        match place {
            CellRef::Current => Titled {
                title: format!("[{}]", self.cell.number),
                text: &self.cell.code,
            },
            CellRef::Earlier(index) => {
                let version = &self.scope.versions()[index];
                Titled {
                    title: format!("[{}]", version.number),
                    text: &version.text,
                }
            }
        }
    }

    /// Adds the cell's variables to the scope.
    fn take_in(&mut self, rust: Rust, generated: Generated, without: Without, ran: &Ran) -> Result<Done, CellError> {
        let said = ran.record.outputs.get(SAID).ok_or(SessionError::Silent)?;
        let said = self.setup.runtime.store.get(&said.digest).map_err(SessionError::from)?;
        let malformed = |source| SessionError::Malformed {
            what: "the cell's list of variables",
            source,
        };
        let mut said: Said = serde_json::from_slice(&said).map_err(malformed)?;
        let own = rust.variables();
        let mut makes = BTreeMap::new();
        for saved in &generated.saves {
            let Some(variable) = said.variables.remove(&saved.name) else {
                continue;
            };
            let held = match (variable.via, variable.media_type, ran.record.outputs.get(&saved.name)) {
                (Some(via), Some(media_type), Some(artifact)) => Held::Artifact {
                    artifact: Artifact {
                        media_type,
                        ..artifact.clone()
                    },
                    via,
                },
                _ => Held::Remade,
            };
            let unchanged = |earlier: &Variable| earlier.held == held && held != Held::Remade;
            if own.contains(saved) || !generated.reads.get(&saved.name).is_some_and(unchanged) {
                let made = Variable {
                    name: saved.name.clone(),
                    type_name: variable.type_name,
                    mutable: saved.mutable,
                    held,
                    made_by: self.scope.versions().len(),
                };
                makes.insert(saved.name.clone(), made);
            }
        }
        let mut notes = given_away(&rust, &generated);
        notes.extend(self.unfit(&without));
        notes.extend(self.weak(&rust, &makes));
        self.leave(Version {
            rust,
            has_rust: true,
            reads: generated.reads,
            makes,
            uses: generated.uses,
            unfit: without.items,
            record: Some(ran.digest),
            inputs: generated.makers,
            ..Version::default()
        });
        Ok(Done {
            result: said.result,
            cached: ran.cached,
            notes,
            ..Done::default()
        })
    }

    /// Returns notes about variables with a `Weak`, whose target is another variable or is gone.
    fn weak(&self, rust: &Rust, makes: &BTreeMap<String, Variable>) -> Vec<String> {
        let items: Vec<_> = self
            .scope
            .items()
            .into_iter()
            .map(|(_, item)| item)
            .chain(&rust.items)
            .collect();
        let weak = makes
            .values()
            .filter(|made| compile::contains(&made.type_name, &items, |name| name == "Weak"));
        let note = |made: &Variable| {
            format!(
                "`{}` contains a `Weak`. Each variable is kept by itself, so in later cells it may point to nothing",
                made.name
            )
        };
        weak.map(note).collect()
    }

    /// Returns notes about the implementations of earlier cells that the cell leaves out.
    fn unfit(&self, without: &Without) -> Vec<String> {
        let mut notes = Vec::new();
        for (index, item) in self.scope.items() {
            let Version { number, text, .. } = &*self.scope.versions()[index];
            let source = item.source(text);
            if matches!(item.kind, Kind::Impl { .. }) && without.items.contains(&source) {
                let header = source.split('{').next().unwrap_or_default().trim();
                let member = item.frame.as_ref().and_then(|_| item.names.iter().next()?.member());
                let what = match member {
                    Some(member) => format!("`{member}` of `{header}`"),
                    None => format!("`{header}`"),
                };
                notes.push(format!(
                    "{what} in [{number}] does not fit the new definition and is left out; change [{number}] and run it again"
                ));
            }
        }
        notes
    }

    /// Adds a version to the scope: the cell's Rust and the items that it uses, or the result of a directive.
    pub fn leave(&mut self, left: Version) {
        for (name, variable) in &left.makes {
            if let Held::Artifact { artifact, .. } = &variable.held {
                self.account.variables.insert(name.clone(), artifact.digest);
            }
        }
        self.scope.push(Version {
            id: self.id(),
            number: self.cell.number,
            text: self.cell.code.clone(),
            grants: std::mem::take(&mut self.grants),
            ..left
        });
    }

    /// Returns the cell's id. Without an id from the front end, every execution counts as a new cell.
    pub fn id(&self) -> String {
        let Cell { id, code, number } = self.cell;
        id.clone()
            .unwrap_or_else(|| format!("[{number}] {}", Digest::of(code).short()))
    }
}

/// Returns notes about variables that the last expression moves, as users don't expect that showing a value loses it.
fn given_away(rust: &Rust, generated: &Generated) -> Vec<String> {
    let Some(last) = rust.statements.last().filter(|_| rust.has_tail) else {
        return Vec::new();
    };
    let is_saved = |binding: &&Binding| generated.saves.iter().any(|saved| saved.name == binding.name);
    let variables = rust.variables();
    let lost = variables
        .iter()
        .filter(|binding| !is_saved(binding) && last.mentions.values.contains(&binding.name));
    lost.map(|Binding { name, .. }| {
        format!("the last expression moves `{name}`, so later cells can't use it; write `&{name}` instead")
    })
    .collect()
}

fn program(stdin: Option<String>) -> Entry {
    Entry::Program {
        args: Vec::new(),
        env: BTreeMap::new(),
        stdin,
        stdout: None,
    }
}
