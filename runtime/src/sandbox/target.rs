//! What code is compiled for, and how.

use std::sync::Arc;

use wasmtime::{Config, OptLevel, RegallocAlgorithm, WasmBacktraceDetails};

use super::fiber::{GUEST_STACK, HOST_STACK, Stacks};
use super::huge_pages::RESERVED;

/// The compilation target of guest code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Target {
    /// Native code for this processor.
    #[default]
    Native,
    /// Code for the Pulley interpreter, tens of times slower. Represents another processor when results are compared.
    Pulley,
}

impl Target {
    /// Returns its name in the arguments of a [`Compiler`].
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Pulley => "pulley",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Native, Self::Pulley].into_iter().find(|target| target.name() == name)
    }
}

/// Instrumentation of compiled code. The guarantees of the sandbox require all of it; disable it only to measure its cost.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instrumentation {
    pub canonical_nans: bool,
    pub fuel: bool,
}

impl Default for Instrumentation {
    fn default() -> Self {
        Self {
            canonical_nans: true,
            fuel: true,
        }
    }
}

/// Returns the configuration of compilation and execution. There is no other configuration.
pub(super) fn config(target: Target, optimise: bool, instrumentation: Instrumentation) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    if target == Target::Pulley {
        config.target("pulley64")?;
    }
    if optimise {
        config.cranelift_opt_level(OptLevel::Speed);
    } else {
        config.cranelift_opt_level(OptLevel::None);
        config.cranelift_regalloc_algorithm(RegallocAlgorithm::SinglePass);
    }
    // sources of differences between processors
    config.cranelift_nan_canonicalization(instrumentation.canonical_nans);
    config.relaxed_simd_deterministic(true);
    // ways to end a run; fuel also for interrupts: see `fiber`
    config.consume_fuel(instrumentation.fuel);
    config.max_wasm_stack(GUEST_STACK);
    config.async_stack_size(GUEST_STACK + HOST_STACK);
    config.with_host_stack(Arc::new(Stacks::default()));
    config.memory_reservation(RESERVED as u64);
    // features that guests don't need; threads, garbage collection and components are not compiled into this build
    config.wasm_memory64(false);
    config.wasm_multi_memory(false);
    // backtraces of traps
    config.wasm_backtrace_details(WasmBacktraceDetails::Enable);
    config.native_unwind_info(false);
    Ok(config)
}

/// Compiles a module as an engine with these options does.
pub(super) fn compile_alone(wasm: &[u8], target: Target, optimise: bool) -> wasmtime::Result<Vec<u8>> {
    wasmtime::Engine::new(&config(target, optimise, Instrumentation::default())?)?.precompile_module(wasm)
}
