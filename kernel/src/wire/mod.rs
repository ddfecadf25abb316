//! A kernel process on ZeroMQ sockets. The only module that uses ZeroMQ.

mod behind;
mod connection;
mod frames;
mod publisher;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jupyter_protocol::Transport;
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use zeromq::{RouterRecvHalf, RouterSendHalf, RouterSocket, Socket, SocketRecv, SocketSend, ZmqError, ZmqMessage};

use behind::Behind;
pub use connection::{Connection, ConnectionError};
use frames::{Route, Signer};
use publisher::Publisher;

use crate::jupyter::{Channel, History, Interpreter, Kernel, Origin, Outlets, Publication, Publications, Reply, Stopped};
use crate::remote::{Host, HostError, Remote};

/// How long the process waits for the interpreter after shutdown.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the process waits for the last messages to be sent; the zeromq crate does not report when they are.
const LINGER: Duration = Duration::from_millis(50);

/// The environment of a kernel process.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The clock for the dates of messages, which are informational.
    pub now: fn() -> SystemTime,
    /// The process that started the kernel. The kernel ends with it. Jupyter passes it as `JPY_PARENT_PID`.
    pub parent: Option<u32>,
    /// The history file of all sessions. If it is missing or unusable, the history is kept in memory.
    pub history: Option<PathBuf>,
}

/// An error starting a kernel process.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The endpoint is in use or not available on this machine.
    #[error("can't listen on {endpoint} for {channel}: start the kernel again, so that Jupyter picks other ports")]
    Bind {
        /// the channel's name
        channel: &'static str,
        /// the endpoint
        endpoint: String,
        /// why not
        source: Box<ZmqError>,
    },
    /// A thread or the event loop can't be created.
    #[error("can't start threads for the kernel")]
    Threads(#[source] io::Error),
    /// The client for the host can't be created.
    #[error(transparent)]
    Host(HostError),
}

/// Serves until a client requests shutdown or the parent process ends. Blocks; must be called outside of any async runtime.
pub fn serve(connection: &Connection, interpreter: impl Interpreter, surroundings: Surroundings) -> Result<Stopped, WireError> {
    let history = surroundings.history.clone();
    serve_behind(connection, surroundings, move |origin| {
        let history = history.and_then(|path| History::open(&path).ok()).unwrap_or_default();
        let (kernel, outlets) = Kernel::start(origin, interpreter, history).map_err(WireError::Threads)?;
        Ok((Behind::Here(kernel), outlets))
    })
}

/// Like [`serve`], with a kernel on a host.
pub fn serve_remote(connection: &Connection, host: Host, surroundings: Surroundings) -> Result<Stopped, WireError> {
    serve_behind(connection, surroundings, |origin| {
        let (remote, outlets) = Remote::start(host, origin).map_err(WireError::Host)?;
        Ok((Behind::There(remote), outlets))
    })
}

/// Starts a kernel with an origin for its messages.
trait Start: FnOnce(Origin) -> Result<(Behind, Outlets<Route>), WireError> {}

impl<F: FnOnce(Origin) -> Result<(Behind, Outlets<Route>), WireError>> Start for F {}

fn serve_behind(connection: &Connection, surroundings: Surroundings, start: impl Start) -> Result<Stopped, WireError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(WireError::Threads)?;
    let stopped = runtime.block_on(run(connection, surroundings, start));
    runtime.shutdown_background();
    stopped
}

async fn run(connection: &Connection, surroundings: Surroundings, start: impl Start) -> Result<Stopped, WireError> {
    connection.remove_stale_sockets();
    let (shell_out, shell_in) = router(connection, "shell", connection.info.shell_port).await?;
    let (control_out, control_in) = router(connection, "control", connection.info.control_port).await?;
    let (stdin_out, stdin_in) = router(connection, "stdin", connection.info.stdin_port).await?;
    let (heartbeat_out, heartbeat_in) = router(connection, "heartbeat", connection.info.hb_port).await?;

    let session = uuid::Uuid::new_v4().to_string();
    let signer = Arc::new(Signer::new(&connection.info.key));
    let greeter = Origin::new(format!("{session}-welcome"), surroundings.now);
    let welcome = {
        let signer = signer.clone();
        move |topic: &[u8]| {
            let subscription = json!({ "subscription": String::from_utf8_lossy(topic) });
            signer.encode(
                vec![topic.to_vec().into()],
                &greeter.message("iopub_welcome", None, subscription),
            )
        }
    };
    let publisher = Publisher::new(welcome);
    let mut listening = JoinSet::new();
    listen_iopub(connection, &publisher, &mut listening).await?;

    let (kernel, outlets) = start(Origin::new(session, surroundings.now))?;
    let kernel = Arc::new(kernel);
    let mut stopped = outlets.stopped;
    let publishing = tokio::spawn(publish(outlets.publications, publisher, signer.clone()));
    let sockets = Replying {
        shell: shell_out,
        control: control_out,
        stdin: stdin_out,
    };
    tokio::spawn(reply(outlets.replies, sockets, signer.clone()));
    listening.spawn(submit(shell_in, Channel::Shell, kernel.clone(), signer.clone()));
    listening.spawn(submit(control_in, Channel::Control, kernel.clone(), signer.clone()));
    listening.spawn(submit(stdin_in, Channel::Stdin, kernel.clone(), signer));
    listening.spawn(echo(heartbeat_in, heartbeat_out));

    let reason = tokio::select! {
        stopped = stopped.wait_for(Option::is_some) => stopped.ok().and_then(|stopped| *stopped),
        () = parent_gone(surroundings.parent) => None,
    };
    listening.shutdown().await;
    if let Some(kernel) = Arc::into_inner(kernel) {
        kernel.stop(STOP_TIMEOUT).await;
    }
    // The queue is closed, so this ends once everything is sent or subscribers have stalled.
    let _ = tokio::time::timeout(STOP_TIMEOUT, publishing).await;
    tokio::time::sleep(LINGER).await;
    Ok(reason.unwrap_or(Stopped { restart: false }))
}

/// Decodes unsigned frames, for fuzzing.
#[doc(hidden)]
pub fn decode_unsigned<'a>(frames: impl Iterator<Item = &'a [u8]>) {
    // Both results are fine.
    let _ = Signer::new("").decode(frames.map(bytes::Bytes::copy_from_slice).collect());
}

async fn router(
    connection: &Connection,
    channel: &'static str,
    port: u16,
) -> Result<(RouterSendHalf, RouterRecvHalf), WireError> {
    let mut socket = RouterSocket::new();
    let endpoint = connection.endpoint(port);
    match socket.bind(&endpoint).await {
        Ok(_) => Ok(socket.split()),
        Err(source) => Err(WireError::Bind {
            channel,
            endpoint,
            source: Box::new(source),
        }),
    }
}

async fn listen_iopub(connection: &Connection, publisher: &Publisher, tasks: &mut JoinSet<()>) -> Result<(), WireError> {
    let port = connection.info.iopub_port;
    let failed = |source: io::Error| WireError::Bind {
        channel: "iopub",
        endpoint: connection.endpoint(port),
        source: Box::new(source.into()),
    };
    match connection.info.transport {
        Transport::TCP => {
            let listener = TcpListener::bind((connection.host(), port)).await.map_err(failed)?;
            tasks.spawn(publisher.clone().accept_tcp(listener));
        }
        Transport::IPC => {
            let listener = UnixListener::bind(connection.path(port)).map_err(failed)?;
            tasks.spawn(publisher.clone().accept_unix(listener));
        }
    }
    Ok(())
}

/// Returns the next message of any client. Errors are from clients that connect or disconnect, so they are ignored.
async fn receive(socket: &mut RouterRecvHalf) -> ZmqMessage {
    loop {
        match socket.recv().await {
            Ok(message) => return message,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn submit(mut socket: RouterRecvHalf, channel: Channel, kernel: Arc<Behind>, signer: Arc<Signer>) {
    loop {
        let frames = receive(&mut socket).await.into_vec();
        // Messages without a valid signature are dropped.
        if let Ok((route, message)) = signer.decode(frames) {
            kernel.submit(channel, route, message);
        }
    }
}

async fn echo(mut socket: RouterRecvHalf, mut to: RouterSendHalf) {
    loop {
        let beat = receive(&mut socket).await;
        // The client may have disconnected.
        let _ = to.send(beat).await;
    }
}

/// The sockets to single clients. A client has the same identity on all of them.
struct Replying {
    shell: RouterSendHalf,
    control: RouterSendHalf,
    stdin: RouterSendHalf,
}

async fn reply(mut replies: UnboundedReceiver<Reply<Route>>, mut sockets: Replying, signer: Arc<Signer>) {
    while let Some(reply) = replies.recv().await {
        let frames = signer.encode(reply.route, &reply.message);
        let socket = match reply.channel {
            Channel::Shell => &mut sockets.shell,
            Channel::Control => &mut sockets.control,
            Channel::Stdin => &mut sockets.stdin,
        };
        if let Ok(message) = ZmqMessage::try_from(frames) {
            // The client may have disconnected.
            let _ = socket.send(message).await;
        }
    }
}

async fn publish(publications: Publications, publisher: Publisher, signer: Arc<Signer>) {
    while let Some(publication) = publications.next().await {
        match publication {
            Publication::Message(message) => {
                let topic = message.header.msg_type.clone().into();
                publisher.publish(&signer.encode(vec![topic], &message)).await;
            }
            Publication::Flush(done) => {
                publisher.flush().await;
                // The requester may have timed out.
                let _ = done.send(());
            }
        }
    }
    publisher.flush().await;
}

/// Waits until the parent process has ended.
async fn parent_gone(parent: Option<u32>) {
    match parent {
        Some(parent) if std::os::unix::process::parent_id() == parent => {
            while std::os::unix::process::parent_id() == parent {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        _ => std::future::pending().await,
    }
}
