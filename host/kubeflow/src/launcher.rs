//! Contract with the KFP launcher: input of a container (`ExecutorInput`) and its output (`ExecutorOutput`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Names, Ran, Runtime};
use lockstep_runtime::step::{Artifact, MediaType};
use lockstep_runtime::store::Store;
use lockstep_view::artifacts::import;
use lockstep_view::content::Content;
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::export::{export, write};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ContainerInputs;

/// Mount points of object stores in containers, by scheme.
const MOUNTS: [(&str, &str); 3] = [("s3", "/s3"), ("minio", "/minio"), ("gs", "/gcs")];
/// Directory of artifacts in a pipeline's workspace, instead of a bucket.
const WORKSPACE: &str = "/kfp-workspace/.artifacts";

/// Metadata field with the digest of an artifact.
const DIGEST: &str = "lockstep_digest";
/// Metadata field with the media type of an artifact.
const MEDIA_TYPE: &str = "lockstep_media_type";

/// Input of a container. Unknown fields are ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct ExecutorInput {
    inputs: Inputs,
    outputs: Outputs,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Inputs {
    parameter_values: BTreeMap<String, Value>,
    artifacts: BTreeMap<String, ArtifactList>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Outputs {
    parameters: BTreeMap<String, OutputParameter>,
    artifacts: BTreeMap<String, ArtifactList>,
    /// File for the `ExecutorOutput`.
    output_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OutputParameter {
    output_file: PathBuf,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArtifactList {
    artifacts: Vec<RuntimeArtifact>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuntimeArtifact {
    name: String,
    uri: String,
    metadata: Map<String, Value>,
    custom_path: String,
}

impl ExecutorInput {
    /// Parses the value of `{{$}}`.
    pub fn read(json: &str) -> Result<Self> {
        serde_json::from_str(json).map_err(|e| {
            Error::user(format_args!("invalid value of --executor-input: {e}"))
                .hint("Kubeflow Pipelines substitutes it for {{$}} in the arguments of a container")
        })
    }

    /// Imports parameters and artifacts. Artifacts with names like `directory/entry` are gathered in a directory.
    pub fn take(&self, runtime: &Runtime) -> Result<ContainerInputs> {
        let mut given = ContainerInputs {
            parameters: self.inputs.parameter_values.clone(),
            inputs: BTreeMap::new(),
        };
        let mut directories: BTreeMap<&str, BTreeMap<String, Artifact>> = BTreeMap::new();
        for (name, list) in &self.inputs.artifacts {
            let artifact = list.one(name)?.take(&runtime.store, name)?;
            match name.split_once('/') {
                None => drop(given.inputs.insert(name.clone(), artifact)),
                Some((directory, entry)) => drop(directories.entry(directory).or_default().insert(entry.to_owned(), artifact)),
            }
        }
        for (name, entries) in directories {
            given.inputs.insert(name.to_owned(), runtime.store.put_together(&entries)?);
        }
        Ok(given)
    }

    /// Checks that the run has all requested outputs.
    pub fn check(&self, outputs: &BTreeMap<String, MediaType>) -> Result<()> {
        let parameters = self.outputs.parameters.keys().map(|name| split(name).0);
        let mut asked = self.outputs.artifacts.keys().map(String::as_str).chain(parameters);
        match asked.find(|name| !outputs.contains_key(*name)) {
            None => Ok(()),
            Some(name) => {
                let known = Names::of(outputs.keys().map(String::as_str));
                Err(Error::user(format_args!(
                    "Kubeflow requests the unknown output `{name}`; the run has {known}"
                )))
            }
        }
    }

    /// Exports the outputs of a run for Kubeflow, with digests in their metadata.
    pub fn write(&self, runtime: &Runtime, ran: &Ran) -> Result<()> {
        let mut artifacts = Map::new();
        for (name, list) in &self.outputs.artifacts {
            let (place, made) = (list.one(name)?, &ran.record.outputs[name]);
            let path = place.path()?;
            make_room(&path)?;
            export(&runtime.store, made, &path)?;
            let described = json!({ "name": place.name, "uri": place.uri, "metadata": metadata(runtime, ran, made)? });
            artifacts.insert(name.clone(), json!({ "artifacts": [described] }));
        }
        let mut parameters = Map::new();
        for (name, OutputParameter { output_file }) in &self.outputs.parameters {
            let value = value(runtime, ran, name)?;
            make_room(output_file)?;
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            write(output_file, text.as_bytes())?;
            parameters.insert(name.clone(), value);
        }
        let Some(output_file) = &self.outputs.output_file else {
            return Ok(());
        };
        make_room(output_file)?;
        let said = json!({ "parameterValues": parameters, "artifacts": artifacts });
        write(output_file, said.to_string().as_bytes())
    }
}

impl ArtifactList {
    fn one(&self, name: &str) -> Result<&RuntimeArtifact> {
        match &self.artifacts[..] {
            [one] => Ok(one),
            several => Err(Error::user(format_args!(
                "Kubeflow supplies {} artifacts for the single artifact `{name}`",
                several.len()
            ))
            .hint("use one input per artifact: `NAME/ENTRY` becomes an entry of the directory NAME")),
        }
    }
}

impl RuntimeArtifact {
    fn take(&self, store: &Store, name: &str) -> Result<Artifact> {
        let artifact = import(store, &self.path()?)?;
        let text = |field: &str| self.metadata.get(field).and_then(Value::as_str);
        if let Some(digest) = text(DIGEST)
            .and_then(|text| text.parse::<Digest>().ok())
            .filter(|digest| *digest != artifact.digest)
        {
            let message = format!("artifact `{name}` was modified: expected {digest}, found {}", artifact.digest);
            return Err(Error::host(message).detail(&self.uri));
        }
        Ok(match text(MEDIA_TYPE).filter(|_| !artifact.is_directory()) {
            Some(media_type) if media_type != MediaType::DIRECTORY => Artifact {
                media_type: MediaType::new(media_type),
                ..artifact
            },
            _ => artifact,
        })
    }

    /// Returns the artifact's path in the container.
    fn path(&self) -> Result<PathBuf> {
        if !self.custom_path.is_empty() {
            return Ok(PathBuf::from(&self.custom_path));
        }
        let path = match self.uri.split_once("://") {
            None => PathBuf::from(&self.uri),
            Some(("oci", reference)) => Path::new("/oci").join(reference.replace('/', "_")).join("models"),
            Some((scheme, rest)) => {
                let mount = MOUNTS.iter().find(|(known, _)| *known == scheme);
                let (_, mount) = mount.ok_or_else(|| {
                    let message = format!("unsupported artifact URI {}", self.uri);
                    Error::new(Kind::Config, message).hint("supported schemes: s3://, minio://, gs:// and oci://")
                })?;
                Path::new(mount).join(rest)
            }
        };
        Ok(match self.metadata.get("_kfp_workspace") {
            Some(Value::Bool(true)) => Path::new(WORKSPACE).join(path.strip_prefix("/").unwrap_or(&path)),
            _ => path,
        })
    }
}

/// Creates the parent directory of `path`. Removes a directory at `path` from an earlier attempt.
fn make_room(path: &Path) -> Result<()> {
    if path.is_dir() {
        std::fs::remove_dir_all(path).map_err(|e| Error::file("replace", path, &e))?;
    }
    let Some(parent) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(parent).map_err(|e| Error::file("create", parent, &e))
}

/// Returns the metadata of an artifact: metrics by name, and digests of its origin.
fn metadata(runtime: &Runtime, ran: &Ran, made: &Artifact) -> Result<Value> {
    let mut metadata = Map::new();
    if let MediaType::METRICS = made.media_type.as_str()
        && let Content::Metrics(metrics) = Content::read(&runtime.store, made, 0..0)?
    {
        metadata.extend(metrics.into_iter().map(|(name, number)| (name, json!(number))));
    }
    let run = &ran.record.run;
    let ours = json!({
        DIGEST: made.digest,
        MEDIA_TYPE: made.media_type,
        "lockstep_module": run.module,
        "lockstep_step": run.entry.title(),
        "lockstep_run_key": ran.record.key,
        "lockstep_record": ran.digest,
    });
    if let Value::Object(ours) = ours {
        metadata.extend(ours);
    }
    Ok(Value::Object(metadata))
}

/// Splits the name of an output parameter into the output and its fields: `metrics.accuracy`.
fn split(name: &str) -> (&str, impl Iterator<Item = &str>) {
    let mut parts = name.split('.');
    (parts.next().unwrap_or_default(), parts)
}

/// Returns the value of an output parameter: an output that is JSON, a serde value or a text, or a field of it.
fn value(runtime: &Runtime, ran: &Ran, name: &str) -> Result<Value> {
    let (output, mut fields) = split(name);
    let content = Content::read(&runtime.store, &ran.record.outputs[output], 0..0)?;
    let whole = match &content {
        Content::Json(_) | Content::Metrics(_) | Content::Text { .. } => content.to_json(),
        _ => {
            return Err(Error::user(format_args!(
                "output `{output}` of type {} can't be an output parameter in Kubeflow",
                ran.record.outputs[output].media_type
            ))
            .hint("use it as an artifact"));
        }
    };
    let found = fields.try_fold(&whole, |value, field| value.get(field));
    found.cloned().ok_or_else(|| {
        Error::user(format_args!(
            "Kubeflow requests `{name}`, but output `{output}` has no such field"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(artifact: Value) -> Result<PathBuf> {
        serde_json::from_value::<RuntimeArtifact>(artifact).unwrap().path()
    }

    #[test]
    fn artifacts_are_where_kubeflow_mounts_them() {
        for (artifact, expected) in [
            (json!({ "uri": "s3://bucket/a/rows" }), "/s3/bucket/a/rows"),
            (json!({ "uri": "minio://mlpipeline/v2/x" }), "/minio/mlpipeline/v2/x"),
            (json!({ "uri": "gs://bucket/a" }), "/gcs/bucket/a"),
            (
                json!({ "uri": "oci://ghcr.io/team/model:1", "metadata": { "a": 1 } }),
                "/oci/ghcr.io_team_model:1/models",
            ),
            (json!({ "uri": "/tmp/root/rows" }), "/tmp/root/rows"),
            (json!({ "uri": "s3://b/k", "customPath": "/data/k" }), "/data/k"),
            (
                json!({ "uri": "s3://b/k", "metadata": { "_kfp_workspace": true } }),
                "/kfp-workspace/.artifacts/s3/b/k",
            ),
        ] {
            assert_eq!(path(artifact.clone()).unwrap(), Path::new(expected), "{artifact}");
        }
        assert_eq!(path(json!({ "uri": "ftp://host/a" })).unwrap_err().kind(), Kind::Config);
    }

    #[test]
    fn what_is_not_made_is_not_asked_for() {
        let outputs = BTreeMap::from([("metrics".to_owned(), MediaType::new(MediaType::METRICS))]);
        let check = |outputs_asked: Value| {
            let input = json!({ "inputs": {}, "outputs": outputs_asked, "more": 1 });
            ExecutorInput::read(&input.to_string()).unwrap().check(&outputs)
        };
        assert!(check(json!({ "parameters": { "metrics.accuracy": { "outputFile": "/tmp/a" } } })).is_ok());
        let error = check(json!({ "artifacts": { "rows": { "artifacts": [{}] } } })).unwrap_err();
        assert_eq!(
            error.message(),
            "Kubeflow requests the unknown output `rows`; the run has `metrics`"
        );
    }
}
