use bytes::Bytes;

use super::{RunError, Runtime};
use crate::digest::Digest;
use crate::sandbox::{CodeKey, CompileBudget, Module};
use crate::store::Shared;

/// A smaller module is compiled in less time than it takes to ask for its code: 64 KiB.
const SMALL: usize = 64 << 10;

/// Where the code of a module is, for all machines that have the key.
struct Shelf<'a> {
    shared: &'a Shared,
    key: &'a CodeKey,
    name: Digest,
}

impl Runtime {
    /// The same runtime, which takes compiled code from the shared store if it has the seal of `key`, and puts there what it compiles itself.
    pub fn sharing_code(self, key: CodeKey) -> Self {
        Self {
            code_key: Some(key),
            ..self
        }
    }

    /// Makes a module ready that is based on no other: from code that was compiled here or elsewhere, or by compiling it.
    pub(super) fn load_alone(&self, wasm: &[u8], digest: &Digest, budget: Option<&CompileBudget>) -> Result<Module, RunError> {
        let shelf = self.shelf(wasm, digest);
        let is_lacking = shelf.as_ref().is_some_and(|shelf| !self.take_code(shelf, digest));
        let module = match budget {
            Some(budget) => self.engine.load_within(wasm, digest, budget)?,
            None => self.engine.load(wasm, digest)?,
        };
        if let Some(shelf) = shelf.filter(|_| is_lacking)
            && let Some(code) = self.engine.sealed_code(digest, shelf.key)
        {
            shelf.shared.put_code(&shelf.name, Bytes::from(code));
        }
        Ok(module)
    }

    /// Where the code of a module is to be looked for; `None` if it is here, or not worth it.
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

    /// Takes the code of a module from its shelf. Whether it was there, with the right seal.
    fn take_code(&self, shelf: &Shelf, digest: &Digest) -> bool {
        let sealed = shelf.shared.code(&shelf.name);
        sealed.is_some_and(|sealed| self.engine.admit_code(&sealed, digest, shelf.key))
    }
}
