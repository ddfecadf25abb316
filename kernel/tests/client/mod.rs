//! An independent Jupyter client, which shares no code with the kernel's frames.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use jupyter_protocol::{ConnectionInfo, Transport};
use lockstep_kernel::jupyter::{Interpreter, Stopped};
use lockstep_kernel::wire::{Connection, Surroundings, serve};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zeromq::util::PeerIdentity;
use zeromq::{DealerSocket, ReqSocket, Socket, SocketOptions, SocketRecv, SocketSend, SubSocket, ZmqMessage};

const KEY: &str = "the key of this test";

/// The number of clients in this process.
static CLIENTS: AtomicU32 = AtomicU32::new(0);

/// The maximum time for a single reply.
const LIMIT: Duration = Duration::from_secs(20);

/// A kernel, run as a thread of this process.
pub struct Process {
    connection: Connection,
    thread: JoinHandle<Stopped>,
}

/// A received message.
#[derive(Debug, Clone)]
pub struct Told {
    pub header: Value,
    pub parent: Value,
    pub content: Value,
}

pub struct Client {
    key: &'static str,
    shell: DealerSocket,
    control: DealerSocket,
    stdin: DealerSocket,
    iopub: SubSocket,
    sent: u32,
    replies: HashMap<String, Value>,
    first: Option<Told>,
    /// The metadata of sent requests.
    pub metadata: Value,
    /// The subshell in the header of sent requests.
    pub subshell: Option<String>,
}

impl Process {
    pub fn start(interpreter: impl Interpreter) -> Self {
        // Hold all five ports until all are known, so that they differ.
        let held: Vec<_> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(held);
        let info = ConnectionInfo {
            transport: Transport::TCP,
            ip: "127.0.0.1".to_owned(),
            shell_port: ports[0],
            control_port: ports[1],
            iopub_port: ports[2],
            stdin_port: ports[3],
            hb_port: ports[4],
            key: KEY.to_owned(),
            signature_scheme: "hmac-sha256".to_owned(),
            kernel_name: None,
        };
        let connection = Connection { info };
        let surroundings = Surroundings {
            now: SystemTime::now,
            parent: None,
            history: None,
        };
        let thread = {
            let connection = connection.clone();
            std::thread::spawn(move || serve(&connection, interpreter, surroundings).unwrap())
        };
        Self { connection, thread }
    }

    pub async fn client(&self) -> Client {
        self.client_with_key(KEY).await
    }

    /// Returns a client whose subscription is confirmed by the welcome message.
    pub async fn client_with_key(&self, key: &'static str) -> Client {
        let identity = format!("client {}", CLIENTS.fetch_add(1, Ordering::Relaxed));
        let at = |port: u16| format!("tcp://127.0.0.1:{port}");
        let mut client = Client {
            key,
            shell: dealer(&identity),
            control: DealerSocket::new(),
            stdin: dealer(&identity),
            iopub: SubSocket::new(),
            sent: 0,
            replies: HashMap::new(),
            first: None,
            metadata: json!({}),
            subshell: None,
        };
        client.iopub.connect(&at(self.connection.info.iopub_port)).await.unwrap();
        client.iopub.subscribe("").await.unwrap();
        client.shell.connect(&at(self.connection.info.shell_port)).await.unwrap();
        client.control.connect(&at(self.connection.info.control_port)).await.unwrap();
        client.stdin.connect(&at(self.connection.info.stdin_port)).await.unwrap();
        let first = read(client.iopub.recv().await.unwrap(), KEY);
        client.first = Some(first);
        client
    }

    pub async fn heartbeat(&self, beat: &[u8]) -> Vec<u8> {
        let mut heart = ReqSocket::new();
        heart
            .connect(&format!("tcp://127.0.0.1:{}", self.connection.info.hb_port))
            .await
            .unwrap();
        heart.send(Bytes::copy_from_slice(beat).into()).await.unwrap();
        let frames = timeout(LIMIT, heart.recv()).await.unwrap().unwrap().into_vec();
        frames.concat()
    }

    /// Returns a subscriber that never reads after subscribing.
    pub async fn stalled_subscriber(&self) -> TcpStream {
        let address = ("127.0.0.1", self.connection.info.iopub_port);
        let mut stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let mut greeting = [0; 64];
        greeting[0] = 0xff;
        greeting[9] = 0x7f;
        greeting[10] = 3;
        greeting[12..16].copy_from_slice(b"NULL");
        stream.write_all(&greeting).await.unwrap();
        stream
            .write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB")
            .await
            .unwrap();
        stream.write_all(b"\x00\x01\x01").await.unwrap();
        let mut greeted = [0; 64];
        stream.read_exact(&mut greeted).await.unwrap();
        stream
    }

    /// Waits until the process ends.
    pub fn end(self) -> Stopped {
        self.thread.join().unwrap()
    }
}

impl Told {
    pub fn msg_type(&self) -> &str {
        self.header["msg_type"].as_str().unwrap()
    }
}

impl Client {
    /// Executes a cell. Returns its reply and all its publications.
    pub async fn execute(&mut self, code: &str) -> (Value, Vec<Told>) {
        let id = self.send("execute_request", json!({ "code": code })).await;
        let published = self.published(&id).await;
        (self.reply(&id).await, published)
    }

    /// Sends a request on shell and waits for its reply.
    pub async fn ask(&mut self, msg_type: &str, content: Value) -> Value {
        let id = self.send(msg_type, content).await;
        self.reply(&id).await
    }

    /// Sends a request on control and waits for its reply.
    pub async fn control(&mut self, msg_type: &str, content: Value) -> Value {
        let (_, frames) = self.request(msg_type, content);
        self.control.send(frames).await.unwrap();
        let reply = timeout(LIMIT, self.control.recv()).await.unwrap().unwrap();
        read(reply, self.key).content
    }

    /// Receives an input request of the kernel.
    pub async fn asked(&mut self) -> Told {
        let asked = read(timeout(LIMIT, self.stdin.recv()).await.unwrap().unwrap(), self.key);
        assert_eq!(asked.msg_type(), "input_request");
        asked
    }

    /// Answers the input request.
    pub async fn answer(&mut self, value: &str) {
        let (_, frames) = self.request("input_reply", json!({ "value": value }));
        self.stdin.send(frames).await.unwrap();
    }

    /// Sends a request on shell. Returns its id.
    pub async fn send(&mut self, msg_type: &str, content: Value) -> String {
        let (id, frames) = self.request(msg_type, content);
        self.shell.send(frames).await.unwrap();
        id
    }

    pub async fn send_raw(&mut self, frames: &[&str]) {
        let frames: Vec<_> = frames.iter().map(|frame| Bytes::copy_from_slice(frame.as_bytes())).collect();
        self.shell.send(ZmqMessage::try_from(frames).unwrap()).await.unwrap();
    }

    /// Returns the content of the only reply to a request on shell.
    pub async fn reply(&mut self, id: &str) -> Value {
        loop {
            if let Some(reply) = self.replies.remove(id) {
                return reply;
            }
            let reply = timeout(LIMIT, self.shell.recv()).await.unwrap().unwrap();
            let reply = read(reply, self.key);
            let of = reply.parent["msg_id"].as_str().unwrap().to_owned();
            assert!(self.replies.insert(of, reply.content).is_none(), "one reply for one request");
        }
    }

    /// Returns the publications for a request, up to the idle status.
    pub async fn published(&mut self, id: &str) -> Vec<Told> {
        self.published_while(id, |told| told.content["execution_state"] != "idle")
            .await
    }

    /// Returns the publications for a request, up to the first message of a type.
    pub async fn published_until(&mut self, id: &str, msg_type: &str) -> Vec<Told> {
        self.published_while(id, |told| told.msg_type() != msg_type).await
    }

    async fn published_while(&mut self, id: &str, more: impl Fn(&Told) -> bool) -> Vec<Told> {
        let mut found = Vec::new();
        loop {
            let told = self.publication().await;
            if told.parent["msg_id"] == id {
                let more = more(&told);
                found.push(told);
                if !more {
                    return found;
                }
            }
        }
    }

    /// Returns the next states of the kernel, for any request.
    pub async fn take_states(&mut self, count: usize) -> Vec<String> {
        let mut states = Vec::new();
        while states.len() < count {
            let told = self.publication().await;
            states.extend(told.content["execution_state"].as_str().map(str::to_owned));
        }
        states
    }

    /// Returns the first publication that this subscriber received.
    pub async fn first_publication(&mut self) -> Told {
        self.first.clone().unwrap()
    }

    pub async fn is_left_without_reply(&mut self) -> bool {
        timeout(Duration::from_millis(100), self.shell.recv()).await.is_err()
    }

    async fn publication(&mut self) -> Told {
        let message = timeout(LIMIT, self.iopub.recv()).await.unwrap().unwrap();
        read(message, KEY)
    }

    fn request(&mut self, msg_type: &str, content: Value) -> (String, ZmqMessage) {
        self.sent += 1;
        let id = format!("request-{}", self.sent);
        let mut header = json!({
            "msg_id": id, "msg_type": msg_type, "session": "test", "username": "me",
            "date": "2026-01-01T00:00:00Z", "version": "5.5",
        });
        if let Some(subshell) = &self.subshell {
            header["subshell_id"] = json!(subshell);
        }
        let parts = [header, json!({}), self.metadata.clone(), content].map(|part| Bytes::from(part.to_string()));
        let mut frames = vec![Bytes::from_static(b"<IDS|MSG>"), Bytes::from(signature(&parts, self.key))];
        frames.extend(parts);
        (id, ZmqMessage::try_from(frames).unwrap())
    }
}

/// Returns a socket with an identity. Shell and stdin use the same one, so that the kernel can address its input requests.
fn dealer(identity: &str) -> DealerSocket {
    let mut options = SocketOptions::default();
    options.peer_identity(PeerIdentity::try_from(Bytes::copy_from_slice(identity.as_bytes())).unwrap());
    DealerSocket::with_options(options)
}

fn signature(parts: &[Bytes], key: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a message and asserts its signature.
fn read(message: ZmqMessage, key: &str) -> Told {
    let frames = message.into_vec();
    let delimiter = frames.iter().position(|frame| frame == "<IDS|MSG>").unwrap();
    let parts = &frames[delimiter + 2..delimiter + 6];
    assert_eq!(frames[delimiter + 1], signature(parts, key));
    let json = |at: usize| serde_json::from_slice::<Value>(&parts[at]).unwrap();
    Told {
        header: json(0),
        parent: json(1),
        content: json(3),
    }
}
