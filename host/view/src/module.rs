//! Descriptions of modules.

use std::collections::BTreeMap;
use std::fmt::Write;

use anstyle::Style;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{Interface, InterfaceError, Port, interfaces};
use serde_json::{Value, json};

use crate::columns::{Columns, fit};
use crate::error::Error;
use crate::quantity;

/// Returns the error for the bytes called `name`, which are not a valid module.
pub fn not_a_module(name: &str, bytes: &[u8], error: InterfaceError) -> Error {
    if bytes.starts_with(b"\0asm") {
        return Error::config(format_args!("{name}: {error}"));
    }
    Error::config(format_args!("{name} is not a WebAssembly module")).hint("`lockstep build DIR` builds a module from a crate")
}

/// The description of a module.
pub struct Module {
    digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// The steps; empty for a plain program.
    pub interfaces: Vec<Interface>,
    /// The imported functions, by module.
    pub imports: BTreeMap<String, Vec<String>>,
}

impl Module {
    /// Reads the module `wasm`, whose digest is `digest`.
    pub fn read(digest: Digest, wasm: &[u8]) -> Result<Self, InterfaceError> {
        let interfaces = interfaces(wasm)?;
        let mut imports: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for payload in wasmparser::Parser::new(0).parse_all(wasm) {
            let wasmparser::Payload::ImportSection(section) = payload? else {
                continue;
            };
            for import in section.into_imports() {
                let import = import?;
                imports
                    .entry(import.module.to_owned())
                    .or_default()
                    .push(import.name.to_owned());
            }
        }
        Ok(Self {
            digest,
            size: wasm.len() as u64,
            interfaces,
            imports,
        })
    }

    /// Returns the description as text.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut facts = Columns::plain();
        facts.row(["module".to_owned(), self.digest.to_string()]);
        facts.row(["size".to_owned(), quantity::bytes(self.size)]);
        if self.interfaces.is_empty() {
            facts.row(["kind", "plain program; the caller defines its inputs and outputs"]);
            for (module, names) in &self.imports {
                facts.row([
                    "imports".to_owned(),
                    format!("{}: {}", fit(module, 60), fit(&names.join(", "), 400)),
                ]);
            }
        }
        let _ = write!(text, "{facts}");
        for interface in &self.interfaces {
            text.push('\n');
            text.push_str(&describe_step(interface));
        }
        text
    }

    /// Converts the description to JSON.
    pub fn to_json(&self) -> Value {
        json!({ "module": self.digest, "size": self.size, "steps": self.interfaces, "imports": self.imports })
    }
}

/// Returns the description of a step as text.
fn describe_step(interface: &Interface) -> String {
    let bold = Style::new().bold();
    let mut text = format!("{bold}step {}{bold:#}\n", interface.step);
    for line in interface.doc.lines() {
        let _ = writeln!(text, "{}", format!("  {}", fit(line, 1000)).trim_end());
    }
    let mut rows = Columns::plain().indented(2);
    let mut ports = |what: &str, ports: &[Port]| {
        for port in ports {
            rows.row([what, &port.name, &kind_of(port), "", &fit(&port.doc, 200)]);
        }
    };
    ports("input", &interface.inputs);
    for parameter in &interface.parameters {
        let default = parameter
            .default
            .as_ref()
            .map_or("required".to_owned(), |value| format!("= {value}"));
        let kind = parameter.kind.to_string();
        rows.row([
            "parameter",
            &parameter.name,
            &kind,
            &fit(&default, 40),
            &fit(&parameter.doc, 200),
        ]);
    }
    for port in &interface.outputs {
        rows.row(["output", &port.name, &kind_of(port), "", &fit(&port.doc, 200)]);
    }
    let _ = write!(text, "{rows}");
    text
}

/// Returns the type of a port in the language of the step, or its media type.
pub fn kind_of(port: &Port) -> String {
    match port.type_name.as_str() {
        "" => fit(port.media_type.as_str(), 60),
        name => fit(name, 60),
    }
}
