//! Links a cell: makes a module of the object that rustc compiles it to.
//!
//! An ordinary linker copies what a cell needs of the standard library and the SDK into its module, and the engine compiles all
//! of that again: together the larger part of a cell's time. Here a cell's module holds the cell alone. Everything else is in
//! its *base*, a module that holds the whole prelude and is compiled once for a machine. The cell's module names its base by
//! digest and imports functions, memory and table from it (`lockstep_runtime::step::base`), so the pair is as fixed as one module is.
//!
//! Objects: <https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md>.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{BASE_MODULE, BASE_SECTION, INTERFACE_SECTION};
use wasm_encoder::{
    ConstExpr, CustomSection, DataCountSection, DataSection, ElementSection, Elements, ImportSection, RawSection,
};
use wasm_encoder::{EntityType, GlobalType, MemoryType, RefType, TableType, ValType};
use wasmparser::{
    BinaryReaderError, DataKind, ExternalKind, KnownCustom, Linking, Operator, Parser, Payload, RelocationEntry,
    RelocationType, SymbolInfo, TypeRef,
};

/// Where things are in a base. Names and layout are those of `base_source.rs`.
#[derive(Debug)]
pub struct Base {
    digest: Digest,
    /// What it exports: the address of data, `None` for everything else.
    symbols: HashMap<String, Option<u32>>,
    /// How many functions its table holds: where those of a cell begin.
    functions: u32,
    /// Where the constants of a cell go.
    region: Range<u32>,
    /// Where the cell says what is to be called.
    entry: u32,
}

/// Why an object can't be linked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It is no object.
    #[error("it can't be read: {0}")]
    Malformed(#[from] BinaryReaderError),
    /// It needs something that its base does not hold.
    #[error("it needs `{0}`, which no crate that cells can name has")]
    Missing(String),
    /// It holds more constants than there is room for.
    #[error("it holds {found} bytes of constants, at most {most} are possible\nhint: read them from an input")]
    TooLarge {
        /// how much it holds
        found: u64,
        /// how much it may hold
        most: u64,
    },
    /// It does something that rustc's objects don't do.
    #[error("it holds {0}, which is not supported")]
    Unsupported(&'static str),
}

const ENTRY: &str = "LOCKSTEP_ENTRY";
const REGION: &str = "LOCKSTEP_REGION";
const REGION_SIZE: u32 = 16 << 20;
const MOST_CONSTRUCTORS: usize = 1022;
const MEMORY: &str = "memory";
const TABLE: &str = "__indirect_function_table";
/// The function of an object that is the cell.
const CELL: &str = "__cell";

impl Base {
    /// Reads what a base exports.
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

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// The value of `i32.const`; `None` for any other expression.
fn constant(expression: &wasmparser::ConstExpr<'_>) -> Result<Option<u32>, BinaryReaderError> {
    match expression.get_operators_reader().read()? {
        Operator::I32Const { value } => Ok(Some(value as u32)),
        _ => Ok(None),
    }
}

/// The parts of an object.
#[derive(Default)]
struct Object<'a> {
    types: Option<RawSection<'a>>,
    functions: Option<RawSection<'a>>,
    imports: Vec<wasmparser::Import<'a>>,
    interface: Vec<&'a [u8]>,
    symbols: Vec<SymbolInfo<'a>>,
    /// Symbols of functions to be called first, by priority.
    constructors: Vec<(u32, u32)>,
    code: Section<'a>,
    data: Section<'a>,
    segments: Vec<Segment>,
    alignments: Vec<u32>,
}

/// A section whose bytes are to be changed.
#[derive(Default)]
struct Section<'a> {
    index: u32,
    bytes: &'a [u8],
    relocations: Vec<RelocationEntry>,
}

/// Where the bytes of a data segment are in the section, and where they will be in memory.
struct Segment {
    bytes: Range<usize>,
    address: u32,
}

impl<'a> Object<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, LinkError> {
        let mut object = Self::default();
        let (mut section, mut relocations) = (0, Vec::new());
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            let counts = payload.as_section().is_some();
            match payload {
                Payload::TypeSection(types) => {
                    let data = &bytes[types.range()];
                    object.types = Some(RawSection { id: 1, data });
                }
                Payload::FunctionSection(functions) => {
                    let data = &bytes[functions.range()];
                    object.functions = Some(RawSection { id: 3, data });
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        object.imports.push(import?);
                    }
                }
                Payload::CodeSectionStart { range, .. } => {
                    (object.code.index, object.code.bytes) = (section, &bytes[range]);
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
                        object.segments.push(Segment {
                            bytes: end - segment.data.len()..end,
                            address: 0,
                        });
                    }
                }
                Payload::CustomSection(custom) => match custom.as_known() {
                    KnownCustom::Linking(linking) => {
                        for part in linking.subsections() {
                            match part? {
                                Linking::SymbolTable(symbols) => {
                                    object.symbols = symbols.into_iter().collect::<Result<_, _>>()?
                                }
                                Linking::SegmentInfo(segments) => {
                                    for segment in segments {
                                        object.alignments.push(segment?.alignment);
                                    }
                                }
                                Linking::InitFuncs(functions) => {
                                    for function in functions {
                                        let function = function?;
                                        object.constructors.push((function.priority, function.symbol_index));
                                    }
                                }
                                _ => {}
                            }
                        }
                    }
                    KnownCustom::Reloc(reader) => relocations.push(reader),
                    _ if custom.name() == INTERFACE_SECTION => object.interface.push(custom.data()),
                    _ => {}
                },
                Payload::GlobalSection(_) => return Err(LinkError::Unsupported("globals of its own")),
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
                // Of custom sections, which are left out.
                _ => continue,
            };
            for entry in reader.entries() {
                target.relocations.push(entry?);
            }
        }
        Ok(object)
    }

    /// Gives every data segment its place in `region`.
    fn place(&mut self, region: &Range<u32>) -> Result<(), LinkError> {
        let mut next = u64::from(region.start);
        let alignments = self.alignments.iter().copied().chain(std::iter::repeat(4));
        for (segment, alignment) in self.segments.iter_mut().zip(alignments) {
            next = next.next_multiple_of(1 << alignment.min(12));
            segment.address = u32::try_from(next).unwrap_or(u32::MAX);
            next += segment.bytes.len() as u64;
        }
        if next > u64::from(region.end) {
            return Err(LinkError::TooLarge {
                found: next - u64::from(region.start),
                most: u64::from(region.end - region.start),
            });
        }
        Ok(())
    }

    fn symbol(&self, index: u32) -> Result<&SymbolInfo<'a>, LinkError> {
        self.symbols
            .get(index as usize)
            .ok_or(LinkError::Unsupported("a symbol without a name"))
    }

    /// The index of the function that a symbol names.
    fn function(&self, symbol: u32) -> Result<u32, LinkError> {
        match self.symbol(symbol)? {
            SymbolInfo::Func { index, .. } => Ok(*index),
            _ => Err(LinkError::Unsupported("a function that is none")),
        }
    }

    fn address(&self, symbol: u32, base: &Base) -> Result<u32, LinkError> {
        match self.symbol(symbol)? {
            SymbolInfo::Data { symbol: Some(at), .. } => {
                let segment = self.segments.get(at.index as usize);
                Ok(segment.ok_or(LinkError::Unsupported("data without a segment"))?.address + at.offset)
            }
            SymbolInfo::Data { name, .. } => {
                let found = base.symbols.get(*name).copied().flatten();
                found.ok_or_else(|| LinkError::Missing((*name).to_owned()))
            }
            _ => Err(LinkError::Unsupported("an address of what has none")),
        }
    }

    fn cell(&self) -> Option<u32> {
        self.symbols.iter().find_map(|symbol| match symbol {
            SymbolInfo::Func {
                index, name: Some(CELL), ..
            } => Some(*index),
            _ => None,
        })
    }
}

/// The functions that the module puts into the table, each once: their places follow those of the base.
struct Table {
    base: u32,
    functions: Vec<u32>,
    places: BTreeMap<u32, u32>,
}

impl Table {
    fn place(&mut self, function: u32) -> u32 {
        let next = self.base + self.functions.len() as u32;
        *self.places.entry(function).or_insert_with(|| {
            self.functions.push(function);
            next
        })
    }
}

/// Makes a module of an object. Where it has a function `__cell`, that is what the module runs; else it holds steps.
pub fn link(object: &[u8], base: &Base) -> Result<Vec<u8>, LinkError> {
    let mut object = Object::read(object)?;
    object.place(&base.region)?;
    let mut table = Table {
        base: base.functions,
        functions: Vec::new(),
        places: BTreeMap::new(),
    };
    let code = relocated(&object.code, &object, base, &mut table)?;
    let data = relocated(&object.data, &object, base, &mut table)?;
    let entry = entry(&object, &mut table)?;

    let mut module = wasm_encoder::Module::new();
    module.section(&CustomSection {
        name: BASE_SECTION.into(),
        data: base.digest.to_string().into_bytes().into(),
    });
    if let Some(types) = &object.types {
        module.section(types);
    }
    module.section(&imports(&object, base, &table)?);
    if let Some(functions) = &object.functions {
        module.section(functions);
    }
    let mut elements = ElementSection::new();
    let offset = ConstExpr::i32_const(base.functions as i32);
    elements.active(None, &offset, Elements::Functions(Cow::Borrowed(&table.functions)));
    module.section(&elements);
    let mut segments = DataSection::new();
    for segment in &object.segments {
        let bytes = &data[segment.bytes.clone()];
        // Memory is zero to begin with.
        if bytes.iter().any(|byte| *byte != 0) {
            segments.active(0, &ConstExpr::i32_const(segment.address as i32), bytes.iter().copied());
        }
    }
    segments.active(0, &ConstExpr::i32_const(base.entry as i32), entry);
    module.section(&DataCountSection { count: segments.len() });
    module.section(&RawSection { id: 10, data: &code });
    module.section(&segments);
    for interface in &object.interface {
        module.section(&CustomSection {
            name: INTERFACE_SECTION.into(),
            data: (*interface).into(),
        });
    }
    Ok(module.finish())
}

/// What the base is told to call: the cell, how many constructors, the constructors.
fn entry(object: &Object<'_>, table: &mut Table) -> Result<Vec<u8>, LinkError> {
    if object.constructors.len() > MOST_CONSTRUCTORS {
        return Err(LinkError::Unsupported("more than a thousand constructors"));
    }
    let cell = object.cell().map_or(0, |function| table.place(function));
    let mut entry = vec![cell, object.constructors.len() as u32];
    for (_, symbol) in &object.constructors {
        entry.push(table.place(object.function(*symbol)?));
    }
    Ok(entry.into_iter().flat_map(u32::to_le_bytes).collect())
}

/// The imports in their order, so that no index changes, and the table if the object has none.
fn imports(object: &Object<'_>, base: &Base, table: &Table) -> Result<ImportSection, LinkError> {
    let mut section = ImportSection::new();
    let table_type = EntityType::Table(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: u64::from(table.base) + table.functions.len() as u64,
        maximum: None,
        shared: false,
    });
    let mut has_table = false;
    for import in &object.imports {
        match import.ty {
            TypeRef::Func(index) => {
                if !base.symbols.contains_key(import.name) {
                    return Err(LinkError::Missing(import.name.to_owned()));
                }
                section.import(BASE_MODULE, import.name, EntityType::Function(index));
            }
            TypeRef::Memory(_) => {
                let memory = MemoryType {
                    minimum: 0,
                    maximum: None,
                    memory64: false,
                    shared: false,
                    page_size_log2: None,
                };
                section.import(BASE_MODULE, MEMORY, EntityType::Memory(memory));
            }
            TypeRef::Table(_) => {
                has_table = true;
                section.import(BASE_MODULE, TABLE, table_type);
            }
            // Only the stack pointer.
            TypeRef::Global(global) => {
                let global = GlobalType {
                    val_type: ValType::I32,
                    mutable: global.mutable,
                    shared: false,
                };
                section.import(BASE_MODULE, import.name, EntityType::Global(global));
            }
            _ => {
                return Err(LinkError::Unsupported(
                    "an import that is neither function, memory, table nor global",
                ));
            }
        }
    }
    if !has_table {
        section.import(BASE_MODULE, TABLE, table_type);
    }
    Ok(section)
}

/// The bytes of a section with every address and every place in the table filled in. All other indices are right as they are,
/// since a module is made of one object.
fn relocated(section: &Section<'_>, object: &Object<'_>, base: &Base, table: &mut Table) -> Result<Vec<u8>, LinkError> {
    let mut bytes = section.bytes.to_vec();
    for entry in &section.relocations {
        use RelocationType::*;
        let value = match entry.ty {
            FunctionIndexLeb | TypeIndexLeb | GlobalIndexLeb | TableNumberLeb => continue,
            TableIndexSleb | TableIndexI32 => table.place(object.function(entry.index)?),
            MemoryAddrLeb | MemoryAddrSleb | MemoryAddrI32 => {
                object.address(entry.index, base)?.wrapping_add(entry.addend as u32)
            }
            _ => return Err(LinkError::Unsupported("a relocation of an unknown kind")),
        };
        let place = bytes
            .get_mut(entry.relocation_range()?)
            .ok_or(LinkError::Unsupported("a relocation outside its section"))?;
        match entry.ty {
            MemoryAddrLeb => padded(place, i64::from(value)),
            TableIndexSleb | MemoryAddrSleb => padded(place, i64::from(value as i32)),
            _ => place.copy_from_slice(&value.to_le_bytes()),
        }
    }
    Ok(bytes)
}

/// Writes a LEB128 that fills `place`.
fn padded(place: &mut [u8], mut value: i64) {
    let last = place.len() - 1;
    for (i, byte) in place.iter_mut().enumerate() {
        *byte = (value & 0x7f) as u8 | if i < last { 0x80 } else { 0 };
        value >>= 7;
    }
}
