//! The envelope of a Jupyter message: header, parent, metadata, content, buffers.
//!
//! Format: <https://jupyter-client.readthedocs.io/en/stable/messaging.html>, protocol 5.5. Content stays JSON here and is
//! read where it is used, so that what this kernel does not know (`subshell_id`, say) is passed on and not dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The version of the messaging protocol that this kernel speaks.
pub const PROTOCOL_VERSION: &str = "5.5";

/// Which of a kernel's channels a request came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Requests answered one after the other.
    Shell,
    /// Requests answered at once, also while a cell runs.
    Control,
    /// What the kernel asks a front end, and the answers.
    Stdin,
}

impl Channel {
    /// As Jupyter calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Control => "control",
            Self::Stdin => "stdin",
        }
    }

    /// The channel of requests called `name`.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Shell, Self::Control, Self::Stdin]
            .into_iter()
            .find(|channel| channel.name() == name)
    }
}

/// Who wrote a message, when, and which one it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Header {
    /// Unique to the message.
    pub msg_id: String,
    /// `execute_request` and the like.
    pub msg_type: String,
    /// Unique to the client, or to the kernel process.
    #[serde(default)]
    pub session: String,
    /// The user, of no meaning here.
    #[serde(default)]
    pub username: String,
    /// RFC 3339.
    #[serde(default)]
    pub date: String,
    /// Of the protocol.
    #[serde(default)]
    pub version: String,
    /// Fields of other protocol versions, passed on in `parent_header`.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Header {
    /// The subshell that the request is for; `None` is the main shell.
    pub fn subshell(&self) -> Option<&str> {
        self.rest.get("subshell_id")?.as_str()
    }
}

/// One message of any type.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its own header.
    pub header: Header,
    /// The header of the message that caused it; `{}` on the wire when there is none.
    pub parent: Option<Arc<Header>>,
    /// An object.
    pub metadata: Value,
    /// An object whose fields depend on `header.msg_type`.
    pub content: Value,
    /// Binary attachments.
    pub buffers: Vec<Bytes>,
}

impl Message {
    /// The parent's header as it is written.
    pub fn parent_json(&self) -> Value {
        match &self.parent {
            Some(header) => json!(**header),
            None => json!({}),
        }
    }
}

/// Who this kernel process is. Stamps the headers of all that it sends.
#[derive(Debug)]
pub struct Origin {
    session: String,
    now: fn() -> SystemTime,
    sent: AtomicU64,
}

impl Origin {
    /// A kernel process named by `session` (unique to the process), with `now` for the dates in headers, which are
    /// shown and never acted on.
    pub fn new(session: impl Into<String>, now: fn() -> SystemTime) -> Self {
        Self {
            session: session.into(),
            now,
            sent: AtomicU64::new(0),
        }
    }

    /// A name that nothing else of this kernel has.
    pub fn unique(&self) -> String {
        format!("{}_{}", self.session, self.sent.fetch_add(1, Ordering::Relaxed))
    }

    /// A new message of this kernel.
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
