//! A process killed at any moment loses no stored artifact and corrupts nothing.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::setup::{GUESTS, Guest, Place};

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

/// Runs, pipelines, garbage collections and imports on one store are killed at the same time, at any moment. Set `LOCKSTEP_KILLS` for
/// more than the usual number of kills.
#[test]
fn a_store_whose_users_are_all_killed_loses_nothing_that_was_reported() {
    let kills: u64 = std::env::var("LOCKSTEP_KILLS").map_or(200, |text| text.parse().unwrap());
    let place = Place::new();
    let make = |rows: u64| {
        let mut arguments = Guest::new("make").arguments(&place);
        arguments.extend([format!("--param=rows={}", 1 + rows % 7 * 700), "--json".to_owned()]);
        arguments
    };
    let pipeline = json!({ "name": "many", "tasks": (0..4).map(|task| {
        let step = format!("{}#make", GUESTS.display());
        (format!("t{task}"), json!({ "step": step, "parameters": { "rows": 1 + task * 900 } }))
    }).collect::<BTreeMap<_, _>>() });
    std::fs::write(place.path("many.yaml"), pipeline.to_string()).unwrap();
    std::fs::write(place.path("data"), vec![7; 3 << 20]).unwrap();
    let fixed = |arguments: &[&str]| arguments.iter().map(|argument| argument.to_string()).collect::<Vec<_>>();
    let commands = |number: u64| match number % 4 {
        0 => make(number / 4),
        1 => fixed(&["run", "many.yaml", "--json", "--no-cache"]),
        2 => fixed(&["gc", "--grace", "0s", "--json"]),
        _ => fixed(&["run", "many.yaml", "--json"]),
    };
    // compiles the module
    place.json(&["run", "many.yaml"]);
    let (next, reported) = (Mutex::new(0..kills), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some(number) = { next.lock().unwrap().next() } {
                    let arguments = commands(number);
                    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    let mut command = place.lockstep(&arguments);
                    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
                    // some are left to end, however slow the machine is
                    let after = (number % 5 != 4).then(|| Duration::from_micros(number * 7919 % 60_000));
                    if let Some(output) = killed_after(child, after) {
                        for (key, outputs) in results(&output) {
                            let before = reported.lock().unwrap().insert(key.clone(), outputs.clone());
                            assert!(before.is_none_or(|before| before == outputs), "{key} has other outputs");
                        }
                    }
                }
            });
        }
    });
    let reported = reported.into_inner().unwrap();
    assert!(
        reported.len() > 3,
        "only {} runs ended before they were killed",
        reported.len()
    );
    let check = place.json(&["fsck"]);
    assert_eq!(check["findings"], json!([]), "{check:#}");
    // what a command has reported is there still, and is not run again
    for rows in 0..7 {
        let run = place.json(
            &make(rows)
                .iter()
                .map(String::as_str)
                .filter(|argument| *argument != "--json")
                .collect::<Vec<_>>(),
        );
        for (key, outputs) in results(&run) {
            assert_eq!(*reported.get(&key).unwrap_or(&outputs), outputs);
            assert!(!reported.contains_key(&key) || run["cached"] == true, "{run:#}");
        }
    }
}

/// Kills the process after a time, if there is one. Returns what it printed, if it was done before.
fn killed_after(mut child: Child, time: Option<Duration>) -> Option<Value> {
    if let Some(time) = time {
        std::thread::sleep(time);
        let _ = child.kill();
    }
    let output = child.wait_with_output().unwrap();
    let text = output.status.success().then_some(output.stdout)?;
    Some(serde_json::from_slice(&text).unwrap())
}

/// Returns the outputs of each run in the JSON of a command, by run key.
fn results(printed: &Value) -> BTreeMap<String, Value> {
    let runs = match printed["tasks"].as_array() {
        Some(tasks) => tasks.iter().collect(),
        None => vec![printed],
    };
    let key = |run: &Value| Some((run["key"].as_str()?.to_owned(), run["outputs"].clone()));
    runs.into_iter().filter_map(key).collect()
}
