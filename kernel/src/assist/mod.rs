//! Completion and inspection by rust-analyzer. If it is not installed or not ready, there is no answer, and callers use
//! their own.
//!
//! rust-analyzer is a separate process, started by the first request. Its project exists only in memory: a crate with one
//! file, the [`Draft`] of the cell, and the crates that cells can name. It runs no build scripts and no procedural macros.

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

/// The timeout of a request.
const PATIENCE: Duration = Duration::from_secs(1);
/// The timeout for loading all sources and answering the first request.
const START: Duration = Duration::from_secs(180);
/// The maximum number of starts for the same crates.
const STARTS: u32 = 3;

/// The environment of rust-analyzer.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The toolchain that has rust-analyzer.
    pub toolchain: Toolchain,
    /// A cargo package that depends on the crates that cells can name. It is not modified.
    pub package: PathBuf,
}

/// Answers from rust-analyzer. Dropping it ends the process.
#[derive(Default)]
pub struct Analyzer {
    state: AssistState,
    package: PathBuf,
    /// The mentioned crates, which are loaded with all their dependencies.
    whole: BTreeSet<String>,
    starts: u32,
}

#[derive(Default)]
enum AssistState {
    #[default]
    Off,
    Starting(Receiver<Ready>),
    Ready(Ready),
}

struct Ready {
    server: Server,
    /// The crates that cells can name and that may be loaded without dependencies.
    crates: BTreeSet<String>,
    /// The crates loaded with all their dependencies.
    whole: BTreeSet<String>,
}

/// A place in a draft.
struct Question<'a> {
    draft: &'a Draft,
    /// The byte in the draft.
    at: usize,
}

impl Analyzer {
    /// Returns completions at byte `cursor` of the draft's cell `code`; `None` if there are none or it is not ready.
    pub fn complete(&mut self, around: &Surroundings, draft: &Draft, code: &str, cursor: usize) -> Option<Completions> {
        let at = draft.cell.start + cursor;
        let answer = self.ask(around, "textDocument/completion", &Question { draft, at })?;
        answers::completions(&answer, draft, code, cursor)
    }

    /// Describes the name at, or else before, byte `cursor` of the draft's cell `code`.
    pub fn inspect(&mut self, around: &Surroundings, draft: &Draft, code: &str, cursor: usize) -> Option<MimeBundle> {
        let at = draft.cell.start + answers::name_at(code, cursor);
        let answer = self.ask(around, "textDocument/hover", &Question { draft, at })?;
        answers::hover(&answer)
    }

    fn ask(&mut self, around: &Surroundings, method: &str, question: &Question) -> Option<Value> {
        self.attend(around, question);
        let AssistState::Ready(ready) = &mut self.state else {
            return None;
        };
        match ready.server.ask(method, question, Instant::now() + PATIENCE) {
            Ok(answer) => Some(answer),
            Err(Unanswered::Late | Unanswered::Refused) => None,
            Err(Unanswered::Dead) => {
                self.state = AssistState::Off;
                None
            }
        }
    }

    /// Starts or restarts the server in the background, with the crates that the question mentions.
    fn attend(&mut self, around: &Surroundings, question: &Question) {
        if let AssistState::Starting(ready) = &self.state {
            match ready.try_recv() {
                Ok(ready) => {
                    self.whole.clone_from(&ready.whole);
                    self.state = AssistState::Ready(ready);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => self.state = AssistState::Off,
            }
        }
        let mentioned = match &self.state {
            AssistState::Ready(ready) => mentioned(&question.draft.source, &ready.crates),
            _ => BTreeSet::new(),
        };
        if self.package != around.package || !mentioned.is_subset(&self.whole) {
            self.package.clone_from(&around.package);
            self.whole.extend(mentioned);
            self.starts = 0;
            self.state = AssistState::Off;
        }
        if matches!(self.state, AssistState::Off) && self.starts < STARTS {
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
                // Sending fails if other crates are needed by now or the kernel was shut down.
                let _ = sender.send(ready);
            }
        });
        self.state = AssistState::Starting(ready);
    }
}

/// Starts a server and waits until it has loaded all sources and answered a first request, which analyzes them.
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

/// Returns the crates named in `source`, including those named only in comments.
fn mentioned(source: &str, crates: &BTreeSet<String>) -> BTreeSet<String> {
    let words = source.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    words.filter(|word| crates.contains(*word)).map(str::to_owned).collect()
}
