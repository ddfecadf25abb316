use std::sync::Arc;
use std::time::Duration;

use lockstep_view::error::Result;

use super::here::Here;
use super::hosted::{Env, Model};
use super::pods::Pods;

/// The kernels of a namespace.
pub enum Kernels {
    /// In this process.
    Here(Arc<Here>),
    /// Each in a pod of its own.
    Pods(Arc<Pods>),
}

impl Kernels {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Here(here) => here.all().len(),
            Self::Pods(pods) => pods.count(),
        }
    }

    /// What there is to tell of each.
    pub async fn models(&self) -> Result<Vec<Model>> {
        match self {
            Self::Here(here) => Ok(here.all().iter().map(|hosted| hosted.model()).collect()),
            Self::Pods(pods) => pods.models().await,
        }
    }

    /// Starts a kernel; or gives the one whose id `env` names.
    pub async fn create(&self, env: Env) -> Result<Model> {
        match self {
            // it may have to ask the shared store for the kernel's copy
            Self::Here(here) => tokio::task::block_in_place(|| Ok(here.create(env)?.model())),
            Self::Pods(pods) => pods.create(env).await,
        }
    }

    /// What there is to tell of one; `None` if it is not there.
    pub async fn model(&self, id: &str) -> Result<Option<Model>> {
        match self {
            Self::Here(here) => Ok(here.get(id).map(|hosted| hosted.model())),
            Self::Pods(pods) => Ok(pods.at(id).await?.map(|(_, model)| model)),
        }
    }

    /// Interrupts the running cell; false if there is no such kernel.
    pub async fn interrupt(&self, id: &str) -> Result<bool> {
        match self {
            Self::Here(here) => Ok(here.get(id).map(|hosted| hosted.interrupt()).is_some()),
            Self::Pods(pods) => match pods.at(id).await? {
                Some((pod, _)) => Ok(pod.interrupt(id).await.map(|()| true)?),
                None => Ok(false),
            },
        }
    }

    /// A new kernel with a new session under the same id; `None` if there is no such kernel.
    pub async fn restart(&self, id: &str) -> Result<Option<Model>> {
        match self {
            Self::Here(here) => match here.get(id) {
                Some(hosted) => hosted.restart().await.map(|()| Some(hosted.model())),
                None => Ok(None),
            },
            Self::Pods(pods) => match pods.at(id).await? {
                Some((pod, _)) => Ok(Some(pod.restart(id).await?)),
                None => Ok(None),
            },
        }
    }

    /// Ends a kernel that somebody shuts down; false if there is no such kernel.
    pub async fn end(&self, id: &str) -> Result<bool> {
        match self {
            Self::Here(here) => Ok(here.end(id, false).await),
            Self::Pods(pods) => pods.end(id, false).await,
        }
    }

    /// Waits until the shared store has copies of those in this process, no longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        if let Self::Here(here) = self {
            here.flush(patience);
        }
    }
}
