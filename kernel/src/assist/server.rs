use std::io::{BufReader, BufWriter};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use rustix::process::{Pid, setpriority_process};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Question, Surroundings, project, rpc};
use crate::compile::Draft;

/// The nice value of rust-analyzer, so that cells have priority.
const NICENESS: i32 = 5;

/// A rust-analyzer process with a loaded project. Dropping it ends the process, which also ends when its stdin is closed.
pub(super) struct Server {
    child: Child,
    outbox: Sender<Value>,
    inbox: Receiver<News>,
    last_id: u64,
    /// Whether the request `last_id` is pending.
    is_busy: bool,
    /// The version of the draft.
    version: u64,
    /// The URI of the draft's file, which does not exist on disk.
    file: String,
}

/// Why a request has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unanswered {
    /// The deadline has passed.
    Late,
    /// The server returned an error.
    Refused,
    /// The process has ended.
    Dead,
}

enum News {
    /// The answer to a request; `None` for an error.
    Answer { id: u64, result: Option<Value> },
    /// All sources are loaded.
    Settled,
}

impl Server {
    /// Starts `program` on `project` (a `rust-project.json`) with a draft, and waits until it has loaded all sources. Returns
    /// `None` if that fails.
    pub fn start(around: &Surroundings, program: &Path, project: Value, first: &Draft, deadline: Instant) -> Option<Self> {
        let mut command = around.toolchain.locations().command(program);
        command
            .current_dir(&around.package)
            // Ctrl-C in a terminal is for the kernel.
            .process_group(0)
            .env("CARGO_NET_OFFLINE", "true")
            // A single glibc arena for all threads uses a seventh less memory.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let _ = setpriority_process(Some(Pid::from_child(&child)), NICENESS);
        let (stdin, stdout) = (child.stdin.take()?, child.stdout.take()?);
        let (outbox, letters) = channel();
        let (news, inbox) = channel();
        let replies = outbox.clone();
        std::thread::spawn(move || post(stdin, &letters));
        std::thread::spawn(move || listen(stdout, &news, &replies));
        let mut server = Self {
            child,
            outbox,
            inbox,
            last_id: 0,
            is_busy: false,
            version: 0,
            file: uri(&project::file(&around.package)),
        };
        server.introduce(around, project, first, deadline).ok()?;
        Some(server)
    }

    fn introduce(&mut self, around: &Surroundings, project: Value, first: &Draft, deadline: Instant) -> Result<(), Unanswered> {
        let answer = self.request("initialize", introduction(&around.package, project), deadline)?;
        if answer["capabilities"]["positionEncoding"] != "utf-8" {
            return Err(Unanswered::Refused);
        }
        self.notify("initialized", json!({}));
        // Send the draft before the server looks for the project's files, because it is not on disk.
        self.show(&first.source);
        while !matches!(self.next(deadline)?, News::Settled) {}
        Ok(())
    }

    /// Sends a request about a place in a draft and returns the answer. Fails while an earlier request is pending.
    pub fn ask(&mut self, method: &str, question: &Question, deadline: Instant) -> Result<Value, Unanswered> {
        while self.is_busy {
            // Discard late answers.
            self.next(Instant::now())?;
        }
        self.show(&question.draft.source);
        let before = &question.draft.source[..question.at];
        let line = before.matches('\n').count();
        let character = before.len() - before.rfind('\n').map_or(0, |at| at + 1);
        let position = json!({ "line": line, "character": character });
        let parameters = json!({ "textDocument": { "uri": self.file }, "position": position });
        self.request(method, parameters, deadline)
    }

    fn show(&mut self, source: &str) {
        self.version += 1;
        let (uri, version) = (&self.file, self.version);
        if version == 1 {
            let document = json!({ "uri": uri, "languageId": "rust", "version": version, "text": source });
            self.notify("textDocument/didOpen", json!({ "textDocument": document }));
        } else {
            let document = json!({ "uri": uri, "version": version });
            let changes = json!([{ "text": source }]);
            self.notify(
                "textDocument/didChange",
                json!({ "textDocument": document, "contentChanges": changes }),
            );
        }
    }

    fn request(&mut self, method: &str, params: Value, deadline: Instant) -> Result<Value, Unanswered> {
        self.last_id += 1;
        self.is_busy = true;
        self.send(json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params }));
        loop {
            if let News::Answer { id, result } = self.next(deadline)?
                && id == self.last_id
            {
                return result.ok_or(Unanswered::Refused);
            }
        }
    }

    fn next(&mut self, deadline: Instant) -> Result<News, Unanswered> {
        let left = deadline.saturating_duration_since(Instant::now());
        let news = self.inbox.recv_timeout(left).map_err(|error| match error {
            RecvTimeoutError::Timeout => Unanswered::Late,
            RecvTimeoutError::Disconnected => Unanswered::Dead,
        })?;
        if let News::Answer { id, .. } = &news {
            self.is_busy &= *id != self.last_id;
        }
        Ok(news)
    }

    fn notify(&self, method: &str, params: Value) {
        self.send(json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn send(&self, message: Value) {
        // If the writing thread has ended, so has the process, and the inbox reports it.
        let _ = self.outbox.send(message);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes messages on a separate thread, so that a full pipe blocks no other.
fn post(stdin: ChildStdin, letters: &Receiver<Value>) {
    let mut stdin = BufWriter::new(stdin);
    while letters.recv().is_ok_and(|letter| rpc::write(&mut stdin, &letter).is_ok()) {}
}

/// A message from the server: a request, a notification or an answer.
#[derive(Deserialize)]
struct Message {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
    error: Option<Value>,
}

/// Reads messages until the process ends. Answers the server's own requests with null.
fn listen(stdout: ChildStdout, news: &Sender<News>, replies: &Sender<Value>) {
    let mut stdout = BufReader::new(stdout);
    while let Ok(Some(message)) = rpc::read(&mut stdout) {
        let Ok(message) = Message::deserialize(message) else {
            continue;
        };
        let told = match (message.method.as_deref(), message.id) {
            (Some("experimental/serverStatus"), _) if message.params["quiescent"] == true => news.send(News::Settled),
            (Some(_), Some(id)) => {
                let _ = replies.send(json!({ "jsonrpc": "2.0", "id": id, "result": null }));
                Ok(())
            }
            (None, Some(id)) => news.send(News::Answer {
                id: id.as_u64().unwrap_or_default(),
                result: message.error.is_none().then_some(message.result),
            }),
            _ => Ok(()),
        };
        if told.is_err() {
            return;
        }
    }
}

/// Returns the parameters of `initialize`. Enables only features that requests need.
fn introduction(package: &Path, project: Value) -> Value {
    let item = json!({ "snippetSupport": false, "resolveSupport": { "properties": ["documentation", "detail"] } });
    json!({
        "processId": std::process::id(),
        "rootUri": uri(package),
        "capabilities": {
            "general": { "positionEncodings": ["utf-8"] },
            "textDocument": {
                "completion": { "completionItem": item },
                "hover": { "contentFormat": ["markdown"] },
            },
            "experimental": { "serverStatusNotification": true },
        },
        "initializationOptions": {
            "linkedProjects": [project],
            "numThreads": 1,
            "cachePriming": { "enable": false },
            "cargo": { "buildScripts": { "enable": false } },
            "procMacro": { "enable": false },
            "checkOnSave": false,
            "diagnostics": { "enable": false },
            "cfg": { "setTest": false },
            "completion": {
                "autoIter": { "enable": false },
                "autoimport": { "enable": false },
                "callable": { "snippets": "none" },
                "postfix": { "enable": false },
            },
            "hover": {
                "actions": { "enable": false },
                "dropGlue": { "enable": false },
                "memoryLayout": { "enable": false },
            },
        },
    })
}

/// Returns the `file` URI of an absolute path.
fn uri(path: &Path) -> String {
    let mut uri = "file://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(char::from(*byte)),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri(Path::new("/a b/ü.rs")), "file:///a%20b/%C3%BC.rs");
    }
}
