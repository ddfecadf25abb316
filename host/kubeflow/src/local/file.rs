//! Reading of compiled pipelines. The SDK writes YAML 1.1 with PyYAML, which leaves texts such as `1e3` and `08540` without quotes. So what a
//! scalar is depends on the declared type of its parameter, and on who wrote the file.

use std::collections::BTreeMap;
use std::path::Path;

use lockstep_runtime::pipeline::yaml::{Content, Entry, Fault, Node, documents};
use lockstep_view::error::Result;

use crate::ir::{Component, PipelineSpec, Place};

/// Keys that distinguish a KFP pipeline from a lockstep pipeline and a plan.
const KEYS: [&str; 3] = ["pipelineInfo", "deploymentSpec", "schemaVersion"];
/// API of the manifests that contain a pipeline, as the SDK writes them on request.
const MANIFEST: &str = "pipelines.kubeflow.org/";

/// Fields that change no result, by the field around them. `*` stands for one field of any name.
const UNUSED: &[(&[&str], &[&str])] = &[
    (&[], &["defaultPipelineRoot"]),
    (&["pipelineInfo"], &["displayName"]),
    (
        &["deploymentSpec", "executors", "*", "container"],
        &["resources", "lifecycle"],
    ),
];
const UNUSED_OF_COMPONENTS: &[(&[&str], &[&str])] = &[
    (&[], &["singlePlatformSpecs", "taskConfigPassthroughs"]),
    (&["inputDefinitions", "artifacts", "*"], &["isArtifactList", "isOptional"]),
    (&["outputDefinitions", "artifacts", "*"], &UNUSED_OF_OUTPUTS),
    (
        &["*Definitions", "artifacts", "*", "artifactType"],
        &["schemaUri", "instanceSchema"],
    ),
    (&["dag", "tasks", "*"], &["iteratorPolicy"]),
    (
        &["dag", "tasks", "*", "retryPolicy"],
        &["backoffDuration", "backoffFactor", "backoffMaxDuration"],
    ),
];
const UNUSED_OF_OUTPUTS: [&str; 4] = ["isArtifactList", "metadata", "properties", "customProperties"];

/// Reads the pipeline in `path`; `None` if the file is not a KFP pipeline or can't be read, which the caller reports.
pub fn read(path: &Path) -> Result<Option<PipelineSpec>> {
    let text = std::fs::read_to_string(path).ok();
    let Some(text) = text.filter(|text| KEYS.iter().any(|key| text.contains(key))) else {
        return Ok(None);
    };
    let mut spec = parse(&text).map_err(|fault| fault.with_path().of(path, &text))?;
    if let Some(spec) = &mut spec {
        spec.file = path.display().to_string();
    }
    Ok(spec)
}

/// Parses a pipeline; `None` if the text is not a KFP pipeline.
pub fn parse(text: &str) -> Result<Option<PipelineSpec>, Fault> {
    let Some(mut document) = find(documents(text)?)? else {
        return Ok(None);
    };
    remove(&mut document, UNUSED);
    let components = document.get_mut("components").into_iter().flat_map(Node::values_mut);
    components.for_each(|component| remove(component, UNUSED_OF_COMPONENTS));
    let root = document.get_mut("root").into_iter();
    root.for_each(|root| remove(root, UNUSED_OF_COMPONENTS));
    // in JSON, text is always in quotes
    if !text.trim_start().starts_with('{') {
        settle(&mut document)?;
    }
    let mut spec: PipelineSpec = document.read()?;
    if let Some(version) = document
        .entry("schemaVersion")
        .filter(|_| !spec.schema_version.starts_with("2.1."))
    {
        let message = format!("`schemaVersion` is {}: only 2.1.0 is supported", spec.schema_version);
        return Err(Fault::new(version.mark, message));
    }
    for (name, component) in &mut spec.components {
        let node = document.get("components").and_then(|components| components.get(name));
        locate(component, node);
    }
    locate(&mut spec.root, document.get("root"));
    Ok(Some(spec))
}

/// Returns the document with the pipeline. Other documents are its settings for platforms.
fn find(documents: Vec<Node>) -> Result<Option<Node>, Fault> {
    let mut found = None;
    let mut others = Vec::new();
    for mut document in documents {
        let is_manifest = document
            .get("apiVersion")
            .and_then(Node::text)
            .is_some_and(|api| api.starts_with(MANIFEST));
        if is_manifest {
            match document.get_mut("spec").and_then(|spec| spec.get_mut("pipelineSpec")) {
                Some(spec) => document = spec.clone(),
                None => continue,
            }
        }
        match KEYS.iter().any(|key| document.get(key).is_some()) {
            true if found.is_some() => {
                return Err(Fault::new(
                    document.mark,
                    "a second pipeline starts here: put each pipeline into a file of its own",
                ));
            }
            true => found = Some(document),
            false => others.push(document),
        }
    }
    let is_known = |document: &Node| document.get("platforms").is_some() || document.is_null();
    match others.iter().find(|document| !is_known(document)) {
        Some(other) if found.is_some() => Err(Fault::new(other.mark, "this document is neither a pipeline nor `platforms`")),
        _ => Ok(found),
    }
}

fn remove(node: &mut Node, unused: &[(&[&str], &[&str])]) {
    for (path, keys) in unused {
        remove_under(node, path, keys);
    }
}

fn remove_under(node: &mut Node, path: &[&str], keys: &[&str]) {
    let Content::Map(entries) = &mut node.content else {
        return;
    };
    let Some((first, rest)) = path.split_first() else {
        entries.retain(|entry| !keys.contains(&entry.key.as_str()));
        return;
    };
    let under = |entry: &&mut Entry| match first.strip_prefix('*') {
        Some(end) => entry.key.ends_with(end),
        None => entry.key == *first,
    };
    let under = entries.iter_mut().filter(under);
    under.for_each(|entry| remove_under(&mut entry.value, rest, keys));
}

/// The declared types of the parameters of components, by component and name.
type Types = BTreeMap<String, BTreeMap<String, String>>;

/// Marks scalars as text: values of parameters of type STRING, and scalars that the SDK reads as text.
fn settle(document: &mut Node) -> Result<(), Fault> {
    let by_sdk = document
        .get("sdkVersion")
        .and_then(Node::text)
        .is_some_and(|version| version.starts_with("kfp-"));
    let types: Types = document
        .get("components")
        .into_iter()
        .flat_map(Node::entries)
        .map(|entry| (entry.key.clone(), types(&entry.value)))
        .collect();
    if let Some(components) = document.get_mut("components") {
        for component in components.values_mut() {
            settle_component(component, &types, by_sdk)?;
        }
    }
    match document.get_mut("root") {
        Some(root) => settle_component(root, &types, by_sdk),
        None => Ok(()),
    }
}

fn types(component: &Node) -> BTreeMap<String, String> {
    let parameters = component.get("inputDefinitions").and_then(|inputs| inputs.get("parameters"));
    let parameters = parameters.into_iter().flat_map(Node::entries);
    let of = |entry: &Entry| Some((entry.key.clone(), entry.value.get("parameterType")?.text()?.to_owned()));
    parameters.filter_map(of).collect()
}

fn settle_component(component: &mut Node, all: &Types, by_sdk: bool) -> Result<(), Fault> {
    let own = types(component);
    if let Some(parameters) = component
        .get_mut("inputDefinitions")
        .and_then(|inputs| inputs.get_mut("parameters"))
    {
        for Entry { key, value, .. } in parameters.entries_mut() {
            if let Some(default) = value.get_mut("defaultValue") {
                settle_value(default, own.get(key), by_sdk)?;
            }
            if let Some(Content::List(literals)) = value.get_mut("literals").map(|literals| &mut literals.content) {
                for literal in literals {
                    settle_value(literal, own.get(key), by_sdk)?;
                }
            }
        }
    }
    let Some(tasks) = component.get_mut("dag").and_then(|dag| dag.get_mut("tasks")) else {
        return Ok(());
    };
    for task in tasks.values_mut() {
        let name = task.get("componentRef").and_then(|of| of.get("name")).and_then(Node::text);
        let types = name.and_then(|name| all.get(name));
        let Some(parameters) = task.get_mut("inputs").and_then(|inputs| inputs.get_mut("parameters")) else {
            continue;
        };
        for Entry { key, value, .. } in parameters.entries_mut() {
            if let Some(constant) = value.get_mut("runtimeValue").and_then(|value| value.get_mut("constant")) {
                settle_value(constant, types.and_then(|types| types.get(key)), by_sdk)?;
            }
        }
    }
    Ok(())
}

fn settle_value(value: &mut Node, parameter_type: Option<&String>, by_sdk: bool) -> Result<(), Fault> {
    match parameter_type.map_or("", String::as_str) {
        "STRING" if value.text().is_some() => value.make_text(&|_| true),
        "NUMBER_INTEGER" | "NUMBER_DOUBLE" | "BOOLEAN" => (),
        _ if by_sdk => value.make_text(&is_text_for_the_sdk),
        _ => {
            if let Some((mark, text)) = value.find_plain(&|text| text.parse::<f64>().is_ok() && is_text_for_the_sdk(text)) {
                let message = format!(
                    "`{text}` is a number in some versions of YAML only: write it in quotes if it is text, and else with a dot and a sign, \
                     as in 1.0e+3"
                );
                return Err(Fault::new(mark, message));
            }
        }
    }
    Ok(())
}

/// Whether PyYAML reads as text what looks like a number: `1e3`, `1.0e5`, `0o17`, `08540`, `-.5`.
fn is_text_for_the_sdk(scalar: &str) -> bool {
    let digits = scalar.strip_prefix(['-', '+']).unwrap_or(scalar);
    let only = |text: &str, allowed: &str| !text.is_empty() && text.chars().all(|c| allowed.contains(c));
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return false;
    }
    if let Some(digits) = digits.strip_prefix("0b") {
        return !only(digits, "01_");
    }
    if let Some(digits) = digits.strip_prefix("0x") {
        return !only(digits, "0123456789abcdefABCDEF_");
    }
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix(['-', '+']).unwrap_or_default()),
        None => (digits, "0"),
    };
    let Some((whole, fraction)) = mantissa.split_once('.') else {
        let is_octal = !digits.starts_with('0') || digits == "0" || only(&digits[1..], "01234567_");
        return !(is_octal && only(digits, "0123456789_"));
    };
    let is_infinite =
        ["inf", "Inf", "INF"].contains(&fraction) || digits == scalar && ["nan", "NaN", "NAN"].contains(&fraction);
    let is_fraction = match whole.is_empty() {
        true => digits == scalar && fraction.starts_with(|c: char| c.is_ascii_digit()),
        false => whole.starts_with(|c: char| c.is_ascii_digit()) && only(whole, "0123456789_"),
    };
    let is_number = is_fraction && (fraction.is_empty() || only(fraction, "0123456789_")) && only(exponent, "0123456789");
    !(is_number || whole.is_empty() && is_infinite)
}

/// Tells the tasks of a component where they are in the file.
fn locate(component: &mut Component, node: Option<&Node>) {
    let tasks = component.dag.iter_mut().flat_map(|dag| &mut dag.tasks);
    let nodes = node.and_then(|node| node.get("dag")?.get("tasks"));
    for (label, task) in tasks {
        let entry = nodes.and_then(|nodes| nodes.entry(label));
        task.place = entry.map(|entry| Place {
            label: entry.mark,
            node: entry.value.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::ir::ParameterFrom;

    const TEXT: &str = "pipelineInfo: { name: p, displayName: P }
schemaVersion: 2.1.0
sdkVersion: SDK
defaultPipelineRoot: s3://bucket
deploymentSpec:
  executors:
    exec-a: { container: { image: i, args: [1.10, 08540], env: [{ name: SHA, value: 25921e05 }], resources: { cpuLimit: 1.0 } } }
components:
  comp-a:
    executorLabel: exec-a
    inputDefinitions:
      parameters:
        x: { parameterType: TYPE, isOptional: true, defaultValue: VALUE }
root:
  dag:
    tasks:
      a:
        taskInfo: { name: a }
        componentRef: { name: comp-a }
        iteratorPolicy: { parallelismLimit: 2 }
        inputs: { parameters: { x: { runtimeValue: { constant: VALUE } } } }
";

    fn text(sdk: &str, parameter_type: &str, value: &str) -> String {
        TEXT.replace("SDK", sdk)
            .replace("TYPE", parameter_type)
            .replace("VALUE", value)
    }

    fn parsed(text: &str) -> Result<PipelineSpec, String> {
        let parsed = parse(text).map_err(|fault| fault.with_path().of(Path::new("p"), "").to_string());
        parsed.map(Option::unwrap)
    }

    /// The value as default and as constant, which must be the same.
    fn read(sdk: &str, parameter_type: &str, value: &str) -> Result<Value, String> {
        let spec = parsed(&text(sdk, parameter_type, value))?;
        let default = spec.components["comp-a"].input_definitions.parameters["x"]
            .default_value
            .clone();
        let task = &spec.root.dag.unwrap().tasks["a"];
        let ParameterFrom::RuntimeValue { constant } = &task.inputs.parameters["x"] else {
            panic!("not a constant");
        };
        assert_eq!(default.unwrap_or_default(), *constant);
        Ok(constant.clone())
    }

    #[test]
    fn a_value_has_the_type_of_its_parameter() {
        const SDK: &str = "kfp-2.17.0";
        let texts = [
            "1e3",
            "25921e05",
            "0o17",
            "0b1",
            "12e999",
            "1.10",
            "08540",
            "yes",
            "true",
            ".nan",
            "12:30",
            "2024-05-01",
            "12345678901234567890123",
        ];
        for sdk in [SDK, "lockstep-0.1.0"] {
            for word in texts {
                assert_eq!(read(sdk, "STRING", word), Ok(json!(word)));
            }
            for (parameter_type, value, expected) in [
                ("STRING", "null", json!(null)),
                ("STRING", "''", json!("")),
                ("NUMBER_DOUBLE", "1e3", json!(1000.0)),
                ("NUMBER_INTEGER", "7", json!(7)),
                ("BOOLEAN", "true", json!(true)),
                ("LIST", "[7, '7', 1.0e+3, x]", json!([7, "7", 1000.0, "x"])),
            ] {
                assert_eq!(read(sdk, parameter_type, value), Ok(expected), "{value}");
            }
            for (parameter_type, value) in [
                ("LIST", "[017]"),
                ("STRUCT", "{ a: 1_000 }"),
                ("NUMBER_DOUBLE", ".inf"),
                ("NUMBER_INTEGER", "12345678901234567890123"),
            ] {
                assert!(read(sdk, parameter_type, value).is_err(), "{value}");
            }
        }
        // what PyYAML leaves without quotes is text
        assert_eq!(
            read(SDK, "LIST", "[1e3, 08540, 0o17, -.5, { a: 25921e05 }]"),
            Ok(json!(["1e3", "08540", "0o17", "-.5", { "a": "25921e05" }]))
        );
        let refused = read("other", "LIST", "[1e3]").unwrap_err();
        assert!(
            refused.starts_with("p:13:68: `1e3` is a number in some versions of YAML only"),
            "{refused}"
        );
        let json = r#"{"pipelineInfo": {"name": "p"}, "schemaVersion": "2.1.0", "deploymentSpec": {},
            "root": {"inputDefinitions": {"parameters": {"x": {"parameterType": "LIST", "defaultValue": [1e3, 1e+20, "1e3"]}}}}}"#;
        let spec = parsed(json).unwrap();
        let default = &spec.root.input_definitions.parameters["x"].default_value;
        assert_eq!(*default, Some(json!([1000.0, 1e20, "1e3"])));
    }

    #[test]
    fn what_is_unknown_or_missing_has_a_place() {
        for (from, to, expected) in [
            (
                "name: p,",
                "name: ,",
                "p:1:21: `pipelineInfo.name`: expected text: nothing is here",
            ),
            (
                "name: p,",
                "nam: p,",
                "p:1:17: `pipelineInfo`: unknown field `nam`, expected `name` or `description`",
            ),
            (
                "components:",
                "components_1:",
                "p:8:1: unknown field `components_1`, expected one of",
            ),
            ("2.1.0", "2.0.0", "p:2:1: `schemaVersion` is 2.0.0: only 2.1.0 is supported"),
            ("schemaVersion: 2.1.0\n", "", "p:1:1: missing field `schemaVersion`"),
            (
                "STRING",
                "STRIN",
                "p:13:29: `components.comp-a.inputDefinitions.parameters.x.parameterType`: unknown variant `STRIN`",
            ),
            (
                "isOptional: true",
                "isOptional: 1",
                "p:13:49: `components.comp-a.inputDefinitions.parameters.x.isOptional`: expected true or false: found `1`",
            ),
            (
                "{ name: a }",
                "a",
                "p:18:19: `root.dag.tasks.a.taskInfo`: expected a mapping: `name: value`: found `a`",
            ),
            (
                "runtimeValue:",
                "runtimValue:",
                "p:21:38: `root.dag.tasks.a.inputs.parameters.x`: unknown field `runtimValue`",
            ),
            (
                "{ runtimeValue: { constant: 1 } }",
                "{}",
                "p:21:36: `root.dag.tasks.a.inputs.parameters.x`: expected exactly one of `runtimeValue`",
            ),
            (
                "constant:",
                "constantValue:",
                "p:21:54: `root.dag.tasks.a.inputs.parameters.x.runtimeValue`: unknown field `constantValue`",
            ),
            (
                "    exec-a: {",
                "    exec-a: { containers: {}, ",
                "p:7:15: `deploymentSpec.executors.exec-a`: unknown field `containers`",
            ),
            (
                "iteratorPolicy",
                "iteratorPolic",
                "p:20:9: `root.dag.tasks.a`: unknown field `iteratorPolic`",
            ),
            ("root:\n", "root:\n  dag: {}\n", "p:16:3: the key `dag` is here twice"),
        ] {
            let text = text("kfp-2.17.0", "STRING", "1").replacen(from, to, 1);
            let error = parsed(&text).map(drop).unwrap_err();
            assert!(error.starts_with(expected), "{error}\n{expected}");
        }
        let whole = text("kfp-2.17.0", "STRING", "1");
        for (more, expected) in [
            ("platforms: {}", None),
            ("# nothing", None),
            ("a: 1", Some("p:23:1: this document is neither")),
            (&whole, Some("p:23:1: a second pipeline")),
        ] {
            let error = parsed(&format!("{whole}---\n{more}")).map(drop).err();
            assert_eq!(error.is_some(), expected.is_some(), "{error:?}");
            assert!(error.unwrap_or_default().starts_with(expected.unwrap_or_default()));
        }
    }

    #[test]
    fn a_manifest_contains_a_pipeline() {
        let spec = text("kfp-2.17.0", "STRING", "1").replace('\n', "\n    ");
        let manifest = format!(
            "apiVersion: pipelines.kubeflow.org/v2beta1\nkind: Pipeline\nmetadata: {{ name: p }}\n---\n\
             apiVersion: pipelines.kubeflow.org/v2beta1\nkind: PipelineVersion\nspec:\n  pipelineSpec:\n    {spec}"
        );
        let spec = parsed(&manifest).unwrap();
        assert_eq!(
            (spec.pipeline_info.name.as_str(), spec.root.dag.unwrap().tasks.len()),
            ("p", 1)
        );
        assert!(parse("name: p\ntasks: {}").unwrap().is_none());
    }

    proptest! {
        #[test]
        fn text_stays_text(word in "[-+.~]?[0-9a-fonlyx_.eE+:-]{1,9}") {
            let quoted = format!("'{word}'");
            for parameter_type in ["STRING", "LIST", "NUMBER_DOUBLE"] {
                prop_assert_eq!(read("kfp-2.17.0", parameter_type, &quoted), Ok(json!(&word)));
            }
            // without quotes too, if it is a scalar and not null
            let plain = documents(&word).ok().filter(|all| all.len() == 1 && all[0].text() == Some(word.as_str()));
            if plain.is_some_and(|all| all[0].read::<Option<String>>().unwrap().is_some()) {
                prop_assert_eq!(read("other", "STRING", &word), Ok(json!(&word)));
            }
        }
    }
}
