//! Input requests to a front end while a cell runs, one at a time.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lockstep_runtime::sandbox::Interrupt;

use crate::output::Unanswered;

/// How often an interrupt is checked while waiting for an answer.
const LOOK: Duration = Duration::from_millis(20);

/// The pending input request.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<Option<Sender<String>>>);

/// A pending answer.
pub(super) struct Asked(Receiver<String>);

impl Questions {
    /// Registers an input request. Must be called before it is sent, so that no answer is missed.
    pub fn ask(&self) -> Asked {
        let (sender, answers) = channel();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Asked(answers)
    }

    /// Delivers an answer. It is dropped if no request is pending.
    pub fn answer(&self, value: String) {
        if let Some(asked) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Sending fails if the cell was interrupted.
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
