//! `:use`: the steps of a module as functions.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{Interface, interfaces};

use super::execute::Execution;
use super::grants::{changed_crates, crate_stamp};
use super::{SessionError, failure};
use crate::cell::{Rust, module_name};
use crate::compile::{Grant, Version, Without, generate, steps_source};
use crate::output::{CellError, MimeBundle, Stream};
use crate::toolchain::{BuildOptions, Doing, build_module};

/// The arguments of `:use`.
pub(super) struct Wanted<'a> {
    pub path: &'a str,
    pub name: Option<&'a str>,
}

/// A module whose steps are ready to be called.
struct Used {
    name: String,
    module: Digest,
    interfaces: Vec<Interface>,
    grant: Option<Grant>,
}

impl Execution<'_> {
    /// Imports the steps of a module as functions of the session.
    pub(super) fn use_module(&mut self, range: &Range<usize>, wanted: &Wanted<'_>) -> Result<(), CellError> {
        let used = self.used(range, wanted)?;
        self.output.display(listing(&used), None);
        let version = self.version_of(used)?;
        self.account.modules.extend(version.modules.clone());
        self.scope.push(version);
        Ok(())
    }

    /// Rebuilds the crates that the cell calls if their sources have changed.
    pub(super) fn build_again(&mut self, rust: &Rust) -> Result<(), CellError> {
        let changed = changed_crates(&self.scope, &self.setup.directory);
        if changed.is_empty() {
            return Ok(());
        }
        let called = generate(&self.scope, &self.cell.code, rust, &Without::default()).modules;
        for version in changed {
            let modules = &self.scope.versions()[version].modules;
            if modules.keys().any(|name| called.contains_key(name)) {
                self.use_again(version)?;
            }
        }
        Ok(())
    }

    fn use_again(&mut self, version: usize) -> Result<(), CellError> {
        let old = self.scope.versions()[version].clone();
        let Some((name, grant)) = old.modules.keys().next().zip(old.grants.first()) else {
            return Ok(());
        };
        let wanted = Wanted {
            path: &grant.path,
            name: Some(name),
        };
        let said = format!("{} has changed since [{}]; rebuilding\n", grant.path, old.number);
        self.output.stream(Stream::Stderr, said.as_bytes());
        let used = self.used(&(0..self.cell.code.len()), &wanted)?;
        let new = Version {
            id: old.id.clone(),
            number: old.number,
            ..self.version_of(used)?
        };
        self.scope.replace(version, new);
        Ok(())
    }

    fn used(&mut self, range: &Range<usize>, wanted: &Wanted<'_>) -> Result<Used, CellError> {
        let path = self
            .setup
            .path(wanted.path)
            .map_err(|problem| self.refuse(range.clone(), &problem))?;
        let (module, name, grant) = match path.is_dir() {
            true => self.built_crate(range, &path, wanted.path)?,
            false => {
                let artifact = self.import(range, wanted.path)?;
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                (artifact.digest, stem, self.grants.pop())
            }
        };
        let name = match wanted.name {
            Some(name) => name.to_owned(),
            None => module_name(&name.replace(['-', '.'], "_")).map_err(|problem| {
                let problem = format!("{problem}\nhint: choose a name: `:use {} as steps`", wanted.path);
                self.refuse(range.clone(), &problem)
            })?,
        };
        let wasm = self.setup.runtime.store.get(&module).map_err(SessionError::from)?;
        let interfaces = interfaces(&wasm).map_err(|error| self.refuse(range.clone(), &error.to_string()))?;
        if interfaces.is_empty() {
            let problem = format!(
                "`{}` declares no steps\nhint: use `lockstep run` for a plain program",
                wanted.path
            );
            return Err(self.refuse(range.clone(), &problem));
        }
        Ok(Used {
            name,
            module,
            interfaces,
            grant,
        })
    }

    /// Builds a crate of steps. Returns the module's digest, the crate's name and the grant for its sources.
    fn built_crate(
        &mut self,
        range: &Range<usize>,
        path: &Path,
        typed: &str,
    ) -> Result<(Digest, String, Option<Grant>), CellError> {
        let stamp = crate_stamp(path);
        let place = Digest::of(path.as_os_str().as_encoded_bytes()).hex();
        let options = BuildOptions {
            confined_to: Some(self.setup.toolchain.locations().cache.join("used").join(&place[..16])),
            ..BuildOptions::default()
        };
        let (toolchain, interrupt) = (&self.setup.toolchain, self.interrupt);
        let mut shown = super::dependencies::Shown::new(&mut *self.output);
        let built = build_module(toolchain, path, &options, &|| interrupt.is_triggered(), &mut |at| {
            shown.show(&Doing::Compiling(at));
        });
        shown.finish();
        let built = built.map_err(|error| match error {
            error if error.is_interrupt() => failure::interrupted(),
            error => self.refuse(range.clone(), &error.to_string()),
        })?;
        let [module] = &built[..] else {
            let problem = format!("`{typed}` has {} programs and no step library", built.len());
            return Err(self.refuse(range.clone(), &problem));
        };
        for warning in &module.warnings {
            self.output.stream(Stream::Stderr, warning.as_bytes());
        }
        let digest = self
            .setup
            .runtime
            .store
            .put(module.wasm.clone())
            .map_err(SessionError::from)?;
        let grant = Grant {
            path: typed.to_owned(),
            digest,
            stamp,
            is_crate: true,
        };
        Ok((digest, module.name.clone(), Some(grant)))
    }

    fn version_of(&self, used: Used) -> Result<Version, CellError> {
        let text = steps_source(&used.name, &used.interfaces);
        let rust = Rust::parse(&text).map_err(|error| CellError::new("Error", error.message))?;
        Ok(Version {
            id: self.id(),
            number: self.cell.number,
            text,
            rust,
            has_rust: true,
            modules: BTreeMap::from([(used.name, used.module)]),
            grants: used.grant.into_iter().collect(),
            ..Version::default()
        })
    }
}

/// Lists the steps with their signatures.
fn listing(used: &Used) -> MimeBundle {
    let line = |interface: &Interface| {
        let inputs = interface.inputs.iter().map(|port| port.name.clone());
        let parameters = interface.parameters.iter().map(|parameter| match &parameter.default {
            Some(serde_json::Value::Null) => format!("{} = None", parameter.name),
            Some(default) => format!("{} = {default}", parameter.name),
            None => parameter.name.clone(),
        });
        let arguments: Vec<_> = inputs.chain(parameters).collect();
        let about = interface.doc.lines().next().unwrap_or_default();
        format!("{}::{}({})?  {about}", used.name, interface.step, arguments.join(", "))
    };
    let lines: Vec<_> = used.interfaces.iter().map(line).collect();
    MimeBundle::text(lines.join("\n"))
}
