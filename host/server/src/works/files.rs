//! Files of work items, `works/<id>.json`, of versions that had no table of them.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::item::{Progress, Submission, WorkItem};
use super::journal::Journal;
use crate::fair::Owner;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    id: String,
    submitted_ms: u64,
    submission: Submission,
    ended: Option<Progress>,
}

/// Reads all work items in the directory, with their files. Skips and logs invalid files.
pub(super) fn read(directory: &Path, owner: &Owner) -> Vec<(WorkItem, PathBuf)> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|is| is == "json"));
    paths.filter_map(|path| Some((read_one(&path, owner)?, path))).collect()
}

fn read_one(path: &Path, owner: &Owner) -> Option<WorkItem> {
    let read = std::fs::read(path).map_err(serde_json::Error::io);
    match read.and_then(|bytes| serde_json::from_slice::<Read>(&bytes)) {
        Ok(read) => {
            let work = WorkItem::new(read.id, read.submitted_ms, read.submission, owner.clone(), None);
            Some(work.restored(read.ended, 0, Journal::default()))
        }
        Err(error) => {
            tracing::error!(
                "can't resume the work item in {}: {error}. Its file is kept: use the version of lockstep that wrote it, or submit the work \
                 again and delete the file",
                path.display()
            );
            None
        }
    }
}
