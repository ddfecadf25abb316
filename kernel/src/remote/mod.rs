//! A kernel on a host instead of in this process. Requests go to the host over HTTP and a WebSocket, and its messages come
//! from the same [`Outlets`].
//!
//! Handled locally: kernel info, so that the kernel responds at once, and interrupts and shutdown, which use the host's HTTP
//! API. After a reconnection, pending requests are sent again; the host recognizes them by `msg_id`.

mod asked;
mod host;
mod link;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::jupyter::{Channel, Message, Origin, Outlets, Publications};

pub use host::{Host, HostError, Token};
use link::Link;

/// A request, with the address of its client.
#[derive(Debug)]
struct Request<R> {
    channel: Channel,
    route: R,
    message: Message,
}

/// The local end of a kernel on a host.
#[derive(Debug)]
pub struct Remote<R> {
    requests: UnboundedSender<Request<R>>,
    publications: Publications,
    link: JoinHandle<()>,
}

impl<R: Clone + Send + Sync + 'static> Remote<R> {
    /// Connects, and reconnects, in the background. Must be called within tokio.
    pub fn start(host: Host, origin: Origin) -> Result<(Self, Outlets<R>), HostError> {
        let origin = Arc::new(origin);
        let publications = Publications::new(origin.clone());
        let (replies, replies_out) = tokio::sync::mpsc::unbounded_channel();
        let (stopped, stopped_out) = watch::channel(None);
        let (requests, taken) = unbounded_channel();
        let outlets = Outlets {
            publications: publications.clone(),
            replies: replies_out,
            stopped: stopped_out,
        };
        let link = Link::new(host, origin, publications.clone(), replies, stopped, taken)?;
        let remote = Self {
            requests,
            publications,
            link: tokio::spawn(link.run()),
        };
        Ok((remote, outlets))
    }

    /// Submits a request without blocking.
    pub fn submit(&self, channel: Channel, route: R, message: Message) {
        // The link only ends with the kernel.
        let _ = self.requests.send(Request { channel, route, message });
    }

    /// Closes the connection. The kernel keeps running on the host unless a client has requested shutdown.
    pub async fn stop(self, timeout: Duration) {
        let Self {
            requests,
            publications,
            link,
        } = self;
        drop(requests);
        publications.close();
        // The process ends even if the timeout expires.
        let _ = tokio::time::timeout(timeout, link).await;
    }
}
