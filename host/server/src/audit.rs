//! What was asked for and by whom: a line of JSON for each request that changes something, and for each that is refused.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime};

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use lockstep_view::error::{Error, Result};
use serde::Serialize;

/// The file that is only ever added to, by a thread of its own.
pub struct Audit(Sender<Line>);

/// What is said of a request.
struct Line {
    at: SystemTime,
    user: Option<String>,
    method: Method,
    path: String,
    came: Came,
}

/// What came of a request.
enum Came {
    Done(StatusCode),
    Refused(&'static str),
}

impl Audit {
    /// `audit.jsonl` in `directory`.
    pub fn open(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|e| Error::file("make", directory, &e))?;
        let path = directory.join("audit.jsonl");
        let file = OpenOptions::new().append(true).create(true).open(&path);
        let file = file.map_err(|e| Error::file("write", &path, &e))?;
        let (lines, written) = channel();
        let write = std::thread::Builder::new().name("audit".to_owned());
        write
            .spawn(move || write_all(&file, &written))
            .map_err(|e| Error::host(format_args!("the system gave no threads: {e}")))?;
        Ok(Self(lines))
    }

    /// A request that was answered.
    pub fn done(&self, method: Method, path: String, user: Option<String>, status: StatusCode) {
        self.say(method, path, user, Came::Done(status));
    }

    /// A request that was refused before it was looked at. What stands behind the question mark may be a secret and is left out.
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
        // the thread lives as long as this
        let _ = self.0.send(line);
    }
}

/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(20);

/// Writes what comes, all that is there at a time.
fn write_all(mut file: &File, lines: &Receiver<Line>) {
    while let Ok(first) = lines.recv() {
        // those who come meanwhile need not wake this thread, which would cost them more than their line
        std::thread::sleep(GATHER);
        let text: String = std::iter::once(first)
            .chain(lines.try_iter())
            .map(|line| line.to_json() + "\n")
            .collect();
        if let Err(error) = file.write_all(text.as_bytes()) {
            tracing::error!("the audit log can't be written: {error}");
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
