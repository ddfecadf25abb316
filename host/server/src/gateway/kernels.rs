use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use lockstep_view::error::Result;

use super::declined::Declined;
use super::here::Here;
use super::hosted::{Env, Model};
use super::pods::Pods;
use super::{socket, tunnel};
use crate::Answer;

/// The kernels of a namespace.
pub enum Kernels {
    /// In this process.
    Here(Arc<Here>),
    /// In one pod each.
    Pods(Arc<Pods>),
}

impl Kernels {
    /// Returns the number of kernels.
    pub fn count(&self) -> usize {
        match self {
            Self::Here(here) => here.all().len(),
            Self::Pods(pods) => pods.count(),
        }
    }

    /// Returns the models of all kernels.
    pub async fn models(&self) -> Result<Vec<Model>> {
        match self {
            Self::Here(here) => Ok(here.all().iter().map(|hosted| hosted.model()).collect()),
            Self::Pods(pods) => pods.models().await,
        }
    }

    /// Starts a kernel, or returns the existing one with the ID in `env`. Refused beyond `most` kernels.
    pub async fn create(&self, env: Env, most: usize) -> Answer<Model> {
        match self {
            // may read the kernel's copy from the shared store
            Self::Here(here) => tokio::task::block_in_place(|| Ok(here.create(env, most)?.model())),
            Self::Pods(pods) => pods.create(env, most).await,
        }
    }

    /// Connects a client to the channels of a kernel.
    pub async fn attach(&self, id: &str, request: Request) -> Result<Response, Declined> {
        match self {
            Self::Here(here) => socket::attach(here.get(id), id, request).await,
            Self::Pods(pods) => tunnel::attach(pods.at(id).await?, id, request).await,
        }
    }

    /// Returns the model of a kernel; `None` if it does not exist.
    pub async fn model(&self, id: &str) -> Result<Option<Model>> {
        match self {
            Self::Here(here) => Ok(here.get(id).map(|hosted| hosted.model())),
            Self::Pods(pods) => Ok(pods.at(id).await?.map(|(_, model)| model)),
        }
    }

    /// Interrupts the running cell. Returns false if the kernel does not exist.
    pub async fn interrupt(&self, id: &str) -> Result<bool> {
        match self {
            Self::Here(here) => Ok(here.get(id).map(|hosted| hosted.interrupt()).is_some()),
            Self::Pods(pods) => match pods.at(id).await? {
                Some((pod, _)) => Ok(pod.interrupt(id).await.map(|()| true)?),
                None => Ok(false),
            },
        }
    }

    /// Restarts a kernel with a new session, under the same ID; `None` if it does not exist.
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

    /// Shuts down a kernel at a client's request. Returns false if it does not exist.
    pub async fn end(&self, id: &str) -> Result<bool> {
        match self {
            Self::Here(here) => Ok(here.end(id, false).await),
            Self::Pods(pods) => pods.end(id, false).await,
        }
    }

    /// Prepares the kernels in this process for its end: cells that are running run again in the next one.
    pub fn note_shutdown(&self) {
        if let Self::Here(here) = self {
            here.note_shutdown();
        }
    }

    /// Waits up to `patience` until the shared store has copies of the kernels in this process.
    pub fn flush(&self, patience: Duration) {
        if let Self::Here(here) = self {
            here.flush(patience);
        }
    }
}
