//! Executes cells in order on the interpreter's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use jupyter_protocol::{ExecuteInput, ExecutionCount, ExecutionState};
use lockstep_runtime::sandbox::Interrupt;
use serde_json::{Map, Value, json};

use super::cell_output::CellOutput;
use super::content::{details, failed, json_of};
use super::desk::{Ask, Desk, Request, Running};
use super::interpreter::{Execute, Interpreter};
use super::message::{Channel, Header};
use super::request::{ExecuteMetadata, ExecuteRequest, ShutdownRequest, content};
use crate::output::{CellError, MimeBundle, Output, Stream};

/// How long to wait after a failed cell for requests that are already on their way, so that they are aborted.
const SETTLE: Duration = Duration::from_millis(10);

pub(super) struct Shell<R, I: Interpreter> {
    desk: Arc<Desk<R>>,
    interpreter: I,
    assistant: mpsc::Sender<Ask<R>>,
    number: u32,
    /// Cells that arrived before this number are not run.
    abort_before: u64,
}

impl<R: Clone + Send + Sync + 'static, I: Interpreter> Shell<R, I> {
    /// Creates a shell that numbers cells after `number`.
    pub fn new(desk: Arc<Desk<R>>, interpreter: I, assistant: mpsc::Sender<Ask<R>>, number: u32) -> Self {
        Self {
            desk,
            interpreter,
            assistant,
            number,
            abort_before: 0,
        }
    }

    /// Returns whether the kernel was asked to shut down.
    pub fn is_stopped(&self) -> bool {
        self.desk.stopped().is_some()
    }

    /// Publishes busy, answers, publishes idle.
    pub fn answer(&mut self, request: Request<R>) {
        let desk = self.desk.clone();
        let interrupt = Interrupt::default();
        *desk.running() = Some(Running {
            parent: request.parent.clone(),
            interrupt: interrupt.clone(),
        });
        desk.status(ExecutionState::Busy, Some(&request.parent));
        if request.parent.msg_type == "shutdown_request" {
            let restart = content::<ShutdownRequest>(&request.message).unwrap_or_default().restart;
            *desk.running() = None;
            return desk.reply_and_stop(request.route, Channel::Shell, &request.parent, restart);
        }
        let reply = match request.arrival < self.abort_before {
            true => json!({ "status": "aborted" }),
            false => self.execute(&request, &interrupt),
        };
        desk.flush();
        desk.reply(Channel::Shell, request.route, &request.parent, reply);
        // Hold the lock, so that a request answered meanwhile does not publish busy after this idle.
        let mut running = desk.running();
        *running = None;
        desk.status(ExecutionState::Idle, Some(&request.parent));
        // The thread only ends with the kernel.
        let _ = self.assistant.send(Ask::Tell);
    }

    fn execute(&mut self, asked: &Request<R>, interrupt: &Interrupt) -> Value {
        let request: ExecuteRequest = match content(&asked.message) {
            Ok(request) => request,
            Err(invalid) => return invalid,
        };
        let metadata: ExecuteMetadata = serde_json::from_value(asked.message.metadata.clone()).unwrap_or_default();
        let stored = request.store_history && !request.silent;
        self.number += u32::from(stored);
        let cell = Execute {
            request: asked.parent.msg_id.clone(),
            code: request.code,
            cell_id: metadata.cell_id,
            deleted_cells: metadata.deleted_cells,
            number: self.number.max(1),
            silent: request.silent,
        };
        if !cell.silent {
            let content = ExecuteInput {
                code: cell.code.clone(),
                execution_count: ExecutionCount(cell.number as usize),
            };
            self.publish("execute_input", &asked.parent, json_of(content));
        }
        let result = self.run(&cell, asked, request.allow_stdin, interrupt);
        if stored {
            let shown = result.as_ref().ok().and_then(Option::as_ref);
            let shown = shown.and_then(|value| value.data.get("text/plain")?.as_str());
            self.desk.history().add(cell.number, &cell.code, shown);
        }
        match result {
            Ok(value) => {
                if let Some(MimeBundle { data, metadata }) = value.filter(|_| !cell.silent) {
                    let content = json!({ "execution_count": cell.number, "data": data, "metadata": metadata });
                    self.publish("execute_result", &asked.parent, content);
                }
                json!({
                    "status": "ok",
                    "execution_count": cell.number,
                    "payload": [],
                    "user_expressions": self.evaluate(request.user_expressions.unwrap_or_default(), interrupt),
                })
            }
            Err(error) => self.fail(error, &cell, &asked.parent, request.stop_on_error),
        }
    }

    /// Evaluates a request's `user_expressions`.
    fn evaluate(&mut self, expressions: Map<String, Value>, interrupt: &Interrupt) -> Map<String, Value> {
        let mut evaluate = |expression: &Value| {
            let code = expression.as_str().unwrap_or_default();
            let interpreter = &mut self.interpreter;
            let value = catch_unwind(AssertUnwindSafe(|| interpreter.evaluate(code, interrupt)));
            match value.unwrap_or_else(|_| Err(panicked())) {
                Ok(MimeBundle { data, metadata }) => json!({ "status": "ok", "data": data, "metadata": metadata }),
                Err(error) => failed(&error),
            }
        };
        expressions
            .into_iter()
            .map(|(name, expression)| (name, evaluate(&expression)))
            .collect()
    }

    /// Publishes an error and aborts the cells that are already queued. Returns the reply.
    fn fail(&mut self, error: CellError, cell: &Execute, parent: &Arc<Header>, stop_on_error: bool) -> Value {
        if stop_on_error && !cell.silent {
            std::thread::sleep(SETTLE);
            self.abort_before = self.desk.arrivals();
        }
        let mut reply = failed(&error);
        if !cell.silent {
            self.publish("error", parent, json_of(details(&error)));
        }
        reply["execution_count"] = json!(cell.number);
        reply["payload"] = json!([]);
        reply["user_expressions"] = json!({});
        reply
    }

    fn run(
        &mut self,
        cell: &Execute,
        asked: &Request<R>,
        allow_stdin: bool,
        interrupt: &Interrupt,
    ) -> Result<Option<MimeBundle>, CellError> {
        let mut shown = CellOutput::new(&self.desk, asked, allow_stdin, interrupt);
        let mut nowhere = Nowhere;
        let output: &mut dyn Output = if cell.silent { &mut nowhere } else { &mut shown };
        let interpreter = &mut self.interpreter;
        let result = catch_unwind(AssertUnwindSafe(|| interpreter.execute(cell, output, interrupt)));
        shown.finish();
        result.unwrap_or_else(|_| Err(panicked()))
    }

    fn publish(&self, msg_type: &str, parent: &Arc<Header>, content: Value) {
        let message = self.desk.origin.message(msg_type, Some(parent), content);
        self.desk.publications.publish_output(message);
    }
}

impl<R, I: Interpreter> Drop for Shell<R, I> {
    fn drop(&mut self) {
        if self.desk.stopped().is_some_and(|stopped| stopped.restart) {
            self.interpreter.restart();
        }
    }
}

fn panicked() -> CellError {
    let what = "internal error: the kernel panicked; please report this bug, and restart the kernel if cells misbehave";
    CellError::new("KernelPanic", what)
}

/// An output for silent cells, which discards everything.
struct Nowhere;

impl Output for Nowhere {
    fn stream(&mut self, _: Stream, _: &[u8]) {}
    fn display(&mut self, _: MimeBundle, _: Option<&str>) {}
    fn progress(&mut self, _: Option<u8>) {}
}
