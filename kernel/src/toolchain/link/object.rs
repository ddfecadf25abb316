//! Reads object files: modules that are not linked yet, as written by rustc and `wasm-ld -r`.

use std::ops::Range;

use lockstep_runtime::step::{CALLS_SECTION, INTERFACE_SECTION};
use wasmparser::{DataKind, Import, KnownCustom, Linking, Parser, Payload, RelocationEntry, SymbolFlags, SymbolInfo, TypeRef};

use super::LinkError;

/// The sections of an object.
#[derive(Default)]
pub struct Object<'a> {
    /// The number of types, and their bytes.
    pub types: (u32, &'a [u8]),
    /// The type of each defined function.
    pub functions: Vec<u32>,
    pub imports: Vec<Import<'a>>,
    /// The names of imported functions. Their indices precede those of defined functions.
    pub imported: Vec<&'a str>,
    pub interface: Vec<&'a [u8]>,
    /// The names of the built-in modules whose steps it calls.
    pub calls: Vec<&'a [u8]>,
    pub symbols: Vec<SymbolInfo<'a>>,
    /// The constructors: priority and symbol.
    pub constructors: Vec<(u32, u32)>,
    /// The code section, with function bodies as parts.
    pub code: Section<'a>,
    /// The data section, with segments as parts.
    pub data: Section<'a>,
    /// The alignment of each data segment, as a power of two.
    pub alignments: Vec<u32>,
}

/// A section with relocations.
#[derive(Default)]
pub struct Section<'a> {
    pub bytes: &'a [u8],
    /// Ranges of `bytes`, ascending.
    pub parts: Vec<Range<usize>>,
    index: u32,
    /// Sorted by offset.
    relocations: Vec<RelocationEntry>,
}

impl Section<'_> {
    /// Returns the relocations in a part.
    pub fn relocations(&self, part: usize) -> &[RelocationEntry] {
        let Some(range) = self.parts.get(part) else { return &[] };
        let before = |end: usize| self.relocations.partition_point(|entry| (entry.offset as usize) < end);
        &self.relocations[before(range.start)..before(range.end)]
    }
}

impl<'a> Object<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, LinkError> {
        let mut object = Self::default();
        let (mut section, mut code_start, mut relocations) = (0, 0, Vec::new());
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            let counts = payload.as_section().is_some();
            match payload {
                Payload::TypeSection(types) => {
                    let (count, end) = (types.count(), types.range().end);
                    let first = types.into_iter_with_offsets().next().transpose()?;
                    let start = first.map_or(end, |(offset, _)| offset);
                    object.types = (count, &bytes[start..end]);
                }
                Payload::FunctionSection(functions) => object.functions = functions.into_iter().collect::<Result<_, _>>()?,
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        if let TypeRef::Func(_) = import.ty {
                            object.imported.push(import.name);
                        }
                        object.imports.push(import);
                    }
                }
                Payload::CodeSectionStart { range, .. } => {
                    code_start = range.start;
                    (object.code.index, object.code.bytes) = (section, &bytes[range]);
                }
                Payload::CodeSectionEntry(body) => {
                    let range = body.range();
                    object.code.parts.push(range.start - code_start..range.end - code_start);
                }
                Payload::DataSection(data) => {
                    let start = data.range().start;
                    (object.data.index, object.data.bytes) = (section, &bytes[data.range()]);
                    for segment in data {
                        let segment = segment?;
                        if !matches!(segment.kind, DataKind::Active { memory_index: 0, .. }) {
                            return Err(LinkError::Unsupported("passive data"));
                        }
                        let end = segment.range.end - start;
                        object.data.parts.push(end - segment.data.len()..end);
                    }
                }
                Payload::CustomSection(custom) => match custom.as_known() {
                    KnownCustom::Linking(linking) => {
                        for part in linking.subsections() {
                            object.take(part?)?;
                        }
                    }
                    KnownCustom::Reloc(reader) => relocations.push(reader),
                    _ if custom.name() == INTERFACE_SECTION => object.interface.push(custom.data()),
                    _ if custom.name() == CALLS_SECTION => object.calls.push(custom.data()),
                    _ => {}
                },
                Payload::GlobalSection(_) => return Err(LinkError::Unsupported("defined globals")),
                Payload::TagSection(_) => return Err(LinkError::Unsupported("exceptions")),
                _ => {}
            }
            section += u32::from(counts);
        }
        object.constructors.sort_by_key(|(priority, _)| *priority);
        for reader in relocations {
            let target = match reader.section_index() {
                index if index == object.code.index && !object.code.bytes.is_empty() => &mut object.code,
                index if index == object.data.index && !object.data.bytes.is_empty() => &mut object.data,
                // Ignore custom sections.
                _ => continue,
            };
            for entry in reader.entries() {
                target.relocations.push(entry?);
            }
        }
        for section in [&mut object.code, &mut object.data] {
            section.relocations.sort_by_key(|entry| entry.offset);
        }
        Ok(object)
    }

    fn take(&mut self, part: Linking<'a>) -> Result<(), LinkError> {
        match part {
            Linking::SymbolTable(symbols) => self.symbols = symbols.into_iter().collect::<Result<_, _>>()?,
            Linking::SegmentInfo(segments) => {
                for segment in segments {
                    self.alignments.push(segment?.alignment);
                }
            }
            Linking::InitFuncs(functions) => {
                for function in functions {
                    let function = function?;
                    self.constructors.push((function.priority, function.symbol_index));
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub fn symbol(&self, index: u32) -> Result<&SymbolInfo<'a>, LinkError> {
        self.symbols
            .get(index as usize)
            .ok_or(LinkError::Unsupported("a symbol without a name"))
    }
}

/// Returns whether a symbol is visible to other objects.
pub fn is_global(flags: SymbolFlags) -> bool {
    !flags.contains(SymbolFlags::BINDING_LOCAL)
}
