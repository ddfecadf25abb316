//! A kernel that a host holds, in the place of one in this process: requests go to it over HTTP and a WebSocket, and what it says comes
//! out of the same [`Outlets`].
//!
//! What is answered here: who the kernel is, so that it is there at once whatever the host does; interrupts and shutdown, which are the host's
//! own requests. A request that was sent before a connection was lost is sent again: the host knows it by its `msg_id`.

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

/// A request, with the address of who sent it.
#[derive(Debug)]
struct Request<R> {
    channel: Channel,
    route: R,
    message: Message,
}

/// The near end of a kernel on a host.
#[derive(Debug)]
pub struct Remote<R> {
    requests: UnboundedSender<Request<R>>,
    publications: Publications,
    link: JoinHandle<()>,
}

impl<R: Clone + Send + Sync + 'static> Remote<R> {
    /// Connects in the background, and again when the connection is lost. To be called within tokio.
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

    /// Takes in a request. Returns at once.
    pub fn submit(&self, channel: Channel, route: R, message: Message) {
        // The link ends only together with the kernel.
        let _ = self.requests.send(Request { channel, route, message });
    }

    /// Ends the connection. The kernel stays on the host unless a client has asked it to shut down.
    pub async fn stop(self, timeout: Duration) {
        let Self {
            requests,
            publications,
            link,
        } = self;
        drop(requests);
        publications.close();
        // Too late or not, the process ends.
        let _ = tokio::time::timeout(timeout, link).await;
    }
}
