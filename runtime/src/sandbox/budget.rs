use wasmparser::{Parser, Payload};

use super::SandboxError;
use crate::digest::Digest;

/// What a module may hold to be compiled, so that no module keeps the compiler busy for long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompileBudget {
    /// Bytes of the module, with debug information.
    pub module: u64,
    /// Functions that it defines.
    pub functions: u64,
    /// Bytes of the code of all functions.
    pub code: u64,
    /// Bytes of the code of one function.
    pub function: u64,
    /// Locals of one function.
    pub locals: u64,
    /// Data and element segments.
    pub segments: u64,
    /// Initial elements of all tables.
    pub table: u64,
    /// Initial pages (64 KiB) of memory.
    pub memory: u64,
}

impl Default for CompileBudget {
    /// Enough for programs in Rust or C with their libraries.
    fn default() -> Self {
        Self {
            module: 64 << 20,
            functions: 100_000,
            code: 16 << 20,
            function: 256 << 10,
            locals: 5_000,
            segments: 50_000,
            table: 100_000,
            memory: 16_384,
        }
    }
}

impl CompileBudget {
    /// Enough for interpreters such as CPython, whose main loop is one function.
    pub fn large() -> Self {
        Self {
            module: 512 << 20,
            functions: 1_000_000,
            code: 256 << 20,
            function: 7 << 20,
            locals: 50_000,
            segments: 100_000,
            table: 1 << 20,
            memory: 65_536,
        }
    }

    /// Counts what a module holds, in one pass, without validating it.
    pub(super) fn check(&self, wasm: &[u8], digest: &Digest) -> Result<(), SandboxError> {
        let within = |what, found, allowed| match found <= allowed {
            true => Ok(()),
            false => Err(SandboxError::Budget {
                digest: *digest,
                what,
                found,
                allowed,
            }),
        };
        let invalid = |error: wasmparser::BinaryReaderError| SandboxError::Compile {
            digest: *digest,
            reason: error.to_string(),
        };
        within("bytes", wasm.len() as u64, self.module)?;
        let (mut segments, mut elements) = (0, 0);
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(invalid)? {
                Payload::CodeSectionStart { count, size, .. } => {
                    within("functions", count.into(), self.functions)?;
                    within("bytes of code", size.into(), self.code)?;
                }
                Payload::CodeSectionEntry(body) => {
                    within("bytes of code in one function", body.range().len() as u64, self.function)?;
                    let mut locals = 0;
                    for group in body.get_locals_reader().map_err(invalid)? {
                        locals += u64::from(group.map_err(invalid)?.0);
                        within("locals in one function", locals, self.locals)?;
                    }
                }
                Payload::DataSection(section) => {
                    segments += u64::from(section.count());
                    within("segments", segments, self.segments)?;
                }
                Payload::ElementSection(section) => {
                    segments += u64::from(section.count());
                    within("segments", segments, self.segments)?;
                }
                Payload::TableSection(section) => {
                    for table in section {
                        elements = table.map_err(invalid)?.ty.initial.saturating_add(elements);
                        within("initial table elements", elements, self.table)?;
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        within("initial pages of memory", memory.map_err(invalid)?.initial, self.memory)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
