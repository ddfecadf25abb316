//! The exports of a base that cells use.

use std::collections::HashMap;
use std::ops::Range;

use lockstep_runtime::digest::Digest;
use wasmparser::{BinaryReaderError, ExternalKind, Operator, Parser, Payload, TypeRef};

use super::LinkError;

const ENTRY: &str = "LOCKSTEP_ENTRY";
const REGION: &str = "LOCKSTEP_REGION";
const REGION_SIZE: u32 = 16 << 20;

/// The layout of a base. Names and layout are defined by `base_source.rs`.
#[derive(Debug)]
pub struct Base {
    pub(super) digest: Digest,
    /// The exports: the address of data, `None` for everything else.
    pub(super) symbols: HashMap<String, Option<u32>>,
    /// The number of functions in its table, after which a cell's functions are placed.
    pub(super) functions: u32,
    /// The address range for a cell's constants.
    pub(super) region: Range<u32>,
    /// The address of the list of functions to call.
    pub(super) entry: u32,
}
impl Base {
    /// Reads the exports of a base.
    pub fn read(wasm: &[u8]) -> Result<Self, LinkError> {
        let mut globals = Vec::new();
        let mut functions = 0;
        let mut symbols = HashMap::new();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        if let TypeRef::Global(_) = import?.ty {
                            globals.push(None);
                        }
                    }
                }
                Payload::TableSection(tables) => {
                    for table in tables {
                        functions = u32::try_from(table?.ty.initial).unwrap_or(u32::MAX);
                    }
                }
                Payload::GlobalSection(section) => {
                    for global in section {
                        let global = global?;
                        globals.push(constant(&global.init_expr)?.filter(|_| !global.ty.mutable));
                    }
                }
                Payload::ExportSection(exports) => {
                    symbols.reserve(exports.count() as usize);
                    for export in exports {
                        let export = export?;
                        let address = match export.kind {
                            ExternalKind::Global => globals.get(export.index as usize).copied().flatten(),
                            _ => None,
                        };
                        symbols.insert(export.name.to_owned(), address);
                    }
                }
                Payload::CodeSectionStart { .. } => break,
                _ => {}
            }
        }
        let address = |name: &str| {
            symbols
                .get(name)
                .copied()
                .flatten()
                .ok_or_else(|| LinkError::Missing(name.to_owned()))
        };
        let region = address(REGION)?;
        Ok(Self {
            digest: Digest::of(wasm),
            entry: address(ENTRY)?,
            region: region..region + REGION_SIZE,
            symbols,
            functions,
        })
    }

    /// Returns the digest of the module.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Returns the value of `i32.const`; `None` for any other expression.
fn constant(expression: &wasmparser::ConstExpr<'_>) -> Result<Option<u32>, BinaryReaderError> {
    match expression.get_operators_reader().read()? {
        Operator::I32Const { value } => Ok(Some(value as u32)),
        _ => Ok(None),
    }
}
