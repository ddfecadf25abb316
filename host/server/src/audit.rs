//! Audit log: one line of JSON for each request that changes something, and for each request that is refused.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use lockstep_view::error::{Error, Result};
use serde::Serialize;

/// The audit log. A background thread appends to its file.
pub struct Audit(Sender<Line>);

/// An entry of the log.
struct Line {
    at: SystemTime,
    user: Option<String>,
    method: Method,
    path: String,
    came: Came,
}

/// Result of a request.
enum Came {
    Done(StatusCode),
    Refused(&'static str),
}

impl Audit {
    /// Opens `audit.jsonl` in `directory`.
    pub fn open(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|e| Error::file("create", directory, &e))?;
        let path = directory.join("audit.jsonl");
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.map_err(|e| Error::file("write", &path, &e))?;
        let (lines, written) = channel();
        let write = std::thread::Builder::new().name("audit".to_owned());
        write
            .spawn(move || write_all(&file, &written))
            .map_err(|e| Error::host(format_args!("can't start a thread: {e}")))?;
        Ok(Self(lines))
    }

    /// Logs a request that was handled.
    pub fn done(&self, method: Method, path: String, user: Option<String>, status: StatusCode) {
        self.say(method, path, user, Came::Done(status));
    }

    /// Logs a request that was refused before it reached a handler. The query string may contain a token and is omitted.
    pub fn refused(&self, request: &Request, user: Option<String>, why: &'static str) {
        self.say(
            request.method().clone(),
            request.uri().path().to_owned(),
            user,
            Came::Refused(why),
        );
    }

    fn say(&self, method: Method, path: String, user: Option<String>, came: Came) {
        let line = Line {
            at: SystemTime::now(),
            user,
            method,
            path,
            came,
        };
        // the thread ends only when `self` is dropped
        let _ = self.0.send(line);
    }
}

/// Delay before a write, to write several lines at once.
const GATHER: Duration = Duration::from_millis(20);

/// Writes lines in batches.
fn write_all(mut file: &File, lines: &Receiver<Line>) {
    while let Ok(first) = lines.recv() {
        // a sleeping receiver keeps senders from waking this thread, which costs more than sending a line
        std::thread::sleep(GATHER);
        let text: String = std::iter::once(first)
            .chain(lines.try_iter())
            .map(|line| line.to_json() + "\n")
            .collect();
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::error!("can't write the audit log: {error}");
        }
    }
}

impl Line {
    fn to_json(&self) -> String {
        let (status, refused) = match self.came {
            Came::Done(status) => (Some(status.as_u16()), None),
            Came::Refused(why) => (None, Some(why)),
        };
        let written = Written {
            at: humantime::format_rfc3339_millis(self.at).to_string(),
            user: self.user.as_deref(),
            method: self.method.as_str(),
            path: &self.path,
            status,
            refused,
        };
        serde_json::to_string(&written).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Written<'a> {
    at: String,
    user: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}
