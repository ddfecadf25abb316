//! Where what a run made came from, as an in-toto statement with SLSA provenance.
//!
//! The formats are those of <https://github.com/in-toto/attestation/tree/main/spec/v1> and <https://slsa.dev/spec/v1.1/provenance>.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Result};
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Observed, Record, Run};
use lockstep_runtime::step::{Artifact, base};
use lockstep_runtime::store::{Store, StoreError};
use serde_json::{Map, Value, json};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// What the external parameters mean: what `lockstep run` was told to do.
const BUILD: &str = "urn:lockstep:run:1";
const BUILDER: &str = "urn:lockstep";
/// The byproduct that the record is.
const RECORD: &str = "record";

/// What is said of the outputs of a run. One that made none is an error.
pub fn statement(store: &Store, digest: &Digest, record: &Record, observed: &Observed) -> Result<Value> {
    if record.outputs.is_empty() {
        let error = Error::user(format_args!("run {} made no outputs that could be spoken of", digest.short()));
        return Err(error.hint("--stdout NAME keeps what a program prints as an output"));
    }
    let subject = |(name, artifact): (&String, &Artifact)| json!({ "name": name, "digest": digest_set(&artifact.digest) });
    Ok(json!({
        "_type": STATEMENT,
        "subject": record.outputs.iter().map(subject).collect::<Vec<_>>(),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD,
                "externalParameters": external_parameters(&record.run),
                "internalParameters": { "key": record.key },
                "resolvedDependencies": dependencies(store, &record.run)?,
            },
            "runDetails": {
                "builder": { "id": BUILDER, "version": { "lockstep": observed.version } },
                "metadata": metadata(digest, observed),
                "byproducts": byproducts(digest, record),
            },
        },
    }))
}

/// The record that a statement is about.
pub fn record_of(statement: &Value) -> Option<Digest> {
    let byproducts = statement.pointer("/predicate/runDetails/byproducts")?.as_array()?;
    let record = byproducts.iter().find(|byproduct| byproduct["name"] == RECORD)?;
    Digest::from_hex(record.pointer("/digest/sha256")?.as_str()?).ok()
}

fn digest_set(digest: &Digest) -> Value {
    json!({ "sha256": digest.hex() })
}

/// What was asked for, but for the bytes, which are dependencies.
fn external_parameters(run: &Run) -> Value {
    let inputs = run
        .inputs
        .iter()
        .map(|(name, input)| (name.clone(), json!({ "at": input.at })));
    json!({
        "entry": run.entry,
        "inputs": inputs.collect::<Map<_, _>>(),
        "outputs": run.outputs,
        "seed": run.seed,
    })
}

fn dependencies(store: &Store, run: &Run) -> Result<Vec<Value>> {
    let module =
        |name: String, digest: &Digest| json!({ "name": name, "digest": digest_set(digest), "mediaType": "application/wasm" });
    let mut all = vec![module("module".to_owned(), &run.module)];
    all.extend(base_of(store, &run.module)?.map(|base| module("base".to_owned(), &base)));
    all.extend(
        run.modules
            .iter()
            .map(|(name, digest)| module(format!("modules/{name}"), digest)),
    );
    all.extend(
        run.inputs
            .iter()
            .map(|(name, input)| artifact(&format!("inputs/{name}"), &input.artifact)),
    );
    Ok(all)
}

/// The base of a module, as far as the module is still there.
fn base_of(store: &Store, module: &Digest) -> Result<Option<Digest>> {
    match store.get(module) {
        Err(StoreError::Missing(_)) => Ok(None),
        wasm => base(&wasm?).map_err(Error::host),
    }
}

fn artifact(name: &str, artifact: &Artifact) -> Value {
    json!({ "name": name, "digest": digest_set(&artifact.digest), "mediaType": artifact.media_type })
}

fn metadata(digest: &Digest, observed: &Observed) -> Value {
    let started = UNIX_EPOCH + Duration::from_millis(observed.started_ms);
    let mut metadata = json!({ "invocationId": digest });
    for (name, time) in [
        ("startedOn", Some(started)),
        ("finishedOn", started.checked_add(Duration::from_micros(observed.wall_us))),
    ] {
        if let Some(time) = time.and_then(timestamp) {
            metadata[name] = json!(time);
        }
    }
    metadata
}

/// The time by RFC 3339, which knows none after the year 9999.
fn timestamp(time: SystemTime) -> Option<String> {
    let mut text = String::new();
    write!(text, "{}", humantime::format_rfc3339_millis(time)).ok()?;
    Some(text)
}

fn byproducts(digest: &Digest, record: &Record) -> Vec<Value> {
    let own = json!({ "name": RECORD, "digest": digest_set(digest) });
    let log = record.log.iter().map(|log| artifact("log", log));
    std::iter::once(own).chain(log).collect()
}
