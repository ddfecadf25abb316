use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::{ExternType, InstancePre, Linker, ModuleExport};

use super::based::Based;
use super::compiler::Uncompiled;
use super::guest::Guest;
use super::native_cache::NativeCache;
use super::target::{Instrumentation, Target, config};
use super::workers::Workers;
use super::{CodeKey, CompileBudget, Compiler, Interrupt, SandboxError, call, preview1};
use crate::digest::Digest;

/// Modules with a smaller estimated compile time, in microseconds, are compiled in this process: that can't be interrupted, but starting
/// a process takes as long as compiling most of them.
const SOON: u64 = 1_000_000;

/// Maximum number of modules that an engine keeps loaded.
const MAX_LOADED: usize = 256;

/// Options of an [`Engine`]. Guests can't observe them.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The compilation target.
    pub target: Target,
    /// Whether to optimise, which makes compilation slower. Modules with a base are never optimised: they are small, and most run only
    /// once.
    pub optimise: bool,
    /// A directory for compiled code, created if necessary. Code in it is executed without further checks, so it must belong to the
    /// user: files that another user owns or can write to are ignored.
    pub native_cache: Option<PathBuf>,
    /// Limits on the content of modules, and on compiling them.
    pub budget: CompileBudget,
    /// Compiles modules that may take long. Without it, all are compiled in this process, where only the limits on their content hold.
    pub compiler: Option<Compiler>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            target: Target::Native,
            optimise: true,
            native_cache: None,
            budget: CompileBudget::default(),
            compiler: None,
        }
    }
}

/// Compiles modules and keeps them loaded. Clones share one engine.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

struct Shared {
    engine: wasmtime::Engine,
    /// The same engine without optimisation.
    quick: wasmtime::Engine,
    linker: Linker<Guest>,
    target: Target,
    optimise: bool,
    budget: CompileBudget,
    compiler: Option<Compiler>,
    native_cache: Option<NativeCache>,
    loaded: Mutex<Loaded>,
    workers: Workers,
    instrumentation: Instrumentation,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<Digest, (Module, u64)>,
    uses: u64,
}

/// A loaded module, ready to run. Clones share one module.
#[derive(Clone)]
pub struct Module(Arc<Ready>);

struct Ready {
    digest: Digest,
    /// The module itself, or its base.
    instance: InstancePre<Guest>,
    /// The export to call.
    start: ModuleExport,
    /// The module, if it has a base.
    based: Option<Based>,
    workers: Workers,
    instrumentation: Instrumentation,
}

impl Engine {
    /// Creates an engine.
    pub fn new(options: &EngineOptions) -> Result<Self, SandboxError> {
        Self::with_instrumentation(options, Instrumentation::default())
    }

    /// Creates an engine without some guarantees of the sandbox, to measure their cost.
    #[doc(hidden)]
    pub fn with_instrumentation(options: &EngineOptions, instrumentation: Instrumentation) -> Result<Self, SandboxError> {
        let failed = |error: wasmtime::Error| SandboxError::Engine {
            reason: format!("{error:#}"),
        };
        let config = config(options.target, options.optimise, instrumentation).map_err(failed)?;
        let engine = wasmtime::Engine::new(&config).map_err(failed)?;
        let quick = match options.optimise {
            false => engine.clone(),
            true => {
                let config = self::config(options.target, false, instrumentation).map_err(failed)?;
                wasmtime::Engine::new(&config).map_err(failed)?
            }
        };
        let native_cache = match &options.native_cache {
            Some(directory) => Some(NativeCache::open(directory, &engine)?),
            None => None,
        };
        let mut linker = Linker::new(&engine);
        preview1::define(&mut linker).map_err(failed)?;
        call::define(&mut linker).map_err(failed)?;
        Ok(Self(Arc::new(Shared {
            engine,
            quick,
            linker,
            target: options.target,
            optimise: options.optimise,
            budget: options.budget.clone(),
            // it knows no other instrumentation
            compiler: options
                .compiler
                .clone()
                .filter(|_| instrumentation == Instrumentation::default()),
            native_cache,
            loaded: Mutex::default(),
            workers: Workers::default(),
            instrumentation,
        })))
    }

    /// Loads a module: from memory, from the code cache, or by compiling it.
    ///
    /// `digest` must be the digest of `wasm`. Cached code is used regardless of the budget.
    pub fn load(&self, wasm: &[u8], digest: &Digest) -> Result<Module, SandboxError> {
        self.load_unless(wasm, digest, None, &Interrupt::default())
    }

    /// Like [`load`](Self::load), with another budget, for trusted modules, and unless interrupted.
    pub fn load_unless(
        &self,
        wasm: &[u8],
        digest: &Digest,
        budget: Option<&CompileBudget>,
        interrupt: &Interrupt,
    ) -> Result<Module, SandboxError> {
        if let Some(module) = self.loaded(digest) {
            return Ok(module);
        }
        let compiled = self.compiled(wasm, digest, budget.unwrap_or(&self.0.budget), interrupt)?;
        let module = self.link(&compiled, digest)?;
        self.keep(&module);
        Ok(module)
    }

    /// Loads a module that has the base `base` (see [`step::base`](crate::step::base)), unless interrupted.
    pub fn load_based(
        &self,
        wasm: &[u8],
        digest: &Digest,
        base: &Module,
        interrupt: &Interrupt,
    ) -> Result<Module, SandboxError> {
        let compiled = self.compile_quickly(wasm, digest, interrupt)?;
        let (instance, workers) = (base.0.instance.clone(), self.0.workers.clone());
        let (based, start) = Based::new(compiled, digest, base)?;
        let module = Module(Arc::new(Ready {
            digest: *digest,
            instance,
            start,
            based: Some(based),
            workers,
            instrumentation: self.0.instrumentation,
        }));
        self.keep(&module);
        Ok(module)
    }

    /// Returns whether the code cache has this module.
    pub fn has_code(&self, digest: &Digest) -> bool {
        self.0.native_cache.as_ref().is_some_and(|cache| cache.has(digest))
    }

    /// Returns the name of a module's code in a cache shared by several engines. It depends on the engine's version and settings and on
    /// the processor. `None` without a code cache.
    pub fn code_name(&self, digest: &Digest) -> Option<Digest> {
        Some(self.0.native_cache.as_ref()?.name(digest))
    }

    /// Returns the code of a module from the code cache, sealed, for other engines to [admit](Self::admit_code).
    pub fn sealed_code(&self, digest: &Digest, key: &CodeKey) -> Option<Vec<u8>> {
        self.0.native_cache.as_ref()?.sealed(digest, key)
    }

    /// Adds the code of a module to the code cache, if its seal is valid. Returns whether it was added.
    pub fn admit_code(&self, sealed: &[u8], digest: &Digest, key: &CodeKey) -> bool {
        let cache = self.0.native_cache.as_ref();
        cache.is_some_and(|cache| cache.admit(sealed, digest, key))
    }

    /// Returns the module, if it is loaded.
    pub fn loaded(&self, digest: &Digest) -> Option<Module> {
        let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.uses += 1;
        let now = loaded.uses;
        let (module, used) = loaded.modules.get_mut(digest)?;
        *used = now;
        Some(module.clone())
    }

    fn keep(&self, module: &Module) {
        let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if loaded.modules.len() >= MAX_LOADED {
            let oldest = loaded.modules.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(digest) = oldest.map(|(digest, _)| *digest) {
                loaded.modules.remove(&digest);
            }
        }
        loaded.uses += 1;
        let now = loaded.uses;
        loaded.modules.insert(module.0.digest, (module.clone(), now));
    }

    fn compiled(
        &self,
        wasm: &[u8],
        digest: &Digest,
        budget: &CompileBudget,
        interrupt: &Interrupt,
    ) -> Result<wasmtime::Module, SandboxError> {
        let cache = self.0.native_cache.as_ref();
        match cache.and_then(|cache| cache.get(&self.0.engine, digest)) {
            Some(compiled) => Ok(compiled),
            None => self.compile(wasm, digest, budget, interrupt),
        }
    }

    fn compile(
        &self,
        wasm: &[u8],
        digest: &Digest,
        budget: &CompileBudget,
        interrupt: &Interrupt,
    ) -> Result<wasmtime::Module, SandboxError> {
        let effort = budget.check(wasm, digest)?;
        let compiled = match &self.0.compiler {
            Some(compiler) if effort > SOON => {
                self.compile_apart(compiler, wasm, digest, self.0.optimise, budget, interrupt)?
            }
            _ => wasmtime::Module::from_binary(&self.0.engine, wasm).map_err(|error| refused(&error, digest))?,
        };
        if let Some(cache) = &self.0.native_cache {
            cache.put(&compiled, digest);
        }
        Ok(compiled)
    }

    /// Compiles a module without optimisation, for the optimising engine. The code is not cached, as that would take longer.
    fn compile_quickly(&self, wasm: &[u8], digest: &Digest, interrupt: &Interrupt) -> Result<wasmtime::Module, SandboxError> {
        let effort = self.0.budget.check(wasm, digest)?;
        if let Some(compiler) = self.0.compiler.as_ref().filter(|_| effort > SOON) {
            return self.compile_apart(compiler, wasm, digest, false, &self.0.budget, interrupt);
        }
        let compiled = wasmtime::Module::from_binary(&self.0.quick, wasm).and_then(|compiled| compiled.serialize());
        let code = compiled.map_err(|error| refused(&error, digest))?;
        // SAFETY: the bytes come from `serialize`. `deserialize` checks that they are compatible with this engine, which differs only
        // in the level of optimisation.
        unsafe { wasmtime::Module::deserialize(&self.0.engine, code) }.map_err(|error| refused(&error, digest))
    }

    /// Compiles a module in a process of its own, for the engine of this process.
    fn compile_apart(
        &self,
        compiler: &Compiler,
        wasm: &[u8],
        digest: &Digest,
        optimise: bool,
        budget: &CompileBudget,
        interrupt: &Interrupt,
    ) -> Result<wasmtime::Module, SandboxError> {
        let digest = *digest;
        let code = compiler.run(wasm, self.0.target, optimise, budget, interrupt);
        let code = code.map_err(|uncompiled| match uncompiled {
            Uncompiled::Refused(reason) => SandboxError::Compile { digest, reason },
            Uncompiled::Late => SandboxError::CompileTime {
                digest,
                seconds: budget.seconds,
            },
            Uncompiled::Ended(status) => SandboxError::CompilerEnded {
                digest,
                memory: budget.memory_to_compile,
                status,
            },
            Uncompiled::Interrupted => SandboxError::CompileInterrupted { digest },
            Uncompiled::Host(source) => SandboxError::Compiler { digest, source },
        })?;
        // SAFETY: the bytes come from `precompile_module`, in a process of this program that we started, through a file without a name.
        // `deserialize` checks that they are compatible with this engine, which differs at most in the level of optimisation.
        unsafe { wasmtime::Module::deserialize(&self.0.engine, code) }.map_err(|error| refused(&error, &digest))
    }

    fn link(&self, compiled: &wasmtime::Module, digest: &Digest) -> Result<Module, SandboxError> {
        let digest = *digest;
        let no_command = |reason| SandboxError::NotACommand { digest, reason };
        match compiled.get_export("_start") {
            Some(ExternType::Func(start)) if start.params().len() == 0 && start.results().len() == 0 => {}
            Some(_) => {
                return Err(no_command(
                    "its export `_start` is not a function without parameters and results",
                ));
            }
            None if compiled.get_export("_initialize").is_some() => {
                return Err(no_command("it exports `_initialize` but not `_start`, so it is a library"));
            }
            None => return Err(no_command("it has no export `_start`")),
        }
        for import in compiled.imports() {
            let is_offered = preview1::offers(import.module(), import.name()) || call::offers(import.module(), import.name());
            if !is_offered {
                return Err(SandboxError::UnknownImport {
                    digest,
                    module: import.module().to_owned(),
                    name: import.name().to_owned(),
                });
            }
        }
        let import_type = |error: wasmtime::Error| SandboxError::ImportType {
            digest,
            reason: format!("{error:#}"),
        };
        let instance = self.0.linker.instantiate_pre(compiled).map_err(import_type)?;
        let start = compiled
            .get_export_index("_start")
            .ok_or_else(|| no_command("it has no export `_start`"))?;
        Ok(Module(Arc::new(Ready {
            digest,
            instance,
            start,
            based: None,
            workers: self.0.workers.clone(),
            instrumentation: self.0.instrumentation,
        })))
    }
}

fn refused(error: &wasmtime::Error, digest: &Digest) -> SandboxError {
    SandboxError::Compile {
        digest: *digest,
        reason: format!("{error:#}"),
    }
}

impl Module {
    /// Returns the digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    pub(super) fn instance(&self) -> &InstancePre<Guest> {
        &self.0.instance
    }

    pub(super) fn start(&self) -> &ModuleExport {
        &self.0.start
    }

    pub(super) fn based(&self) -> Option<&Based> {
        self.0.based.as_ref()
    }

    pub(super) fn workers(&self) -> &Workers {
        &self.0.workers
    }

    pub(super) fn instrumentation(&self) -> Instrumentation {
        self.0.instrumentation
    }
}
