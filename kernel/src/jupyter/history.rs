//! What was run in this session, in memory.

use std::collections::{HashSet, VecDeque};

use serde_json::{Value, json};

use super::request::HistoryAccess;

/// Older entries are forgotten.
const KEPT: usize = 10_000;

/// There is one session, and its number is 1.
const SESSION: i64 = 1;

#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    number: u32,
    input: String,
    output: Option<String>,
}

impl History {
    pub fn add(&mut self, number: u32, input: String, output: Option<String>) {
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { number, input, output });
    }

    /// The entries asked for, oldest first, as the protocol writes them: `[session, number, input]`, or with outputs
    /// `[session, number, [input, output]]`.
    pub fn find(&self, access: &HistoryAccess, output: bool) -> Value {
        let found: Vec<&Entry> = match access {
            HistoryAccess::Tail { n } => self.last(*n, |_| true),
            HistoryAccess::Range { session, start, stop } => {
                let within = |entry: &Entry| {
                    let number = i64::from(entry.number);
                    (0..=SESSION).contains(session) && number >= *start && stop.is_none_or(|stop| number < stop)
                };
                self.last(KEPT, within)
            }
            HistoryAccess::Search { pattern, unique, n } => {
                let mut seen = HashSet::new();
                self.last(n.unwrap_or(KEPT), |entry| {
                    matches(pattern, &entry.input) && (!unique || seen.insert(&entry.input))
                })
            }
        };
        found
            .into_iter()
            .map(|entry| match output {
                true => json!([SESSION, entry.number, [entry.input, entry.output]]),
                false => json!([SESSION, entry.number, entry.input]),
            })
            .collect()
    }

    fn last<'a>(&'a self, n: usize, mut wanted: impl FnMut(&'a Entry) -> bool) -> Vec<&'a Entry> {
        let mut found: Vec<_> = self.entries.iter().rev().filter(|entry| wanted(entry)).take(n).collect();
        found.reverse();
        found
    }
}

/// Whether all of `text` matches `pattern`, where `*` is any text and `?` any character. Linear in memory, and at worst
/// the product of the lengths in time.
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
            history.add(number, input.into(), (number == 1).then(|| "one".into()));
        }
        assert_eq!(
            history.find(&HistoryAccess::Tail { n: 2 }, false),
            json!([[1, 2, "b"], [1, 3, "a"]])
        );
        let range = HistoryAccess::Range {
            session: 0,
            start: 1,
            stop: Some(3),
        };
        assert_eq!(history.find(&range, true), json!([[1, 1, ["a", "one"]], [1, 2, ["b", null]]]));
        let before = HistoryAccess::Range {
            session: -1,
            start: 1,
            stop: None,
        };
        assert_eq!(history.find(&before, false), json!([]));
        let search = HistoryAccess::Search {
            pattern: "a*".into(),
            unique: true,
            n: None,
        };
        assert_eq!(history.find(&search, false), json!([[1, 3, "a"]]));
    }
}
