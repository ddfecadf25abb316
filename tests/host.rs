//! A host with many concurrent clients, some of them misbehaving, and the conformance of its API to the OpenAPI document.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::gateway::Host;
use crate::setup::{GUESTS, ROOT, binary, python};

fn succeeds(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    output
}

#[test]
fn five_hundred_clients_lose_no_run() {
    let host = Host::start();
    let port = host.url.rsplit_once(':').unwrap().1;
    let mut command = Command::new(python());
    let output = succeeds(command.arg(format!("{ROOT}/tests/clients/load.py")).args([port, Host::TOKEN]));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["other"], &told["lost"]), (&json!([]), &json!(0)), "{told}");
    // each of 450 good clients submits three runs of its own, and three that all clients submit
    assert_eq!(
        (&told["answered"], &told["records"]),
        (&json!(450 * 6), &json!(450 * 3 + 3)),
        "{told}"
    );
}

/// `make soak` does the same for longer. Most of the time, the host is starting.
#[test]
fn a_host_in_trouble_loses_no_job_and_mixes_up_no_answers() {
    let mut command = Command::new(python());
    let soak = format!("{ROOT}/tests/clients/soak.py");
    command.arg(soak).arg(binary()).arg(&*GUESTS).args(["0.6", "12"]);
    let output = succeeds(&mut command);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    for what in ["answered", "followed", "cells", "kills"] {
        assert!(told[what].as_u64().unwrap() > 0, "{what}: {told}");
    }
}

#[test]
fn the_api_conforms_to_its_document() {
    let host = Host::start();
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(python());
    command
        .args([
            "-m",
            "schemathesis.cli",
            "run",
            "--no-color",
            "--max-examples",
            "30",
            "--workers",
            "2",
        ])
        .args([
            "--checks",
            "not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance",
        ])
        .args(["-H", &format!("Authorization: Bearer {}", Host::TOKEN)])
        .arg(format!("{}/api/v1/openapi.json", host.url))
        .current_dir(directory.path());
    let output = succeeds(&mut command);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("generated, ") && said.contains(" passed"), "{said}");
}
