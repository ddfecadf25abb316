//! What people call things: a path, a digest, the start of one, or an output of a record.

use std::collections::BTreeMap;
use std::path::Path;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Names, Observed, Record, Runtime};
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::{Store, StoreError};

use crate::error::{Error, Result};

/// What a name of a person leads to.
pub enum Named {
    /// An artifact.
    Artifact(Artifact),
    /// A record, its digest, and what was observed.
    Record(Box<(Digest, Record, Observed)>),
}

/// Digits of a digest that are enough to look it up.
const PREFIX: usize = 4;

/// The artifact that `text` names; see [`find`].
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

/// What `text` names: a file or directory (which is taken into the store), `sha256:` and a digest or at least four of its
/// digits, digits alone where no file is called so, or `RECORD/output`.
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
        return Err(
            Error::user(format_args!("there is no file, artifact or record called {text}"))
                .hint("give a path, a digest or its first digits, or RECORD/OUTPUT; `lockstep log` lists the records"),
        );
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

/// Takes in a file or directory of the caller.
pub fn import(store: &Store, path: &Path) -> Result<Artifact> {
    store.import(path).map_err(|error| match &error {
        StoreError::File { doing, path: at, source } if at.starts_with(path) => Error::file(doing, at, source),
        _ => error.into(),
    })
}

/// What the store knows of the bytes called `digest`.
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

/// The digest that `text` spells in full or in part.
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
            Err(
                Error::user(format_args!("{text} is the start of several digests: {}", names.join(", ")))
                    .hint("give more digits"),
            )
        }
    }
}

/// Pairs as a map; a name that stands twice is an error.
pub fn unique(what: &str, pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if map.contains_key(&name) {
            return Err(Error::user(format_args!("{what} `{name}` is given twice")));
        }
        map.insert(name, value);
    }
    Ok(map)
}

/// Every digest in a text.
pub fn mentioned(text: &[u8]) -> impl Iterator<Item = Digest> {
    const LENGTH: usize = "sha256:".len() + 64;
    let digest = |window: &[u8]| std::str::from_utf8(window).ok()?.parse().ok();
    let starts = text.windows(LENGTH).filter(|window| window.starts_with(b"sha256:"));
    starts.filter_map(digest)
}
