//! The history of executed cells, as lines of JSON in a file that all kernels of a user share.

use std::collections::{HashSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::request::HistoryAccess;
use crate::file::write_whole;

/// The number of entries kept.
const KEPT: usize = 10_000;

/// A file with more lines is rewritten with the last [`KEPT`] entries.
const MOST_LINES: usize = 2 * KEPT;

/// A longer result is not stored.
const LONGEST_OUTPUT: usize = 10_000;

/// The executed cells. The session of this process has the highest number.
#[derive(Debug)]
pub struct History {
    entries: VecDeque<Entry>,
    session: i64,
    file: Option<File>,
}

/// An error opening the history file.
#[derive(Debug, thiserror::Error)]
#[error("can't open history file {}: {source}", path.display())]
pub struct HistoryError {
    path: PathBuf,
    source: std::io::Error,
}

/// A line of the file. The line for the start of a session has no input.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    session: i64,
    number: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

impl Default for History {
    /// Returns a history in memory.
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            session: 1,
            file: None,
        }
    }
}

impl History {
    /// Opens the history file at `path` and starts a new session. Malformed lines are ignored.
    pub fn open(path: &Path) -> Result<Self, HistoryError> {
        Self::read(path).map_err(|source| HistoryError {
            path: path.to_owned(),
            source,
        })
    }

    fn read(path: &Path) -> std::io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        // The lock gives kernels that start at the same time different numbers.
        file.lock()?;
        let mut lines = 0;
        let mut entries: VecDeque<Entry> = VecDeque::new();
        for line in BufReader::new(&file).split(b'\n') {
            lines += 1;
            entries.extend(serde_json::from_slice::<Entry>(&line?).ok());
            if entries.len() > KEPT {
                entries.pop_front();
            }
        }
        let session = entries.iter().map(|entry| entry.session).max().unwrap_or(0) + 1;
        entries.retain(|entry| entry.input.is_some());
        let file = match lines > MOST_LINES {
            true => rewrite(path, &entries)?,
            false => file,
        };
        let mut history = Self {
            entries,
            session,
            file: None,
        };
        history.file = Some(file);
        history.write(&Entry {
            session,
            number: 0,
            input: None,
            output: None,
        });
        if let Some(file) = &history.file {
            file.unlock()?;
        }
        Ok(history)
    }

    /// Adds an executed cell. Errors writing the file are ignored.
    pub fn add(&mut self, number: u32, input: &str, output: Option<&str>) {
        let entry = Entry {
            session: self.session,
            number,
            input: Some(input.to_owned()),
            output: output.filter(|output| output.len() <= LONGEST_OUTPUT).map(str::to_owned),
        };
        self.write(&entry);
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    /// Appends a line with a single write, so that lines of several kernels don't mix.
    fn write(&mut self, entry: &Entry) {
        if let (Some(file), Ok(mut line)) = (&mut self.file, serde_json::to_vec(entry)) {
            line.push(b'\n');
            if file.write_all(&line).is_err() {
                self.file = None;
            }
        }
    }

    /// Returns the requested entries, oldest first, in the protocol's form: `[session, number, input]`, or with outputs
    /// `[session, number, [input, output]]`.
    pub(super) fn find(&self, access: &HistoryAccess, output: bool) -> Value {
        let found: Vec<&Entry> = match access {
            HistoryAccess::Tail { n } => self.last(*n, |_| true),
            HistoryAccess::Range { session, start, stop } => {
                let session = if *session <= 0 { self.session + session } else { *session };
                let within = |entry: &Entry| {
                    let number = i64::from(entry.number);
                    entry.session == session && number >= *start && stop.is_none_or(|stop| number < stop)
                };
                self.last(KEPT, within)
            }
            HistoryAccess::Search { pattern, unique, n } => {
                let mut seen = HashSet::new();
                self.last(n.unwrap_or(KEPT), |entry| {
                    let input = entry.input.as_deref().unwrap_or_default();
                    matches(pattern, input) && (!unique || seen.insert(input.to_owned()))
                })
            }
        };
        found
            .into_iter()
            .map(|entry| match output {
                true => json!([entry.session, entry.number, [entry.input, entry.output]]),
                false => json!([entry.session, entry.number, entry.input]),
            })
            .collect()
    }

    fn last<'a>(&'a self, n: usize, mut wanted: impl FnMut(&'a Entry) -> bool) -> Vec<&'a Entry> {
        let mut found: Vec<_> = self.entries.iter().rev().filter(|entry| wanted(entry)).take(n).collect();
        found.reverse();
        found
    }
}

/// Replaces the file by one with these entries.
fn rewrite(path: &Path, entries: &VecDeque<Entry>) -> std::io::Result<File> {
    let mut lines = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut lines, entry)?;
        lines.push(b'\n');
    }
    write_whole(path, &lines)?;
    OpenOptions::new().append(true).open(path)
}

/// Returns whether all of `text` matches `pattern`, where `*` is any text and `?` any character. Takes linear memory, and
/// in the worst case time proportional to the product of the lengths.
fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_texts() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("1?2*", "1+2", true),
            ("1?2*", "1+2 + 3", true),
            ("1?2", "1+2 + 3", false),
            ("*b*c", "abcabc", true),
            ("*b*d", "abcabc", false),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn the_last_entries_come_oldest_first_and_a_range_ends_before_its_stop() {
        let mut history = History::default();
        for (number, input) in [(1, "a"), (2, "b"), (3, "a")] {
            history.add(number, input, (number == 1).then_some("one"));
        }
        assert_eq!(
            history.find(&HistoryAccess::Tail { n: 2 }, false),
            json!([[1, 2, "b"], [1, 3, "a"]])
        );
        assert_eq!(
            history.find(&range(0, Some(3)), true),
            json!([[1, 1, ["a", "one"]], [1, 2, ["b", null]]])
        );
        assert_eq!(history.find(&range(-1, None), false), json!([]));
        let search = HistoryAccess::Search {
            pattern: "a*".into(),
            unique: true,
            n: None,
        };
        assert_eq!(history.find(&search, false), json!([[1, 3, "a"]]));
    }

    fn range(session: i64, stop: Option<i64>) -> HistoryAccess {
        HistoryAccess::Range { session, start: 1, stop }
    }

    #[test]
    fn sessions_are_kept_and_malformed_lines_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/history.jsonl");
        History::open(&path).unwrap().add(1, "first", Some("1"));
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"session\": 1, \"num")
            .unwrap();
        // The truncated line also corrupts the start of the second session, but no number is used twice.
        let mut second = History::open(&path).unwrap();
        second.add(1, "second", None);
        let third = History::open(&path).unwrap();
        assert_eq!((second.session, third.session), (2, 3));
        assert_eq!(third.find(&range(1, None), true), json!([[1, 1, ["first", "1"]]]));
        assert_eq!(third.find(&range(-1, None), false), json!([[2, 1, "second"]]));
        assert_eq!(third.find(&range(0, None), false), json!([]));
    }

    #[test]
    fn a_long_file_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let line = |n: usize| format!("{{\"session\":7,\"number\":{n},\"input\":\"x\"}}\n");
        std::fs::write(&path, (0..MOST_LINES + 5).map(line).collect::<String>()).unwrap();
        let mut history = History::open(&path).unwrap();
        history.add(1, "y", None);
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!((history.session, text.lines().count()), (8, KEPT + 2));
        assert!(text.ends_with("\"input\":\"y\"}\n"));
    }
}
