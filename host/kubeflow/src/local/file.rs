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
    (&["deploymentSpec", "executors", "*", "container"], &["resources", "lifecycle"]),
];
const UNUSED_OF_COMPONENTS: &[(&[&str], &[&str])] = &[
    (&[], &["singlePlatformSpecs", "taskConfigPassthroughs"]),
    (&["inputDefinitions", "artifacts", "*"], &["isArtifactList", "isOptional"]),
    (&["outputDefinitions", "artifacts", "*"], &UNUSED_OF_OUTPUTS),
    (&["*Definitions", "artifacts", "*", "artifactType"], &["schemaUri", "instanceSchema"]),
    (&["dag", "tasks", "*"], &["iteratorPolicy"]),
    (&["dag", "tasks", "*", "retryPolicy"], &["backoffDuration", "backoffFactor", "backoffMaxDuration"]),
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
fn parse(text: &str) -> Result<Option<PipelineSpec>, Fault> {
    let Some(mut document) = find(documents(text)?)? else {
        return Ok(None);
    };
    remove(&mut document, UNUSED);
    let components = document.get_mut("components").into_iter().flat_map(Node::values_mut);
    components.for_each(|component| remove(component, UNUSED_OF_COMPONENTS));
    let root = document.get_mut("root").into_iter();
    root.for_each(|root| remove(root, UNUSED_OF_COMPONENTS));
    // in JSON, what is not in quotes is not text
    if !text.trim_start().starts_with('{') {
        settle(&mut document)?;
    }
    let mut spec: PipelineSpec = document.read()?;
    if let Some(version) = document.entry("schemaVersion").filter(|_| !spec.schema_version.starts_with("2.1.")) {
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
        let is_manifest = document.get("apiVersion").and_then(Node::text).is_some_and(|api| api.starts_with(MANIFEST));
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
    let is_known = |document: &Node| document.get("platforms").is_some() || document.text() == Some("");
    match others.iter().find(|document| !is_known(document)) {
        Some(other) if found.is_some() => Err(Fault::new(
            other.mark,
            "this document is neither a pipeline nor `platforms`",
        )),
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

/// Makes text of what is text: values of parameters of type STRING, and what the SDK reads as text.
fn settle(document: &mut Node) -> Result<(), Fault> {
    let by_sdk = document.get("sdkVersion").and_then(Node::text).is_some_and(|version| version.starts_with("kfp-"));
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
    if let Some(parameters) = component.get_mut("inputDefinitions").and_then(|inputs| inputs.get_mut("parameters")) {
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
    let is_infinite = ["inf", "Inf", "INF"].contains(&fraction) || digits == scalar && ["nan", "NaN", "NAN"].contains(&fraction);
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
