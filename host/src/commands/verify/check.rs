//! Verifies records concurrently.

use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use ed25519_dalek::VerifyingKey;
use indicatif::ProgressBar;
use lockstep_client::Remote;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::Admission;
use lockstep_runtime::run::{Record, Runtime};
use lockstep_runtime::sandbox::Interrupt;
use lockstep_runtime::store::StoreError;
use lockstep_view::difference::{Changed, diff_records, differing};
use lockstep_view::error::{Error, Kind, Result};
use lockstep_view::progress;

use super::subjects::Subject;
use crate::signature;

/// How a record is verified.
pub enum Check {
    /// Run it again. `keep` stores a different result as a record. What the run needs comes from the host `remote`, if there is one.
    Again { keep: bool, remote: Option<Remote> },
    /// Check that this key signed it.
    Signature(VerifyingKey),
}

/// The result of verifying a record.
pub enum Verdict {
    /// The result is the same.
    Good,
    /// The run gave another record.
    Different { again: Digest, changed: Vec<Changed> },
    /// There is nothing to verify, for this reason.
    Skipped(String),
    /// It could not be verified.
    Failed(Error),
    /// It was interrupted.
    Interrupted,
}

/// A record with its verdict.
pub struct Checked {
    /// The title.
    pub what: String,
    /// The record, if there is one.
    pub record: Option<Digest>,
    pub verdict: Verdict,
}

/// Verifies `subjects`, at most `jobs` at a time and within `memory` bytes, until an interrupt. A failure does not stop the others.
pub fn check(
    runtime: &Runtime,
    subjects: Vec<Subject>,
    how: &Check,
    (jobs, memory): (NonZeroUsize, u64),
    interrupt: &Interrupt,
) -> Vec<Checked> {
    let bar = progress::steps("verifying");
    bar.set_length(subjects.len() as u64);
    let verdicts: Vec<OnceLock<Verdict>> = subjects.iter().map(|_| OnceLock::new()).collect();
    let queue = Queue::new(memory);
    for (index, subject) in subjects.iter().enumerate() {
        let matters = jobs.get() > 1 && matches!(how, Check::Again { .. });
        queue.add(index, if matters { needs(runtime, subject) } else { 0 });
    }
    let work = || {
        while let Some((index, need)) = queue.take(interrupt) {
            let found = one(runtime, &subjects[index], how, interrupt, &bar).unwrap_or_else(Verdict::Failed);
            verdicts[index].get_or_init(|| found);
            bar.inc(1);
            queue.release(need);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.get().min(subjects.len()) {
            scope.spawn(work);
        }
        work();
    });
    bar.finish_and_clear();
    let checked = subjects.into_iter().zip(verdicts).map(|(subject, verdict)| Checked {
        what: subject.what,
        record: subject.record.ok(),
        verdict: verdict.into_inner().unwrap_or(Verdict::Interrupted),
    });
    checked.collect()
}

/// Returns the memory that a record's run took. Returns 0 if that is unknown; reading the record reports the error later.
fn needs(runtime: &Runtime, subject: &Subject) -> u64 {
    let known = subject.record.as_ref().ok().and_then(|digest| runtime.record(digest).ok()?);
    known.and_then(|(record, _)| record.usage).map_or(0, |usage| usage.memory)
}

/// The queue of subjects, admitted as memory allows.
struct Queue {
    admission: Mutex<Admission>,
    released: Condvar,
}

impl Queue {
    fn new(memory: u64) -> Self {
        Self {
            admission: Mutex::new(Admission::new(memory)),
            released: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, index: usize, need: u64) {
        self.lock().add(index, need);
    }

    /// Waits for the next subject that fits into memory. Returns its index and memory, or `None` at the end or after an interrupt.
    fn take(&self, interrupt: &Interrupt) -> Option<(usize, u64)> {
        let mut admission = self.lock();
        while !interrupt.is_triggered() && !admission.is_empty() {
            if let Some(next) = admission.pick() {
                return Some(next);
            }
            // an interrupt does not notify the condition variable
            let waited = self.released.wait_timeout(admission, Duration::from_millis(50));
            admission = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }

    fn release(&self, need: u64) {
        self.lock().release(need);
        self.released.notify_all();
    }
}

fn one(runtime: &Runtime, subject: &Subject, how: &Check, interrupt: &Interrupt, bar: &ProgressBar) -> Result<Verdict> {
    let digest = match &subject.record {
        Ok(digest) => digest,
        Err(why) => return Ok(Verdict::Skipped(why.clone())),
    };
    bar.set_message(subject.what.clone());
    let (record, _) = runtime.record(digest)?.ok_or(StoreError::Missing(*digest))?;
    if !record.outcome.is_deterministic() {
        return Ok(Verdict::Skipped(record.outcome.to_string()));
    }
    match how {
        Check::Again { keep, remote } => again(runtime, digest, &record, (*keep, remote.as_ref()), interrupt),
        Check::Signature(key) => {
            signature::check(&runtime.store.signatures(digest)?, digest, key)?;
            Ok(Verdict::Good)
        }
    }
}

fn again(
    runtime: &Runtime,
    digest: &Digest,
    record: &Record,
    (keep, remote): (bool, Option<&Remote>),
    interrupt: &Interrupt,
) -> Result<Verdict> {
    if let Some(remote) = remote {
        remote.take_needs(&runtime.store, &record.run)?;
    }
    let ran = runtime.again(record, interrupt)?;
    if interrupt.is_triggered() && !ran.record.outcome.is_deterministic() {
        return Ok(Verdict::Interrupted);
    }
    if ran.digest == *digest {
        return Ok(Verdict::Good);
    }
    if !ran.record.outcome.is_deterministic() {
        let error = Error::new(Kind::Host, format_args!("can't run it again: {}", ran.record.outcome));
        return Err(ran.observed.host_error.iter().fold(error, |error, why| error.detail(why)));
    }
    if keep {
        runtime.keep(&ran)?;
    }
    if let Some(remote) = remote {
        remote.take_existing(&runtime.store, &differing(record, &ran.record))?;
    }
    Ok(Verdict::Different {
        again: ran.digest,
        changed: changed(runtime, record, &ran.record)?,
    })
}

/// Returns the differences. The key is compared too, because the key of a damaged record may not match its run.
fn changed(runtime: &Runtime, record: &Record, again: &Record) -> Result<Vec<Changed>> {
    let mut changed = diff_records(&runtime.store, record, again)?;
    if record.key != again.key {
        changed.push(Changed {
            went_in: false,
            what: "key".to_owned(),
            left: record.key.0.short(),
            right: again.key.0.short(),
            first: None,
        });
    }
    Ok(changed)
}
