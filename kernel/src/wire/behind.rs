use std::time::Duration;

use super::frames::Route;
use crate::jupyter::{Channel, Kernel, Message};
use crate::remote::Remote;

/// The kernel behind the sockets.
pub(super) enum Behind {
    /// In this process.
    Here(Kernel<Route>),
    /// On a host.
    There(Remote<Route>),
}

impl Behind {
    pub fn submit(&self, channel: Channel, route: Route, message: Message) {
        match self {
            Self::Here(kernel) => kernel.submit(channel, route, message),
            Self::There(remote) => remote.submit(channel, route, message),
        }
    }

    pub async fn stop(self, timeout: Duration) {
        match self {
            Self::Here(kernel) => kernel.stop(timeout).await,
            Self::There(remote) => remote.stop(timeout).await,
        }
    }
}
