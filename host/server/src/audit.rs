//! Audit log: one line of JSON for each request that changes something, and for each request that is refused.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use lockstep_view::error::{Error, Result};
use serde::Serialize;

use super::listen::Peer;
use super::request_id::RequestId;

/// The audit log. A background thread appends to its file.
pub struct Audit {
    lines: Sender<Line>,
    anonymous: Arc<Mutex<Anonymous>>,
}

/// What a log entry says of a request. The query string may contain a token and is omitted.
pub struct Asked {
    method: Method,
    path: String,
    peer: Option<Peer>,
    id: Option<RequestId>,
}

impl Asked {
    pub fn of(request: &Request) -> Self {
        let path = request.uri().path();
        Self {
            method: request.method().clone(),
            path: path.chars().take(PATH).collect(),
            peer: request.extensions().get().copied(),
            id: request.extensions().get().cloned(),
        }
    }

    /// What the host itself asks for at a time of a schedule.
    pub fn scheduled(name: &str) -> Self {
        Self {
            method: Method::POST,
            path: format!("/api/v1/schedules/{name}/trigger"),
            peer: None,
            id: None,
        }
    }
}

/// Who asks.
#[derive(Clone, Default)]
pub struct Who {
    pub user: Option<String>,
    /// Name of the token.
    pub token: Option<String>,
}

/// An entry of the log.
struct Line {
    at: SystemTime,
    who: Who,
    asked: Asked,
    status: StatusCode,
    refused: Option<&'static str>,
}

/// Refused requests without a valid token. Anyone can send them, so only some are logged one by one.
struct Anonymous {
    since: Instant,
    logged: u64,
    /// Number of further ones, by reason.
    more: BTreeMap<&'static str, u64>,
}

/// Maximum length of a logged path in characters.
const PATH: usize = 1000;
/// The time for which [`FEW`] holds.
const WINDOW: Duration = Duration::from_secs(10);
/// Maximum number of entries about anonymous requests in a window.
const FEW: u64 = 100;
/// Size in bytes at which a new file is started.
const LARGE: u64 = 64 << 20;
/// Number of full files to keep.
const KEPT: usize = 4;

impl Audit {
    /// Opens `audit.jsonl` in `directory`.
    pub fn open(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|e| Error::file("create", directory, &e))?;
        let path = directory.join("audit.jsonl");
        let log = Log::open(path.clone(), LARGE).map_err(|e| Error::file("write", &path, &e))?;
        let (lines, written) = channel();
        let anonymous = Arc::new(Mutex::new(Anonymous {
            since: Instant::now(),
            logged: 0,
            more: BTreeMap::new(),
        }));
        let write = std::thread::Builder::new().name("audit".to_owned());
        let own = anonymous.clone();
        write
            .spawn(move || write_all(log, &written, &own))
            .map_err(|e| Error::host(format_args!("can't start a thread: {e}")))?;
        Ok(Self { lines, anonymous })
    }

    /// Logs a request that was handled.
    pub fn done(&self, asked: Asked, who: Who, status: StatusCode) {
        self.say(asked, who, status, None);
    }

    /// Logs a request that was refused before it reached a handler.
    pub fn refused(&self, asked: Asked, who: Option<Who>, status: StatusCode, why: &'static str) {
        if who.is_none() && !locked(&self.anonymous).is_logged(why) {
            return;
        }
        self.say(asked, who.unwrap_or_default(), status, Some(why));
    }

    fn say(&self, asked: Asked, who: Who, status: StatusCode, refused: Option<&'static str>) {
        let line = Line {
            at: SystemTime::now(),
            who,
            asked,
            status,
            refused,
        };
        // the thread ends only when `self` is dropped
        let _ = self.lines.send(line);
    }
}

impl Anonymous {
    /// Counts a request. Returns whether it is logged.
    fn is_logged(&mut self, why: &'static str) -> bool {
        self.logged += 1;
        if self.logged > FEW {
            *self.more.entry(why).or_default() += 1;
        }
        self.logged <= FEW
    }

    /// Starts a new window when it is time. Returns the numbers of requests that were not logged in the one before.
    fn rest(&mut self) -> BTreeMap<&'static str, u64> {
        if self.since.elapsed() < WINDOW {
            return BTreeMap::new();
        }
        (self.since, self.logged) = (Instant::now(), 0);
        std::mem::take(&mut self.more)
    }
}

fn locked(anonymous: &Mutex<Anonymous>) -> MutexGuard<'_, Anonymous> {
    anonymous.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Delay before a write, to write several lines at once.
const GATHER: Duration = Duration::from_millis(20);

/// Writes lines in batches.
fn write_all(mut log: Log, lines: &Receiver<Line>, anonymous: &Mutex<Anonymous>) {
    let mut failing = false;
    loop {
        let first = match lines.recv_timeout(WINDOW / 10) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if first.is_some() {
            // a sleeping receiver keeps senders from waking this thread, which costs more than sending a line
            std::thread::sleep(GATHER);
        }
        let mut text: String = first
            .into_iter()
            .chain(lines.try_iter())
            .map(|line| line.to_json() + "\n")
            .collect();
        for (why, count) in locked(anonymous).rest() {
            text.push_str(&(more(why, count) + "\n"));
        }
        if text.is_empty() {
            continue;
        }
        let written = log.append(&text);
        if let (Err(error), false) = (&written, failing) {
            tracing::error!("can't write the audit log: {error}");
        }
        failing = written.is_err();
    }
}

/// The file of the log. A full one is renamed: `audit.jsonl.1` is the newest of these.
struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    /// Size at which a new file is started.
    large: u64,
}

impl Log {
    fn open(path: PathBuf, large: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, large })
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        if self.size > 0 && self.size + text.len() as u64 > self.large {
            self.rotate()?;
        }
        self.file.write_all(text.as_bytes())?;
        self.size += text.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let full = |number: usize| {
            let mut path = self.path.clone().into_os_string();
            path.push(format!(".{number}"));
            PathBuf::from(path)
        };
        for number in (1..KEPT).rev() {
            match std::fs::rename(full(number), full(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, full(1))?;
        *self = Self::open(self.path.clone(), self.large)?;
        Ok(())
    }
}

impl Line {
    fn to_json(&self) -> String {
        let written = Written {
            at: humantime::format_rfc3339_millis(self.at).to_string(),
            user: self.who.user.as_deref(),
            token: self.who.token.as_deref(),
            address: self.asked.peer.map(|Peer(address)| address.ip().to_string()),
            method: self.asked.method.as_str(),
            path: &self.asked.path,
            request_id: self.asked.id.as_ref().map(|RequestId(id)| &**id),
            status: self.status.as_u16(),
            refused: self.refused,
        };
        serde_json::to_string(&written).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Written<'a> {
    at: String,
    user: Option<&'a str>,
    token: Option<&'a str>,
    address: Option<String>,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}

/// Returns the line about `count` further requests that were refused because of `why`.
fn more(why: &'static str, count: u64) -> String {
    let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    serde_json::json!({ "at": at, "refused": why, "more": count }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_renamed_and_the_oldest_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        for number in 0..7 {
            // also across restarts
            let mut log = Log::open(path.clone(), 12).unwrap();
            log.append(&format!("first{number}\n")).unwrap();
            log.append(&format!("last{number}\n")).unwrap();
        }
        let mut files: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let expected = [
            "audit.jsonl",
            "audit.jsonl.1",
            "audit.jsonl.2",
            "audit.jsonl.3",
            "audit.jsonl.4",
        ];
        assert_eq!(files, expected);
        let read = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(
            (read("audit.jsonl"), read("audit.jsonl.1")),
            ("last6\n".to_owned(), "first6\n".to_owned())
        );
        assert_eq!(read("audit.jsonl.4"), "last4\n");
    }

    #[test]
    fn many_anonymous_requests_become_a_number() {
        let mut anonymous = Anonymous {
            since: Instant::now(),
            logged: 0,
            more: BTreeMap::new(),
        };
        let logged = (0..FEW + 7).filter(|_| anonymous.is_logged("unknown")).count() as u64;
        assert_eq!((logged, anonymous.rest()), (FEW, BTreeMap::new()));
        assert!(!anonymous.is_logged("host"));
        anonymous.since -= WINDOW;
        assert_eq!(anonymous.rest(), BTreeMap::from([("host", 1), ("unknown", 7)]));
        assert!(anonymous.is_logged("host"));
    }
}
