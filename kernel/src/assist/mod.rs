//! What rust-analyzer knows of a cell that is being typed. Where there is none, or before it is ready, nothing; its callers then answer themselves.
//!
//! It is a process of its own, started by the first question, and gets a project that exists nowhere on disk: one crate of one file, the
//! [`Draft`] of the cell, on the crates that cells can name. Nothing of the user's is run for it: no build script, no procedural macro.

mod answers;
mod project;
mod rpc;
mod server;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::compile::Draft;
use crate::jupyter::Completions;
use crate::output::MimeBundle;
use crate::toolchain::Toolchain;

pub(crate) use answers::name_at;
use project::Packages;
use server::{Server, Unanswered};

/// How long a question may take; whoever asks then goes without an answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long reading all sources and answering the first question may take.
const START: Duration = Duration::from_secs(180);
/// How often it is started for the same crates: one that keeps dying does not get better.
const STARTS: u32 = 3;

/// What rust-analyzer is given to know.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Where it is looked for.
    pub toolchain: Toolchain,
    /// A cargo package whose dependencies are the crates that cells can name. Nothing is written there.
    pub package: PathBuf,
}

/// Answers from rust-analyzer. Dropping it ends the process.
#[derive(Default)]
pub struct Analyzer {
    state: State,
    package: PathBuf,
    /// The crates that were mentioned: it is to know them with all that they depend on.
    whole: BTreeSet<String>,
    starts: u32,
}

#[derive(Default)]
enum State {
    #[default]
    Off,
    Starting(Receiver<Ready>),
    Ready(Ready),
}

struct Ready {
    server: Server,
    /// The crates that cells can name and that it may know alone.
    crates: BTreeSet<String>,
    /// Those of them that it knows with all that they depend on.
    whole: BTreeSet<String>,
}

/// A place in a draft.
struct Question<'a> {
    draft: &'a Draft,
    /// Bytes of the draft.
    at: usize,
}

impl Analyzer {
    /// What could stand at byte `cursor` of the draft's cell, which is `code`. `None` when it does not know, or not yet.
    pub fn complete(&mut self, around: &Surroundings, draft: &Draft, code: &str, cursor: usize) -> Option<Completions> {
        let at = draft.cell.start + cursor;
        let answer = self.ask(around, "textDocument/completion", &Question { draft, at })?;
        answers::completions(&answer, draft, code, cursor)
    }

    /// What is known of the name at, or else before, byte `cursor` of the draft's cell, which is `code`.
    pub fn inspect(&mut self, around: &Surroundings, draft: &Draft, code: &str, cursor: usize) -> Option<MimeBundle> {
        let at = draft.cell.start + answers::name_at(code, cursor);
        let answer = self.ask(around, "textDocument/hover", &Question { draft, at })?;
        answers::hover(&answer)
    }

    fn ask(&mut self, around: &Surroundings, method: &str, question: &Question) -> Option<Value> {
        self.attend(around, question);
        let State::Ready(ready) = &mut self.state else {
            return None;
        };
        match ready.server.ask(method, question, Instant::now() + PATIENCE) {
            Ok(answer) => Some(answer),
            Err(Unanswered::Late | Unanswered::Refused) => None,
            Err(Unanswered::Dead) => {
                self.state = State::Off;
                None
            }
        }
    }

    /// Starts what is not running, in the background, with the crates that the question is about.
    fn attend(&mut self, around: &Surroundings, question: &Question) {
        if let State::Starting(ready) = &self.state {
            match ready.try_recv() {
                Ok(ready) => {
                    self.whole.clone_from(&ready.whole);
                    self.state = State::Ready(ready);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.state = State::Off,
            }
        }
        let mentioned = match &self.state {
            State::Ready(ready) => mentioned(&question.draft.source, &ready.crates),
            _ => BTreeSet::new(),
        };
        if self.package != around.package || !mentioned.is_subset(&self.whole) {
            self.package.clone_from(&around.package);
            self.whole.extend(mentioned);
            self.starts = 0;
            self.state = State::Off;
        }
        if matches!(self.state, State::Off) && self.starts < STARTS {
            self.starts += 1;
            self.start(around, question);
        }
    }

    fn start(&mut self, around: &Surroundings, question: &Question) {
        let (sender, ready) = channel();
        let (around, whole) = (around.clone(), self.whole.clone());
        let (draft, at) = (question.draft.clone(), question.at);
        std::thread::spawn(move || {
            if let Some(ready) = start(&around, whole, &Question { draft: &draft, at }) {
                // Nobody waiting is fine: other crates are wanted by now, or the kernel was shut down.
                let _ = sender.send(ready);
            }
        });
        self.state = State::Starting(ready);
    }
}

/// A server that has read all sources and has answered a first question, which makes it look at all that it has read.
fn start(around: &Surroundings, mut whole: BTreeSet<String>, first: &Question) -> Option<Ready> {
    let deadline = Instant::now() + START;
    let program = around.toolchain.rust_analyzer()?;
    let packages = Packages::read(around)?;
    let crates = packages.optional();
    whole.extend(mentioned(&first.draft.source, &crates));
    let project = packages.project(&whole, around.toolchain.sysroot(), program.library.as_deref());
    let mut server = Server::start(around, &program.path, project, first.draft, deadline)?;
    server.ask("textDocument/completion", first, deadline).ok()?;
    Some(Ready { server, crates, whole })
}

/// Which of the crates are named in `source`, or in a comment of it, which does no harm.
fn mentioned(source: &str, crates: &BTreeSet<String>) -> BTreeSet<String> {
    let words = source.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| crates.contains(*word)).map(str::to_owned).collect()
}
