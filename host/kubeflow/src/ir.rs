//! Intermediate representation of pipelines: `PipelineSpec` of Kubeflow Pipelines 2.17, schema version 2.1.0. Fields that are not used here,
//! such as display names, are ignored.

use std::collections::BTreeMap;

use lockstep_runtime::step::{MediaType, ParameterKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Schema version of exported pipelines.
pub const SCHEMA: &str = "2.1.0";

/// A pipeline, or a single component.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PipelineSpec {
    pub pipeline_info: PipelineInfo,
    pub schema_version: String,
    #[serde(default)]
    pub sdk_version: String,
    #[serde(default)]
    pub components: BTreeMap<String, Component>,
    pub deployment_spec: DeploymentSpec,
    pub root: Component,
}

#[derive(Serialize, Deserialize)]
pub struct PipelineInfo {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

#[derive(Default, Serialize, Deserialize)]
pub struct DeploymentSpec {
    #[serde(default)]
    pub executors: BTreeMap<String, Executor>,
}

/// Executor of a component. Executors of other kinds have no container.
#[derive(Serialize, Deserialize)]
pub struct Executor {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Container {
    pub image: String,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<Variable>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Variable {
    pub name: String,
    #[serde(default)]
    pub value: String,
}

/// Definition of a task: an executor or a DAG.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Component {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor_label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dag: Option<Dag>,
    #[serde(skip_serializing_if = "Definitions::is_empty")]
    pub input_definitions: Definitions,
    #[serde(skip_serializing_if = "Definitions::is_empty")]
    pub output_definitions: Definitions,
}

/// Definitions of input or output parameters and artifacts.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Definitions {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterDefinition>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, ArtifactDefinition>,
}

impl Definitions {
    fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.artifacts.is_empty()
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterDefinition {
    pub parameter_type: ParameterType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_value: Option<Value>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_optional: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ParameterType {
    String,
    NumberInteger,
    NumberDouble,
    Boolean,
    List,
    Struct,
    /// Other types, used by drivers only.
    #[serde(other)]
    Unknown,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactDefinition {
    pub artifact_type: ArtifactType,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactType {
    pub schema_title: String,
    #[serde(default)]
    pub schema_version: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dag {
    pub tasks: BTreeMap<String, Task>,
    #[serde(skip_serializing_if = "DagOutputs::is_empty")]
    pub outputs: DagOutputs,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DagOutputs {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, Selectors>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
}

impl DagOutputs {
    fn is_empty(&self) -> bool {
        self.artifacts.is_empty() && self.parameters.is_empty()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selectors {
    pub artifact_selectors: Vec<Selector>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    pub producer_subtask: String,
    pub output_artifact_key: String,
}

/// A task of a pipeline.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Task {
    pub task_info: TaskInfo,
    pub component_ref: ComponentRef,
    #[serde(skip_serializing_if = "TaskInputs::is_empty")]
    pub inputs: TaskInputs,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dependent_tasks: Vec<String>,
    pub caching_options: CachingOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_policy: Option<RetryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_policy: Option<TriggerPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter_iterator: Option<ParameterIterator>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_iterator: Option<Value>,
}

#[derive(Default, Serialize, Deserialize)]
pub struct TaskInfo {
    pub name: String,
}

#[derive(Default, Serialize, Deserialize)]
pub struct ComponentRef {
    pub name: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CachingOptions {
    #[serde(skip_serializing_if = "is_false")]
    pub enable_cache: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cache_key: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryPolicy {
    pub max_retry_count: u32,
}

/// Condition of a task.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TriggerPolicy {
    /// CEL expression; empty for no condition.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub condition: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub strategy: String,
}

impl TriggerPolicy {
    /// Strategy of tasks that run even if upstream tasks fail.
    pub const COMPLETED: &'static str = "ALL_UPSTREAM_TASKS_COMPLETED";
}

/// A loop over items, and the parameter for the item.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterIterator {
    pub item_input: String,
    pub items: Items,
}

/// Items of a loop: a JSON list, or a list parameter of the task.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Items {
    Raw(String),
    InputParameter(String),
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskInputs {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterFrom>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, ArtifactFrom>,
}

impl TaskInputs {
    fn is_empty(&self) -> bool {
        self.parameters.is_empty() && self.artifacts.is_empty()
    }
}

/// Source of a task's parameter.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ParameterFrom {
    RuntimeValue {
        constant: Value,
    },
    ComponentInputParameter(String),
    TaskOutputParameter(Value),
    TaskFinalStatus(Value),
    /// An expression applied to a parameter.
    #[serde(untagged, rename_all = "camelCase")]
    Selected {
        component_input_parameter: String,
        parameter_expression_selector: String,
    },
}

/// Source of a task's artifact.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ArtifactFrom {
    ComponentInputArtifact(String),
    #[serde(rename_all = "camelCase")]
    TaskOutputArtifact {
        producer_task: String,
        output_artifact_key: String,
    },
}

fn is_false(truth: &bool) -> bool {
    !truth
}

impl ComponentRef {
    /// References the component of the task `label`.
    pub fn to(label: &str) -> Self {
        Self {
            name: format!("comp-{label}"),
        }
    }
}

impl Selectors {
    /// Selects the output of one task.
    pub fn one(task: &str, output: &str) -> Self {
        let selector = Selector {
            producer_subtask: task.to_owned(),
            output_artifact_key: output.to_owned(),
        };
        Self {
            artifact_selectors: vec![selector],
        }
    }
}

impl ParameterType {
    /// Returns the type for parameters of a kind. A value of any kind is a JSON string.
    pub fn of(kind: ParameterKind) -> Self {
        match kind {
            ParameterKind::Boolean => Self::Boolean,
            ParameterKind::Integer => Self::NumberInteger,
            ParameterKind::Number => Self::NumberDouble,
            ParameterKind::String | ParameterKind::Any => Self::String,
            ParameterKind::List => Self::List,
            ParameterKind::Struct => Self::Struct,
        }
    }

    /// Returns the kind of parameters of this type.
    pub fn kind(self) -> ParameterKind {
        match self {
            Self::Boolean => ParameterKind::Boolean,
            Self::NumberInteger => ParameterKind::Integer,
            Self::NumberDouble => ParameterKind::Number,
            Self::String => ParameterKind::String,
            Self::List => ParameterKind::List,
            Self::Struct => ParameterKind::Struct,
            Self::Unknown => ParameterKind::Any,
        }
    }
}

impl ArtifactDefinition {
    /// Returns the definition of an artifact with this media type.
    pub fn of(media_type: &MediaType, description: &str) -> Self {
        let title = match media_type.as_str() {
            MediaType::METRICS => "system.Metrics",
            MediaType::TABLE | MediaType::CSV | MediaType::PARQUET => "system.Dataset",
            _ => "system.Artifact",
        };
        Self {
            artifact_type: ArtifactType {
                schema_title: title.to_owned(),
                schema_version: "0.0.1".to_owned(),
            },
            description: description.to_owned(),
        }
    }
}

/// Returns the platform spec for Kubernetes: environment variables of executors from a secret.
pub fn platforms<'a>(executors: impl Iterator<Item = &'a String>, secret: &str) -> Value {
    let key = |name: &&str| json!({ "secretKey": name, "envVar": name });
    let from = |names: &[&str], optional: bool| {
        json!({
            "secretName": secret,
            "secretNameParameter": { "runtimeValue": { "constant": secret } },
            "keyToEnv": names.iter().map(key).collect::<Vec<_>>(),
            "optional": optional,
        })
    };
    let needed = from(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"], false);
    let optional = from(&["AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_SESSION_TOKEN"], true);
    let executors: Map<String, Value> = executors
        .map(|label| (label.clone(), json!({ "secretAsEnv": [&needed, &optional] })))
        .collect();
    json!({ "platforms": { "kubernetes": { "deploymentSpec": { "executors": executors } } } })
}
