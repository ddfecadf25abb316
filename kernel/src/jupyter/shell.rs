//! Answers the shell channel, one request after the other, on the interpreter's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lockstep_runtime::sandbox::Interrupt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::cell_output::CellOutput;
use super::completeness::Completeness;
use super::history::History;
use super::interpreter::{Execute, Interpreter};
use super::kernel::{Desk, Request, Running, error_content, unknown_request};
use super::kernel_info;
use super::message::{Channel, Header, Message};
use super::request::{
    CommOpen, CursorRequest, ExecuteMetadata, ExecuteRequest, HistoryRequest, IsCompleteRequest, ShutdownRequest,
};
use crate::output::{CellError, MimeBundle, Output, Stream};

/// After a cell has failed, requests that were sent before its author could know get this long to arrive.
const SETTLE: Duration = Duration::from_millis(10);

pub(super) struct Shell<R, I> {
    desk: Arc<Desk<R>>,
    interpreter: I,
    history: History,
    number: u32,
    /// Cells that arrived before this one are not run.
    abort_before: u64,
}

impl<R: Send + 'static, I: Interpreter> Shell<R, I> {
    pub fn new(desk: Arc<Desk<R>>, interpreter: I) -> Self {
        Self {
            desk,
            interpreter,
            history: History::default(),
            number: 0,
            abort_before: 0,
        }
    }

    /// Whether the kernel was asked to shut down.
    pub fn is_stopped(&self) -> bool {
        self.desk.is_stopped()
    }

    /// Says busy, answers, says idle.
    pub fn answer(&mut self, request: Request<R>) {
        let desk = self.desk.clone();
        let Request {
            route,
            message,
            parent,
            arrival,
        } = request;
        let interrupt = (parent.msg_type == "execute_request").then(Interrupt::default);
        *desk.running() = Some(Running {
            parent: parent.clone(),
            interrupt: interrupt.clone(),
        });
        desk.status("busy", Some(&parent));
        let reply = match interrupt {
            _ if parent.msg_type == "shutdown_request" => {
                let restart = content::<ShutdownRequest>(&message).unwrap_or_default().restart;
                *desk.running() = None;
                desk.reply_and_stop(route, Channel::Shell, &parent, restart);
                return;
            }
            Some(_) if arrival < self.abort_before => Some(json!({ "status": "aborted" })),
            Some(interrupt) => Some(self.execute(&message, &parent, &interrupt)),
            None => self.answer_other(&message, &parent),
        };
        desk.flush();
        if let Some(content) = reply {
            desk.reply(Channel::Shell, route, &parent, content);
        }
        // Under one lock, so that a control request that comes in now does not say busy after this idle.
        let mut running = desk.running();
        *running = None;
        desk.status("idle", Some(&parent));
    }

    /// The answer to anything but a cell; `None` for what has no reply.
    fn answer_other(&mut self, message: &Message, parent: &Arc<Header>) -> Option<Value> {
        let guarded = catch_unwind(AssertUnwindSafe(|| match parent.msg_type.as_str() {
            "kernel_info_request" => Ok(Some(kernel_info::reply())),
            "complete_request" => self.complete(&content(message)?).map(Some),
            "inspect_request" => self.inspect(&content(message)?).map(Some),
            "is_complete_request" => {
                let request: IsCompleteRequest = content(message)?;
                Ok(Some(match self.interpreter.is_complete(&request.code) {
                    Completeness::Complete => json!({ "status": "complete" }),
                    Completeness::Incomplete { indent } => json!({ "status": "incomplete", "indent": indent }),
                    Completeness::Invalid => json!({ "status": "invalid" }),
                }))
            }
            "history_request" => {
                let request: HistoryRequest = content(message)?;
                let found = self.history.find(&request.access, request.output);
                Ok(Some(json!({ "status": "ok", "history": found })))
            }
            "comm_info_request" => Ok(Some(json!({ "status": "ok", "comms": {} }))),
            "comm_open" => {
                // There are no comms here; the protocol's answer to an unknown target is to close it.
                let request: CommOpen = content(message)?;
                let close = json!({ "comm_id": request.comm_id, "data": {} });
                self.desk
                    .publications
                    .publish(self.desk.origin.message("comm_close", Some(parent), close));
                Ok(None)
            }
            unknown if unknown.ends_with("_request") => Ok(Some(unknown_request(unknown))),
            _ => Ok(None),
        }));
        match guarded {
            Ok(Ok(reply)) => reply,
            Ok(Err(invalid)) => parent.msg_type.ends_with("_request").then_some(invalid),
            Err(_) => Some(error_content(
                "KernelPanic",
                "the kernel itself panicked; please report this as a bug",
            )),
        }
    }

    fn complete(&mut self, request: &CursorRequest) -> Result<Value, Value> {
        let CursorRequest { code, cursor_pos } = request;
        let found = self.interpreter.complete(code, byte_at(code, *cursor_pos));
        let types: Vec<_> = found
            .matches
            .iter()
            .map(|found| json!({ "text": found.text, "type": found.kind }))
            .collect();
        let matches: Vec<_> = found.matches.iter().map(|found| &found.text).collect();
        Ok(json!({
            "status": "ok",
            "matches": matches,
            "cursor_start": characters(code, found.replaced.start),
            "cursor_end": characters(code, found.replaced.end),
            "metadata": { "_jupyter_types_experimental": types },
        }))
    }

    fn inspect(&mut self, request: &CursorRequest) -> Result<Value, Value> {
        let CursorRequest { code, cursor_pos } = request;
        let found = self.interpreter.inspect(code, byte_at(code, *cursor_pos));
        let bundle = found.clone().unwrap_or_default();
        Ok(json!({ "status": "ok", "found": found.is_some(), "data": bundle.data, "metadata": bundle.metadata }))
    }

    fn execute(&mut self, message: &Message, parent: &Arc<Header>, interrupt: &Interrupt) -> Value {
        let request: ExecuteRequest = match content(message) {
            Ok(request) => request,
            Err(invalid) => return invalid,
        };
        let metadata: ExecuteMetadata = serde_json::from_value(message.metadata.clone()).unwrap_or_default();
        let stored = request.store_history && !request.silent;
        self.number += u32::from(stored);
        let cell = Execute {
            code: request.code,
            cell_id: metadata.cell_id,
            deleted_cells: metadata.deleted_cells,
            number: self.number.max(1),
            silent: request.silent,
        };
        let number = cell.number;
        if !cell.silent {
            self.publish(
                "execute_input",
                parent,
                json!({ "code": cell.code, "execution_count": number }),
            );
        }
        let result = self.run(&cell, parent, interrupt);
        let shown = result
            .as_ref()
            .ok()
            .and_then(Option::as_ref)
            .and_then(|value| value.data.get("text/plain"));
        if stored {
            let output = shown.and_then(Value::as_str).map(str::to_owned);
            self.history.add(number, cell.code, output);
        }
        match result {
            Ok(value) => {
                if let Some(MimeBundle { data, metadata }) = value.filter(|_| !cell.silent) {
                    let content = json!({ "execution_count": number, "data": data, "metadata": metadata });
                    self.publish("execute_result", parent, content);
                }
                let expressions: Map<_, _> = request.user_expressions.unwrap_or_default().into_iter().collect();
                let expressions: Map<_, _> = expressions
                    .into_iter()
                    .map(|(name, _)| {
                        (
                            name,
                            error_content("Unsupported", "this kernel evaluates no user expressions"),
                        )
                    })
                    .collect();
                json!({
                    "status": "ok",
                    "execution_count": number,
                    "payload": [],
                    "user_expressions": expressions,
                })
            }
            Err(error) => {
                if request.stop_on_error && !cell.silent {
                    std::thread::sleep(SETTLE);
                    self.abort_before = self.desk.arrivals();
                }
                let CellError {
                    ename,
                    evalue,
                    mut traceback,
                } = error;
                if traceback.is_empty() {
                    traceback.push(format!("{ename}: {evalue}"));
                }
                let content = json!({ "ename": ename, "evalue": evalue, "traceback": traceback });
                if !cell.silent {
                    self.publish("error", parent, content.clone());
                }
                let mut reply = content;
                reply["status"] = json!("error");
                reply["execution_count"] = json!(number);
                reply["payload"] = json!([]);
                reply["user_expressions"] = json!({});
                reply
            }
        }
    }

    fn run(&mut self, cell: &Execute, parent: &Arc<Header>, interrupt: &Interrupt) -> Result<Option<MimeBundle>, CellError> {
        let desk = &self.desk;
        let mut shown = CellOutput::new(&desk.origin, &desk.publications, parent);
        let mut nowhere = Nowhere;
        let output: &mut dyn Output = if cell.silent { &mut nowhere } else { &mut shown };
        let interpreter = &mut self.interpreter;
        let result = catch_unwind(AssertUnwindSafe(|| interpreter.execute(cell, output, interrupt)));
        shown.finish();
        result.unwrap_or_else(|_| {
            let what = "the kernel itself panicked; please report this as a bug, and restart the kernel if cells misbehave";
            Err(CellError::new("KernelPanic", what))
        })
    }

    fn publish(&self, msg_type: &str, parent: &Arc<Header>, content: Value) {
        let message = self.desk.origin.message(msg_type, Some(parent), content);
        self.desk.publications.publish_output(message);
    }
}

/// Output of a silent cell.
struct Nowhere;

impl Output for Nowhere {
    fn stream(&mut self, _: Stream, _: &[u8]) {}
    fn display(&mut self, _: MimeBundle) {}
    fn progress(&mut self, _: Option<u8>) {}
}

/// The request's content, or the error to reply with.
fn content<T: DeserializeOwned>(message: &Message) -> Result<T, Value> {
    T::deserialize(&message.content).map_err(|error| {
        let what = format!("the content of this {} is not valid: {error}", message.header.msg_type);
        error_content("InvalidRequest", &what)
    })
}

/// The byte at which the character `position` begins; the end when there are fewer.
fn byte_at(code: &str, position: Option<usize>) -> usize {
    let starts = || code.char_indices().map(|(byte, _)| byte);
    position.and_then(|position| starts().nth(position)).unwrap_or(code.len())
}

/// How many characters begin before `byte`.
fn characters(code: &str, byte: usize) -> usize {
    code.char_indices().take_while(|(at, _)| *at < byte).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_count_characters() {
        let code = "é😀x";
        assert_eq!(byte_at(code, Some(2)), 6);
        assert_eq!(byte_at(code, Some(9)), code.len());
        assert_eq!(byte_at(code, None), code.len());
        assert_eq!(characters(code, 6), 2);
        assert_eq!(characters(code, 99), 3);
    }
}
