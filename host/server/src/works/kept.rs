//! Files of work items, `<id>.json`.

use std::path::{Path, PathBuf};

use lockstep_view::error::{Error, Result};
use lockstep_view::export;
use serde::{Deserialize, Serialize};

use super::{Progress, Submission, WorkItem};

#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    submitted_ms: u64,
    submission: &'a Submission,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Progress>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    id: String,
    submitted_ms: u64,
    submission: Submission,
    ended: Option<Progress>,
}

/// Writes the file of `work`: the submission, and the result if it has ended. Returns its path.
pub(super) fn write(directory: &Path, work: &WorkItem) -> Result<PathBuf> {
    let progress = work.progress();
    let written = Written {
        id: &work.id,
        submitted_ms: work.submitted_ms,
        submission: &work.submission,
        ended: progress.state.is_over().then_some(progress),
    };
    let json = serde_json::to_vec(&written).map_err(|e| Error::host(format_args!("can't serialize a work item: {e}")))?;
    let path = path(directory, &work.id);
    export::write(&path, &json)?;
    Ok(path)
}

/// Reads all work items in the directory. Skips and logs invalid files.
pub(super) fn read(directory: &Path) -> Vec<WorkItem> {
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let paths = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|is| is == "json"));
    paths.filter_map(|path| read_one(&path)).collect()
}

fn read_one(path: &Path) -> Option<WorkItem> {
    let read = std::fs::read(path).map_err(serde_json::Error::io);
    match read.and_then(|bytes| serde_json::from_slice::<Read>(&bytes)) {
        Ok(read) => Some(WorkItem::new(read.id, read.submitted_ms, read.submission, read.ended)),
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

pub(super) fn remove(directory: &Path, id: &str) {
    // a file that remains does no harm
    let _ = std::fs::remove_file(path(directory, id));
}

fn path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.json"))
}
