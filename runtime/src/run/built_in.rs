//! Built-in modules: modules that this program contains, and whose steps any step may call under their names. A run that may call one
//! has its digest in its run key, like that of every other module: because its module says that it calls it, or because of its inputs.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::DeflateDecoder;

use super::{Run, RunError, Runtime};
use crate::digest::Digest;
use crate::step::{Artifact, calls};
use crate::store::StoreError;

/// A built-in module.
struct BuiltIn {
    name: &'static str,
    digest: &'static str,
    deflated: &'static [u8],
}

/// All built-in modules.
const ALL: [&BuiltIn; 2] = [&TABLES, &SQL];

/// Reads tables in the formats that modules of steps can't read themselves. Built by `make built-in`.
const TABLES: BuiltIn = BuiltIn {
    name: "lockstep:tables",
    digest: include_str!("../../built-in/tables.digest"),
    deflated: include_bytes!("../../built-in/tables.wasm.deflate"),
};

/// Executes SQL queries.
const SQL: BuiltIn = BuiltIn {
    name: "lockstep:sql",
    digest: include_str!("../../built-in/sql.digest"),
    deflated: include_bytes!("../../built-in/sql.wasm.deflate"),
};

/// A built-in module that this program does not have.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("calls the built-in module `{0}`, which this version of lockstep does not have: install the version that built it")]
pub struct UnknownBuiltIn(String);

/// Returns the digests of the built-in modules `names`, which a module says that it calls.
pub fn built_in(names: &[String]) -> Result<BTreeMap<String, Digest>, UnknownBuiltIn> {
    let digest = |name: &String| {
        let module = ALL.iter().find(|module| module.name == name);
        let digest = module.and_then(|module| module.digest());
        Ok((name.clone(), digest.ok_or_else(|| UnknownBuiltIn(name.clone()))?))
    };
    names.iter().map(digest).collect()
}

/// Returns whether `digest` is that of a built-in module.
pub(super) fn is_built_in(digest: &Digest) -> bool {
    ALL.iter().any(|module| module.digest().as_ref() == Some(digest))
}

impl BuiltIn {
    fn digest(&self) -> Option<Digest> {
        self.digest.trim().parse().ok()
    }
}

impl Runtime {
    /// Returns the built-in modules that `module` says that it calls.
    pub fn called(&self, module: &Digest) -> Result<BTreeMap<String, Digest>, RunError> {
        let calls = calls(&self.store.get(module)?).map_err(|source| RunError::Calls { module: *module, source })?;
        built_in(&calls).map_err(|source| RunError::UnknownBuiltIn { module: *module, source })
    }

    /// Adds the built-in modules that `run` may call because of its inputs, and puts the bytes of all that it may call into the store.
    /// Changes nothing in a run that has them already, such as the run of a record.
    pub fn equip(&self, mut run: Run) -> Result<Run, RunError> {
        if !run.modules.contains_key(TABLES.name)
            && self.any_needs_tables(run.inputs.values().map(|input| &input.artifact))?
            && let Some(digest) = TABLES.digest()
        {
            run.modules.insert(TABLES.name.to_owned(), digest);
        }
        for module in ALL {
            if let Some(wanted) = run.modules.get(module.name) {
                self.supply(module, wanted)?;
            }
        }
        Ok(run)
    }

    /// Puts a built-in module into the store, unless a run needs another version of it or the store has it.
    fn supply(&self, module: &BuiltIn, wanted: &Digest) -> Result<(), RunError> {
        if module.digest().as_ref() == Some(wanted) && !self.store.contains(wanted)? {
            let mut wasm = Vec::new();
            DeflateDecoder::new(module.deflated)
                .read_to_end(&mut wasm)
                .map_err(|source| RunError::BuiltIn {
                    name: module.name,
                    source,
                })?;
            self.store.put(wasm)?;
        }
        Ok(())
    }

    /// Returns whether a file, or one in a directory, is Parquet or an Arrow file. Steps write neither as a table.
    fn needs_tables(&self, artifact: &Artifact) -> Result<bool, RunError> {
        let content = match self.store.open_file(&artifact.digest) {
            Ok(content) => content,
            // a cached result needs no inputs
            Err(StoreError::Missing(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if artifact.is_directory() {
            return self.any_needs_tables(self.store.list_directory(artifact)?.values());
        }
        let start = content.piece(0, b"ARROW1".len()).map_err(|source| StoreError::File {
            doing: "read",
            path: "an input".into(),
            source,
        })?;
        Ok(start.starts_with(b"PAR1") || start.starts_with(b"ARROW1"))
    }

    fn any_needs_tables<'a>(&self, mut artifacts: impl Iterator<Item = &'a Artifact>) -> Result<bool, RunError> {
        artifacts.try_fold(false, |found, artifact| Ok(found || self.needs_tables(artifact)?))
    }
}
