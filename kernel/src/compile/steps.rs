use std::collections::BTreeSet;
use std::fmt::Write;

use lockstep_runtime::step::{Interface, MediaType, Parameter, ParameterKind, Port};

use super::source::spelled;
use super::types::{self, is_sayable};

/// Generates the Rust by which cells call the steps of the module `name`: a `mod` with a function for each step. Its
/// arguments are the inputs, then the parameters, each in the order of the interface.
///
/// An input is passed by value or by reference. A parameter with a default may be `None`. A step with several outputs returns
/// a struct named after the step: `penguins::Split`.
pub fn steps_source(name: &str, interfaces: &[Interface]) -> String {
    let mut source = format!(
        "/// Steps of a module. Each call is a separate run.\npub mod {} {{\n",
        spelled(name)
    );
    for interface in interfaces {
        if interface.outputs.len() > 1 {
            outputs(&mut source, interface);
        }
        function(&mut source, name, interface);
    }
    source.push_str("}\n");
    source
}

/// Writes the struct of a step's outputs.
fn outputs(source: &mut String, interface: &Interface) {
    let _ = writeln!(
        source,
        "/// Outputs of [`{}`].\npub struct {} {{",
        ident(&interface.step),
        struct_name(&interface.step)
    );
    for port in &interface.outputs {
        doc(source, &port.doc);
        let _ = writeln!(source, "pub {}: {},", ident(&port.name), made_as(port));
    }
    source.push_str("}\n");
}

fn function(source: &mut String, module: &str, interface: &Interface) {
    doc(source, &documentation(interface));
    let ports = interface
        .inputs
        .iter()
        .map(|port| format!("{}: {}", ident(&port.name), taken(port)));
    let parameters = interface
        .parameters
        .iter()
        .map(|parameter| format!("{}: {}", ident(&parameter.name), given(parameter)));
    let arguments = ports.chain(parameters).collect::<Vec<_>>().join(", ");
    let returned = match &interface.outputs[..] {
        [] => "()".to_owned(),
        [port] => made_as(port),
        _ => struct_name(&interface.step),
    };
    let name = ident(&interface.step);
    let _ = writeln!(source, "pub fn {name}({arguments}) -> ::lockstep::Result<{returned}> {{");
    let _ = writeln!(
        source,
        "let call = ::lockstep::call::Call::new({module:?}, {:?});",
        interface.step
    );
    for port in &interface.inputs {
        let _ = writeln!(
            source,
            "let call = call.input::<{}>({:?}, {})?;",
            read_as(port),
            port.name,
            ident(&port.name)
        );
    }
    for parameter in &interface.parameters {
        let _ = writeln!(
            source,
            "let call = call.parameter({:?}, {})?;",
            parameter.name,
            ident(&parameter.name)
        );
    }
    let made = match &interface.outputs[..] {
        [] => "()".to_owned(),
        [port] => format!("called.output({:?})?", port.name),
        ports => {
            let field = |port: &Port| format!("{}: called.output({:?})?", ident(&port.name), port.name);
            let fields: Vec<_> = ports.iter().map(field).collect();
            format!("{} {{ {} }}", struct_name(&interface.step), fields.join(", "))
        }
    };
    let called = if interface.outputs.is_empty() { "_" } else { "called" };
    let _ = writeln!(source, "let {called} = call.run()?;\n::lockstep::Result::Ok({made})\n}}");
}

/// Returns the documentation of a step in Markdown.
fn documentation(interface: &Interface) -> String {
    let mut text = interface.doc.trim().to_owned();
    let item = |name: &str, doc: &str, more: String| format!("\n- `{name}`: {}{more}", doc.trim());
    let default = |parameter: &Parameter| {
        let default = parameter.default.as_ref();
        default.map_or(String::new(), |value| format!(" (`None`: {value})"))
    };
    text.push('\n');
    for port in &interface.inputs {
        text.push_str(&item(&port.name, &port.doc, String::new()));
    }
    for parameter in &interface.parameters {
        text.push_str(&item(&parameter.name, &parameter.doc, default(parameter)));
    }
    text
}

fn doc(source: &mut String, text: &str) {
    for line in text.trim().lines() {
        let _ = writeln!(source, "/// {line}");
    }
}

/// Returns the type of an input or output with its full path.
fn made_as(port: &Port) -> String {
    let known = type_of(&port.media_type, &port.type_name);
    match types::say(known, &BTreeSet::new()) {
        Some((said, _)) if !known.starts_with("lockstep::") => said,
        _ => known.to_owned(),
    }
}

/// Returns the type of an input, or `_` if cells can't name it.
fn read_as(port: &Port) -> String {
    match made_as(port) {
        unknown if unknown == ENCODED => "_".to_owned(),
        said => said,
    }
}

/// Returns the argument type of an input.
fn taken(port: &Port) -> String {
    match read_as(port).as_str() {
        "_" => "&impl ::lockstep::Artifact".to_owned(),
        said => format!("impl ::lockstep::call::Given<{said}>"),
    }
}

/// Returns the argument type of a parameter.
fn given(parameter: &Parameter) -> &'static str {
    use ParameterKind::{Any, Boolean, Integer, List, Number, String, Struct};
    match parameter.kind {
        Boolean => "impl ::lockstep::call::Argument<bool>",
        Integer => "impl ::lockstep::call::Argument<i64>",
        Number => "impl ::lockstep::call::Argument<f64>",
        String => "impl ::lockstep::call::Argument<str>",
        List | Struct | Any => "impl ::lockstep::call::Argument<::lockstep::serde_json::Value>",
    }
}

const ENCODED: &str = "lockstep::cell::Encoded";

/// Returns the Rust type for an artifact. For a value, it is the type declared by the step, if it is a standard one.
pub fn type_of<'a>(media_type: &MediaType, type_name: &'a str) -> &'a str {
    match media_type.as_str() {
        MediaType::TABLE => "lockstep::Table",
        MediaType::CSV => "lockstep::Csv",
        MediaType::TEXT => "lockstep::Text",
        MediaType::METRICS => "lockstep::Metrics",
        MediaType::FIGURE => "lockstep::Figure",
        MediaType::JSON => "lockstep::Json<serde_json::Value>",
        MediaType::DIRECTORY => "lockstep::Directory",
        MediaType::VALUE if is_sayable(type_name) => type_name,
        MediaType::VALUE => ENCODED,
        _ => "lockstep::Bytes",
    }
}

/// Converts a name of an interface to a Rust identifier.
fn ident(name: &str) -> String {
    let is_part = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let plain: String = name.chars().map(is_part).collect();
    match plain.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{plain}"),
        false => spelled(&plain),
    }
}

/// Converts `train_test` to `TrainTest`.
fn struct_name(step: &str) -> String {
    let capital = |part: &str| {
        let mut letters = part.chars();
        let first = letters.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    let name: String = step.split(|c: char| !c.is_ascii_alphanumeric()).map(capital).collect();
    ident(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_step_is_a_function_with_its_documentation() {
        let split: Interface = serde_json::from_value(json!({
            "lockstep": 1, "step": "split", "doc": "Cut in two.",
            "inputs": [
                {"name": "rows", "doc": "what to cut", "media_type": MediaType::TABLE, "type": "Table"},
                {"name": "old-model", "media_type": MediaType::VALUE, "type": "Model"},
            ],
            "parameters": [
                {"name": "column", "kind": "string"},
                {"name": "share", "doc": "how much", "kind": "number", "default": 0.25},
            ],
            "outputs": [
                {"name": "train", "media_type": MediaType::TABLE},
                {"name": "test", "media_type": MediaType::TABLE},
            ],
        }))
        .unwrap();
        let expected = r#"/// Steps of a module. Each call is a separate run.
pub mod penguins {
/// Outputs of [`split`].
pub struct Split {
pub train: lockstep::Table,
pub test: lockstep::Table,
}
/// Cut in two.
/// 
/// - `rows`: what to cut
/// - `old-model`: 
/// - `column`: 
/// - `share`: how much (`None`: 0.25)
pub fn split(rows: impl ::lockstep::call::Given<lockstep::Table>, old_model: &impl ::lockstep::Artifact, column: impl ::lockstep::call::Argument<str>, share: impl ::lockstep::call::Argument<f64>) -> ::lockstep::Result<Split> {
let call = ::lockstep::call::Call::new("penguins", "split");
let call = call.input::<lockstep::Table>("rows", rows)?;
let call = call.input::<_>("old-model", old_model)?;
let call = call.parameter("column", column)?;
let call = call.parameter("share", share)?;
let called = call.run()?;
::lockstep::Result::Ok(Split { train: called.output("train")?, test: called.output("test")? })
}
}
"#;
        assert_eq!(steps_source("penguins", &[split]), expected);
    }
}
