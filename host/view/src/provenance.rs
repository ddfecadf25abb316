//! Provenance of runs: in-toto statements with SLSA provenance.
//!
//! See <https://github.com/in-toto/attestation/tree/main/spec/v1> and <https://slsa.dev/spec/v1.1/provenance>.

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
/// The build type, which defines the external parameters: the arguments of `lockstep run`.
const BUILD: &str = "urn:lockstep:run:1";
const BUILDER: &str = "urn:lockstep";
/// The name of the byproduct that is the record.
const RECORD: &str = "record";

/// Returns the statement on the outputs of a run. Returns an error if it has none.
pub fn statement(store: &Store, digest: &Digest, record: &Record, observed: &Observed) -> Result<Value> {
    if record.outputs.is_empty() {
        let error = Error::user(format_args!("run {} has no outputs", digest.short()));
        return Err(error.hint("`lockstep run --stdout NAME` stores the stdout of a program as an output"));
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

/// Returns the record that a statement is about.
pub fn record_of(statement: &Value) -> Option<Digest> {
    let byproducts = statement.pointer("/predicate/runDetails/byproducts")?.as_array()?;
    let record = byproducts.iter().find(|byproduct| byproduct["name"] == RECORD)?;
    Digest::from_hex(record.pointer("/digest/sha256")?.as_str()?).ok()
}

fn digest_set(digest: &Digest) -> Value {
    json!({ "sha256": digest.hex() })
}

/// Returns the arguments of the run. Their bytes are dependencies.
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

/// Returns the base of a module, if the store still has the module.
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

/// Formats a time by RFC 3339. Returns `None` after the year 9999.
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
