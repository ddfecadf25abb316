//! The envelope of a Jupyter message: header, parent, metadata, content, buffers.
//!
//! Format: <https://jupyter-client.readthedocs.io/en/stable/messaging.html>, protocol 5.5. Content stays JSON here and is
//! parsed where it is used, so that unknown fields are passed on and not dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The version of the messaging protocol.
pub const PROTOCOL_VERSION: &str = "5.5";

/// The channel of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Requests answered in order.
    Shell,
    /// Requests answered at once, even while a cell runs.
    Control,
    /// Input requests of the kernel, and their answers.
    Stdin,
}

impl Channel {
    /// Returns Jupyter's name of the channel.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Control => "control",
            Self::Stdin => "stdin",
        }
    }

    /// Returns the channel with Jupyter's name `name`.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Shell, Self::Control, Self::Stdin]
            .into_iter()
            .find(|channel| channel.name() == name)
    }
}

/// The header of a message: id, type, sender and date.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Header {
    /// The unique id of the message.
    pub msg_id: String,
    /// The type, such as `execute_request`.
    pub msg_type: String,
    /// The unique id of the client or the kernel process.
    #[serde(default)]
    pub session: String,
    /// The user; not used here.
    #[serde(default)]
    pub username: String,
    /// The date in RFC 3339.
    #[serde(default)]
    pub date: String,
    /// The protocol version.
    #[serde(default)]
    pub version: String,
    /// Fields of other protocol versions, passed on in `parent_header`.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Header {
    /// Returns the subshell of the request; `None` is the main shell.
    pub fn subshell(&self) -> Option<&str> {
        self.rest.get("subshell_id")?.as_str()
    }
}

/// A message of any type.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The header.
    pub header: Header,
    /// The header of the message that caused it; `{}` on the wire if there is none.
    pub parent: Option<Arc<Header>>,
    /// The metadata, an object.
    pub metadata: Value,
    /// The content, an object whose fields depend on `header.msg_type`.
    pub content: Value,
    /// Binary attachments.
    pub buffers: Vec<Bytes>,
}

impl Message {
    /// Returns the parent's header as JSON.
    pub fn parent_json(&self) -> Value {
        match &self.parent {
            Some(header) => json!(**header),
            None => json!({}),
        }
    }
}

/// The identity of this kernel process. Creates the headers of all sent messages.
#[derive(Debug)]
pub struct Origin {
    session: String,
    now: fn() -> SystemTime,
    sent: AtomicU64,
}

impl Origin {
    /// Creates an origin with a `session` unique to the process. `now` gives the dates in headers, which are informational.
    pub fn new(session: impl Into<String>, now: fn() -> SystemTime) -> Self {
        Self {
            session: session.into(),
            now,
            sent: AtomicU64::new(0),
        }
    }

    /// Returns a new unique name.
    pub fn unique(&self) -> String {
        format!("{}_{}", self.session, self.sent.fetch_add(1, Ordering::Relaxed))
    }

    /// Creates a message.
    pub fn message(&self, msg_type: &str, parent: Option<&Arc<Header>>, content: Value) -> Message {
        Message {
            header: Header {
                msg_id: self.unique(),
                msg_type: msg_type.to_owned(),
                session: self.session.clone(),
                username: "kernel".to_owned(),
                date: humantime::format_rfc3339_micros((self.now)()).to_string(),
                version: PROTOCOL_VERSION.to_owned(),
                rest: Map::new(),
            },
            parent: parent.cloned(),
            metadata: json!({}),
            content,
            buffers: Vec::new(),
        }
    }
}
