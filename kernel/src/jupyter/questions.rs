//! What the kernel asks a front end while a cell runs: one question at a time.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lockstep_runtime::sandbox::Interrupt;

use crate::output::Unanswered;

/// How soon an interrupt is seen while nobody answers.
const LOOK: Duration = Duration::from_millis(20);

/// The place where an answer is waited for.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<Option<Sender<String>>>);

/// A question that was asked.
pub(super) struct Asked(Receiver<String>);

impl Questions {
    /// To be called before the question is sent, so that no answer is too early.
    pub fn ask(&self) -> Asked {
        let (sender, answers) = channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Asked(answers)
    }

    /// Takes in an answer. One that nobody waits for is dropped.
    pub fn answer(&self, value: String) {
        if let Some(asked) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The cell may have been interrupted since.
            let _ = asked.send(value);
        }
    }
}

impl Asked {
    /// Waits for the answer.
    pub fn wait(self, interrupt: &Interrupt) -> Result<String, Unanswered> {
        loop {
            match self.0.recv_timeout(LOOK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if !interrupt.is_triggered() => {}
                Err(_) => return Err(Unanswered::Interrupted),
            }
        }
    }
}
