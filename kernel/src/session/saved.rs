//! Session files, from which a session can be restored. They hold texts and digests; values are in the store.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::store::{Durability, Store};
use serde::{Deserialize, Serialize};

use super::SessionFile;
use crate::compile::{Held, Scope};
use crate::file::write_lasting;
use crate::notebook::Notebook;
use crate::toolchain::Lock;

/// The version of the format.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    cells: &'a Scope,
    lock: &'a Lock,
}

/// A saved session.
#[derive(Deserialize)]
pub(super) struct Saved {
    pub cells: Scope,
    /// The lock of its dependencies.
    pub lock: Lock,
}

impl SessionFile {
    /// Returns the file of the current session. It is written atomically after each cell.
    pub fn current(&self) -> PathBuf {
        self.file("json")
    }

    /// Returns the file of the session from before the last restart.
    pub fn previous(&self) -> PathBuf {
        self.file("previous.json")
    }

    /// Moves a session that this version can't read aside, so that it is not overwritten. Returns its new path.
    pub(super) fn set_aside(&self) -> io::Result<PathBuf> {
        let aside = self.file("unread.json");
        std::fs::rename(self.current(), &aside)?;
        Ok(aside)
    }

    /// Moves the session aside on a restart by the user: it is kept for `:restore` and not restored automatically.
    pub fn end(&self) {
        // If the file is missing, nothing was executed.
        let _ = std::fs::rename(self.current(), self.previous());
    }

    fn file(&self, extension: &str) -> PathBuf {
        let name = Digest::of(self.notebook.as_os_str().as_encoded_bytes());
        self.directory.join(format!("{}.{extension}", name.hex()))
    }
}

/// Writes a session.
pub(super) fn write(path: &Path, scope: &Scope, lock: &Lock, durability: Durability) -> io::Result<()> {
    let json = serde_json::to_vec(&Written {
        format: FORMAT,
        cells: scope,
        lock,
    })?;
    write_lasting(path, &json, durability)
}

/// Reads the session in a file, if there is one. The error is the reason why this version can't read it.
pub(super) fn read(path: &Path) -> Result<Option<Saved>, String> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let json = match std::fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let damaged = |error: &dyn std::fmt::Display| format!("it is damaged: {error}");
    let Format { format } = serde_json::from_slice(&json).map_err(|error| damaged(&error))?;
    if format != FORMAT {
        return Err(format!(
            "it has format {format}, but this version of lockstep reads format {FORMAT}"
        ));
    }
    let mut saved: Saved = serde_json::from_slice(&json).map_err(|error| damaged(&error))?;
    if !saved.cells.is_sound() {
        return Err(damaged(&"its cells contradict each other"));
    }
    saved.cells.revive();
    Ok(Some(saved))
}

/// Marks variables to be recomputed if their artifacts are missing from the store.
pub(super) fn with_what_is_left(mut scope: Scope, store: &Store) -> Scope {
    scope.for_each_variable(|variable| {
        if let Held::Artifact { artifact, .. } = &variable.held
            && !store.contains(&artifact.digest).unwrap_or(false)
        {
            variable.held = Held::Remade;
        }
    });
    scope
}

/// The order of a notebook's cells in its file. A notebook with figures is large, so the file is only read if it has
/// changed.
#[derive(Default)]
pub(super) struct Order {
    /// The modification time and length of the file when it was last read.
    read: Option<(SystemTime, u64)>,
    ids: Vec<String>,
}

impl Order {
    /// Returns the ids of the cells, from top to bottom; none if the file can't be read.
    pub fn of(&mut self, notebook: &Path) -> &[String] {
        let now = std::fs::metadata(notebook).and_then(|file| Ok((file.modified()?, file.len())));
        let now = now.ok();
        if now.is_none() || now != self.read {
            self.ids = cell_ids(notebook);
            self.read = now;
        }
        &self.ids
    }
}

fn cell_ids(notebook: &Path) -> Vec<String> {
    let notebook = Notebook::read(notebook).unwrap_or_default();
    notebook.cells.into_iter().filter_map(|cell| cell.id).collect()
}
