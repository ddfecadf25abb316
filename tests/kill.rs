//! A process killed at any moment loses no stored artifact and corrupts nothing.

use std::process::Stdio;
use std::time::Duration;

use crate::setup::{Guest, Place};

#[test]
fn a_store_whose_writer_is_killed_200_times_checks_clean() {
    let place = Place::new();
    let mut killed = 0;
    for round in 0..200u64 {
        let guest = Guest::new("make");
        let mut arguments = guest.arguments(&place);
        arguments.push(format!("--param=rows={}", 1 + round * 37 % 5000));
        arguments.push(format!("--seed={round}"));
        let mut command = place.lockstep(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // spread over the whole run, which takes 5 to 50 ms
        std::thread::sleep(Duration::from_micros(round * 7919 % 30_000));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
    }
    assert!(killed > 50, "only {killed} processes were killed while running");
    let check = place.json(&["fsck"]);
    assert_eq!(check["findings"], serde_json::json!([]), "{check:#}");
    let run = place.json(
        &Guest::new("make")
            .arguments(&place)
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    assert_eq!(run["outcome"]["is"], "succeeded", "{run:#}");
}
