//! `inspect`, `run` and `log` with modules of steps.

use lockstep_runtime::digest::Digest;
use serde_json::json;

use crate::place::{Place, steps};

fn place() -> Place {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("raw.csv", "name,mass\nAdelie,3750\n");
    place
}

const RUN: [&str; 6] = ["run", "steps.wasm#copy", "-i", "raw=raw.csv", "-o", "rows=rows.csv"];

#[test]
fn a_module_says_what_its_steps_take() {
    let digest = Digest::of(steps());
    let stdout = format!(
        "module  {digest}
size    1.1 KiB

step again
  input      raw    text/csv
  parameter  times  integer   required
  output     rows   text/csv

step copy
  Copy the rows.

  All of them.
  input      raw     Csv                  what is copied
  parameter  column  string  = \"species\"  a column
  parameter  share   number  = 0.5
  output     rows    Csv                  the copy
"
    );
    place().says(&["inspect", "steps.wasm"], &stdout, "");
}

#[test]
fn a_step_is_run_once() {
    let place = place();
    place.says(
        &RUN,
        "",
        "half the way
copy [TIME]
  rows  c539c7b3ab29  text/csv  22 B
  record [RECORD]
",
    );
    assert_eq!(place.read("rows.csv"), "name,mass\nAdelie,3750\n");
    place.says(
        &RUN,
        "",
        "half the way
copy cached
  rows  c539c7b3ab29  text/csv  22 B
  record [RECORD]
",
    );
    let mut again = RUN.to_vec();
    again.push("--no-cache");
    assert!(place.run(&again).stderr.contains("copy [TIME]"));
    place.says(&["run", "steps.wasm#copy", "-i", "raw=raw.csv", "-q"], "", "half the way\n");
}

#[test]
fn inputs_are_named_by_path_digest_prefix_or_record() {
    let place = place();
    let first = place.json(&RUN);
    let record = first["record"].as_str().unwrap();
    let digest = first["outputs"]["rows"]["digest"].as_str().unwrap();
    let hex = digest.strip_prefix("sha256:").unwrap();
    let output = format!("{record}/rows");
    for source in ["raw.csv", digest, hex, &digest[..15], &hex[..8], output.as_str()] {
        let again = place.json(&["run", "steps.wasm#copy", "--input", &format!("raw={source}")]);
        assert_eq!(
            (&again["record"], &again["cached"]),
            (&first["record"], &json!(true)),
            "{source}"
        );
    }
}

#[test]
fn programs_read_all_that_people_read() {
    let place = place();
    let run = place.json(&RUN);
    assert_eq!(run["outcome"], json!({"is": "succeeded"}));
    assert_eq!(run["cached"], false);
    assert_eq!(run["outputs"]["rows"]["media_type"], "text/csv");
    assert_eq!(run["outputs"]["rows"]["size"], 22);
    assert_eq!(run["written"], json!({"rows": "rows.csv"}));
    assert_eq!(run["run"]["entry"]["parameters"], json!({"column": "species", "share": 0.5}));
    let log = place.json(&["log"]);
    assert_eq!(log["runs"].as_array().unwrap().len(), 1);
    assert_eq!(log["runs"][0]["record"], run["record"]);
    assert_eq!(place.json(&["inspect", "steps.wasm"])["steps"][1]["step"], "copy");
}

#[test]
fn the_log_lists_runs_newest_first() {
    let place = place();
    place.says(&["log"], "", "no runs yet in [PLACE]/.local/share/lockstep/store\n");
    place.run(&RUN);
    std::thread::sleep(std::time::Duration::from_millis(5));
    place.run(&["run", "steps.wasm#again", "-i", "raw=raw.csv", "-p", "times=2"]);
    let log = place.run(&["log"]).stdout;
    let steps: Vec<&str> = log.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    assert!(log.starts_with("record        age  step "), "{log}");
    assert_eq!(steps.len(), 3, "{log}");
    assert!(
        log.lines().nth(1).unwrap().contains("again") && log.lines().nth(2).unwrap().contains("copy"),
        "{log}"
    );
    assert_eq!(place.run(&["log", "-n", "1"]).stdout.lines().count(), 2);
}
