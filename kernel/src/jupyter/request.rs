//! The contents of requests for which jupyter-protocol requires fields that clients may omit. Here they have the protocol's defaults.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::content::error_content;
use super::message::Message;

#[derive(Debug, Deserialize)]
pub(super) struct ExecuteRequest {
    pub code: String,
    #[serde(default)]
    pub silent: bool,
    #[serde(default = "yes")]
    pub store_history: bool,
    #[serde(default)]
    pub user_expressions: Option<Map<String, Value>>,
    #[serde(default = "yes")]
    pub allow_stdin: bool,
    #[serde(default = "yes")]
    pub stop_on_error: bool,
}

/// JupyterLab's fields in the metadata of an `execute_request`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExecuteMetadata {
    #[serde(default)]
    pub cell_id: Option<String>,
    #[serde(default)]
    pub deleted_cells: Vec<String>,
}

/// The content of `complete_request` and `inspect_request`.
#[derive(Debug, Deserialize)]
pub(super) struct CursorRequest {
    pub code: String,
    /// The cursor in Unicode characters; defaults to the end of the code.
    #[serde(default)]
    pub cursor_pos: Option<usize>,
}

#[derive(Debug, Deserialize)]
pub(super) struct HistoryRequest {
    #[serde(default)]
    pub output: bool,
    #[serde(flatten)]
    pub access: HistoryAccess,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "hist_access_type", rename_all = "lowercase")]
pub(super) enum HistoryAccess {
    Tail {
        n: usize,
    },
    /// Entries from `start` to before `stop` of a session. 0 is this session, -1 the previous one, a positive number that
    /// session.
    Range {
        #[serde(default)]
        session: i64,
        #[serde(default)]
        start: i64,
        #[serde(default)]
        stop: Option<i64>,
    },
    /// The last `n` entries that match a pattern with `*` and `?`.
    Search {
        pattern: String,
        #[serde(default)]
        unique: bool,
        #[serde(default)]
        n: Option<usize>,
    },
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct ShutdownRequest {
    #[serde(default)]
    pub restart: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct CommOpen {
    pub comm_id: String,
    #[serde(default)]
    pub target_name: String,
}

/// The content of `comm_msg` and `comm_close`.
#[derive(Debug, Deserialize)]
pub(super) struct CommContent {
    pub comm_id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct DeleteSubshell {
    pub subshell_id: String,
}

fn yes() -> bool {
    true
}

/// Parses the request's content, in which null means the default. Returns an error reply if it is invalid.
pub(super) fn content<T: DeserializeOwned>(message: &Message) -> Result<T, Value> {
    let mut given = message.content.clone();
    if let Some(fields) = given.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    T::deserialize(given).map_err(|error| {
        let what = format!("invalid content of {}: {error}", message.header.msg_type);
        error_content("InvalidRequest", &what)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jupyter::Origin;

    #[test]
    fn null_means_the_default() {
        let origin = Origin::new("a", || std::time::UNIX_EPOCH);
        let nulls = json!({
            "code": "1", "silent": null, "store_history": null, "user_expressions": null, "allow_stdin": null, "stop_on_error": null,
        });
        let request: ExecuteRequest = content(&origin.message("execute_request", None, nulls)).unwrap();
        assert!(!request.silent && request.store_history && request.allow_stdin && request.stop_on_error);
        let request = origin.message("shutdown_request", None, json!({ "restart": null }));
        assert!(!content::<ShutdownRequest>(&request).unwrap().restart);
        let nothing = content::<ExecuteRequest>(&origin.message("execute_request", None, json!({ "code": null })));
        assert!(
            nothing.unwrap_err()["evalue"]
                .as_str()
                .unwrap()
                .contains("missing field `code`")
        );
    }
}
