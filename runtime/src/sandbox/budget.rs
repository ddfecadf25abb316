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
    /// Maximum time that compiling may take, in seconds. Unlike the limits above it depends on the machine; it and the next one hold
    /// only with a [`Compiler`](super::Compiler).
    pub seconds: u64,
    /// Maximum memory that compiling may take, in bytes.
    pub memory_to_compile: u64,
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
            seconds: 600,
            memory_to_compile: 4 << 30,
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
            seconds: 3_600,
            memory_to_compile: 16 << 30,
        }
    }

    /// Checks the content of a module in one pass, without validating it. Returns the estimated compile time in microseconds.
    pub(super) fn check(&self, wasm: &[u8], digest: &Digest) -> Result<u64, SandboxError> {
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
        Ok(effort)
    }
}

/// The properties of a function that determine its compile time.
#[derive(Default)]
struct Shape {
    locals: u64,
    joins: u64,
    loops: u64,
    /// The maximum nesting depth of loops.
    depth: u64,
    /// The number of basic blocks, including those of checks.
    blocks: u64,
    /// The estimated compile time of all instructions, each by itself, in microseconds.
    instructions: u64,
}

impl Shape {
    fn of(body: &FunctionBody<'_>) -> Result<Self, BinaryReaderError> {
        let mut shape = Self::default();
        for group in body.get_locals_reader()? {
            shape.locals += u64::from(group?.0);
        }
        let mut is_loop = Vec::new();
        let mut depth = 0;
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            match &operator {
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
                _ => {}
            }
            let (time, blocks) = cost(&operator);
            shape.instructions += time;
            shape.blocks += blocks;
        }
        Ok(shape)
    }

    /// Estimates the compile time in microseconds, on a busy core. The factors were measured with functions that consist mainly of one
    /// instruction (see `tests/measure.rs`).
    fn effort(&self) -> u64 {
        let through_loops = 10 * self.loops.saturating_mul(self.locals);
        let through_joins = self.joins.saturating_mul(self.locals) / 4;
        // some passes of the optimizer compare blocks with one another
        let pairs = self.blocks.saturating_mul(self.blocks) / 300;
        FUNCTION + self.instructions + pairs + through_loops + through_joins
    }
}

/// The estimated compile time of an empty function, in microseconds.
const FUNCTION: u64 = 200;

/// Returns the estimated compile time of an instruction in microseconds, and the number of basic blocks that it becomes.
fn cost(operator: &Operator<'_>) -> (u64, u64) {
    use Operator::*;
    match operator {
        // constants and names of values
        LocalGet { .. } | LocalSet { .. } | LocalTee { .. } | Drop | Nop | End | Return | Unreachable => (1, 0),
        I32Const { .. } | I64Const { .. } | F32Const { .. } | F64Const { .. } | RefNull { .. } => (1, 0),
        // control flow
        Loop { .. } => (400, 5),
        If { .. } | BrIf { .. } => (60, 2),
        Block { .. } | Else | Br { .. } => (30, 1),
        BrTable { targets } => (60 + 30 * u64::from(targets.len()), 2 + u64::from(targets.len())),
        Call { .. } | ReturnCall { .. } => (25, 0),
        CallIndirect { .. } | ReturnCallIndirect { .. } => (150, 4),
        // calls of the host, and checks
        TableGet { .. } | TableSet { .. } | TableFill { .. } | TableInit { .. } => (150, 4),
        MemoryGrow { .. } | TableGrow { .. } => (250, 4),
        TableCopy { .. } => (500, 4),
        MemoryFill { .. } | MemoryCopy { .. } | MemoryInit { .. } | DataDrop { .. } | ElemDrop { .. } | RefFunc { .. } => {
            (30, 1)
        }
        I32DivS | I32DivU | I32RemS | I32RemU | I64DivS | I64DivU | I64RemS | I64RemU => (45, 1),
        I32Popcnt | I64Popcnt => (25, 0),
        // a number that may be NaN is checked
        F32Add | F32Sub | F32Mul | F32Div | F32Min | F32Max | F32Sqrt | F32Ceil | F32Floor | F32Trunc | F32Nearest => (70, 0),
        F64Add | F64Sub | F64Mul | F64Div | F64Min | F64Max | F64Sqrt | F64Ceil | F64Floor | F64Trunc | F64Nearest => (70, 0),
        F32DemoteF64 | F64PromoteF32 | F32ConvertI64U | F64ConvertI64U => (70, 0),
        I32TruncF32S | I32TruncF32U | I32TruncF64S | I32TruncF64U | I64TruncF32S | I64TruncF32U | I64TruncF64S
        | I64TruncF64U => (70, 1),
        I32TruncSatF32S | I32TruncSatF32U | I32TruncSatF64S | I32TruncSatF64U => (70, 0),
        I64TruncSatF32S | I64TruncSatF32U | I64TruncSatF64S | I64TruncSatF64U => (70, 0),
        operator if is_vector(operator) => (50, 0),
        // other arithmetic, and memory
        _ => (10, 0),
    }
}

/// Returns whether an instruction is of the SIMD or relaxed SIMD proposal.
fn is_vector(operator: &Operator<'_>) -> bool {
    macro_rules! proposals {
        ($(@$proposal:ident $op:ident $({ $($arg:ident: $type:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
            match operator {
                $(Operator::$op { .. } => matches!(stringify!($proposal), "simd" | "relaxed_simd"),)*
                _ => true,
            }
        };
    }
    wasmparser::for_each_operator!(proposals)
}
