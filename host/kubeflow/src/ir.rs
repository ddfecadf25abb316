//! Intermediate representation of pipelines: `PipelineSpec` of Kubeflow Pipelines 2.17, schema version 2.1.0. Unknown fields are errors; fields
//! that change no result, such as display names, are removed before a file is read ([`crate::local`]).

use std::collections::BTreeMap;

use lockstep_runtime::pipeline::yaml::{Mark, Node};
use lockstep_runtime::step::{MediaType, ParameterKind};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Schema version of exported pipelines.
pub const SCHEMA: &str = "2.1.0";

/// A pipeline, or a single component.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PipelineSpec {
    pub pipeline_info: PipelineInfo,
    pub schema_version: String,
    #[serde(default)]
    pub sdk_version: String,
    #[serde(default)]
    pub components: BTreeMap<String, Component>,
    pub deployment_spec: DeploymentSpec,
    pub root: Component,
    /// The name of its file, for messages.
    #[serde(skip)]
    pub file: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineInfo {
    pub name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeploymentSpec {
    #[serde(default)]
    pub executors: BTreeMap<String, Executor>,
}

/// Executor of a component: one of these.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Executor {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    #[serde(skip_serializing)]
    pub importer: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub resolver: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub custom_job: Option<IgnoredAny>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
pub struct Variable {
    pub name: String,
    #[serde(default)]
    pub value: String,
}

/// Definition of a task: an executor or a DAG.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
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
#[serde(default, deny_unknown_fields)]
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParameterDefinition {
    pub parameter_type: ParameterType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_value: Option<Value>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_optional: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The allowed values; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub literals: Vec<Value>,
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
    #[serde(
        alias = "TASK_FINAL_STATUS",
        alias = "TASK_CONFIG",
        alias = "PARAMETER_TYPE_ENUM_UNSPECIFIED"
    )]
    Unknown,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArtifactDefinition {
    pub artifact_type: ArtifactType,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArtifactType {
    #[serde(default)]
    pub schema_title: String,
    #[serde(default)]
    pub schema_version: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dag {
    pub tasks: BTreeMap<String, Task>,
    #[serde(skip_serializing_if = "DagOutputs::is_empty")]
    pub outputs: DagOutputs,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DagOutputs {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub artifacts: BTreeMap<String, Selectors>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, ParameterSelectors>,
}

impl DagOutputs {
    fn is_empty(&self) -> bool {
        self.artifacts.is_empty() && self.parameters.is_empty()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selectors {
    pub artifact_selectors: Vec<Selector>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    pub producer_subtask: String,
    pub output_artifact_key: String,
}

/// Source of a DAG's output parameter: of several tasks, the first that is not skipped.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ParameterSelectors {
    ValueFromParameter(ParameterSelector),
    #[serde(rename_all = "camelCase")]
    ValueFromOneof {
        parameter_selectors: Vec<ParameterSelector>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ParameterSelector {
    pub producer_subtask: String,
    pub output_parameter_key: String,
}

/// A task of a pipeline.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
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
    /// The task in its file.
    #[serde(skip)]
    pub place: Option<Place>,
}

/// A task in its file: its label and content.
pub struct Place {
    pub label: Mark,
    pub node: Node,
}

impl Task {
    /// Returns the place in the file of a field, or of the closest field around it.
    pub fn mark(&self, path: &[&str]) -> Mark {
        let Some(place) = &self.place else {
            return Mark::default();
        };
        let (mut mark, mut node) = (place.label, Some(&place.node));
        for key in path {
            let Some(entry) = node.and_then(|node| node.entry(key)) else {
                break;
            };
            (mark, node) = (entry.mark, Some(&entry.value));
        }
        mark
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskInfo {
    pub name: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComponentRef {
    pub name: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CachingOptions {
    #[serde(skip_serializing_if = "is_false")]
    pub enable_cache: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cache_key: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RetryPolicy {
    pub max_retry_count: u32,
}

/// Condition of a task.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
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
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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
#[serde(default, deny_unknown_fields)]
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
#[serde(rename_all = "camelCase", try_from = "ParameterSource")]
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

/// The fields of a [`ParameterFrom`].
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ParameterSource {
    runtime_value: Option<RuntimeValue>,
    component_input_parameter: Option<String>,
    task_output_parameter: Option<Value>,
    task_final_status: Option<Value>,
    parameter_expression_selector: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuntimeValue {
    #[serde(default)]
    constant: Value,
}

impl TryFrom<ParameterSource> for ParameterFrom {
    type Error = &'static str;

    fn try_from(source: ParameterSource) -> Result<Self, Self::Error> {
        let ParameterSource {
            runtime_value,
            component_input_parameter,
            task_output_parameter,
            task_final_status,
            parameter_expression_selector,
        } = source;
        match (
            runtime_value,
            component_input_parameter,
            task_output_parameter,
            task_final_status,
            parameter_expression_selector,
        ) {
            (Some(RuntimeValue { constant }), None, None, None, None) => Ok(Self::RuntimeValue { constant }),
            (None, Some(name), None, None, None) => Ok(Self::ComponentInputParameter(name)),
            (None, Some(component_input_parameter), None, None, Some(parameter_expression_selector)) => Ok(Self::Selected {
                component_input_parameter,
                parameter_expression_selector,
            }),
            (None, None, Some(of), None, _) => Ok(Self::TaskOutputParameter(of)),
            (None, None, None, Some(of), None) => Ok(Self::TaskFinalStatus(of)),
            _ => Err(
                "expected exactly one of `runtimeValue`, `componentInputParameter`, `taskOutputParameter` and `taskFinalStatus`",
            ),
        }
    }
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
