//! Items that the expansions of `#[step]` and `#[derive(Outputs)]` use. Not for direct use.

use crate::{Artifact, Input, Io, Kind, Param, Parameter, Result};

pub use crate::Outputs;
pub use inventory;

/// A step of this module.
#[derive(Debug)]
pub struct Step {
    /// Its interface.
    pub interface: &'static Interface,
    /// Reads the inputs, calls the function and writes the outputs.
    pub run: fn(&Io) -> Result<()>,
}

inventory::collect!(Step);

/// The interface of a step.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// The step's name.
    pub step: &'static str,
    /// Its description, in Markdown.
    pub doc: &'static str,
    /// Its inputs.
    pub inputs: &'static [Port],
    /// Its parameters.
    pub parameters: &'static [Declared],
    /// Its outputs.
    pub outputs: Ports,
    /// The name of its output, if there is only one.
    pub output: &'static str,
    /// Its return type, for display.
    pub returns: &'static str,
}

/// An input or output.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Its name.
    pub name: &'static str,
    /// Its description.
    pub doc: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Its type, for display.
    pub type_name: &'static str,
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// Its name.
    pub name: &'static str,
    /// Its description.
    pub doc: &'static str,
    /// The kind of its value.
    pub kind: Kind,
    /// Its default, as JSON.
    pub default: Option<&'static str>,
}

/// The outputs of a step.
#[derive(Clone, Copy, Debug)]
pub enum Ports {
    /// A single artifact of this media type, named by the step.
    One(&'static str),
    /// The fields of a struct.
    Fields(&'static [Port]),
}

impl Ports {
    /// Rejects `#[step(output = ...)]` for a struct of outputs.
    pub const fn nameable(self) -> Self {
        assert!(
            matches!(self, Self::One(_)),
            "`output = ...` names a single output; a struct with #[derive(Outputs)] names its outputs by its fields"
        );
        self
    }
}

/// Declares an input of type `T`.
pub const fn input<T: Input>(name: &'static str, doc: &'static str, type_name: &'static str) -> Port {
    Port {
        name,
        doc,
        media_type: T::MEDIA_TYPE,
        type_name,
    }
}

/// Declares an output of type `T`.
pub const fn output<T: Artifact>(name: &'static str, doc: &'static str, type_name: &'static str) -> Port {
    Port {
        name,
        doc,
        media_type: T::MEDIA_TYPE,
        type_name,
    }
}

/// Declares a parameter of type `Param<T>`, with its default and the kind of the default.
pub const fn parameter<T: Parameter>(
    name: &'static str,
    doc: &'static str,
    default: Option<(&'static str, Option<Kind>)>,
) -> Declared {
    let kind = T::KIND;
    let default = match default {
        None if T::OPTIONAL => Some("null"),
        None => None,
        Some((json, given)) => {
            let fits = match (kind, given) {
                (_, None) => T::OPTIONAL || matches!(kind, Kind::Any),
                (Kind::Any, _) | (Kind::Number, Some(Kind::Integer)) => true,
                (kind, Some(given)) => kind as u8 == given as u8,
            };
            assert!(fits, "the value in `#[default = ...]` is not of the parameter's type");
            Some(json)
        }
    };
    Declared {
        name,
        doc,
        kind,
        default,
    }
}

/// Reads the input `name`.
pub fn read<T: Input>(io: &Io, name: &str) -> Result<T> {
    io.input(name)
}

/// Reads the parameter `name`.
pub fn read_parameter<T: Parameter>(io: &Io, name: &str) -> Result<Param<T>> {
    io.parameter(name)
}

/// Writes the outputs of a step.
pub fn write<T: Outputs>(io: &Io, name: &str, made: T) -> Result<()> {
    made.write_outputs(&io.outputs, name)
}

impl Interface {
    /// Returns the length of [`json`](Self::json).
    pub const fn json_len(&self) -> usize {
        self.write::<0>().len
    }

    /// Returns the line of the section `lockstep:interface`, with `N` = [`json_len`](Self::json_len) bytes.
    pub const fn json<const N: usize>(&self) -> [u8; N] {
        self.write::<N>().bytes
    }

    const fn write<const N: usize>(&self) -> Json<N> {
        let mut json = Json::<N> { bytes: [0; N], len: 0 };
        json.raw("{\"lockstep\":1,\"step\":");
        json.text(self.step);
        json.raw(",\"doc\":");
        json.text(self.doc);
        json.raw(",\"inputs\":[");
        json.ports(self.inputs);
        json.raw("],\"parameters\":[");
        let mut i = 0;
        while i < self.parameters.len() {
            json.comma(i);
            json.parameter(&self.parameters[i]);
            i += 1;
        }
        json.raw("],\"outputs\":[");
        match self.outputs {
            Ports::Fields(ports) => json.ports(ports),
            Ports::One(media_type) => {
                json.port(&Port {
                    name: self.output,
                    doc: "",
                    media_type,
                    type_name: self.returns,
                });
            }
        }
        json.raw("]}\n");
        json
    }
}

/// A JSON writer for constant evaluation. Counts all bytes and stores the first `N`.
struct Json<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Json<N> {
    const fn byte(&mut self, byte: u8) {
        if self.len < N {
            self.bytes[self.len] = byte;
        }
        self.len += 1;
    }

    const fn raw(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self.byte(bytes[i]);
            i += 1;
        }
    }

    const fn comma(&mut self, index: usize) {
        if index > 0 {
            self.byte(b',');
        }
    }

    const fn text(&mut self, text: &str) {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let bytes = text.as_bytes();
        self.byte(b'"');
        let mut i = 0;
        while i < bytes.len() {
            match bytes[i] {
                b'"' => self.raw("\\\""),
                b'\\' => self.raw("\\\\"),
                b'\n' => self.raw("\\n"),
                byte @ 0..=31 => {
                    self.raw("\\u00");
                    self.byte(HEX[(byte >> 4) as usize]);
                    self.byte(HEX[(byte & 15) as usize]);
                }
                byte => self.byte(byte),
            }
            i += 1;
        }
        self.byte(b'"');
    }

    const fn port(&mut self, port: &Port) {
        self.raw("{\"name\":");
        self.text(port.name);
        self.raw(",\"doc\":");
        self.text(port.doc);
        self.raw(",\"media_type\":");
        self.text(port.media_type);
        self.raw(",\"type\":");
        self.text(port.type_name);
        self.byte(b'}');
    }

    const fn ports(&mut self, ports: &[Port]) {
        let mut i = 0;
        while i < ports.len() {
            self.comma(i);
            self.port(&ports[i]);
            i += 1;
        }
    }

    const fn parameter(&mut self, parameter: &Declared) {
        self.raw("{\"name\":");
        self.text(parameter.name);
        self.raw(",\"doc\":");
        self.text(parameter.doc);
        self.raw(",\"kind\":");
        self.text(parameter.kind.word());
        if let Some(default) = parameter.default {
            self.raw(",\"default\":");
            self.raw(default);
        }
        self.byte(b'}');
    }
}
