//! Links a cell: converts the object file from rustc to a module.
//!
//! An ordinary linker copies the used parts of the standard library and the SDK into a cell's module, and the engine compiles
//! them again, which takes most of a cell's time. Here a cell's module contains only the cell. Everything else is in its
//! *base*, a module with the whole prelude that is compiled once per machine. A cell's module names its base by digest and
//! imports functions, memory and table from it (`lockstep_runtime::step::base`), so the pair is as fixed as a single module.
//!
//! Small crates that are not in the base are in an *extension*, an object file merged from all of them. Its functions and data
//! that a cell uses become part of the cell's module.
//!
//! Format of object files: <https://github.com/WebAssembly/tool-conventions/blob/main/Linking.md>.

mod base;
mod live;
mod object;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use lockstep_runtime::step::{BASE_MODULE, BASE_SECTION, CALLS_SECTION, INTERFACE_SECTION};
use wasm_encoder::{
    CodeSection, ConstExpr, CustomSection, DataCountSection, DataSection, ElementSection, Elements, FunctionSection,
    ImportSection, RawSection,
};
use wasm_encoder::{EntityType, GlobalType, MemoryType, RefType, TableType, ValType};
use wasmparser::{BinaryReaderError, RelocationEntry, RelocationType, SymbolInfo, TypeRef};

pub use base::Base;
use live::Live;
use object::{Object, is_global};

/// An error linking an object.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The object is malformed.
    #[error("malformed object file: {0}")]
    Malformed(#[from] BinaryReaderError),
    /// The base lacks a symbol.
    #[error("undefined symbol `{0}`: no crate of the session defines it")]
    Missing(String),
    /// The constants are too large.
    #[error("{found} bytes of constants exceed the limit of {most}\nhint: read them from an input")]
    TooLarge {
        /// the size in bytes
        found: u64,
        /// the limit in bytes
        most: u64,
    },
    /// The object uses a feature that rustc's objects don't use.
    #[error("unsupported object file: {0}")]
    Unsupported(&'static str),
}

const MOST_CONSTRUCTORS: usize = 1022;
const MEMORY: &str = "memory";
const TABLE: &str = "__indirect_function_table";
/// The function of the cell in an object.
const CELL: &str = "__cell";

/// The maximum size of an extension's code section. Used parts of an extension are compiled with each cell, a base only once.
pub const MOST_EXTENSION_CODE: usize = 256 << 10;

/// A part of an object: the number of the object, and the number of the function or data segment that it defines.
type Part = (usize, usize);

/// A function that a symbol refers to.
#[derive(Clone, Copy)]
enum Function<'a> {
    /// A function defined by one of the objects.
    Own(Part),
    /// A function that the base exports under this name.
    Base(&'a str),
}

/// Data that a symbol refers to.
enum Data {
    /// An offset into a segment of one of the objects.
    Own(Part, u32),
    /// An address in the base.
    Base(u32),
}

/// The objects of one module, with the symbols that they define for each other.
struct Objects<'a> {
    objects: Vec<Object<'a>>,
    base: &'a Base,
    functions: HashMap<&'a str, Part>,
    data: HashMap<&'a str, (Part, u32)>,
}

impl<'a> Objects<'a> {
    fn new(objects: Vec<Object<'a>>, base: &'a Base) -> Self {
        let (mut functions, mut data) = (HashMap::new(), HashMap::new());
        for (number, object) in objects.iter().enumerate() {
            let imported = object.imported.len();
            for symbol in &object.symbols {
                match *symbol {
                    SymbolInfo::Func {
                        flags,
                        index,
                        name: Some(name),
                    } if is_global(flags) && index as usize >= imported => {
                        functions.entry(name).or_insert((number, index as usize - imported));
                    }
                    SymbolInfo::Data {
                        flags,
                        name,
                        symbol: Some(at),
                    } if is_global(flags) => {
                        data.entry(name).or_insert(((number, at.index as usize), at.offset));
                    }
                    _ => {}
                }
            }
        }
        Self {
            objects,
            base,
            functions,
            data,
        }
    }

    /// Returns the function that a symbol of an object refers to.
    fn function(&self, number: usize, symbol: u32) -> Result<Function<'a>, LinkError> {
        let object = &self.objects[number];
        let SymbolInfo::Func { index, name, .. } = *object.symbol(symbol)? else {
            return Err(LinkError::Unsupported("a function symbol of another kind"));
        };
        let Some(import) = object.imported.get(index as usize) else {
            return Ok(Function::Own((number, index as usize - object.imported.len())));
        };
        match self.functions.get(name.unwrap_or(import)) {
            Some(part) => Ok(Function::Own(*part)),
            None if self.base.symbols.contains_key(*import) => Ok(Function::Base(import)),
            None => Err(LinkError::Missing((*import).to_owned())),
        }
    }

    /// Returns the data that a symbol of an object refers to.
    fn datum(&self, number: usize, symbol: u32) -> Result<Data, LinkError> {
        let SymbolInfo::Data { name, symbol, .. } = *self.objects[number].symbol(symbol)? else {
            return Err(LinkError::Unsupported("a data symbol of another kind"));
        };
        if let Some(at) = symbol {
            return Ok(Data::Own((number, at.index as usize), at.offset));
        }
        if let Some((part, offset)) = self.data.get(name) {
            return Ok(Data::Own(*part, *offset));
        }
        let found = self.base.symbols.get(name).copied().flatten();
        found.map(Data::Base).ok_or_else(|| LinkError::Missing(name.to_owned()))
    }

    /// Returns the cell's function, if there is one.
    fn cell(&self) -> Option<Part> {
        self.functions.get(CELL).copied()
    }
}

/// Returns whether cells can use an extension: it is small, and the base defines all its symbols.
pub fn is_extension(object: &[u8], base: &Base) -> Result<bool, LinkError> {
    let objects = Objects::new(vec![Object::read(object)?], base);
    if objects.objects[0].code.bytes.len() > MOST_EXTENSION_CODE {
        return Ok(false);
    }
    match Live::all(&objects) {
        Ok(_) => Ok(true),
        Err(LinkError::Missing(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Links an object and the used parts of an extension to a module. If the object has a function `__cell`, the module runs it;
/// otherwise the module contains steps.
pub fn link(object: &[u8], extension: Option<&[u8]>, base: &Base) -> Result<Vec<u8>, LinkError> {
    let objects = [Some(object), extension].into_iter().flatten().map(Object::read);
    let objects = Objects::new(objects.collect::<Result<_, _>>()?, base);
    let mut layout = Layout::new(&objects, Live::new(&objects)?)?;
    let code = layout.relocated(|object| &object.code, |live| &live.functions)?;
    let data = layout.relocated(|object| &object.data, |live| &live.segments)?;
    let entry = layout.entry()?;

    let mut module = wasm_encoder::Module::new();
    module.section(&CustomSection {
        name: BASE_SECTION.into(),
        data: base.digest.to_string().into_bytes().into(),
    });
    let types = layout.types();
    module.section(&RawSection { id: 1, data: &types });
    module.section(&layout.imports()?);
    let mut functions = FunctionSection::new();
    for (number, function) in &layout.live.functions {
        let types = objects.objects[*number].functions.get(*function);
        functions.function(layout.type_offsets[*number] + types.ok_or(LinkError::Unsupported("a function without a type"))?);
    }
    module.section(&functions);
    let mut elements = ElementSection::new();
    let offset = ConstExpr::i32_const(base.functions as i32);
    elements.active(None, &offset, Elements::Functions(Cow::Borrowed(&layout.table.functions)));
    module.section(&elements);
    let mut segments = DataSection::new();
    for (bytes, address) in data.into_iter().zip(layout.addresses.values()) {
        // Memory is initially zero.
        if bytes.iter().any(|byte| *byte != 0) {
            segments.active(0, &ConstExpr::i32_const(*address as i32), bytes);
        }
    }
    segments.active(0, &ConstExpr::i32_const(base.entry as i32), entry);
    module.section(&DataCountSection { count: segments.len() });
    let mut bodies = CodeSection::new();
    code.iter().for_each(|body| {
        bodies.raw(body);
    });
    module.section(&bodies);
    module.section(&segments);
    let interface = objects.objects[0].interface.iter().map(|data| (INTERFACE_SECTION, data));
    let calls = objects.objects.iter().flat_map(|object| &object.calls);
    for (name, data) in interface.chain(calls.map(|data| (CALLS_SECTION, data))) {
        module.section(&CustomSection {
            name: name.into(),
            data: (*data).into(),
        });
    }
    Ok(module.finish())
}

/// The layout of a module.
struct Layout<'a> {
    objects: &'a Objects<'a>,
    live: Live<'a>,
    /// The offsets of the objects' type indices.
    type_offsets: Vec<u32>,
    /// The index of each function in the module.
    imports: HashMap<&'a str, u32>,
    functions: HashMap<Part, u32>,
    /// The address of each live segment.
    addresses: BTreeMap<Part, u32>,
    table: Table,
}

/// The functions that the module adds to the table, each once, after those of the base.
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

impl<'a> Layout<'a> {
    fn new(objects: &'a Objects<'a>, live: Live<'a>) -> Result<Self, LinkError> {
        let (mut type_offsets, mut types) = (Vec::new(), 0);
        for object in &objects.objects {
            type_offsets.push(types);
            types += object.types.0;
        }
        let region = &objects.base.region;
        let (mut next, mut addresses) = (u64::from(region.start), BTreeMap::new());
        for part @ (number, segment) in live.segments.iter().copied() {
            let object = &objects.objects[number];
            let bytes = object.data.parts.get(segment);
            let bytes = bytes.ok_or(LinkError::Unsupported("data without a segment"))?;
            let alignment = object.alignments.get(segment).copied().unwrap_or(4);
            next = next.next_multiple_of(1 << alignment.min(12));
            addresses.insert(part, u32::try_from(next).unwrap_or(u32::MAX));
            next += bytes.len() as u64;
        }
        if next > u64::from(region.end) {
            return Err(LinkError::TooLarge {
                found: next - u64::from(region.start),
                most: u64::from(region.end - region.start),
            });
        }
        let names = live.imports.iter().map(|(name, _, _)| *name);
        let imported = live.imports.len() as u32;
        let table = Table {
            base: objects.base.functions,
            functions: Vec::new(),
            places: BTreeMap::new(),
        };
        Ok(Self {
            imports: names.zip(0..).collect(),
            functions: live.functions.iter().copied().zip(imported..).collect(),
            objects,
            live,
            type_offsets,
            addresses,
            table,
        })
    }

    /// Returns the index of a function in the module.
    fn index(&self, function: Function<'a>) -> Result<u32, LinkError> {
        let found = match function {
            Function::Base(name) => self.imports.get(name),
            Function::Own(part) => self.functions.get(&part),
        };
        found.copied().ok_or(LinkError::Unsupported("an unreferenced function"))
    }

    /// Returns the live parts of a section, with relocations applied.
    fn relocated(
        &mut self,
        section: fn(&'a Object<'a>) -> &'a object::Section<'a>,
        live: for<'b> fn(&'b Live<'a>) -> &'b [Part],
    ) -> Result<Vec<Vec<u8>>, LinkError> {
        let mut parts = Vec::new();
        for (number, part) in live(&self.live).to_vec() {
            let section = section(&self.objects.objects[number]);
            let range = section.parts.get(part).cloned().unwrap_or_default();
            let mut bytes = section.bytes[range.clone()].to_vec();
            for entry in section.relocations(part) {
                let place = entry.relocation_range()?;
                let place = place.start - range.start..place.end - range.start;
                let place = bytes
                    .get_mut(place)
                    .ok_or(LinkError::Unsupported("a relocation outside its function or segment"))?;
                self.relocate(number, entry, place)?;
            }
            parts.push(bytes);
        }
        Ok(parts)
    }

    fn relocate(&mut self, number: usize, entry: &RelocationEntry, place: &mut [u8]) -> Result<(), LinkError> {
        use RelocationType::*;
        let value = match entry.ty {
            // There is only one table and one global, the stack pointer.
            GlobalIndexLeb | TableNumberLeb => return Ok(()),
            TypeIndexLeb => self.type_offsets[number] + entry.index,
            FunctionIndexLeb => self.index(self.objects.function(number, entry.index)?)?,
            TableIndexSleb | TableIndexI32 => {
                let index = self.index(self.objects.function(number, entry.index)?)?;
                self.table.place(index)
            }
            MemoryAddrLeb | MemoryAddrSleb | MemoryAddrI32 => {
                let address = match self.objects.datum(number, entry.index)? {
                    Data::Base(address) => address,
                    Data::Own(part, offset) => {
                        let address = self.addresses.get(&part);
                        address.ok_or(LinkError::Unsupported("unreferenced data"))? + offset
                    }
                };
                address.wrapping_add(entry.addend as u32)
            }
            _ => return Err(LinkError::Unsupported("a relocation of an unknown kind")),
        };
        match entry.ty {
            MemoryAddrLeb | TypeIndexLeb | FunctionIndexLeb => padded(place, i64::from(value)),
            TableIndexSleb | MemoryAddrSleb => padded(place, i64::from(value as i32)),
            _ => place.copy_from_slice(&value.to_le_bytes()),
        }
        Ok(())
    }

    /// Returns the list of functions to call: the cell, the number of constructors, the constructors.
    fn entry(&mut self) -> Result<Vec<u8>, LinkError> {
        let mut constructors = Vec::new();
        for (number, object) in self.objects.objects.iter().enumerate().rev() {
            for (_, symbol) in &object.constructors {
                constructors.push(self.objects.function(number, *symbol)?);
            }
        }
        if constructors.len() > MOST_CONSTRUCTORS {
            return Err(LinkError::Unsupported("more than a thousand constructors"));
        }
        let cell = match self.objects.cell() {
            Some(cell) => self.table.place(self.index(Function::Own(cell))?),
            None => 0,
        };
        let mut entry = vec![cell, constructors.len() as u32];
        for constructor in constructors {
            entry.push(self.table.place(self.index(constructor)?));
        }
        Ok(entry.into_iter().flat_map(u32::to_le_bytes).collect())
    }

    /// Returns the types of all objects, concatenated.
    fn types(&self) -> Vec<u8> {
        let types = self.objects.objects.iter().map(|object| object.types);
        let mut bytes = Vec::new();
        leb128(&mut bytes, types.clone().map(|(count, _)| count).sum());
        types.for_each(|(_, types)| bytes.extend_from_slice(types));
        bytes
    }

    /// Returns the imports in the order of the objects, each once, and the table if no object imports it.
    fn imports(&self) -> Result<ImportSection, LinkError> {
        let mut section = ImportSection::new();
        let table_type = EntityType::Table(TableType {
            element_type: RefType::FUNCREF,
            table64: false,
            minimum: u64::from(self.table.base) + self.table.functions.len() as u64,
            maximum: None,
            shared: false,
        });
        let (mut has_memory, mut has_table, mut has_global) = (false, false, false);
        for (number, object) in self.objects.objects.iter().enumerate() {
            for import in &object.imports {
                match import.ty {
                    TypeRef::Func(index) => {
                        // The index is local to this object. A function imported by several objects is taken from the first.
                        if self.live.imports.contains(&(import.name, number, index)) {
                            let index = self.type_offsets[number] + index;
                            section.import(BASE_MODULE, import.name, EntityType::Function(index));
                        }
                    }
                    TypeRef::Memory(_) if !std::mem::replace(&mut has_memory, true) => {
                        let memory = MemoryType {
                            minimum: 0,
                            maximum: None,
                            memory64: false,
                            shared: false,
                            page_size_log2: None,
                        };
                        section.import(BASE_MODULE, MEMORY, EntityType::Memory(memory));
                    }
                    TypeRef::Table(_) if !std::mem::replace(&mut has_table, true) => {
                        section.import(BASE_MODULE, TABLE, table_type);
                    }
                    // The only global is the stack pointer.
                    TypeRef::Global(global) if !std::mem::replace(&mut has_global, true) => {
                        let global = GlobalType {
                            val_type: ValType::I32,
                            mutable: global.mutable,
                            shared: false,
                        };
                        section.import(BASE_MODULE, import.name, EntityType::Global(global));
                    }
                    TypeRef::Memory(_) | TypeRef::Table(_) | TypeRef::Global(_) => {}
                    _ => {
                        return Err(LinkError::Unsupported(
                            "an import that is neither function, memory, table nor global",
                        ));
                    }
                }
            }
        }
        if !has_table {
            section.import(BASE_MODULE, TABLE, table_type);
        }
        Ok(section)
    }
}

/// Writes a LEB128 number padded to the length of `place`.
fn padded(place: &mut [u8], mut value: i64) {
    let last = place.len() - 1;
    for (i, byte) in place.iter_mut().enumerate() {
        *byte = (value & 0x7f) as u8 | if i < last { 0x80 } else { 0 };
        value >>= 7;
    }
}

/// Appends an unsigned LEB128 number.
fn leb128(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
