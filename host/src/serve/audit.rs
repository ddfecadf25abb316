//! What was asked for and by whom: a line of JSON for each request that changes something, and for each that is refused.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The file that is only ever added to.
pub struct Audit(Mutex<File>);

impl Audit {
    /// `audit.jsonl` in `directory`.
    pub fn open(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).map_err(|e| Error::file("make", directory, &e))?;
        let path = directory.join("audit.jsonl");
        let file = OpenOptions::new().append(true).create(true).open(&path);
        Ok(Self(Mutex::new(file.map_err(|e| Error::file("write", &path, &e))?)))
    }

    /// A request that was answered.
    pub fn done(&self, method: &Method, path: &str, user: Option<&str>, status: StatusCode) {
        self.write(&json!({
            "at": now(),
            "user": user,
            "method": method.as_str(),
            "path": path,
            "status": status.as_u16(),
        }));
    }

    /// A request that was refused before it was looked at. What stands behind the question mark may be a secret and is left out.
    pub fn refused(&self, request: &Request, user: Option<&str>, why: &str) {
        self.write(&json!({
            "at": now(),
            "user": user,
            "method": request.method().as_str(),
            "path": request.uri().path(),
            "refused": why,
        }));
    }

    fn write(&self, line: &Value) {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(format!("{line}\n").as_bytes()) {
            tracing::error!("the audit log can't be written: {error}");
        }
    }
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}
