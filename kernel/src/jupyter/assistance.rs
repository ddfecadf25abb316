//! Answers requests about the session and about code on the assistant's thread, even while a cell runs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use jupyter_protocol::{
    CommClose, CommId, CommInfoRequest, CommMsg, CompleteReply, IsCompleteReply, IsCompleteRequest, ReplyStatus,
};
use serde_json::{Map, Value, json};

use super::comms::VARIABLES;
use super::completeness::Completeness;
use super::content::{error_content, json_of, unknown_request};
use super::desk::{Desk, Request};
use super::interpreter::Assistant;
use super::kernel_info;
use super::message::{Channel, Header, Message};
use super::request::{CommContent, CommOpen, CursorRequest, HistoryRequest, content};

pub(super) struct Assistance<R> {
    desk: Arc<Desk<R>>,
    assistant: Box<dyn Assistant>,
}

impl<R: Send + 'static> Assistance<R> {
    pub fn new(desk: Arc<Desk<R>>, assistant: Box<dyn Assistant>) -> Self {
        Self { desk, assistant }
    }

    /// Publishes busy, answers, publishes idle.
    pub fn answer(&mut self, request: Request<R>) {
        let desk = self.desk.clone();
        let Request {
            route, message, parent, ..
        } = request;
        desk.attend(&parent, || {
            let guarded = catch_unwind(AssertUnwindSafe(|| self.reply(&message, &parent)));
            let reply = match guarded {
                Ok(Ok(reply)) => reply,
                Ok(Err(invalid)) => parent.msg_type.ends_with("_request").then_some(invalid),
                Err(_) => Some(error_content(
                    "KernelPanic",
                    "internal error: the kernel panicked; please report this bug",
                )),
            };
            if let Some(content) = reply {
                desk.reply(Channel::Shell, route, &parent, content);
            }
        });
    }

    /// Returns the reply; `None` if the message has none.
    fn reply(&mut self, message: &Message, parent: &Arc<Header>) -> Result<Option<Value>, Value> {
        Ok(Some(match parent.msg_type.as_str() {
            "kernel_info_request" => kernel_info::reply(),
            "complete_request" => self.complete(&content(message)?),
            "inspect_request" => self.inspect(&content(message)?),
            "is_complete_request" => {
                let request: IsCompleteRequest = content(message)?;
                json_of(match self.assistant.is_complete(&request.code) {
                    Completeness::Complete => IsCompleteReply::complete(),
                    Completeness::Incomplete { indent } => IsCompleteReply::incomplete(indent),
                    Completeness::Invalid => IsCompleteReply::invalid(),
                })
            }
            "history_request" => {
                let request: HistoryRequest = content(message)?;
                let found = self.desk.history().find(&request.access, request.output);
                json!({ "status": "ok", "history": found })
            }
            "comm_info_request" => {
                let request: CommInfoRequest = content(message)?;
                json_of(self.desk.comms.info(request.target_name.as_deref()))
            }
            "comm_open" => {
                self.open_comm(content(message)?, parent);
                return Ok(None);
            }
            "comm_msg" => {
                let request: CommContent = content(message)?;
                if self.desk.comms.is_open(&request.comm_id) {
                    self.tell_variables(&request.comm_id, parent);
                }
                return Ok(None);
            }
            "comm_close" => {
                let request: CommContent = content(message)?;
                self.desk.comms.close(&request.comm_id);
                return Ok(None);
            }
            unknown if unknown.ends_with("_request") => unknown_request(unknown),
            _ => return Ok(None),
        }))
    }

    fn complete(&mut self, request: &CursorRequest) -> Value {
        let CursorRequest { code, cursor_pos } = request;
        let found = self.assistant.complete(code, byte_at(code, *cursor_pos));
        let types: Vec<_> = found
            .matches
            .iter()
            .map(|found| json!({ "text": found.text, "type": found.kind }))
            .collect();
        json_of(CompleteReply {
            matches: found.matches.iter().map(|found| found.text.clone()).collect(),
            cursor_start: characters(code, found.replaced.start),
            cursor_end: characters(code, found.replaced.end),
            metadata: Map::from_iter([("_jupyter_types_experimental".to_owned(), Value::Array(types))]),
            status: ReplyStatus::Ok,
            error: None,
        })
    }

    fn inspect(&mut self, request: &CursorRequest) -> Value {
        let CursorRequest { code, cursor_pos } = request;
        let found = self.assistant.inspect(code, byte_at(code, *cursor_pos));
        let bundle = found.clone().unwrap_or_default();
        json!({ "status": "ok", "found": found.is_some(), "data": bundle.data, "metadata": bundle.metadata })
    }

    fn open_comm(&mut self, request: CommOpen, parent: &Arc<Header>) {
        if request.target_name == VARIABLES {
            self.desk.comms.open(request.comm_id.clone(), parent.clone());
            self.tell_variables(&request.comm_id, parent);
        } else {
            // The protocol requires to close a comm with an unknown target.
            let close = CommClose {
                comm_id: CommId(request.comm_id),
                data: Map::new(),
            };
            let message = self.desk.origin.message("comm_close", Some(parent), json_of(close));
            self.desk.publications.publish(message);
        }
    }

    /// Sends the variables to every open comm, after a cell.
    pub fn tell_all(&mut self) {
        for (id, parent) in self.desk.comms.all() {
            self.tell_variables(&id, &parent);
        }
    }

    fn tell_variables(&mut self, comm_id: &str, parent: &Arc<Header>) {
        let content = CommMsg {
            comm_id: CommId(comm_id.to_owned()),
            data: Map::from_iter([("variables".to_owned(), json!(self.assistant.variables()))]),
        };
        let message = self.desk.origin.message("comm_msg", Some(parent), json_of(content));
        self.desk.publications.publish(message);
    }
}

/// Returns the byte offset of the character at `position`; the length of `code` if there are fewer characters.
fn byte_at(code: &str, position: Option<usize>) -> usize {
    let starts = || code.char_indices().map(|(byte, _)| byte);
    position.and_then(|position| starts().nth(position)).unwrap_or(code.len())
}

/// Returns the number of characters that start before `byte`.
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
