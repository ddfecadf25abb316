//! Finds the functions and data that a module uses.

use std::collections::BTreeSet;

use wasmparser::{RelocationType, SymbolFlags, SymbolInfo, TypeRef};

use super::{Data, Function, LinkError, Objects, Part};

/// The content of a module: everything reachable from the cell, the constructors and symbols that must not be stripped.
pub struct Live<'a> {
    /// Functions of the base, in the order of the objects: name, first object that imports it, and its type there.
    pub imports: Vec<(&'a str, usize, u32)>,
    /// Functions, sorted.
    pub functions: Vec<Part>,
    /// Data segments, sorted.
    pub segments: Vec<Part>,
}

#[derive(Default)]
struct Reached<'a> {
    imports: BTreeSet<&'a str>,
    functions: BTreeSet<Part>,
    segments: BTreeSet<Part>,
    next: Vec<Next>,
}

enum Next {
    Function(Part),
    Segment(Part),
}

impl<'a> Reached<'a> {
    fn function(&mut self, function: Function<'a>) {
        match function {
            Function::Base(name) => drop(self.imports.insert(name)),
            Function::Own(part) if self.functions.insert(part) => self.next.push(Next::Function(part)),
            Function::Own(_) => {}
        }
    }

    fn segment(&mut self, part: Part) {
        if self.segments.insert(part) {
            self.next.push(Next::Segment(part));
        }
    }
}

impl<'a> Live<'a> {
    /// Returns everything reachable from the roots of a module.
    pub fn new(objects: &Objects<'a>) -> Result<Self, LinkError> {
        let mut reached = Reached::default();
        objects
            .cell()
            .into_iter()
            .for_each(|cell| reached.function(Function::Own(cell)));
        for (number, object) in objects.objects.iter().enumerate() {
            for (_, symbol) in &object.constructors {
                reached.function(objects.function(number, *symbol)?);
            }
            for (index, symbol) in object.symbols.iter().enumerate() {
                match symbol {
                    SymbolInfo::Func { flags, .. } if flags.contains(SymbolFlags::NO_STRIP) => {
                        reached.function(objects.function(number, index as u32)?);
                    }
                    SymbolInfo::Data {
                        flags, symbol: Some(at), ..
                    } if flags.contains(SymbolFlags::NO_STRIP) => reached.segment((number, at.index as usize)),
                    _ => {}
                }
            }
        }
        reached.follow(objects)
    }

    /// Returns everything that the objects define, and everything reachable from that.
    pub fn all(objects: &Objects<'a>) -> Result<Self, LinkError> {
        let mut reached = Reached::default();
        for (number, object) in objects.objects.iter().enumerate() {
            (0..object.code.parts.len()).for_each(|function| reached.function(Function::Own((number, function))));
            (0..object.data.parts.len()).for_each(|segment| reached.segment((number, segment)));
        }
        reached.follow(objects)
    }
}

impl<'a> Reached<'a> {
    fn follow(mut self, objects: &Objects<'a>) -> Result<Live<'a>, LinkError> {
        while let Some(next) = self.next.pop() {
            let (number, relocations) = match next {
                Next::Function((number, part)) => (number, objects.objects[number].code.relocations(part)),
                Next::Segment((number, part)) => (number, objects.objects[number].data.relocations(part)),
            };
            for entry in relocations {
                use RelocationType::*;
                match entry.ty {
                    FunctionIndexLeb | TableIndexSleb | TableIndexI32 => {
                        self.function(objects.function(number, entry.index)?);
                    }
                    MemoryAddrLeb | MemoryAddrSleb | MemoryAddrI32 => match objects.datum(number, entry.index)? {
                        Data::Own(part, _) => self.segment(part),
                        Data::Base(_) => {}
                    },
                    _ => {}
                }
            }
        }
        let mut imports: Vec<(&'a str, usize, u32)> = Vec::new();
        for (number, object) in objects.objects.iter().enumerate() {
            for import in &object.imports {
                if let TypeRef::Func(index) = import.ty
                    && self.imports.remove(import.name)
                {
                    imports.push((import.name, number, index));
                }
            }
        }
        Ok(Live {
            imports,
            functions: self.functions.into_iter().collect(),
            segments: self.segments.into_iter().collect(),
        })
    }
}
