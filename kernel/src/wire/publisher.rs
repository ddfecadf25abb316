//! A ZeroMQ publisher (XPUB): ZMTP 3.0 with the NULL mechanism, as in <https://rfc.zeromq.org/spec/23/>.
//!
//! The zeromq crate is used for all other sockets but does not fit here: its XPUB waits for the slowest subscriber, and its
//! PUB buffers without a limit in bytes. Here each subscriber has a buffer of [`ROOM`] bytes. A subscriber that blocks the
//! others for [`PATIENCE`] is stalled: it misses messages until it has read its buffer, and is not waited for until then.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// The buffer size of a subscriber, in bytes.
const ROOM: usize = 8 * 1024 * 1024;

/// How long publishing waits for a slow subscriber.
const PATIENCE: Duration = Duration::from_secs(1);

/// The timeout of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The maximum length of a received frame. Subscriptions are short.
const LONGEST_FRAME: u64 = 64 * 1024;

const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// Returns the frames of the welcome message for a subscription to a topic.
type Welcome = dyn Fn(&[u8]) -> Vec<Bytes> + Send + Sync;

/// All subscribers. Clones share them.
#[derive(Clone)]
pub(super) struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    subscribers: Mutex<Vec<Arc<Subscriber>>>,
    welcome: Box<Welcome>,
}

struct Subscriber {
    topics: Mutex<Vec<Vec<u8>>>,
    queue: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
    stalled: AtomicBool,
}

/// An encoded message, and the buffer space that it takes until it is written.
struct Waiting {
    encoded: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Publisher {
    pub fn new(welcome: impl Fn(&[u8]) -> Vec<Bytes> + Send + Sync + 'static) -> Self {
        let shared = Shared {
            subscribers: Mutex::default(),
            welcome: Box::new(welcome),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Accepts subscribers until dropped.
    pub async fn accept_tcp(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // If this fails, messages are only delayed.
                    let _ = stream.set_nodelay(true);
                    self.spawn(stream);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Accepts subscribers until dropped.
    pub async fn accept_unix(self, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.spawn(stream),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Sends a message to all subscribers of its topic, which is the first frame.
    pub async fn publish(&self, frames: &[Bytes]) {
        let Some(topic) = frames.first() else { return };
        let encoded = encode(frames);
        let receivers: Vec<_> = self.subscribers().iter().filter(|to| to.wants(topic)).cloned().collect();
        for subscriber in receivers {
            subscriber.send(encoded.clone()).await;
        }
    }

    /// Waits until everything published is passed to the operating system, except for stalled subscribers.
    pub async fn flush(&self) {
        let subscribers = self.subscribers().clone();
        for subscriber in subscribers {
            subscriber.flush().await;
        }
    }

    fn subscribers(&self) -> MutexGuard<'_, Vec<Arc<Subscriber>>> {
        self.shared.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, stream: impl AsyncRead + AsyncWrite + Send + 'static) {
        let publisher = self.clone();
        // An error only ends this subscriber's connection.
        tokio::spawn(async move { publisher.serve(stream).await });
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Send) -> io::Result<()> {
        let (reader, writer) = tokio::io::split(stream);
        let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::with_capacity(64 * 1024, writer));
        timeout(HANDSHAKE, shake_hands(&mut reader, &mut writer)).await??;
        let (queue, waiting) = mpsc::unbounded_channel();
        let subscriber = Arc::new(Subscriber {
            topics: Mutex::default(),
            queue,
            room: Arc::new(Semaphore::new(ROOM)),
            stalled: AtomicBool::new(false),
        });
        self.subscribers().push(subscriber.clone());
        let ended = tokio::select! {
            ended = self.listen(&mut reader, &subscriber) => ended,
            ended = write(&mut writer, waiting) => ended,
        };
        self.subscribers().retain(|other| !Arc::ptr_eq(other, &subscriber));
        // Wake senders that wait for buffer space.
        subscriber.room.close();
        ended
    }

    /// Reads subscriptions: a frame of 1 or 0 and the topic.
    async fn listen(&self, reader: &mut (impl AsyncRead + Unpin), subscriber: &Subscriber) -> io::Result<()> {
        loop {
            let (flags, body) = read_frame(reader).await?;
            match body.split_first() {
                Some((1, topic)) if flags & COMMAND == 0 => {
                    subscriber.topics().push(topic.to_vec());
                    subscriber.send(encode(&(self.shared.welcome)(topic))).await;
                }
                Some((0, topic)) if flags & COMMAND == 0 => {
                    let mut topics = subscriber.topics();
                    if let Some(at) = topics.iter().position(|known| known == topic) {
                        topics.swap_remove(at);
                    }
                }
                _ => {}
            }
        }
    }
}

impl Subscriber {
    fn topics(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants(&self, topic: &[u8]) -> bool {
        self.topics().iter().any(|prefix| topic.starts_with(prefix))
    }

    async fn send(&self, encoded: Bytes) {
        if self.has_stalled() {
            return;
        }
        let needed = permits(encoded.len().min(ROOM));
        match timeout(PATIENCE, self.room.clone().acquire_many_owned(needed)).await {
            // The writer only ends with this subscriber.
            Ok(Ok(room)) => drop(self.queue.send(Waiting { encoded, _room: room })),
            Ok(Err(_closed)) => {}
            Err(_too_late) => self.stalled.store(true, Ordering::Relaxed),
        }
    }

    async fn flush(&self) {
        // The whole buffer is free once nothing is queued.
        if !self.has_stalled() && timeout(PATIENCE, self.room.acquire_many(permits(ROOM))).await.is_err() {
            self.stalled.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the subscriber was too slow and has not caught up since.
    fn has_stalled(&self) -> bool {
        if self.room.available_permits() == ROOM {
            self.stalled.store(false, Ordering::Relaxed);
        }
        self.stalled.load(Ordering::Relaxed)
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), mut waiting: mpsc::UnboundedReceiver<Waiting>) -> io::Result<()> {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, 64).await > 0 {
        for one in &batch {
            writer.write_all(&one.encoded).await?;
        }
        writer.flush().await?;
        batch.clear();
    }
    Ok(())
}

/// Encodes a message: each frame is preceded by its flags and length.
fn encode(frames: &[Bytes]) -> Bytes {
    let mut encoded = BytesMut::with_capacity(frames.iter().map(|frame| frame.len() + 9).sum());
    for (at, frame) in frames.iter().enumerate() {
        let more = if at + 1 < frames.len() { MORE } else { 0 };
        put_frame(&mut encoded, more, frame);
    }
    encoded.freeze()
}

fn put_frame(to: &mut BytesMut, flags: u8, body: &[u8]) {
    match u8::try_from(body.len()) {
        Ok(len) => to.put_slice(&[flags, len]),
        Err(_) => {
            to.put_u8(flags | LONG);
            to.put_u64(body.len() as u64);
        }
    }
    to.put_slice(body);
}

async fn read_frame(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let flags = reader.read_u8().await?;
    let len = match flags & LONG {
        0 => u64::from(reader.read_u8().await?),
        _ => reader.read_u64().await?,
    };
    if len > LONGEST_FRAME {
        return Err(refused("frame too long"));
    }
    let mut body = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    reader.read_exact(&mut body).await?;
    Ok((flags, body))
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Performs the handshake, and checks that the client is a subscriber.
async fn shake_hands(reader: &mut (impl AsyncRead + Unpin), writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    writer.write_all(&greeting).await?;
    writer.flush().await?;
    let mut theirs = [0; 64];
    reader.read_exact(&mut theirs).await?;
    if theirs[0] != 0xff || theirs[9] != 0x7f || theirs[10] < 3 || theirs[12..17] != *b"NULL\0" {
        return Err(refused("not ZMTP 3 with the NULL mechanism"));
    }
    let mut ready = BytesMut::new();
    put_frame(&mut ready, COMMAND, b"\x05READY\x0bSocket-Type\0\0\0\x04XPUB");
    writer.write_all(&ready).await?;
    writer.flush().await?;
    let (flags, body) = read_frame(reader).await?;
    let properties = body.strip_prefix(b"\x05READY").filter(|_| flags & COMMAND != 0);
    match properties.and_then(socket_type) {
        Some(b"SUB" | b"XSUB") => Ok(()),
        _ => Err(refused("not a subscriber")),
    }
}

/// Returns the value of `Socket-Type` among properties: name length, name, value length (4 bytes), value.
fn socket_type(mut properties: &[u8]) -> Option<&[u8]> {
    loop {
        let (name_len, rest) = properties.split_first()?;
        let (name, rest) = rest.split_at_checked(usize::from(*name_len))?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        if name.eq_ignore_ascii_case(b"Socket-Type") {
            return Some(value);
        }
        properties = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_flags_and_length() {
        let long = Bytes::from(vec![7; 300]);
        let encoded = encode(&[Bytes::from_static(b"ab"), long]);
        assert_eq!(encoded[..4], [MORE, 2, b'a', b'b']);
        assert_eq!(encoded[4..14], [LONG, 0, 0, 0, 0, 0, 0, 1, 44, 7]);
    }

    #[test]
    fn the_socket_type_is_found_among_properties() {
        assert_eq!(
            socket_type(b"\x08Identity\0\0\0\0\x0bSocket-Type\0\0\0\x03SUB"),
            Some(b"SUB".as_slice())
        );
        assert_eq!(socket_type(b"\x0bSocket-Type\xff\0\0\x03SUB"), None);
        assert_eq!(socket_type(b""), None);
    }
}
