//! The contents of messages that the kernel sends.

use jupyter_protocol::{ReplyError, ReplyStatus};
use serde::Serialize;
use serde_json::{Value, json};

use crate::output::CellError;

/// Returns a content as JSON. The contents are types of the protocol, whose keys are texts, so this does not fail.
pub(crate) fn json_of(content: impl Serialize) -> Value {
    serde_json::to_value(content).unwrap_or_default()
}

/// Returns the error for an unknown request, so that clients don't wait forever.
pub(super) fn unknown_request(msg_type: &str) -> Value {
    error_content("UnknownRequest", &format!("unsupported request {msg_type}"))
}

pub(super) fn error_content(ename: &str, evalue: &str) -> Value {
    failed(&CellError::new(ename, evalue))
}

/// Returns the content of an error reply.
pub(crate) fn failed(error: &CellError) -> Value {
    let mut reply = json_of(details(error));
    reply["status"] = json!(ReplyStatus::Error);
    reply
}

/// Returns the name, message and traceback of an error.
pub(super) fn details(error: &CellError) -> ReplyError {
    ReplyError {
        ename: error.ename.clone(),
        evalue: error.evalue.clone(),
        traceback: match &error.traceback[..] {
            [] => vec![error.to_string()],
            lines => lines.to_vec(),
        },
    }
}
