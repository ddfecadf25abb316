//! Event log of a work item. Any number of clients can follow it, and resume where they left off.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// Maximum size in bytes. Older entries are dropped; the output of guests is also in the logs of their records.
const KEPT: usize = 8 << 20;

/// Maximum size in bytes of the entries that are kept when the work item has ended.
const TAIL: usize = 1 << 20;

/// A numbered event.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Starts at 1.
    pub number: u64,
    /// `started`, `log`, ...
    pub event: Cow<'static, str>,
    /// JSON.
    pub data: Arc<str>,
}

/// The last events of a work item that has ended, without the final one, which is its result.
#[derive(Serialize, Deserialize, Default, Debug)]
pub struct Tail {
    /// Number of the last entry.
    last: u64,
    /// Number, event and data.
    entries: Vec<(u64, String, String)>,
}

/// The events of a work item.
#[derive(Debug)]
pub struct Journal {
    told: Mutex<JournalState>,
    /// Number of the last entry, and whether it is final.
    last: watch::Sender<(u64, bool)>,
}

#[derive(Debug, Default)]
struct JournalState {
    entries: VecDeque<Entry>,
    bytes: usize,
    last: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            told: Mutex::default(),
            last: watch::channel((0, false)).0,
        }
    }
}

impl Journal {
    /// Creates the journal of a work item that has ended, without the final event.
    pub fn of(tail: Tail) -> Self {
        let bytes = tail.entries.iter().map(|(_, _, data)| data.len()).sum();
        let entries = tail.entries.into_iter().map(|(number, event, data)| Entry {
            number,
            event: event.into(),
            data: data.into(),
        });
        let state = JournalState {
            entries: entries.collect(),
            bytes,
            last: tail.last,
        };
        Self {
            last: watch::channel((tail.last, false)).0,
            told: Mutex::new(state),
        }
    }

    /// Returns the last events, without the final one.
    pub fn tail(&self) -> Tail {
        let (_, has_ended) = *self.last.borrow();
        let told = self.told();
        let before = told.entries.iter().rev().skip(usize::from(has_ended));
        let mut left = TAIL;
        let mut entries: Vec<_> = before
            .take_while(|entry| {
                let fits = entry.data.len() <= left;
                left = left.saturating_sub(entry.data.len());
                fits
            })
            .map(|entry| (entry.number, entry.event.to_string(), entry.data.to_string()))
            .collect();
        entries.reverse();
        Tail {
            last: told.last - u64::from(has_ended),
            entries,
        }
    }

    /// Appends an event.
    pub fn tell(&self, event: &'static str, data: &Value) {
        self.add(event, data, false);
    }

    /// Appends the final event.
    pub fn end(&self, event: &'static str, data: &Value) {
        self.add(event, data, true);
    }

    fn add(&self, event: &'static str, data: &Value, is_end: bool) {
        let data: Arc<str> = data.to_string().into();
        let mut told = self.told();
        told.last += 1;
        told.bytes += data.len();
        let number = told.last;
        told.entries.push_back(Entry {
            number,
            event: event.into(),
            data,
        });
        while told.bytes > KEPT
            && told.entries.len() > 1
            && let Some(dropped) = told.entries.pop_front()
        {
            told.bytes -= dropped.data.len();
        }
        // under the lock, so that an older number can't replace a newer one; clients would wait for an event that exists
        self.last.send_replace((number, is_end));
    }

    /// Returns the entries after number `seen`, and the number of dropped entries between.
    fn after(&self, seen: u64) -> (Vec<Entry>, u64) {
        let told = self.told();
        let first = told.entries.front().map_or(seen + 1, |entry| entry.number);
        let from = (seen + 1).saturating_sub(first) as usize;
        let dropped = first.saturating_sub(seen + 1);
        // in batches, for slow clients
        (told.entries.iter().skip(from).take(256).cloned().collect(), dropped)
    }

    /// Waits for entries after number `seen`; `None` if that was the final one.
    pub async fn next(&self, seen: u64) -> Option<(Vec<Entry>, u64)> {
        let mut last = self.last.subscribe();
        let news = last.wait_for(|(number, is_end)| *number > seen || *is_end).await;
        let (number, _) = *news.ok()?;
        (number > seen).then(|| self.after(seen))
    }

    fn told(&self) -> MutexGuard<'_, JournalState> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn numbers(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.number).collect()
    }

    #[tokio::test]
    async fn a_client_goes_on_where_it_left() {
        let journal = Journal::default();
        journal.tell("log", &json!("a"));
        journal.tell("log", &json!("b"));
        let (entries, dropped) = journal.next(0).await.unwrap();
        assert_eq!((numbers(&entries), dropped), (vec![1, 2], 0));
        journal.end("ended", &json!(null));
        let (entries, _) = journal.next(2).await.unwrap();
        assert_eq!(numbers(&entries), [3]);
        assert!(journal.next(3).await.is_none());
    }

    #[tokio::test]
    async fn the_end_of_a_story_is_kept() {
        let journal = Journal::default();
        for text in ["a".to_owned(), "b".repeat(TAIL), "c".to_owned()] {
            journal.tell("log", &json!(text));
        }
        journal.end("ended", &json!("result"));
        let kept = serde_json::to_string(&journal.tail()).unwrap();
        let journal = Journal::of(serde_json::from_str(&kept).unwrap());
        journal.end("ended", &json!("result"));
        let (entries, dropped) = journal.next(0).await.unwrap();
        assert_eq!((numbers(&entries), dropped), (vec![3, 4], 2));
        assert!(journal.next(4).await.is_none());
        let empty = Journal::of(Journal::default().tail());
        empty.end("ended", &json!(null));
        assert_eq!(numbers(&empty.next(0).await.unwrap().0), [1]);
    }

    #[tokio::test]
    async fn a_long_story_loses_its_beginning_and_says_so() {
        let journal = Journal::default();
        let long = "x".repeat(KEPT / 4);
        for _ in 0..10 {
            journal.tell("log", &json!(long));
        }
        let (entries, dropped) = journal.next(0).await.unwrap();
        assert_eq!(entries[0].number, dropped + 1);
        assert!(dropped >= 6, "{dropped}");
        let (entries, dropped) = journal.next(9).await.unwrap();
        assert_eq!((numbers(&entries), dropped), (vec![10], 0));
    }
}
