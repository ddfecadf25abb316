//! WebSocket connections of clients to kernels.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::RequestExt;
use axum::extract::ws::{CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, Request};
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use lockstep_kernel::jupyter::Channel;
use lockstep_kernel::websocket::{V1, decode_text, decode_v1, decode_with_buffers};
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::audience::Seat;
use super::declined::Declined;
use super::hosted::Hosted;
use super::queue::{Ending, Outgoing};
use crate::Refusal;

/// Interval of pings.
const PING: Duration = Duration::from_secs(30);
/// A client that sends nothing for this long is disconnected.
const SILENCE: Duration = Duration::from_secs(90);
/// Timeout for sending a message.
const PATIENCE: Duration = Duration::from_secs(30);
/// Maximum size of a received message in bytes.
const LARGEST: usize = 64 << 20;

/// Query parameters of a connection.
#[derive(Deserialize)]
pub struct Asked {
    session_id: Option<String>,
    /// ID of the last message that the client received, or empty. Such a client is resumable: lost messages are sent again.
    after: Option<String>,
}

/// Connects a client to a kernel of this process, if there is one.
pub async fn attach(hosted: Option<Arc<Hosted>>, id: &str, mut request: Request) -> Result<Response, Declined> {
    let hosted = hosted.ok_or_else(|| Declined::no_kernel(id))?;
    let asked = request.extract_parts::<Query<Asked>>().await.map_err(Refusal::bad)?.0;
    let upgrade = request.extract_parts::<WebSocketUpgrade>().await.map_err(Refusal::bad)?;
    // reads the kernel's journal
    tokio::task::block_in_place(|| hosted.wake())?;
    let upgrade = upgrade.protocols([V1]).max_message_size(LARGEST).max_frame_size(LARGEST);
    let is_v1 = upgrade.selected_protocol().is_some();
    Ok(upgrade.on_upgrade(move |socket| async move {
        let session = asked.session_id.filter(|id| !id.is_empty());
        if let Ok(seat) = hosted.join(session, asked.after.as_deref()) {
            Connection::new(hosted, seat, is_v1).serve(socket).await;
        }
    }))
}

struct Connection {
    hosted: Arc<Hosted>,
    seat: Seat,
    is_v1: bool,
    heard: Mutex<Instant>,
    /// Pings sent after replies, with the requests that their pongs settle: a pong proves that the client has received all messages before
    /// the ping.
    replied: Mutex<VecDeque<(u64, String)>>,
}

impl Connection {
    fn new(hosted: Arc<Hosted>, seat: Seat, is_v1: bool) -> Self {
        Self {
            hosted,
            seat,
            is_v1,
            heard: Mutex::new(Instant::now()),
            replied: Mutex::default(),
        }
    }

    async fn serve(self, socket: WebSocket) {
        let (mut to, mut from) = socket.split();
        let (code, reason) = tokio::select! {
            ended = self.read(&mut from) => ended,
            ended = self.write(&mut to) => ended,
        };
        self.hosted.leave(&self.seat);
        let reason = reason.chars().take(100).collect::<String>().into();
        let close = Frame::Close(Some(CloseFrame { code, reason }));
        // the client may be disconnected
        let _ = timeout(Duration::from_secs(1), to.send(close)).await;
    }

    /// Reads requests until the client disconnects or sends an invalid message.
    async fn read(&self, from: &mut SplitStream<WebSocket>) -> (u16, String) {
        while let Some(frame) = from.next().await {
            *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            let message = match frame {
                Ok(Frame::Text(text)) => decode_text(&text),
                Ok(Frame::Binary(bytes)) if self.is_v1 => decode_v1(&bytes),
                Ok(Frame::Binary(bytes)) => decode_with_buffers(&bytes),
                Ok(Frame::Pong(which)) => {
                    self.arrived(&which);
                    continue;
                }
                Ok(Frame::Ping(_)) => continue,
                Ok(Frame::Close(_)) => break,
                Err(error) => return (close_code::SIZE, error.to_string()),
            };
            let (channel, message) = match message {
                Ok(message) => message,
                Err(error) => return (close_code::INVALID, error.to_string()),
            };
            let Some(channel) = Channel::named(&channel) else {
                return (close_code::INVALID, format!("unknown channel `{channel}`"));
            };
            if let Err(error) = self.hosted.submit(channel, &self.seat.address, message) {
                return (close_code::ERROR, error.to_string());
            }
        }
        (close_code::NORMAL, String::new())
    }

    async fn write(&self, to: &mut SplitSink<WebSocket, Frame>) -> (u16, String) {
        let mut pings = interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pings.reset();
        let mut number = 0_u64;
        loop {
            let next = tokio::select! {
                next = self.seat.queue.next() => next,
                _ = pings.tick() => {
                    if self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > SILENCE {
                        return (close_code::AWAY, "no answer to pings".to_owned());
                    }
                    if !send(to, Frame::Ping(Vec::new().into())).await {
                        return too_slow();
                    }
                    continue;
                }
            };
            let Outgoing { message, settles } = match next {
                Ok(outgoing) => outgoing,
                Err(Ending::TooSlow) => return too_slow(),
                Err(Ending::Gone) => return (close_code::NORMAL, "the kernel has shut down".to_owned()),
                Err(Ending::Replaced) => return (close_code::NORMAL, "the session has connected again".to_owned()),
            };
            let frame = match self.is_v1 {
                true => Frame::Binary(message.binary().into()),
                false => Frame::Text(message.text().into()),
            };
            if !send(to, frame).await {
                return too_slow();
            }
            if let Some(request) = settles {
                number += 1;
                self.replied
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push_back((number, request));
                if !send(to, Frame::Ping(number.to_le_bytes().to_vec().into())).await {
                    return too_slow();
                }
            }
        }
    }

    /// Handles a pong.
    fn arrived(&self, which: &[u8]) {
        let Ok(number) = which.try_into().map(u64::from_le_bytes) else {
            return;
        };
        let mut replied = self.replied.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, request)) = replied.pop_front_if(|(sent, _)| *sent <= number) {
            self.hosted.settle(&request);
        }
    }
}

fn too_slow() -> (u16, String) {
    (
        close_code::POLICY,
        "client too slow: reconnect to get the remaining messages".to_owned(),
    )
}

async fn send(to: &mut SplitSink<WebSocket, Frame>, frame: Frame) -> bool {
    matches!(timeout(PATIENCE, to.send(frame)).await, Ok(Ok(())))
}
