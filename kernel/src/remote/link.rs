//! The connection to the host, with reconnection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;

use super::Request;
use super::asked::{Asked, Seen};
use super::host::{Host, HostError, Socket};
use crate::jupyter::{Channel, Header, Message, Origin, Publications, Reply, Stopped, failed, kernel_info};
use crate::output::CellError;
use crate::websocket::{Encoded, IOPUB, decode_text, decode_v1};

/// The first pause between connection attempts; doubled each time up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long a cell waits for reconnection to a host, for example while the host restarts.
const PATIENCE: Duration = Duration::from_secs(30);

/// The interval of pings.
const PING: Duration = Duration::from_secs(30);
/// The time without any message after which the connection counts as lost.
const SILENCE: Duration = Duration::from_secs(90);

/// The timeout for shutting down the kernel on the host. Jupyter waits for some seconds.
const SHUTDOWN: Duration = Duration::from_secs(3);

pub(super) struct Link<R> {
    host: Host,
    client: Client,
    origin: Arc<Origin>,
    publications: Publications,
    replies: UnboundedSender<Reply<R>>,
    stopped: watch::Sender<Option<Stopped>>,
    requests: UnboundedReceiver<Request<R>>,
    /// The id of this process on the host.
    session: String,
    asked: Asked<R>,
    seen: Seen,
    /// When the connection was lost; `None` while connected, and before the first connection.
    lost: Option<Instant>,
}

/// Why a connection ended.
enum End {
    Lost,
    /// The local kernel has ended.
    Over,
}

impl<R: Clone + Send + Sync + 'static> Link<R> {
    pub fn new(
        host: Host,
        origin: Arc<Origin>,
        publications: Publications,
        replies: UnboundedSender<Reply<R>>,
        stopped: watch::Sender<Option<Stopped>>,
        requests: UnboundedReceiver<Request<R>>,
    ) -> Result<Self, HostError> {
        Ok(Self {
            client: host.client()?,
            host,
            session: origin.unique(),
            origin,
            publications,
            replies,
            stopped,
            requests,
            asked: Asked::default(),
            seen: Seen::default(),
            lost: None,
        })
    }

    /// Connects and reconnects until the local kernel ends.
    pub async fn run(mut self) {
        self.status("starting", None);
        let mut pause = SHORTEST_PAUSE;
        loop {
            let (host, client) = (self.host.clone(), self.client.clone());
            let connecting = host.connect(client, self.session.clone(), self.seen.last());
            match self.meanwhile(connecting, false).await {
                Meanwhile::Done(Ok(socket)) => {
                    pause = SHORTEST_PAUSE;
                    self.lost = None;
                    if let End::Over = self.converse(socket).await {
                        return;
                    }
                    self.lost = Some(Instant::now());
                    self.tell_late();
                }
                Meanwhile::Done(Err(error)) => self.explain(&error),
                Meanwhile::Asked => {}
                Meanwhile::Over => return,
            }
            if let Meanwhile::Over = self.meanwhile(tokio::time::sleep(pause), true).await {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Collects requests until `work` is done or, with `asked_ends`, until a cell is requested.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>, asked_ends: bool) -> Meanwhile<T> {
        tokio::pin!(work);
        loop {
            let request = tokio::select! {
                done = &mut work => return Meanwhile::Done(done),
                request = self.requests.recv() => request,
            };
            let Some(request) = request else { return Meanwhile::Over };
            if let Some(request) = self.take(request, false).await {
                let is_cell = request.message.header.msg_type == "execute_request";
                if is_cell {
                    self.status("busy", Some(&request.message.header));
                }
                self.asked.add(request);
                if is_cell && asked_ends {
                    return Meanwhile::Asked;
                }
            }
        }
    }

    /// Sends requests and forwards messages until the connection is lost.
    async fn converse(&mut self, socket: Socket) -> End {
        let (mut to, mut from) = socket.split();
        for request in self.asked.send_all() {
            if to.send(frame(request)).await.is_err() {
                return End::Lost;
            }
        }
        self.asked.forget_unanswerable();
        let mut pings = interval(PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                came = from.next() => {
                    heard = Instant::now();
                    match came {
                        Some(Ok(Frame::Binary(bytes))) => self.came(decode_v1(&bytes).ok()),
                        Some(Ok(Frame::Text(text))) => self.came(decode_text(&text).ok()),
                        Some(Ok(Frame::Close(_)) | Err(_)) | None => return End::Lost,
                        Some(Ok(_)) => {}
                    }
                }
                request = self.requests.recv() => {
                    let Some(request) = request else { return End::Over };
                    if let Some(request) = self.take(request, true).await {
                        let frame = frame(&request);
                        self.asked.add(request);
                        self.asked.send_all();
                        if to.send(frame).await.is_err() {
                            return End::Lost;
                        }
                        self.asked.forget_unanswerable();
                    }
                }
                _ = pings.tick() => {
                    if heard.elapsed() > SILENCE || to.send(Frame::Ping(Vec::new().into())).await.is_err() {
                        return End::Lost;
                    }
                }
            }
        }
    }

    /// Forwards a message of the host.
    fn came(&mut self, message: Option<(String, Message)>) {
        let Some((channel, message)) = message else { return };
        if !self.seen.is_new(&message.header.msg_id) {
            return;
        }
        if channel == IOPUB {
            // Life-cycle states are published by the local process.
            let state = message.content["execution_state"].as_str().unwrap_or_default();
            if !matches!(state, "dead" | "restarting" | "starting") {
                // blocks while clients are slow, which in turn slows down the host
                tokio::task::block_in_place(|| self.publications.publish_output(message));
            }
        } else if let (Some(channel), Some(route)) = (Channel::named(&channel), self.asked.route_of(&message)) {
            self.send(channel, route, message);
        }
    }

    /// Answers requests that are handled locally; returns the others.
    async fn take(&mut self, request: Request<R>, connected: bool) -> Option<Request<R>> {
        let kind = request.message.header.msg_type.as_str();
        match (kind, request.channel) {
            ("kernel_info_request", _) => self.answer(&request, kernel_info::reply()),
            ("interrupt_request", Channel::Control) => {
                let asked = self.host.clone().interrupt(self.client.clone());
                let asked = timeout(SHUTDOWN, asked).await;
                if !connected || !matches!(asked, Ok(Ok(()))) {
                    self.give_up(
                        |this| this.asked.take(),
                        &CellError::new("Interrupted", "interrupted while disconnected from the host"),
                    );
                }
                self.answer(&request, json!({ "status": "ok" }));
            }
            ("shutdown_request", _) => {
                let restart = request.message.content["restart"].as_bool().unwrap_or(false);
                let asked = self.host.clone().shut_down(self.client.clone(), restart);
                // An unreachable host ends the idle kernel by itself.
                let _ = timeout(SHUTDOWN, asked).await;
                self.answer(&request, json!({ "status": "ok", "restart": restart }));
                self.stopped.send_replace(Some(Stopped { restart }));
            }
            _ => return Some(request),
        }
        None
    }

    /// Handles a failed connection attempt: fails the unsent requests, unless the connection was lost only recently.
    fn explain(&mut self, error: &HostError) {
        let is_back_soon = matches!(error, HostError::Away { .. }) && self.lost.is_some_and(|since| since.elapsed() < PATIENCE);
        if !is_back_soon {
            self.give_up(|this| this.asked.take_unsent(), &error.into());
        }
    }

    /// Answers requests with an error.
    fn give_up(&mut self, which: impl FnOnce(&mut Self) -> Vec<Request<R>>, error: &CellError) {
        for request in which(self) {
            let content = failed(error);
            if request.message.header.msg_type == "execute_request" {
                let CellError { ename, evalue, .. } = error;
                let output = json!({ "ename": ename, "evalue": evalue, "traceback": content["traceback"] });
                self.publish("error", Some(&request.message.header), output);
            }
            self.answer(&request, content);
        }
    }

    /// Notes the lost connection in the cells that run on the host.
    fn tell_late(&mut self) {
        let parents: Vec<Header> = self
            .asked
            .untold()
            .iter()
            .map(|request| request.message.header.clone())
            .collect();
        for parent in parents {
            let text = format!(
                "note: lost connection to {}; the cell keeps running there while this kernel reconnects\n",
                self.host.url
            );
            self.publish("stream", Some(&parent), json!({ "name": "stderr", "text": text }));
        }
    }

    fn answer(&self, request: &Request<R>, content: Value) {
        let header = &request.message.header;
        self.status("busy", Some(header));
        if let Some(kind) = header.msg_type.strip_suffix("_request") {
            let message = self
                .origin
                .message(&format!("{kind}_reply"), Some(&Arc::new(header.clone())), content);
            self.send(request.channel, request.route.clone(), message);
        }
        self.status("idle", Some(header));
    }

    fn send(&self, channel: Channel, route: R, message: Message) {
        // Sending fails if the transport has ended.
        let _ = self.replies.send(Reply { channel, route, message });
    }

    fn status(&self, state: &str, parent: Option<&Header>) {
        self.publish("status", parent, json!({ "execution_state": state }));
    }

    fn publish(&self, msg_type: &str, parent: Option<&Header>, content: Value) {
        let parent = parent.cloned().map(Arc::new);
        self.publications
            .publish(self.origin.message(msg_type, parent.as_ref(), content));
    }
}

/// The result of [`Link::meanwhile`].
enum Meanwhile<T> {
    Done(T),
    /// A cell was requested.
    Asked,
    /// The local kernel has ended.
    Over,
}

fn frame<R>(request: &Request<R>) -> Frame {
    Frame::Binary(Encoded::new(request.channel.name(), &request.message).binary().into())
}
