use wasmtime::{ExternType, Instance, ModuleExport, Ref, Store};

use super::guest::Guest;
use super::{Module, SandboxError};
use crate::digest::Digest;
use crate::step::{BASE_MODULE, BASE_START};

/// A module that is instantiated in the memory and the table of its base.
pub(super) struct Based {
    module: wasmtime::Module,
    /// The base's exports that the module imports.
    imports: Vec<ModuleExport>,
    /// The base's table, and its minimum size that the module requires.
    table: Option<(ModuleExport, u64)>,
}

impl Based {
    /// Links a compiled module to its base. Also returns the base's start function.
    pub(super) fn new(module: wasmtime::Module, digest: &Digest, base: &Module) -> Result<(Self, ModuleExport), SandboxError> {
        let misfit = |reason: String| SandboxError::Base {
            digest: *digest,
            base: base.digest(),
            reason,
        };
        let below = base.instance().module();
        let (mut imports, mut table) = (Vec::new(), None);
        for import in module.imports() {
            let name = import.name();
            if import.module() != BASE_MODULE {
                return Err(misfit(format!(
                    "it imports `{name}` from `{}`, which is not its base",
                    import.module()
                )));
            }
            let found = below.get_export_index(name).zip(below.get_export(name));
            let (index, offered) = found.ok_or_else(|| misfit(format!("the base has no export `{name}`")))?;
            if !fits(&import.ty(), &offered) {
                return Err(misfit(format!("the base's export `{name}` has a different type")));
            }
            if let ExternType::Table(wanted) = import.ty() {
                table = Some((index, wanted.minimum()));
            }
            imports.push(index);
        }
        let start = below.get_export_index(BASE_START);
        let start = start.ok_or_else(|| misfit(format!("the base has no export `{BASE_START}`")))?;
        Ok((Self { module, imports, table }, start))
    }

    /// Instantiates the module in an instance of the base.
    pub(super) async fn put_onto(&self, store: &mut Store<Guest>, base: &Instance) -> wasmtime::Result<()> {
        let gone = || wasmtime::Error::msg("an export of the base is missing");
        if let Some((table, wanted)) = &self.table {
            let table = base.get_module_export(&mut *store, table);
            let table = table.and_then(wasmtime::Extern::into_table).ok_or_else(gone)?;
            let missing = wanted.saturating_sub(table.size(&*store));
            table.grow(&mut *store, missing, Ref::Func(None))?;
        }
        let mut imports = Vec::with_capacity(self.imports.len());
        for import in &self.imports {
            imports.push(base.get_module_export(&mut *store, import).ok_or_else(gone)?);
        }
        Instance::new_async(store, &self.module, &imports).await.map(drop)
    }
}

/// Returns whether an export satisfies an import. Tables are grown, so their size does not matter.
fn fits(wanted: &ExternType, offered: &ExternType) -> bool {
    match (wanted, offered) {
        (ExternType::Func(wanted), ExternType::Func(offered)) => offered.matches(wanted),
        (ExternType::Global(wanted), ExternType::Global(offered)) => {
            wanted.mutability() == offered.mutability() && offered.content().matches(wanted.content())
        }
        (ExternType::Memory(wanted), ExternType::Memory(offered)) => {
            wanted.minimum() <= offered.minimum() && wanted.maximum().is_none()
        }
        (ExternType::Table(wanted), ExternType::Table(offered)) => {
            wanted.element().matches(offered.element()) && wanted.maximum().is_none()
        }
        _ => false,
    }
}
