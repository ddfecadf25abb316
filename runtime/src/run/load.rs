//! Loads modules: compiles them, or takes their code from the shared store.

use bytes::Bytes;

use super::built_in::is_built_in;
use super::{RunError, Runtime};
use crate::digest::Digest;
use crate::sandbox::{CodeKey, CompileBudget, Interrupt, Module, SandboxError};
use crate::step;
use crate::store::Shared;

/// Modules smaller than this (64 KiB) compile faster than their code can be fetched.
const SMALL: usize = 64 << 10;

/// The place of a module's native code in the shared store, for all machines that have the key.
struct Shelf<'a> {
    shared: &'a Shared,
    key: &'a CodeKey,
    name: Digest,
}

impl Runtime {
    /// Returns the same runtime, which shares native code through the shared store. It accepts only code that is sealed with `key`.
    pub fn sharing_code(self, key: CodeKey) -> Self {
        Self {
            code_key: Some(key),
            ..self
        }
    }

    /// Loads the base of other modules. It may be large, so the caller must trust it not to exhaust the compiler.
    pub fn load_base(&self, digest: &Digest) -> Result<Module, RunError> {
        let never = Interrupt::default();
        self.load_once(digest, &never, |wasm| {
            self.load_alone(&wasm, digest, Some(&CompileBudget::large()), &never)
        })
    }

    /// Loads the module `digest`: compiles it if necessary, and links it to its base if it has one.
    pub fn load(&self, digest: &Digest) -> Result<Module, RunError> {
        self.load_unless(digest, &Interrupt::default())
    }

    /// Like [`load`](Self::load), unless interrupted.
    pub(super) fn load_unless(&self, digest: &Digest, interrupt: &Interrupt) -> Result<Module, RunError> {
        self.load_once(digest, interrupt, |wasm| {
            let based = |source| RunError::Base { module: *digest, source };
            let Some(base) = step::base(&wasm).map_err(based)? else {
                // the built-in modules are trusted, and one is a query engine
                let large = is_built_in(digest).then(CompileBudget::large);
                return self.load_alone(&wasm, digest, large.as_ref(), interrupt);
            };
            let base = self.load_once(&base, interrupt, |wasm| self.load_alone(&wasm, &base, None, interrupt))?;
            Ok(self.engine.load_based(&wasm, digest, &base, interrupt)?)
        })
    }

    /// Returns the loaded module `digest`. Concurrent requests call `load` once.
    fn load_once(
        &self,
        digest: &Digest,
        interrupt: &Interrupt,
        load: impl FnOnce(Bytes) -> Result<Module, RunError>,
    ) -> Result<Module, RunError> {
        if let Some(module) = self.engine.loaded(digest) {
            return Ok(module);
        }
        let digest = *digest;
        let Some(_flight) = self.loading.board(digest, interrupt) else {
            return Err(SandboxError::CompileInterrupted { digest }.into());
        };
        let digest = &digest;
        match self.engine.loaded(digest) {
            Some(module) => Ok(module),
            None => load(self.store.get(digest)?),
        }
    }

    /// Loads a module without a base: from the local or the shared code cache, or by compiling it.
    fn load_alone(
        &self,
        wasm: &[u8],
        digest: &Digest,
        budget: Option<&CompileBudget>,
        interrupt: &Interrupt,
    ) -> Result<Module, RunError> {
        let shelf = self.shelf(wasm, digest);
        let is_lacking = shelf.as_ref().is_some_and(|shelf| !self.take_code(shelf, digest));
        let module = self.engine.load_unless(wasm, digest, budget, interrupt)?;
        if let Some(shelf) = shelf.filter(|_| is_lacking)
            && let Some(code) = self.engine.sealed_code(digest, shelf.key)
        {
            shelf.shared.put_code(&shelf.name, Bytes::from(code));
        }
        Ok(module)
    }

    /// Returns where to look for a module's code; `None` if it is here already, or if the module is too small.
    fn shelf(&self, wasm: &[u8], digest: &Digest) -> Option<Shelf<'_>> {
        if wasm.len() < SMALL || self.engine.has_code(digest) {
            return None;
        }
        Some(Shelf {
            shared: self.store.shared()?,
            key: self.code_key.as_ref()?,
            name: self.engine.code_name(digest)?,
        })
    }

    /// Fetches the code of a module. Returns whether it exists and has a valid seal.
    fn take_code(&self, shelf: &Shelf, digest: &Digest) -> bool {
        let sealed = shelf.shared.code(&shelf.name);
        sealed.is_some_and(|sealed| self.engine.admit_code(&sealed, digest, shelf.key))
    }
}
