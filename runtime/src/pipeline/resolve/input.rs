use super::{PipelineError, Resolver, TaskContext};
use crate::digest::Digest;
use crate::pipeline::Source;
use crate::pipeline::file::TaskFile;
use crate::pipeline::reference::only_name;
use crate::pipeline::yaml::Spanned;
use crate::step::{Artifact, MediaType};

/// The binding of an input.
#[derive(Clone, Debug)]
pub(super) struct Bound {
    pub(super) source: Source,
    /// The media type, as far as it is known.
    pub(super) media_type: MediaType,
    /// Its name in the pipeline file, if it is pinned.
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

    /// Returns whether a task produces it. Then its media type is declared and not guessed from a file name.
    pub(super) fn is_made(&self) -> bool {
        !matches!(self.source, Source::Pinned(_))
    }
}

impl Resolver<'_> {
    /// Resolves an input: the current part of a `for_each`, an input of the pipeline, an output of another task, a digest, a file or a
    /// directory.
    pub(super) fn input(&mut self, place: &TaskContext, text: &Spanned<String>) -> Result<Bound, PipelineError> {
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

    fn grant(&mut self, place: &TaskContext, at: &Spanned<String>) -> Result<Bound, PipelineError> {
        let store = &self.runtime.store;
        let text = place.fill_text(at, &at.value)?;
        let failed = |message: String| place.error(at, message);
        if let Ok(digest) = text.parse::<Digest>() {
            let known = store.artifact(&digest).map_err(|e| failed(e.to_string()))?;
            let known = known.ok_or_else(|| failed(format!("artifact {digest} not found in the store")))?;
            return Ok(Bound::pinned(known, None));
        }
        let path = place.scope.pipeline.directory().join(&text);
        if let Some(known) = self.grants.get(&path) {
            return Ok(Bound::pinned(known.clone(), Some(text)));
        }
        if !path.exists() {
            let message = format!(
                "`{text}` is neither a task output (`task.output`; the tasks are {}) nor a file ({} does not exist)",
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

/// Returns the names before the first dot in a task's references, which may be dependencies.
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
