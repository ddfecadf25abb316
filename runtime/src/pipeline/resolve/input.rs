use serde_saphyr::Spanned;

use super::fill::only_name;
use super::{PipelineError, Place, Resolver};
use crate::digest::Digest;
use crate::pipeline::Source;
use crate::pipeline::file::TaskFile;
use crate::step::{Artifact, MediaType};

/// What an input is bound to.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) source: Source,
    /// What kind of bytes it is, as far as that is known.
    pub(super) media_type: MediaType,
    /// What the pipeline's file calls it, if it was pinned.
    pub(super) file: Option<String>,
}

impl Bound {
    pub(super) fn pinned(artifact: Artifact, file: Option<String>) -> Self {
        Self {
            media_type: artifact.media_type.clone(),
            source: Source::Pinned(artifact),
            file,
        }
    }

    /// Whether a task makes it, so that its media type was declared rather than guessed from the name of a file.
    pub(super) fn is_made(&self) -> bool {
        !matches!(self.source, Source::Pinned(_))
    }
}

impl Resolver<'_> {
    /// What an input is bound to: the part that the task is run for, an input of the pipeline, an output of another task, a
    /// digest, a file or directory.
    pub(super) fn input(&mut self, place: &Place, text: &Spanned<String>) -> Result<Bound, PipelineError> {
        let name = only_name(&text.value).unwrap_or(&text.value);
        let known = place.items.parts.get(name).or_else(|| place.scope.inputs.get(name));
        if let Some(bound) = known {
            return Ok(bound.clone());
        }
        match place.scope.port(text, &text.value)? {
            Some(port) => Ok(port),
            None => self.grant(place, text),
        }
    }

    fn grant(&mut self, place: &Place, at: &Spanned<String>) -> Result<Bound, PipelineError> {
        let store = &self.runtime.store;
        let text = place.fill_text(at, &at.value)?;
        let failed = |message: String| place.error(at, message);
        if let Ok(digest) = text.parse::<Digest>() {
            let known = store.artifact(&digest).map_err(|e| failed(e.to_string()))?;
            let known = known.ok_or_else(|| failed(format!("there is no artifact {digest} in the store")))?;
            return Ok(Bound::pinned(known, None));
        }
        let path = place.scope.pipeline.directory().join(&text);
        if let Some(known) = self.grants.get(&path) {
            return Ok(Bound::pinned(known.clone(), Some(text)));
        }
        if !path.exists() {
            let message = format!(
                "`{text}` is neither an output of a task (`task.output`; the tasks are {}) nor a file ({} does not exist)",
                place.scope.task_names(),
                path.display()
            );
            return Err(failed(message));
        }
        let artifact = store.import(&path).map_err(|e| failed(e.to_string()))?;
        self.grants.insert(path, artifact.clone());
        Ok(Bound::pinned(artifact, Some(text)))
    }
}

/// The tasks that a task's texts may name as those that it reads from.
pub(super) fn references(task: &TaskFile) -> impl Iterator<Item = &str> {
    let inputs = task.inputs.values().map(|text| text.value.as_str());
    let each = task
        .for_each
        .iter()
        .flat_map(|each| each.value.values().filter_map(|value| value.as_str()));
    let when = task.when.iter().map(|text| text.value.trim_start());
    let texts = inputs.chain(each).chain(when);
    texts.filter_map(|text| text.split_once('.').map(|(task, _)| task))
}
