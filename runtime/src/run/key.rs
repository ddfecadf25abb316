//! The run and its key: the digest of everything that the run depends on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RunError;
use crate::digest::{Digest, RunKey, canonical_json};
use crate::sandbox::{SandboxError, check_outputs};
use crate::step::{Artifact, GuestPath, MediaType};

/// The version of the guest's environment: epoch and pace of the clocks, random generator, limits of the file system. Part of every
/// run key. Any change that a guest can observe must increment it.
const WORLD: u32 = 2;

/// Everything that a run depends on, and nothing else.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The module.
    pub module: Digest,
    /// The entry of the module.
    pub entry: Entry,
    /// Its inputs, by name.
    pub inputs: BTreeMap<String, Input>,
    /// The outputs that it must write, by name.
    pub outputs: BTreeMap<String, MediaType>,
    /// The modules whose steps it may call, by the names that it uses for them. Each call is a separate run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, Digest>,
    /// The seed of its random numbers.
    pub seed: u64,
}

/// The entry of a module that is run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Entry {
    /// A step with a declared interface.
    Step {
        /// the step
        name: String,
        /// all parameters of the step
        parameters: BTreeMap<String, Value>,
    },
    /// A plain program.
    Program {
        /// its arguments, without the program's name
        args: Vec<String>,
        /// its environment
        env: BTreeMap<String, String>,
        /// the input that is its stdin
        stdin: Option<String>,
        /// the output that its stdout is stored as
        stdout: Option<String>,
    },
}

/// An input of a run.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// A file or a directory.
    pub artifact: Artifact,
    /// The guest's path, if it is not `/in/<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<GuestPath>,
}

impl From<Artifact> for Input {
    fn from(artifact: Artifact) -> Self {
        Self { artifact, at: None }
    }
}

impl Entry {
    /// Returns the step's name, or the program's arguments, for display.
    pub fn title(&self) -> String {
        match self {
            Self::Step { name, .. } => name.clone(),
            Self::Program { args, .. } => args.join(" "),
        }
    }
}

impl Run {
    /// Returns the digest of everything that this run may depend on. Media types of inputs are excluded, as a guest can't see them,
    /// except for whether an input is a directory. Fails if the name of an output is not valid.
    pub fn key(&self) -> Result<RunKey, RunError> {
        check_outputs(&self.outputs.keys().map(String::as_str).collect()).map_err(SandboxError::from)?;
        #[derive(Serialize)]
        struct Keyed<'a> {
            lockstep: &'static str,
            world: u32,
            module: &'a Digest,
            entry: &'a Entry,
            inputs: BTreeMap<&'a str, KeyedInput<'a>>,
            outputs: &'a BTreeMap<String, MediaType>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            modules: &'a BTreeMap<String, Digest>,
            seed: u64,
        }
        #[derive(Serialize)]
        struct KeyedInput<'a> {
            digest: &'a Digest,
            directory: bool,
            at: &'a Option<GuestPath>,
        }
        let keyed = Keyed {
            lockstep: "run key",
            world: WORLD,
            module: &self.module,
            entry: &self.entry,
            inputs: self
                .inputs
                .iter()
                .map(|(name, Input { artifact, at })| {
                    (
                        name.as_str(),
                        KeyedInput {
                            digest: &artifact.digest,
                            directory: artifact.is_directory(),
                            at,
                        },
                    )
                })
                .collect(),
            outputs: &self.outputs,
            modules: &self.modules,
            seed: self.seed,
        };
        Ok(RunKey(Digest::of(canonical_json(&keyed).map_err(RunError::Encode)?)))
    }
}
