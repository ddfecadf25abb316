//! A host that many use at a time, some of them badly; and its OpenAPI document, against what it does.

use std::process::{Command, Output};

use serde_json::Value;

use crate::serving::{Host, TOKEN};
use crate::setup::{ROOT, python};

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// A module that does nothing, in the store of the host.
fn nothing(host: &Host) -> String {
    let wasm = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").unwrap();
    host.put(&wasm)
}

#[test]
fn five_hundred_clients_lose_no_run() {
    let host = Host::start(&["--queue", "200"]);
    let module = nothing(&host);
    let mut command = Command::new(python());
    command.arg(format!("{ROOT}/tests/clients/load.py")).args([&host.port.to_string(), TOKEN, &module]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["other"], &told["lost"]), (&serde_json::json!([]), &serde_json::json!(0)), "{told}");
    // 450 good clients ask six times each; half of what they ask for is the same for all, as three seeds are
    assert_eq!(told["answered"], 450 * 6);
    assert_eq!(told["records"], 450 * 3 + 3);
}

#[test]
fn whatever_the_document_allows_is_answered_without_an_error_of_the_host() {
    let host = Host::start(&[]);
    nothing(&host);
    let mut command = Command::new(python());
    command.args(["-m", "schemathesis.cli", "run", "--no-color", "--max-examples", "30", "--workers", "2"]);
    command.args(["--checks", "not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance"]);
    command.args(["-H", &format!("Authorization: Bearer {TOKEN}")]);
    command.arg(format!("{}/api/v1/openapi.json", host.url())).current_dir(host.directory());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains(" passed"), "{}", said(&output));
}
