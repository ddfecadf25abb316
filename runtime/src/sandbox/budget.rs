use wasmparser::{BinaryReaderError, FunctionBody, Operator, Parser, Payload};

use super::SandboxError;
use crate::digest::Digest;

/// Limits on the content of a module, so that no module keeps the compiler busy for long.
///
/// The limits concern the content and not the compile time, so that rejection does not depend on the machine. Without them, a module
/// of 16 KB with loops nested 2000 levels deep takes minutes. Within the default budget, the hardest known function (1000 locals that
/// are live across 29,000 empty `if`s, 188 KB) took 36 s on two cores shared with ten other busy processes, about 7 s of one core; a
/// step over Arrow tables (penguins) took 23 s in the same conditions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CompileBudget {
    /// Size of the module in bytes, including debug information.
    pub module: u64,
    /// Number of functions that it defines.
    pub functions: u64,
    /// Size of the code of all functions, in bytes.
    pub code: u64,
    /// Size of the code of one function, in bytes.
    pub function: u64,
    /// Number of locals of one function.
    pub locals: u64,
    /// Nesting depth of loops in one function.
    pub loops: u64,
    /// Locals times branches and blocks of one function: the number of values that the compiler may have to pass between blocks.
    pub joins: u64,
    /// Estimated compile time on a busy core, in microseconds, from the content of the module.
    pub effort: u64,
    /// Number of data and element segments.
    pub segments: u64,
    /// Number of initial elements of all tables.
    pub table: u64,
    /// Number of initial pages (64 KiB) of memory.
    pub memory: u64,
}

impl Default for CompileBudget {
    /// Returns a budget for programs in Rust or C with their libraries.
    fn default() -> Self {
        Self {
            module: 64 << 20,
            functions: 100_000,
            code: 16 << 20,
            function: 256 << 10,
            locals: 10_000,
            loops: 256,
            joins: 40_000_000,
            effort: 120_000_000,
            segments: 50_000,
            table: 100_000,
            memory: 16_384,
        }
    }
}

impl CompileBudget {
    /// Returns a budget for interpreters such as CPython, whose main loop is one function.
    pub fn large() -> Self {
        Self {
            module: 512 << 20,
            functions: 1_000_000,
            code: 256 << 20,
            function: 7 << 20,
            locals: 50_000,
            loops: 1_000,
            joins: 1_000_000_000,
            effort: 3_600_000_000,
            segments: 100_000,
            table: 1 << 20,
            memory: 65_536,
        }
    }

    /// Checks the content of a module in one pass, without validating it.
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
        let (mut segments, mut elements, mut effort) = (0, 0, 0);
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(invalid)? {
                Payload::CodeSectionStart { count, size, .. } => {
                    within("functions", count.into(), self.functions)?;
                    within("bytes of code", size.into(), self.code)?;
                }
                Payload::CodeSectionEntry(body) => {
                    within("bytes of code in one function", body.range().len() as u64, self.function)?;
                    let shape = Shape::of(&body).map_err(invalid)?;
                    within("locals in one function", shape.locals, self.locals)?;
                    within("nested loops", shape.depth, self.loops)?;
                    let joins = shape.locals.saturating_mul(shape.joins);
                    within("locals times branches in one function", joins, self.joins)?;
                    effort += shape.effort();
                    within("microseconds of estimated compile time", effort, self.effort)?;
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

/// The properties of a function that determine its compile time.
#[derive(Default)]
struct Shape {
    bytes: u64,
    locals: u64,
    calls: u64,
    joins: u64,
    loops: u64,
    /// The maximum nesting depth of loops.
    depth: u64,
}

impl Shape {
    fn of(body: &FunctionBody<'_>) -> Result<Self, BinaryReaderError> {
        let mut shape = Self {
            bytes: body.range().len() as u64,
            ..Self::default()
        };
        for group in body.get_locals_reader()? {
            shape.locals += u64::from(group?.0);
        }
        let mut is_loop = Vec::new();
        let mut depth = 0;
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Loop { .. } => {
                    is_loop.push(true);
                    depth += 1;
                    shape.depth = shape.depth.max(depth);
                    shape.loops += 1;
                    shape.joins += 1;
                }
                Operator::Block { .. } | Operator::If { .. } => {
                    is_loop.push(false);
                    shape.joins += 1;
                }
                Operator::End => depth -= u64::from(is_loop.pop() == Some(true)),
                Operator::Br { .. } | Operator::BrIf { .. } => shape.joins += 1,
                Operator::BrTable { targets } => shape.joins += u64::from(targets.len()),
                Operator::Call { .. } | Operator::CallIndirect { .. } => shape.calls += 1,
                _ => {}
            }
        }
        Ok(shape)
    }

    /// Estimates the compile time in microseconds. The factors were measured on a busy machine, with modules that consist mainly of one
    /// construct (see `tests/measure.rs`).
    fn effort(&self) -> u64 {
        let through_loops = 10 * self.loops.saturating_mul(self.locals);
        let through_joins = self.joins.saturating_mul(self.locals) / 4;
        self.bytes + 20 * self.calls + 50 * self.joins + 400 * self.loops + through_loops + through_joins
    }
}
