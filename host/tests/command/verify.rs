//! `verify`: runs records again and compares the results.

use std::process::Stdio;
use std::time::{Duration, Instant};

use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::{Observed, Record};
use lockstep_runtime::step::{Artifact, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::place::{Place, Said, program, signal, squeeze, steps};

const STORE: &str = ".local/share/lockstep/store";

const PIPELINE: &str = "name: two
parameters: { share: 0.5 }
tasks:
  first: { step: steps.wasm#copy, inputs: { raw: raw.csv }, parameters: { share: '{{ share }}' } }
  second: { step: steps.wasm#again, inputs: { raw: first.rows }, parameters: { times: 2 } }
";

fn place() -> Place {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("raw.csv", "name,mass\nAdelie,3750\n");
    place.write("two.yaml", PIPELINE);
    place
}

/// Copies raw.csv. Returns the record.
fn copied(place: &Place) -> String {
    let run = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"]);
    run["record"].as_str().unwrap().to_owned()
}

fn short(digest: &str) -> &str {
    &digest["sha256:".len()..][..12]
}

#[derive(Serialize, Deserialize)]
struct Stored {
    record: Record,
    observed: Observed,
}

/// Adds a changed copy of `record` to the store. Returns its digest.
fn forge(place: &Place, record: &str, change: impl FnOnce(&mut Record)) -> String {
    let file = |digest: &Digest| {
        let hex = digest.hex();
        place.path(&format!("{STORE}/records/sha256/{}/{hex}", &hex[..2]))
    };
    let honest = file(&record.parse().unwrap());
    let mut stored: Stored = serde_json::from_slice(&std::fs::read(honest).unwrap()).unwrap();
    change(&mut stored.record);
    let digest = stored.record.digest().unwrap();
    let path = file(&digest);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, serde_json::to_vec(&stored).unwrap()).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(place.path(&format!("{STORE}/index.sqlite{suffix}")));
    }
    digest.to_string()
}

/// Adds a copy of `record` whose rows have another mass. Returns its digest.
pub fn forge_rows(place: &Place, record: &str) -> String {
    let rows = "name,mass\nAdelie,3751\n";
    place.write("forged.csv", rows);
    place.run(&["show", "forged.csv"]);
    forge(place, record, |record| {
        let output = record.outputs.get_mut("rows").unwrap();
        *output = Artifact {
            digest: Digest::of(rows),
            ..output.clone()
        };
    })
}

/// Runs the command and compares its output, with runs of spaces collapsed.
fn said(place: &Place, arguments: &[&str]) -> Said {
    let said = place.run(arguments);
    Said {
        stdout: squeeze(&said.stdout),
        ..said
    }
}

#[track_caller]
fn says(place: &Place, arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let expected = Said {
        code,
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
    };
    assert_eq!(said(place, arguments), expected);
}

/// Returns title and verdict of each.
fn verdicts(verified: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let verified = verified["verified"].as_array().unwrap();
    verified
        .iter()
        .map(|one| (text(&one["what"]), text(&one["verdict"])))
        .collect()
}

#[test]
fn a_record_is_run_again_and_stays_as_it_was() {
    let place = place();
    let record = copied(&place);
    let log = place.json(&["log"]);
    let good = format!("run record verdict\ncopy {} ✓\n1 run: 1 good in [TIME]\n", short(&record));
    says(&place, &["verify", &record], 0, &good, "");
    says(&place, &["verify", short(&record), "--on", "pulley"], 0, &good, "");
    says(&place, &["verify", &record, "--quiet"], 0, "", "");
    assert_eq!(
        place.json(&["verify", &record]),
        json!({"good": true, "verified": [{"what": "copy", "record": record, "verdict": "good"}]})
    );
    assert_eq!(place.json(&["log"]), log);
    place.fails(
        2,
        &["verify", "raw.csv"],
        "error: raw.csv is an artifact, not a record\nhint: `lockstep lineage c539c7b3ab29` shows the record of the run that made it\n",
    );
    place.fails(
        2,
        &["verify", &record, "-p", "share=1"],
        &format!(
            "error: parameters and inputs need a pipeline, and {record} is not one\n\
             hint: a pipeline is a file that ends in .yaml, or a plan that ends in .json\n"
        ),
    );
}

#[test]
fn a_forged_record_is_found() {
    let place = place();
    let record = copied(&place);
    let forged = forge_rows(&place, &record);
    let [left, right] = ["3751", "3750"].map(|mass| Digest::of(format!("name,mass\nAdelie,{mass}\n")).short());
    let told = |header: &str| {
        format!(
            "run record verdict\ncopy {} ✗ different\ncopy record [RECORD] now {} {header}\n\
             output rows {left} {right} byte 20, row 1, column mass: 3751 and 3750\n1 run: 1 different in [TIME]\n",
            short(&forged),
            short(&record)
        )
    };
    let error = "error: the result of the run differs from its record\n";
    let kept = "hint: the new result is stored too; compare with `lockstep show` and `lockstep diff`\n";
    says(
        &place,
        &["verify", &forged],
        4,
        &told("first difference"),
        &format!("{error}{kept}"),
    );
    let here = "hint: omit --on to run on this processor; the new result is then stored for `lockstep diff`\n";
    let on_pulley = ["verify", &forged, "--on", "pulley", "-q"];
    says(&place, &on_pulley, 4, &told("first difference"), &format!("{error}{here}"));
    let verified = place.json(&["verify", &forged]);
    assert_eq!(verified["good"], false);
    assert_eq!(verified["verified"][0]["again"], json!(record));
    assert_eq!(
        verified["verified"][0]["differences"][0]["first"],
        json!({"row": 1, "column": "mass", "offset": 20, "left": "3751", "right": "3750"})
    );
}

#[test]
fn outcome_usage_and_key_are_compared_too() {
    let place = place();
    let record = copied(&place);
    let forged = forge(&place, &record, |record| {
        record.outcome = serde_json::from_value(json!({"is": "failed", "cause": "trap", "rule": "unreachable"})).unwrap();
        record.usage.as_mut().unwrap().fuel += 1;
        record.key.0 = Digest::of("another");
    });
    let verified = place.json(&["verify", &forged]);
    let differences = verified["verified"][0]["differences"].as_array().unwrap();
    let what: Vec<&Value> = differences.iter().map(|difference| &difference["what"]).collect();
    assert_eq!(what, ["fuel", "outcome", "key"]);
    assert_eq!(differences[1]["right"], "succeeded");
}

#[test]
fn what_else_it_came_to_is_kept() {
    let place = place();
    let record = copied(&place);
    let forged = forge_rows(&place, &record);
    let hex = &record["sha256:".len()..];
    std::fs::remove_file(place.path(&format!("{STORE}/records/sha256/{}/{hex}", &hex[..2]))).unwrap();
    assert_eq!(place.run(&["verify", &forged, "--on", "pulley"]).code, 4);
    assert_eq!(place.run(&["show", &record]).code, 2);
    assert_eq!(place.run(&["verify", &forged]).code, 4);
    assert_eq!(place.json(&["show", &record])["record"], json!(record));
    assert_eq!(
        place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"])["record"],
        json!(record)
    );
}

#[test]
fn limits_that_were_reached_are_those_again() {
    let place = place();
    place.write("endless.wasm", program("", "(loop br 0)"));
    let failed = place.json(&["run", "endless.wasm", "--fuel", "1000"]);
    assert_eq!(failed["outcome"]["cause"], "limit");
    let verified = place.json(&["verify", failed["record"].as_str().unwrap()]);
    assert_eq!(verdicts(&verified), [("program".to_owned(), "good".to_owned())]);
}

#[test]
fn the_tasks_of_a_pipeline_are_verified() {
    let place = place();
    place.fails(
        2,
        &["verify", "two.yaml"],
        "error: no task of two.yaml has a record\n\
         hint: `lockstep run two.yaml` creates them; `lockstep plan two.yaml` shows what is missing\n",
    );
    let run = place.json(&["run", "two.yaml"]);
    let records: Vec<&str> = run["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["record"].as_str().unwrap())
        .collect();
    let [first, second] = [short(records[0]), short(records[1])];
    let good = format!("run record verdict\nfirst {first} ✓\nsecond {second} ✓\n2 runs: 2 good in [TIME]\n");
    says(&place, &["verify", "two.yaml"], 0, &good, "");
    place.run(&["plan", "two.yaml", "-o", "plan.json"]);
    says(&place, &["verify", "plan.json", "--on", "pulley"], 0, &good, "");
    place.write(
        "more.yaml",
        format!("{PIPELINE}  third: {{ step: steps.wasm#again, inputs: {{ raw: second.rows }}, parameters: {{ times: 3 }} }}\n  fourth: {{ step: steps.wasm#copy, inputs: {{ raw: third.rows }} }}\n"),
    );
    says(
        &place,
        &["verify", "more.yaml"],
        0,
        &format!(
            "run record verdict\nfirst {first} ✓\nsecond {second} ✓\nthird skipped: not run: parameter times 3 (was 2)\n\
             fourth skipped: never run\n4 runs: 2 good, 2 skipped in [TIME]\n"
        ),
        "hint: `lockstep run more.yaml` runs tasks without a record\n",
    );
    // the second task reads the output that the forged record of the first names
    let forged = forge_rows(&place, records[0]);
    assert_ne!(forged, records[0]);
    let all = place.json(&["verify", "--all"]);
    let mut verdicts = verdicts(&all);
    verdicts.sort();
    let expected = [("again", "good"), ("copy", "different"), ("copy", "good")];
    assert_eq!(
        verdicts,
        expected.map(|(what, verdict)| (what.to_owned(), verdict.to_owned()))
    );
}

#[test]
fn the_whole_store_is_verified() {
    let place = place();
    says(&place, &["verify", "--all"], 0, "no runs\n", "");
    place.write("trap.wasm", program("", "unreachable"));
    place.write("endless.wasm", program("", "(loop br 0)"));
    let run = |arguments: &[&str]| {
        let ran = place.json(&[&["run"], arguments].concat());
        std::thread::sleep(Duration::from_millis(5));
        ran["record"].as_str().unwrap().to_owned()
    };
    let copy = run(&["steps.wasm#copy", "-i", "raw=raw.csv"]);
    let trap = run(&["trap.wasm"]);
    let endless = run(&["endless.wasm", "--time", "50ms"]);
    let again = run(&["steps.wasm#again", "-i", "raw=raw.csv", "-p", "times=2"]);
    let [copy, trap, endless, again] = [&copy, &trap, &endless, &again].map(|record| short(record));
    says(
        &place,
        &["verify", "--all"],
        0,
        &format!(
            "run record verdict\nagain {again} ✓\nprogram {endless} skipped: interrupted: the time limit was reached\n\
             program {trap} ✓\ncopy {copy} ✓\n4 runs: 3 good, 1 skipped in [TIME]\n"
        ),
        "",
    );
    let of = |arguments: &[&str]| verdicts(&place.json(&[&["verify", "--all"], arguments].concat())).len();
    assert_eq!(
        (
            of(&["-n", "1"]),
            of(&["--since", "0s"]),
            of(&["--since", "1d", "--jobs", "1"])
        ),
        (1, 0, 4)
    );
    // a failure does not stop the others
    let module = Digest::of(program("", "unreachable"));
    let hex = module.hex();
    std::fs::remove_file(place.path(&format!("{STORE}/blobs/sha256/{}/{hex}", &hex[..2]))).unwrap();
    says(
        &place,
        &["verify", "--all"],
        2,
        &format!(
            "run record verdict\nagain {again} ✓\nprogram {endless} skipped: interrupted: the time limit was reached\n\
             program {trap} ✗ artifact {module} not found in the store\ncopy {copy} ✓\n\
             4 runs: 2 good, 1 failed, 1 skipped in [TIME]\n"
        ),
        &format!(
            "error: program: artifact {module} not found in the store\nhint: `lockstep log` lists the runs in this store\n"
        ),
    );
}

#[test]
fn ctrl_c_ends_verifying() {
    let place = place();
    place.write("endless.wasm", program("", "(loop br 0)"));
    let failed = place.json(&["run", "endless.wasm", "--fuel", "1000"]);
    let forged = forge(&place, failed["record"].as_str().unwrap(), |record| {
        record.outcome = Outcome::Succeeded;
        record.usage.as_mut().unwrap().reached.clear();
    });
    let mut child = place
        .command(&["verify", &forged, "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let tasks = format!("/proc/{}/task", child.id());
    let listens = || {
        let threads = std::fs::read_dir(&tasks).unwrap();
        let name = |thread: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok();
        threads.filter_map(name).any(|name| name.trim_end() == "ctrl-c")
    };
    let started = Instant::now();
    while !listens() {
        assert!(started.elapsed() < Duration::from_secs(60), "it did not react to Ctrl-C");
    }
    signal(&child, "-INT");
    assert!(child.try_wait().unwrap().is_none());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdicts(&verified), [("program".to_owned(), "interrupted".to_owned())]);
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: interrupted: 0 of 1 verified\n"
    );
    let runs = place.json(&["log"])["runs"].as_array().unwrap().len();
    assert_eq!(runs, 2, "an interrupted run must leave no record");
}
