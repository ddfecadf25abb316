use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;

use super::{Ran, Reuse, Run, RunError, Runtime, bind, choose};
use crate::digest::Digest;
use crate::sandbox::{Answer, Asking, Caller, Given, Interrupt, Node, Pause, Stream, Unanswered};
use crate::step::{Artifact, GuestPath, Interface, Interruption, Limits, MediaType, Outcome, Usage, interfaces};
use crate::store::{StoreError, Writer};

/// Maximum size of the reason why a call has no outputs, in bytes.
const MAX_REASON: usize = 64 << 10;

/// A guest's request to run a step.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// The name of the module, among the modules of the run.
    module: String,
    step: String,
    /// The guest's paths of the inputs, by name.
    #[serde(default)]
    inputs: BTreeMap<String, GuestPath>,
    #[serde(default)]
    parameters: BTreeMap<String, Value>,
}

/// Runs steps on behalf of a guest. Each call is a separate run, with the caller's seed, limits and interrupt.
///
/// The answer is a directory that contains either `out`, a directory with the outputs, or `error`, a file with the reason.
pub(super) struct Steps {
    pub runtime: Runtime,
    pub modules: BTreeMap<String, Digest>,
    pub seed: u64,
    pub reuse: Reuse,
    pub limits: Limits,
    pub interrupt: Interrupt,
    /// The deadline of the calling run.
    pub until: Option<Instant>,
    /// The pauses of the calling run.
    pub pause: Pause,
    pub called: Called,
}

/// The records of the runs that a guest called, in call order.
#[derive(Clone, Default)]
pub(super) struct Called(Arc<Mutex<Vec<Digest>>>);

impl Called {
    fn push(&self, record: Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    pub fn take(&self) -> Vec<Digest> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The reason why a call has no outputs.
enum Refused {
    /// The guest gets this text. The usage is that of the run that failed.
    Told(String, Usage),
    /// The guest is stopped.
    Ended(Unanswered),
}

impl Refused {
    /// Refuses a request that started no run.
    fn at_once(why: impl ToString) -> Self {
        Self::Told(why.to_string(), Usage::default())
    }
}

impl From<RunError> for Refused {
    fn from(error: RunError) -> Self {
        Self::Ended(Unanswered::Host(io::Error::other(error)))
    }
}

impl Caller for Steps {
    fn call(&mut self, request: &[u8], guest: &mut Asking<'_>) -> Result<Answer, Unanswered> {
        let ran = self
            .bound(request, guest)
            .and_then(|run| self.run(&run, guest))
            .and_then(|ran| Ok((self.outputs(&ran)?, ran.record.usage.unwrap_or_default())));
        match ran {
            Ok((outputs, usage)) => Ok(answer("out", Node::Directory(outputs), usage)),
            Err(Refused::Told(mut why, usage)) => {
                why.truncate(why.floor_char_boundary(MAX_REASON));
                Ok(answer("error", Node::File(why.into()), usage))
            }
            Err(Refused::Ended(why)) => Err(why),
        }
    }

    fn pause(&self) -> Pause {
        self.pause.clone()
    }
}

impl Steps {
    /// Parses a request, and puts its inputs into the store.
    fn bound(&self, request: &[u8], guest: &mut Asking<'_>) -> Result<Run, Refused> {
        let request: Request = serde_json::from_slice(request).map_err(Refused::at_once)?;
        let module = self.modules.get(&request.module);
        let module = module.ok_or_else(|| Refused::at_once(format!("this run was given no module `{}`", request.module)))?;
        let wasm = self.runtime.store.get(module).map_err(RunError::from)?;
        let interfaces = interfaces(&wasm).map_err(Refused::at_once)?;
        let interface = choose(&interfaces, &request.step).map_err(Refused::at_once)?;
        let mut inputs = BTreeMap::new();
        for (name, path) in &request.inputs {
            let given = guest
                .given(path)
                .ok_or_else(|| Refused::at_once(format!("there is no {path}")))?;
            inputs.insert(name.clone(), self.artifact(interface, name, given, guest)?);
        }
        bind(*module, interface, inputs, &request.parameters, self.seed).map_err(Refused::at_once)
    }

    fn artifact(&self, interface: &Interface, input: &str, given: Given, guest: &Asking<'_>) -> Result<Artifact, RunError> {
        let port = interface.inputs.iter().find(|port| port.name == input);
        let media_type = port.map(|port| port.media_type.clone()).unwrap_or_default();
        match given {
            Given::Directory(entries) => {
                let mut files = BTreeMap::new();
                self.flatten("", entries, &mut files, guest)?;
                Ok(self.runtime.store.put_directory(&files)?)
            }
            file => self.file(file, media_type, guest),
        }
    }

    /// Stores a file. A large one is copied in pieces: it may be an input of the caller, under another name.
    fn file(&self, file: Given, media_type: MediaType, guest: &Asking<'_>) -> Result<Artifact, RunError> {
        let store = &self.runtime.store;
        let large = match file {
            Given::Large(large) => large.0,
            Given::Input(bytes) => return Ok(store.put_artifact(bytes, &media_type)?),
            Given::Stored { digest, size } => return self.note(digest, size, media_type),
            Given::Directory(_) => return Ok(store.put_directory(&BTreeMap::new())?),
        };
        let mut check = || match guest.has_ended() {
            true => Err(io::Error::other("the run was interrupted")),
            false => Ok(()),
        };
        let (mut writer, mut buffer) = (store.writer(), vec![0; 1 << 20]);
        let mut copy = |writer: &mut Writer| -> io::Result<()> {
            loop {
                check()?;
                match large.read_at(writer.len(), &mut buffer)? {
                    0 => return Ok(()),
                    count => writer.write_at(writer.len(), &buffer[..count])?,
                }
            }
        };
        copy(&mut writer).map_err(|source| StoreError::File {
            doing: "copy",
            path: "an input of a call".into(),
            source,
        })?;
        let (digest, size) = writer.finish_unless(&mut check)?;
        self.note(digest, size, media_type)
    }

    fn note(&self, digest: Digest, size: u64, media_type: MediaType) -> Result<Artifact, RunError> {
        let artifact = Artifact {
            digest,
            media_type,
            size,
        };
        self.runtime.store.note_artifact(&artifact)?;
        Ok(artifact)
    }

    fn flatten(
        &self,
        prefix: &str,
        entries: BTreeMap<String, Given>,
        files: &mut BTreeMap<String, Artifact>,
        guest: &Asking<'_>,
    ) -> Result<(), RunError> {
        for (name, given) in entries {
            let path = format!("{prefix}{name}");
            match given {
                Given::Directory(entries) => self.flatten(&format!("{path}/"), entries, files, guest)?,
                file => {
                    let media_type = MediaType::of_path(path.as_ref());
                    let artifact = self.file(file, media_type, guest)?;
                    files.insert(path, artifact);
                }
            }
        }
        Ok(())
    }

    fn run(&self, run: &Run, guest: &mut Asking<'_>) -> Result<Ran, Refused> {
        let limits = Limits {
            time: self
                .until
                .map(|until| (until + self.pause.total()).saturating_duration_since(Instant::now())),
            ..self.limits.clone()
        };
        let mut log = |stream: Stream, bytes: &[u8]| guest.write(stream, bytes);
        let ran = self.runtime.run(run, self.reuse, &limits, &self.interrupt, &mut log)?;
        match &ran.record.outcome {
            Outcome::Interrupted { by } => return Err(Refused::Ended(Unanswered::Interrupted(*by))),
            outcome if !outcome.is_deterministic() => return Err(Refused::Ended(Unanswered::Interrupted(Interruption::Host))),
            _ => self.called.push(ran.digest),
        }
        match &ran.record.outcome {
            Outcome::Failed(failure) => Err(Refused::Told(
                format!("step `{}` {failure}", run.entry.title()),
                ran.record.usage.clone().unwrap_or_default(),
            )),
            _ => Ok(ran),
        }
    }

    fn outputs(&self, ran: &Ran) -> Result<BTreeMap<String, Node>, RunError> {
        let outputs = ran.record.outputs.iter();
        outputs
            .map(|(name, artifact)| Ok((name.clone(), self.runtime.node(artifact)?)))
            .collect()
    }
}

fn answer(name: &str, node: Node, usage: Usage) -> Answer {
    Answer {
        files: Node::Directory(BTreeMap::from([(name.to_owned(), node)])),
        usage,
    }
}
