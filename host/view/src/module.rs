//! What modules say of themselves.

use std::collections::BTreeMap;
use std::fmt::Write;

use anstyle::Style;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{Interface, InterfaceError, Port, interfaces};
use serde_json::{Value, json};

use crate::columns::{Columns, fit};
use crate::error::Error;
use crate::quantity;

/// The error of the bytes called `name`, which should be a module.
pub fn not_a_module(name: &str, bytes: &[u8], error: InterfaceError) -> Error {
    if bytes.starts_with(b"\0asm") {
        return Error::config(format_args!("{name}: {error}"));
    }
    Error::config(format_args!("{name} is not a WebAssembly module"))
        .hint("`lockstep build DIR` makes a module from a crate of steps")
}

/// What a module says of itself.
pub struct Module {
    digest: Digest,
    /// How many bytes it has.
    pub size: u64,
    /// Its steps; none of a plain program.
    pub interfaces: Vec<Interface>,
    /// The functions that it imports, by module.
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

    /// All of it, for people.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut facts = Columns::plain();
        facts.row(["module".to_owned(), self.digest.to_string()]);
        facts.row(["size".to_owned(), quantity::bytes(self.size)]);
        if self.interfaces.is_empty() {
            facts.row(["kind", "plain program: its inputs and outputs are what the caller gives"]);
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

    /// All of it, for programs.
    pub fn to_json(&self) -> Value {
        json!({ "module": self.digest, "size": self.size, "steps": self.interfaces, "imports": self.imports })
    }
}

/// A step with all that it declares, for people.
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

/// What the step's language calls it; the media type where the module does not say.
pub fn kind_of(port: &Port) -> String {
    match port.type_name.as_str() {
        "" => fit(port.media_type.as_str(), 60),
        name => fit(name, 60),
    }
}
