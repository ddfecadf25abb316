//! Journal of a kernel on disk: its description, and the execute requests whose replies may not have reached the client.
//!
//! Each cell that starts creates a link to the session file before it. So a restarted host restores the session before the first
//! unsettled cell, and runs that cell and all later ones again: the same cells on the same session give the same result, and finished
//! ones are cached. A request leaves the journal once it and all earlier ones are settled.
//!
//! The file has a line with the full state, then a line for each change, so that a cell does not wait for a rewrite. An incomplete line was
//! being written when the host was killed, and is ignored.
//!
//! The [`Mirror`], if any, gets a [`Copy`] after each change.

use std::collections::{BTreeMap, VecDeque};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use lockstep_kernel::file::write_whole;
use lockstep_kernel::jupyter::{Header, Message};
use lockstep_kernel::session::SessionFile;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::audience::SessionId;
use super::mirror::Mirror;

/// Version of the format.
const FORMAT: u32 = 3;
/// The oldest version that can be read. It lacks the number of attempts.
const OLDEST: u32 = 2;

/// Files larger than this many bytes are rewritten, without removed requests.
const LONG: u64 = 1 << 20;

/// Maximum number of settled requests behind an unsettled one.
const KEPT: usize = 100;

/// State of a kernel in the file.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: u32,
    env: BTreeMap<String, String>,
    /// Identity of the session: the notebook's path, or the kernel's ID.
    session: PathBuf,
    /// Number of the last cell.
    executed: u32,
    requests: VecDeque<Request>,
}

/// An execute request. These have no buffers.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Unique in this journal.
    place: u64,
    pub session: SessionId,
    header: Header,
    metadata: Value,
    content: Value,
    /// Number of the last cell before it, once it has started.
    after: Option<u32>,
    /// How often it was started without an end, except for starts that a shutdown of the host ended.
    #[serde(default)]
    attempts: u32,
    /// Whether the client has received the reply.
    #[serde(skip)]
    settled: bool,
}

/// A change of [`Kept`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    Added(Box<Request>),
    /// The request at `place` has started after cell number `after`; the last cell is now number `executed`.
    Started {
        place: u64,
        after: u32,
        executed: u32,
    },
    /// The cell of the request at this place has ended.
    Ended(u64),
    /// The requests at these places were removed.
    Removed(Vec<u64>),
}

impl Kept {
    fn change(&mut self, change: Change) {
        match change {
            Change::Added(request) => self.requests.push_back(*request),
            Change::Started { place, after, executed } => {
                self.executed = executed;
                if let Some(request) = self.requests.iter_mut().find(|request| request.place == place) {
                    request.after = Some(after);
                    request.attempts += 1;
                }
            }
            Change::Ended(place) => {
                let ended = self.requests.iter_mut().filter(|request| request.place == place);
                ended.for_each(|request| request.attempts = 0);
            }
            Change::Removed(places) => self.requests.retain(|request| !places.contains(&request.place)),
        }
    }

    /// Parses a file. Also returns whether it is as this version writes it: all lines are complete, and of this format. The error is the reason why this version can't read it.
    fn read(text: &str) -> Result<(Self, bool), String> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let damaged = |error: serde_json::Error| format!("it is damaged: {error}");
        let Format { format } = serde_json::from_str(first).map_err(damaged)?;
        if !(OLDEST..=FORMAT).contains(&format) {
            return Err(format!(
                "it has format {format}, but this version of lockstep reads formats {OLDEST} to {FORMAT}"
            ));
        }
        let mut kept: Self = serde_json::from_str(first).map_err(damaged)?;
        kept.format = FORMAT;
        for line in lines {
            match serde_json::from_str(line) {
                Ok(change) => kept.change(change),
                Err(_) => return Ok((kept, false)),
            }
        }
        Ok((kept, format == FORMAT && text.ends_with('\n')))
    }
}

/// Full state of a kernel, for another machine.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    kernel: Kept,
    /// JSON text of the current session, and of the sessions before started requests, by place.
    session: Option<String>,
    before: BTreeMap<u64, String>,
}

/// Journal of a kernel. The name of its directory is the kernel's ID.
pub struct Journal {
    directory: PathBuf,
    place: SessionFile,
    kept: Kept,
    mirror: Option<Arc<Mirror>>,
}

impl Copy {
    /// Parses a copy; `None` if it has another format.
    pub fn read(json: &[u8]) -> Option<Self> {
        let mut copy: Self = serde_json::from_slice(json).ok()?;
        let is_known = (OLDEST..=FORMAT).contains(&copy.kernel.format);
        copy.kernel.format = FORMAT;
        is_known.then_some(copy)
    }

    /// Returns the environment from the request that started the kernel.
    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.kernel.env
    }
}

impl Request {
    pub fn id(&self) -> &str {
        &self.header.msg_id
    }

    pub fn has_started(&self) -> bool {
        self.after.is_some()
    }

    pub fn message(&self) -> Message {
        Message {
            header: self.header.clone(),
            parent: None,
            metadata: self.metadata.clone(),
            content: self.content.clone(),
            buffers: Vec::new(),
        }
    }

    /// Whether its cell gets a number.
    fn is_counted(&self) -> bool {
        let is = |name: &str, default: bool| self.content[name].as_bool().unwrap_or(default);
        is("store_history", true) && !is("silent", false)
    }
}

impl Journal {
    /// Creates the journal of a new kernel.
    pub fn create(
        directory: PathBuf,
        env: BTreeMap<String, String>,
        place: SessionFile,
        mirror: Option<Arc<Mirror>>,
    ) -> io::Result<Self> {
        let journal = Self {
            directory,
            mirror,
            kept: Kept {
                format: FORMAT,
                env,
                session: place.notebook.clone(),
                executed: 0,
                requests: VecDeque::new(),
            },
            place,
        };
        journal.create_file()?;
        Ok(journal)
    }

    /// Writes the file of a new kernel. Leaves nothing behind if that fails.
    fn create_file(&self) -> io::Result<()> {
        self.write().inspect_err(|_| drop(std::fs::remove_dir_all(&self.directory)))
    }

    /// Creates a journal from the copy of a kernel on another machine. A non-empty `env` replaces that of the copy.
    pub fn restore(
        directory: PathBuf,
        env: BTreeMap<String, String>,
        sessions: &Path,
        copy: Copy,
        mirror: Option<Arc<Mirror>>,
    ) -> io::Result<Self> {
        let mut kept = copy.kernel;
        if !env.is_empty() {
            kept.env = env;
        }
        let place = SessionFile {
            directory: sessions.to_owned(),
            notebook: kept.session.clone(),
        };
        match copy.session {
            Some(session) => write_whole(&place.current(), session.as_bytes())?,
            None => remove(&place.current())?,
        }
        for (request, session) in copy.before {
            write_whole(&snapshot(&directory, request), session.as_bytes())?;
        }
        let journal = Self {
            directory,
            place,
            kept,
            mirror,
        };
        journal.create_file()?;
        Ok(journal)
    }

    /// Opens the journal of a kernel from an earlier process. The error is the reason why this version can't read it.
    pub fn open(directory: PathBuf, sessions: &Path, mirror: Option<Arc<Mirror>>) -> Result<Self, String> {
        let text = std::fs::read_to_string(file(&directory)).map_err(|error| error.to_string())?;
        let (kept, is_whole) = Kept::read(&text)?;
        let place = SessionFile {
            directory: sessions.to_owned(),
            notebook: kept.session.clone(),
        };
        let journal = Self {
            directory,
            place,
            kept,
            mirror,
        };
        if !is_whole {
            journal.write().map_err(|error| error.to_string())?;
        }
        Ok(journal)
    }

    /// Returns whether there is a journal in a directory.
    pub fn exists(directory: &Path) -> bool {
        file(directory).exists()
    }

    /// Returns whether a directory certainly has no journal.
    pub fn is_missing(directory: &Path) -> bool {
        matches!(file(directory).try_exists(), Ok(false))
    }

    pub fn place(&self) -> &SessionFile {
        &self.place
    }

    pub fn env(&self) -> &BTreeMap<String, String> {
        &self.kept.env
    }

    pub fn has_requests(&self) -> bool {
        !self.kept.requests.is_empty()
    }

    /// Adds a request before its execution. `None` if it exists already: the client sent it again because it got no reply.
    pub fn add(&mut self, session: &SessionId, message: &Message) -> io::Result<Option<Request>> {
        if self.kept.requests.iter().any(|known| known.id() == message.header.msg_id) {
            return Ok(None);
        }
        let request = Request {
            place: self.kept.requests.back().map_or(0, |last| last.place + 1),
            session: session.clone(),
            header: message.header.clone(),
            metadata: message.metadata.clone(),
            content: message.content.clone(),
            after: None,
            attempts: 0,
            settled: false,
        };
        self.note(Change::Added(Box::new(request.clone())))?;
        Ok(Some(request))
    }

    /// Marks a request as started, with cell number `number`. Saves the current session.
    pub fn start(&mut self, id: &str, number: u32) -> io::Result<()> {
        let Some(request) = self.kept.requests.iter().find(|request| request.id() == id) else {
            return Ok(());
        };
        let (place, is_counted) = (request.place, request.is_counted());
        let (now, before) = (self.place.current(), snapshot(&self.directory, place));
        remove(&before)?;
        if now.exists() {
            std::fs::hard_link(&now, &before).or_else(|_| std::fs::copy(&now, &before).map(drop))?;
        }
        self.note(Change::Started {
            place,
            after: number.saturating_sub(u32::from(is_counted)),
            executed: number,
        })
    }

    /// Returns how often the cell of a request was started without an end.
    pub fn attempts(&self, id: &str) -> u32 {
        let request = self.kept.requests.iter().find(|request| request.id() == id);
        request.map_or(0, |request| request.attempts)
    }

    /// Returns the first line of the cell that is running, if any.
    pub fn running(&self) -> Option<String> {
        let running = self.kept.requests.iter().find(|request| request.attempts > 0)?;
        let code = running.content["code"].as_str()?;
        Some(
            code.trim_start()
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .take(200)
                .collect(),
        )
    }

    /// Marks the cell of a request as ended. If it runs again, earlier starts do not count.
    pub fn end(&mut self, id: &str) -> io::Result<()> {
        match self.kept.requests.iter().find(|request| request.id() == id) {
            Some(request) => self.note(Change::Ended(request.place)),
            None => Ok(()),
        }
    }

    /// Forgets the starts of cells that are running, because the host shuts down.
    pub fn note_shutdown(&mut self) -> io::Result<()> {
        let mut running = self
            .kept
            .requests
            .iter_mut()
            .filter(|request| request.attempts > 0)
            .peekable();
        if running.peek().is_none() {
            return Ok(());
        }
        running.for_each(|request| request.attempts -= 1);
        self.write()
    }

    /// Marks a request as settled: the client has received the reply.
    pub fn settle(&mut self, id: &str) -> io::Result<()> {
        let Some(request) = self.kept.requests.iter_mut().find(|request| request.id() == id) else {
            return Ok(());
        };
        request.settled = true;
        let requests = &self.kept.requests;
        let settled = requests.iter().filter(|request| request.settled).count();
        // a reply that no client fetches must not hold back all later ones
        let given_up = usize::from(settled > KEPT && !requests[0].settled);
        let ended = requests.iter().skip(given_up).take_while(|request| request.settled);
        let ended: Vec<u64> = requests
            .iter()
            .take(given_up)
            .chain(ended)
            .map(|request| request.place)
            .collect();
        if ended.is_empty() {
            return Ok(());
        }
        self.note(Change::Removed(ended.clone()))?;
        ended
            .into_iter()
            .try_for_each(|place| remove(&snapshot(&self.directory, place)))
    }

    /// Removes a request whose cell will not run.
    pub fn drop_request(&mut self, id: &str) -> io::Result<()> {
        let dropped = self.kept.requests.iter().filter(|request| request.id() == id);
        self.note(Change::Removed(dropped.map(|request| request.place).collect()))
    }

    /// Restores the session before the first unsettled cell. Returns the requests to run again, in order, and the number of the last cell
    /// before them.
    pub fn recover(&mut self) -> io::Result<(VecDeque<Request>, u32)> {
        let Some(first) = self.kept.requests.iter().find(|request| request.has_started()) else {
            return Ok((self.kept.requests.clone(), self.kept.executed));
        };
        let (now, before) = (self.place.current(), snapshot(&self.directory, first.place));
        match std::fs::read(&before) {
            // a new file, so that later changes do not affect the link
            Ok(session) => write_whole(&now, &session)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => remove(&now)?,
            Err(error) => return Err(error),
        }
        Ok((self.kept.requests.clone(), first.after.unwrap_or_default()))
    }

    /// Resets the journal for a restart by the user: no requests, and cell numbers start at 1 again.
    pub fn restart(&mut self) -> io::Result<()> {
        self.place.end();
        let requests = std::mem::take(&mut self.kept.requests);
        self.kept.executed = 0;
        self.write()?;
        let mut places = requests.iter().map(|request| request.place);
        places.try_for_each(|place| remove(&snapshot(&self.directory, place)))
    }

    /// Removes the kernel's files, and its session unless `stays`.
    pub fn remove(&mut self, stays: bool) {
        self.kept.requests.clear();
        if let Some((mirror, kernel)) = self.mirrored() {
            mirror.set(kernel, stays.then(|| self.copy()));
        }
        // after a failure, the next start of the host finds the kernel again
        let _ = std::fs::remove_dir_all(&self.directory);
        if !stays {
            for session in [self.place.current(), self.place.previous()] {
                let _ = std::fs::remove_file(session);
            }
        }
    }

    /// Applies a change and appends it to the file.
    fn note(&mut self, change: Change) -> io::Result<()> {
        let line = serde_json::to_string(&change)? + "\n";
        self.kept.change(change);
        let mut file = OpenOptions::new().append(true).open(file(&self.directory))?;
        file.write_all(line.as_bytes())?;
        if file.metadata()?.len() > LONG {
            return self.write();
        }
        self.show();
        Ok(())
    }

    /// Rewrites the file.
    fn write(&self) -> io::Result<()> {
        write_whole(&file(&self.directory), format!("{}\n", json!(self.kept)).as_bytes())?;
        self.show();
        Ok(())
    }

    /// Passes the current state to the mirror.
    fn show(&self) {
        if let Some((mirror, kernel)) = self.mirrored() {
            mirror.set(kernel, Some(self.copy()));
        }
    }

    /// Returns the mirror and the kernel's ID.
    fn mirrored(&self) -> Option<(&Mirror, &str)> {
        Some((self.mirror.as_deref()?, self.directory.file_name()?.to_str()?))
    }

    fn copy(&self) -> Bytes {
        let text = |path: &Path| std::fs::read_to_string(path).ok();
        let before = |request: &Request| Some((request.place, text(&snapshot(&self.directory, request.place))?));
        let copy = json!({
            "kernel": self.kept,
            "session": text(&self.place.current()),
            "before": self.kept.requests.iter().filter_map(before).collect::<BTreeMap<_, _>>(),
        });
        copy.to_string().into()
    }
}

fn file(directory: &Path) -> PathBuf {
    directory.join("kernel.jsonl")
}

/// Path of the session before the request at `place`.
fn snapshot(directory: &Path, place: u64) -> PathBuf {
    directory.join(format!("before-{place}.json"))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Kernel {
        directory: tempfile::TempDir,
        journal: Journal,
    }

    fn request(id: &str) -> Message {
        Message {
            header: Header {
                msg_id: id.to_owned(),
                msg_type: "execute_request".to_owned(),
                ..Header::default()
            },
            parent: None,
            metadata: json!({ "cellId": "c" }),
            content: json!({ "code": id }),
            buffers: Vec::new(),
        }
    }

    impl Kernel {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let place = SessionFile {
                directory: directory.path().join("sessions"),
                notebook: "a kernel".into(),
            };
            let journal = Journal::create(directory.path().join("kernel"), BTreeMap::new(), place, None).unwrap();
            Self { directory, journal }
        }

        /// Executes a cell, after which the session is `session`.
        fn execute(&mut self, id: &str, number: u32, session: &str) {
            self.journal.add(&None, &request(id)).unwrap().unwrap();
            self.journal.start(id, number).unwrap();
            write_whole(&self.journal.place.current(), session.as_bytes()).unwrap();
        }

        fn session(&self) -> Option<String> {
            std::fs::read_to_string(self.journal.place.current()).ok()
        }

        /// Reopens the journal as a new process does. Returns the requests to run again, and the number of the cell before them.
        fn again(&mut self) -> (Vec<String>, u32) {
            let directory = self.journal.directory.clone();
            self.journal = Journal::open(directory, &self.directory.path().join("sessions"), None).unwrap();
            let (requests, number) = self.journal.recover().unwrap();
            (requests.iter().map(|request| request.id().to_owned()).collect(), number)
        }

        fn files(&self) -> usize {
            std::fs::read_dir(&self.journal.directory).unwrap().count()
        }
    }

    #[test]
    fn cells_with_certain_answers_are_not_run_again() {
        let mut kernel = Kernel::new();
        kernel.execute("a", 1, "after a");
        kernel.journal.settle("a").unwrap();
        assert_eq!((kernel.again(), kernel.session().as_deref()), ((vec![], 1), Some("after a")));
        assert_eq!(kernel.files(), 1);
    }

    #[test]
    fn a_cell_without_an_answer_is_run_on_the_session_before_it() {
        let mut kernel = Kernel::new();
        kernel.execute("a", 1, "after a");
        kernel.journal.settle("a").unwrap();
        kernel.execute("b", 2, "after b");
        kernel.journal.add(&None, &request("c")).unwrap();
        let found = kernel.again();
        assert_eq!(
            (found, kernel.session().as_deref()),
            ((vec!["b".into(), "c".into()], 1), Some("after a"))
        );
        // the same after another kill
        let found = kernel.again();
        assert_eq!(
            (found, kernel.session().as_deref()),
            ((vec!["b".into(), "c".into()], 1), Some("after a"))
        );
    }

    #[test]
    fn what_came_after_a_cell_without_an_answer_is_run_again_too() {
        let mut kernel = Kernel::new();
        kernel.execute("a", 1, "after a");
        kernel.execute("b", 2, "after b");
        kernel.journal.settle("b").unwrap();
        assert_eq!((kernel.again(), kernel.session()), ((vec!["a".into(), "b".into()], 0), None));
        kernel.journal.settle("a").unwrap();
        kernel.journal.settle("b").unwrap();
        assert_eq!((kernel.again().0, kernel.files()), (vec![], 1));
    }

    #[test]
    fn a_copy_goes_on_where_it_was_made() {
        let mut kernel = Kernel::new();
        kernel.execute("a", 1, "after a");
        kernel.journal.settle("a").unwrap();
        kernel.execute("b", 2, "after b");
        let copy = Copy::read(&kernel.journal.copy()).unwrap();
        let there = tempfile::tempdir().unwrap();
        let sessions = there.path().join("sessions");
        let mut journal = Journal::restore(there.path().join("kernel"), BTreeMap::new(), &sessions, copy, None).unwrap();
        assert_eq!(std::fs::read_to_string(journal.place.current()).unwrap(), "after b");
        let (requests, number) = journal.recover().unwrap();
        assert_eq!((requests.iter().map(Request::id).collect::<Vec<_>>(), number), (vec!["b"], 1));
        assert_eq!(std::fs::read_to_string(journal.place.current()).unwrap(), "after a");
    }

    #[test]
    fn the_journal_of_another_version_is_refused_with_the_reason() {
        let kernel = Kernel::new();
        let path = file(&kernel.journal.directory);
        let open = |text: String| {
            std::fs::write(&path, text).unwrap();
            let sessions = kernel.directory.path().join("sessions");
            Journal::open(kernel.journal.directory.clone(), &sessions, None).err()
        };
        let text = std::fs::read_to_string(&path).unwrap();
        // as this version writes it; a change needs another format
        let golden = "{\"env\":{},\"executed\":0,\"format\":3,\"requests\":[],\"session\":\"a kernel\"}\n";
        assert_eq!(text, golden);
        assert_eq!(open(text.clone()), None);
        let newer = text.replace("\"format\":3", "\"format\":4,\"more\":true");
        let reason = "it has format 4, but this version of lockstep reads formats 2 to 3";
        assert_eq!(open(newer).as_deref(), Some(reason));
        assert_eq!(
            open(String::new()).as_deref(),
            Some("it is damaged: EOF while parsing a value at line 1 column 0")
        );
    }

    #[test]
    fn the_journal_of_an_earlier_version_is_read_and_rewritten() {
        let mut kernel = Kernel::new();
        kernel.execute("a", 1, "after a");
        let path = file(&kernel.journal.directory);
        kernel.journal.write().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let before = text.replace("\"format\":3", "\"format\":2").replace("\"attempts\":1,", "");
        assert!(before != text && !before.contains("attempts"), "{before}");
        std::fs::write(&path, before).unwrap();
        assert_eq!(kernel.again().0, ["a"]);
        assert!(std::fs::read_to_string(&path).unwrap().contains("\"format\":3"));
    }

    #[test]
    fn starts_without_an_end_are_counted_except_for_those_of_a_shutdown() {
        let mut kernel = Kernel::new();
        kernel.execute("a", 1, "after a");
        kernel.again();
        assert_eq!(kernel.journal.attempts("a"), 1);
        kernel.journal.start("a", 1).unwrap();
        kernel.journal.note_shutdown().unwrap();
        kernel.again();
        assert_eq!(kernel.journal.attempts("a"), 1);
        kernel.journal.start("a", 1).unwrap();
        kernel.again();
        assert_eq!(kernel.journal.attempts("a"), 2);
        kernel.journal.end("a").unwrap();
        kernel.again();
        assert_eq!((kernel.journal.attempts("a"), kernel.journal.attempts("b")), (0, 0));
    }

    #[test]
    fn a_request_that_is_known_is_not_taken_in_again() {
        let mut kernel = Kernel::new();
        kernel.journal.add(&None, &request("a")).unwrap().unwrap();
        assert_eq!(kernel.journal.add(&None, &request("a")).unwrap(), None);
        kernel.journal.drop_request("a").unwrap();
        assert!(!kernel.journal.has_requests());
    }

    #[test]
    fn what_was_being_written_says_nothing_and_a_long_file_is_written_anew() {
        let mut kernel = Kernel::new();
        kernel.execute("a", 1, "after a");
        let path = file(&kernel.journal.directory);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(br#"{"removed":[0"#).unwrap();
        assert_eq!(kernel.again().0, ["a"]);
        kernel.journal.settle("a").unwrap();
        assert_eq!(kernel.again(), (vec![], 1));
        for number in 2..6 {
            kernel.execute(&"x".repeat(300_000), number, "after x");
            kernel.journal.settle(&"x".repeat(300_000)).unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() < LONG);
        assert_eq!(kernel.again(), (vec![], 5));
    }

    #[test]
    fn a_kernel_that_can_not_be_created_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("kernel");
        // no file can have this name any more
        std::fs::create_dir_all(file(&own)).unwrap();
        let place = SessionFile {
            directory: directory.path().join("sessions"),
            notebook: "a kernel".into(),
        };
        assert!(!Journal::is_missing(&own));
        assert!(Journal::create(own.clone(), BTreeMap::new(), place, None).is_err());
        assert!(!own.exists() && Journal::is_missing(&own));
    }

    #[test]
    fn a_restart_begins_anew_and_a_removed_kernel_leaves_nothing() {
        let mut kernel = Kernel::new();
        kernel.execute("a", 1, "after a");
        kernel.journal.restart().unwrap();
        assert_eq!((kernel.again(), kernel.session(), kernel.files()), ((vec![], 0), None, 1));
        kernel.journal.remove(false);
        assert_eq!(
            std::fs::read_dir(kernel.directory.path().join("sessions")).unwrap().count(),
            0
        );
        assert!(!kernel.journal.directory.exists());
    }
}
