use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use lockstep_runtime::sandbox::Interrupt;

use super::assistant::SessionAssistant;
use super::known::Known;
use super::{Session, Setup, failure};
use crate::jupyter::{Assistant, Execute, Interpreter};
use crate::output::{CellError, MimeBundle, Output, Stream};

/// A session that is set up in the background, so that the kernel responds at once. The first cell waits for it and shows
/// progress. The first time on a machine, the prelude is compiled, which takes a minute or two.
pub struct Starting {
    state: State,
    known: Known,
}

enum State {
    Preparing(Receiver<News>),
    Ready(Box<Session>),
}

enum News {
    Step(Preparing),
    Done(Box<Result<Session, CellError>>),
}

/// Progress of the setup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Preparing {
    /// A line that describes the current work.
    Says(String),
    /// Its progress, 0 to 100.
    Percent(u8),
}

/// Reports the progress of the setup.
pub struct Progress(Sender<News>);

impl Progress {
    /// Reports a step. A missing receiver is ignored: the kernel was shut down.
    pub fn tell(&self, step: Preparing) {
        let _ = self.0.send(News::Step(step));
    }
}

impl Starting {
    /// Calls `prepare` on a separate thread.
    pub fn new(prepare: impl FnOnce(&Progress) -> Result<Setup, CellError> + Send + 'static) -> Self {
        let (sender, news) = channel();
        let known = Known::default();
        let own = known.clone();
        std::thread::spawn(move || {
            let progress = Progress(sender);
            let done = Box::new(prepare(&progress).and_then(|setup| Ok(Session::known_as(setup, own)?)));
            let _ = progress.0.send(News::Done(done));
        });
        Self {
            state: State::Preparing(news),
            known,
        }
    }

    /// Waits for the session. A failed setup is final: the user follows its error message and restarts the kernel.
    fn session(&mut self, output: &mut dyn Output, interrupt: &Interrupt) -> Result<&mut Session, CellError> {
        if let State::Preparing(news) = &self.state {
            self.state = State::Ready(Box::new(wait(news, output, interrupt)?));
        }
        match &mut self.state {
            State::Ready(session) => Ok(session),
            State::Preparing(_) => Err(failure::interrupted()),
        }
    }
}

fn wait(news: &Receiver<News>, output: &mut dyn Output, interrupt: &Interrupt) -> Result<Session, CellError> {
    let mut drawn = false;
    loop {
        match news.recv_timeout(Duration::from_millis(20)) {
            Ok(News::Step(Preparing::Says(line))) => output.stream(Stream::Stderr, format!("{line}\n").as_bytes()),
            Ok(News::Step(Preparing::Percent(percent))) => {
                drawn = true;
                output.progress(Some(percent));
            }
            Ok(News::Done(done)) => {
                if drawn {
                    output.progress(None);
                }
                return *done;
            }
            Err(RecvTimeoutError::Timeout) if interrupt.is_triggered() => return Err(failure::interrupted()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(CellError::new(
                    "Error",
                    "session setup failed: restart the kernel or run `lockstep doctor`",
                ));
            }
        }
    }
}

impl Interpreter for Starting {
    fn execute(
        &mut self,
        cell: &Execute,
        output: &mut dyn Output,
        interrupt: &Interrupt,
    ) -> Result<Option<MimeBundle>, CellError> {
        Interpreter::execute(self.session(output, interrupt)?, cell, output, interrupt)
    }

    fn evaluate(&mut self, expression: &str, interrupt: &Interrupt) -> Result<MimeBundle, CellError> {
        match &self.state {
            State::Ready(session) => session.evaluate(expression, interrupt),
            State::Preparing(_) => Err(failure::interrupted()),
        }
    }

    fn restart(&mut self) {
        if let State::Ready(session) = &mut self.state {
            session.restart();
        }
    }

    fn assistant(&self) -> Box<dyn Assistant> {
        Box::new(SessionAssistant::new(self.known.clone()))
    }
}
