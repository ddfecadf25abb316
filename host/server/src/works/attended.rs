//! Work whose client waits for the result.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use lockstep_runtime::run::Ran;
use lockstep_view::error::Result;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::{WorkItem, Works};

/// Work that takes longer gets a row in the table, so that it is listed after a crash of the host, too. Shorter work never waits for a disk.
pub const SOON: Duration = Duration::from_millis(100);

type CarriedOut = Pin<Box<dyn Future<Output = Option<Result<Ran>>> + Send>>;

/// Work that its client waits for. When the client leaves, the work goes on.
pub struct Attended {
    works: Arc<Works>,
    work: Arc<WorkItem>,
    /// Carries out the work; `None` when it has ended.
    carried_out: Option<CarriedOut>,
}

impl Attended {
    /// Starts the work with the first call of [`result`](Self::result).
    pub fn new(
        works: &Arc<Works>,
        work: &Arc<WorkItem>,
        carried_out: impl Future<Output = Option<Result<Ran>>> + Send + 'static,
    ) -> Self {
        Self {
            works: works.clone(),
            work: work.clone(),
            carried_out: Some(Box::pin(carried_out)),
        }
    }

    /// Waits up to `wait` for the result: `None` if the work goes on, `Some(None)` if it has none.
    pub async fn result(&mut self, wait: Duration) -> Option<Option<Result<Ran>>> {
        let carried_out = self.carried_out.as_mut()?;
        let mut result = timeout(wait.min(SOON), carried_out.as_mut()).await;
        if result.is_err() && wait > SOON {
            let (works, work) = (self.works.clone(), self.work.clone());
            tokio::task::spawn_blocking(move || keep(&works, &work));
            result = timeout(wait - SOON, carried_out.as_mut()).await;
        }
        let result = result.ok()?;
        self.carried_out = None;
        Some(result)
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if let (Some(carried_out), Ok(threads)) = (self.carried_out.take(), Handle::try_current()) {
            let (works, work) = (self.works.clone(), self.work.clone());
            threads.spawn_blocking(move || keep(&works, &work));
            threads.spawn(carried_out);
        }
    }
}

fn keep(works: &Works, work: &WorkItem) {
    if let Err(error) = works.keep(work, false) {
        tracing::error!(work = work.id, "can't store a work item: {error}");
    }
}
