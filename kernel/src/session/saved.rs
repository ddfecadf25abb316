//! Sessions as files: what is needed to take one up again. They hold texts and digests; the values are in the store.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::store::Store;
use serde::{Deserialize, Serialize};

use super::Place;
use crate::compile::{Held, Scope};
use crate::file::write_whole;
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

/// A session as it was kept.
#[derive(Deserialize)]
pub(super) struct Saved {
    format: u32,
    pub cells: Scope,
    /// What its dependencies were locked to.
    pub lock: Lock,
}

impl Place {
    /// The file of the session that is not ended; it is there after the first cell, and replaced whole after each.
    pub fn current(&self) -> PathBuf {
        self.file("json")
    }

    /// The file of the session before the last restart.
    pub fn previous(&self) -> PathBuf {
        self.file("previous.json")
    }

    /// The user restarts the kernel: the session is kept for `:restore` and not taken up by itself.
    pub fn end(&self) {
        // If it is not there, nothing was executed.
        let _ = std::fs::rename(self.current(), self.previous());
    }

    fn file(&self, extension: &str) -> PathBuf {
        let name = Digest::of(self.notebook.as_os_str().as_encoded_bytes());
        self.directory.join(format!("{}.{extension}", name.hex()))
    }
}

/// Writes a session.
pub(super) fn write(path: &Path, scope: &Scope, lock: &Lock) -> io::Result<()> {
    let json = serde_json::to_vec(&Written {
        format: FORMAT,
        cells: scope,
        lock,
    })?;
    write_whole(path, &json)
}

/// The session in a file; `None` if there is none that this `lockstep` can read.
pub(super) fn read(path: &Path) -> Option<Saved> {
    let mut saved: Saved = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    if saved.format != FORMAT || !saved.cells.is_sound() {
        return None;
    }
    saved.cells.revive();
    Some(saved)
}

/// The scope, where variables are made again whose artifacts the store has no more.
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

/// The order of a notebook's cells, as its file tells it. A notebook with figures is large, so the file is read when it has changed only.
#[derive(Default)]
pub(super) struct Order {
    /// When the file was written, and how long it is.
    read: Option<(SystemTime, u64)>,
    ids: Vec<String>,
}

impl Order {
    /// The ids of the cells, from top to bottom; none if the file can't be read.
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
