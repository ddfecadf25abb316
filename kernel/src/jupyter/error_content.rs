//! The contents of error replies.

use serde_json::{Value, json};

use crate::output::CellError;

/// Returns the error for an unknown request, so that clients don't wait forever.
pub(super) fn unknown_request(msg_type: &str) -> Value {
    error_content("UnknownRequest", &format!("unsupported request {msg_type}"))
}

pub(super) fn error_content(ename: &str, evalue: &str) -> Value {
    failed(&CellError::new(ename, evalue))
}

/// Returns the content of an error reply.
pub(crate) fn failed(error: &CellError) -> Value {
    let CellError {
        ename,
        evalue,
        traceback,
    } = error;
    let traceback = match &traceback[..] {
        [] => vec![error.to_string()],
        lines => lines.to_vec(),
    };
    json!({ "status": "error", "ename": ename, "evalue": evalue, "traceback": traceback })
}
