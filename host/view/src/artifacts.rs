//! Resolution of names: a path, a digest or its prefix, or an output of a record.

use std::collections::BTreeMap;
use std::path::Path;

pub use lockstep::ColumnType;
use lockstep::{CsvOptions, Outputs as _, TableReader};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Names, Observed, Record, Runtime};
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::{Store, StoreError};

use crate::error::{Error, Result};

/// What a name resolves to.
pub enum Named {
    /// An artifact.
    Artifact(Artifact),
    /// A record with its digest and observations.
    Record(Box<(Digest, Record, Observed)>),
}

/// The minimum length of a digest prefix.
const PREFIX: usize = 4;

/// Resolves `text` to an artifact; see [`find`].
pub fn artifact(runtime: &Runtime, text: &str) -> Result<Artifact> {
    match find(runtime, text)? {
        Named::Artifact(artifact) => Ok(artifact),
        Named::Record(found) => {
            let (digest, record, _) = *found;
            let outputs = record.outputs.keys().map(|name| format!("{}/{name}", digest.short()));
            let known = outputs.collect::<Vec<_>>().join(", ");
            Err(
                Error::user(format_args!("{text} is a record, not an artifact")).hint(match known.as_str() {
                    "" => "it has no outputs".to_owned(),
                    known => format!("its outputs are {known}"),
                }),
            )
        }
    }
}

/// Resolves `text`: a file or directory, which is added to the store; `sha256:` and a digest or at least four of its digits; digits alone if no
/// file has that name; or `RECORD/OUTPUT`.
pub fn find(runtime: &Runtime, text: &str) -> Result<Named> {
    let path = Path::new(text);
    if !text.starts_with("sha256:") && path.exists() {
        return Ok(Named::Artifact(import(&runtime.store, path)?));
    }
    let (name, output) = match text.split_once('/') {
        Some((name, output)) => (name, Some(output)),
        None => (text, None),
    };
    let Some(digest) = digest(&runtime.store, name)? else {
        return Err(Error::user(format_args!("no such file, artifact or record: {text}"))
            .hint("give a path, a digest or its prefix, or RECORD/OUTPUT; `lockstep log` lists records"));
    };
    match (runtime.record(&digest)?, output) {
        (Some((record, observed)), None) => Ok(Named::Record(Box::new((digest, record, observed)))),
        (Some((record, _)), Some(output)) => record.outputs.get(output).cloned().map(Named::Artifact).ok_or_else(|| {
            let known = Names::of(record.outputs.keys().map(String::as_str));
            Error::user(format_args!(
                "record {} has no output `{output}`; it has {known}",
                digest.short()
            ))
        }),
        (None, None) => Ok(Named::Artifact(known(&runtime.store, &digest)?)),
        (None, Some(_)) => Err(Error::user(format_args!(
            "{name} is an artifact, not a record: it has no outputs"
        ))),
    }
}

/// Reads the CSV `text` with these types of columns, and adds the table to the store.
pub fn with_types(runtime: &Runtime, text: &str, types: &BTreeMap<String, ColumnType>) -> Result<Artifact> {
    let store = &runtime.store;
    let csv = store.get(&artifact(runtime, text)?.digest)?;
    let has_types = [&b"PAR1"[..], b"ARROW1", &[0xff; 4]];
    if has_types.iter().any(|start| csv.starts_with(start)) {
        return Err(
            Error::user(format_args!("{text} is not CSV: its columns have types of their own"))
                .hint("convert columns in the step, with Table::cast"),
        );
    }
    let options = types
        .iter()
        .fold(CsvOptions::default(), |options, (column, of)| options.column(column, *of));
    let unreadable = |error: lockstep::Error| Error::user(format_args!("{text}: {error:#}"));
    let directory = tempfile::tempdir().map_err(Error::host)?;
    let tables = TableReader::from_bytes(csv, options).map_err(unreadable)?;
    tables.write_outputs(directory.path(), "table").map_err(unreadable)?;
    let table = import(store, &directory.path().join("table"))?;
    let typed = Artifact {
        media_type: MediaType::new(MediaType::TABLE),
        ..table
    };
    store.note_artifact(&typed)?;
    Ok(typed)
}

/// Adds a file or directory of the caller to the store.
pub fn import(store: &Store, path: &Path) -> Result<Artifact> {
    store.import(path).map_err(|error| match &error {
        StoreError::File { doing, path: at, source } if at.starts_with(path) => Error::file(doing, at, source),
        _ => error.into(),
    })
}

/// Returns the artifact `digest`, with a default media type if the store does not know it.
pub fn known(store: &Store, digest: &Digest) -> Result<Artifact> {
    if let Some(artifact) = store.artifact(digest)? {
        return Ok(artifact);
    }
    let size = store.get(digest)?.len() as u64;
    Ok(Artifact {
        digest: *digest,
        media_type: MediaType::default(),
        size,
    })
}

/// Resolves `text` as a digest or a prefix of one.
pub fn digest(store: &Store, text: &str) -> Result<Option<Digest>> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    if let Ok(digest) = Digest::from_hex(hex) {
        return Ok(Some(digest));
    }
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    if hex.len() < PREFIX {
        return match text.starts_with("sha256:") {
            true => Err(Error::user(format_args!(
                "{text} is too short: give at least {PREFIX} digits"
            ))),
            false => Ok(None),
        };
    }
    let found = store.resolve_prefix(hex)?;
    match found[..] {
        [] => Ok(None),
        [digest] => Ok(Some(digest)),
        _ => {
            let names: Vec<String> = found.iter().map(Digest::short).collect();
            Err(Error::user(format_args!("{text} is ambiguous: it matches {}", names.join(", "))).hint("give more digits"))
        }
    }
}

/// Collects pairs into a map. Returns an error if a name occurs twice.
pub fn unique<V>(what: &str, pairs: Vec<(String, V)>) -> Result<BTreeMap<String, V>> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if map.contains_key(&name) {
            return Err(Error::user(format_args!("{what} `{name}` is given twice")));
        }
        map.insert(name, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lockstep_runtime::digest::Digest;

    use super::*;

    fn written(artifact: impl lockstep::Outputs) -> String {
        let directory = tempfile::tempdir().unwrap();
        artifact.write_outputs(directory.path(), "it").unwrap();
        Digest::of(std::fs::read(directory.path().join("it")).unwrap()).short()
    }

    /// What a step returns is found by these digests: see `run::tests` of the runtime.
    #[test]
    fn the_same_as_ever() {
        let csv = "name,mass,born\nAdelie,3750.5,2001-05-01\n\"Gentoo, papua\",,\n";
        let tables = TableReader::from_bytes(csv.into(), CsvOptions::default()).unwrap();
        let digests = [
            ("table", written(tables)),
            ("list", written(vec![(1u8, "a".to_owned()), (255, "é".to_owned())])),
            (
                "map",
                written(BTreeMap::from([("x".to_owned(), Some(0.1f64)), ("y".to_owned(), None)])),
            ),
        ];
        let digests = digests.map(|(what, digest)| format!("{what} {digest}"));
        assert_eq!(digests.join(", "), "table 8272ded8b070, list 602b9b8c3364, map bfebcfeed65b");
    }
}
