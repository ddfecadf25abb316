//! Progress of a Job's tasks, from pods to the threads that wait for tasks.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockstep_runtime::pipeline::{End, Event};
use lockstep_runtime::run::Ran;
use lockstep_runtime::sandbox::Stream;
use lockstep_runtime::step::{Interruption, Outcome};
use lockstep_view::events;
use serde_json::Value;

/// The tasks of a Job.
#[derive(Default)]
pub struct Group {
    told: Mutex<GroupState>,
    changed: Condvar,
}

#[derive(Default)]
struct GroupState {
    tasks: BTreeMap<String, Task>,
    /// Notes about pods, for the next waiting thread.
    notes: Vec<String>,
    /// Message of the last failed pod.
    why: Option<String>,
    /// Result of the Job once it has ended.
    over: Option<Result<(), String>>,
}

#[derive(Default)]
struct Task {
    log: Vec<(Stream, Vec<u8>)>,
    ran: Option<Ran>,
}

/// News about a task.
pub enum News {
    Log(Vec<(Stream, Vec<u8>)>),
    Ran(Box<Ran>),
    /// The Job has ended without a result of the task.
    Over(Result<(), String>),
    Nothing,
}

impl Group {
    /// Handles a line from a pod. Returns whether it was the last one.
    pub fn take(&self, line: &str) -> bool {
        let Ok(mut value) = serde_json::from_str::<Value>(line) else {
            // not from lockstep: a container runtime reports that it can't start the program
            self.fail(line.to_owned());
            return false;
        };
        let name = value["event"].as_str().unwrap_or_default().to_owned();
        let mut told = self.lock();
        if name == "ended" {
            if let Some(message) = value["error"]["message"].as_str() {
                told.why = Some(message.to_owned());
            }
            drop(told);
            self.changed.notify_all();
            return true;
        }
        value.as_object_mut().map(|object| object.remove("event"));
        let mut wrong = None;
        let read = events::tell(None, &name, value, &mut |event| match event {
            Event::Log { task, stream, bytes } => told.task(task).log.push((stream, bytes.to_vec())),
            // drop the log of a pod that was replaced
            Event::Started { task } => told.task(task).log.clear(),
            Event::Finished { done } => match &done.end {
                End::Ran(ran) if is_final(&ran.record.outcome) => told.task(&done.task).ran = Some(Ran::clone(ran)),
                End::Error(error) => wrong = Some(format!("task `{}`: {error}", done.task)),
                _ => {}
            },
            Event::Expanded { .. } | Event::Retrying { .. } => {}
        });
        if let Some(why) = wrong.or(read.err().map(|error| error.to_string())) {
            told.why = Some(why);
        }
        drop(told);
        self.changed.notify_all();
        false
    }

    /// Adds a note about pods.
    pub fn note(&self, note: String) {
        self.lock().notes.push(note);
        self.changed.notify_all();
    }

    /// Stores the message of a failed pod.
    pub fn fail(&self, why: String) {
        self.lock().why = Some(why);
    }

    /// Marks the Job as ended.
    pub fn end(&self, how: Result<(), String>) {
        let mut told = self.lock();
        let why = told.why.take();
        told.over = Some(how.map_err(|how| why.map_or_else(|| how.clone(), |why| format!("{why} ({how})"))));
        drop(told);
        self.changed.notify_all();
    }

    /// Returns news about `task`, after a short wait if there are none.
    pub fn next(&self, task: &str) -> News {
        let mut told = self.lock();
        for waited in [false, true] {
            if !told.notes.is_empty() {
                let notes = std::mem::take(&mut told.notes).into_iter();
                return News::Log(notes.map(|note| (Stream::Stderr, format!("{note}\n").into_bytes())).collect());
            }
            if let Some(known) = told.tasks.get_mut(task) {
                if !known.log.is_empty() {
                    return News::Log(std::mem::take(&mut known.log));
                }
                if let Some(ran) = known.ran.take() {
                    return News::Ran(Box::new(ran));
                }
            }
            if let Some(over) = &told.over {
                return News::Over(over.clone());
            }
            if !waited {
                let slept = self.changed.wait_timeout(told, Duration::from_millis(50));
                told = slept.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        News::Nothing
    }

    fn lock(&self) -> MutexGuard<'_, GroupState> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GroupState {
    fn task(&mut self, name: &str) -> &mut Task {
        self.tasks.entry(name.to_owned()).or_default()
    }
}

/// Whether a retry is pointless or not allowed.
fn is_final(outcome: &Outcome) -> bool {
    outcome.is_deterministic() || matches!(outcome, Outcome::Interrupted { by: Interruption::Time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_gets_the_log_and_then_the_end() {
        let group = Group::default();
        assert!(!group.take(r#"{"event":"started","task":"a"}"#));
        assert!(!group.take(r#"{"event":"log","task":"a","stream":"stdout","text":"hello"}"#));
        assert!(!group.take(r#"{"event":"log","task":"b","stream":"stdout","text":"other"}"#));
        let News::Log(log) = group.next("a") else { panic!("no log") };
        assert_eq!(log, [(Stream::Stdout, b"hello".to_vec())]);
        assert!(matches!(group.next("a"), News::Nothing));
        assert!(group.take(r#"{"event":"ended","error":{"message":"no disk"}}"#));
        group.end(Err("the Job failed".to_owned()));
        let News::Over(Err(why)) = group.next("a") else {
            panic!("not over")
        };
        assert_eq!(why, "no disk (the Job failed)");
    }

    #[test]
    fn what_a_pod_wrote_before_it_was_replaced_is_not_told_twice() {
        let group = Group::default();
        for _ in 0..2 {
            group.take(r#"{"event":"started","task":"a"}"#);
            group.take(r#"{"event":"log","task":"a","stream":"stdout","text":"once"}"#);
        }
        assert!(matches!(group.next("a"), News::Log(log) if log.len() == 1));
    }
}
