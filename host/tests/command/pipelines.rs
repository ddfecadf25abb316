//! `plan`, and `run` with pipelines.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use lockstep_runtime::digest::Digest;
use serde_json::{Value, json};

use crate::place::{Place, Said, cat, program, signal, squeeze, steps};

const PIPELINE: &str = "name: two
parameters: { share: 0.5 }
outputs: { rows: second.rows }
tasks:
  first: { step: steps.wasm#copy, inputs: { raw: raw.csv }, parameters: { share: '{{ share }}' } }
  second: { step: steps.wasm#again, inputs: { raw: first.rows }, parameters: { times: 2 } }
";

fn place() -> Place {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("cat.wasm", cat());
    place.write("trap.wasm", program("", "unreachable"));
    place.write("endless.wasm", program("", "(loop br 0)"));
    place.write("raw.csv", "name,mass\nAdelie,3750\n");
    place.write("two.yaml", PIPELINE);
    place
}

/// Collapses runs of spaces in the output.
fn said(place: &Place, arguments: &[&str]) -> Said {
    let said = place.run(arguments);
    Said {
        stdout: squeeze(&said.stdout),
        stderr: squeeze(&said.stderr),
        ..said
    }
}

#[test]
fn a_plan_says_what_would_be_run_and_why() {
    let place = place();
    let plan = |rest: &[&str]| said(&place, &[&["plan", "two.yaml"], rest].concat());
    let same = |said: Said, stdout: &str| assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, stdout, ""));
    same(
        plan(&[]),
        "task plan why\nfirst miss never run\nsecond waits for first\n2 tasks: 1 miss, 1 waits\n",
    );
    place.run(&["run", "two.yaml"]);
    same(
        plan(&[]),
        "task plan why\nfirst hit record [RECORD]\nsecond hit record [RECORD]\n2 tasks: 2 hit\n",
    );
    same(
        plan(&["-p", "share=1"]),
        "task plan why\nfirst miss parameter share 1.0 (was 0.5)\nsecond waits for first\n2 tasks: 1 miss, 1 waits\n",
    );
    place.write("raw.csv", "name,mass\nGentoo,5000\n");
    same(
        plan(&[]),
        &format!(
            "task plan why\nfirst miss input raw from raw.csv {} (was c539c7b3ab29)\nsecond waits for first\n2 tasks: 1 miss, 1 waits\n",
            Digest::of("name,mass\nGentoo,5000\n").short()
        ),
    );
}

#[test]
fn a_plan_is_for_programs_and_for_the_eye() {
    let place = place();
    place.run(&["run", "two.yaml"]);
    let plan = place.json(&["plan", "two.yaml", "-p", "share=1"]);
    assert_eq!(plan["pipeline"], "two");
    assert_eq!(plan["tasks"][0]["fate"], "miss");
    assert_eq!(
        plan["tasks"][0]["why"]["differences"],
        json!([{"field": "parameter", "name": "share", "was": 0.5, "is": 1.0}])
    );
    assert_eq!(plan["tasks"][1], json!({"task": "second", "fate": "waits", "on": ["first"]}));
    let graph = place.run(&["plan", "two.yaml", "--graph", "mermaid"]);
    assert_eq!(
        graph.stdout,
        "flowchart TD\n  n0(\"first<br/>hit\"):::hit\n  n1(\"second<br/>hit\"):::hit\n  n0 -->|\"rows\"| n1\n  \
         classDef hit fill:#dafbe1,stroke:#1a7f37,color:#000\n"
    );
    assert!(
        place
            .run(&["plan", "two.yaml", "--graph", "dot"])
            .stdout
            .starts_with("digraph {\n")
    );
    assert!(place.run(&["plan", "two.yaml", "--graph", "svg"]).stdout.starts_with("<svg "));
}

#[test]
fn a_plan_that_was_written_is_run_without_its_files() {
    let place = place();
    assert_eq!(place.run(&["plan", "two.yaml", "-p", "share=1", "-o", "plan.json"]).code, 0);
    let planned = place.json(&["plan", "two.yaml", "-p", "share=1"]);
    for name in ["two.yaml", "raw.csv", "steps.wasm"] {
        std::fs::remove_file(place.path(name)).unwrap();
    }
    let run = place.json(&["run", "plan.json", "-o", "rows=rows.csv"]);
    assert_eq!((&run["plan"], &run["pipeline"]), (&planned["plan"], &json!("two")));
    assert_eq!(run["tasks"][0]["run"]["entry"]["parameters"]["share"], 1.0);
    assert_eq!(place.read("rows.csv"), "name,mass\nAdelie,3750\n");
    place.fails(
        2,
        &["run", "plan.json", "-p", "share=2"],
        "error: a plan takes no parameters or inputs: they are part of it\n\
         hint: `lockstep plan PIPELINE.yaml -p NAME=VALUE -o PLAN.json` writes a new one\n",
    );
    place.write("other.json", "{}");
    place.fails(
        3,
        &["run", "other.json"],
        "error: other.json: invalid plan: missing field `version` at line 1 column 2\n",
    );
}

#[test]
fn a_run_ends_with_a_table() {
    let place = place();
    let table = |took: &str, how: &str| {
        format!(
            "first | half the way\nsecond | half the way\ntask outcome took memory outputs\n\
             first succeeded {took} 64.0 KiB rows c539c7b3ab29 (22 B)\n\
             second succeeded {took} 64.0 KiB rows c539c7b3ab29 (22 B)\n2 tasks: 2 {how} in [TIME]\n"
        )
    };
    assert_eq!(
        said(&place, &["run", "two.yaml", "-o", "rows=rows.csv"]).stderr,
        table("[TIME]", "run")
    );
    assert_eq!(place.read("rows.csv"), "name,mass\nAdelie,3750\n");
    assert_eq!(
        said(&place, &["run", "two.yaml", "--jobs", "1"]).stderr,
        table("cached", "cached")
    );
    place.write("none.yaml", "name: none\ntasks: {}\n");
    place.says(&["run", "none.yaml"], "", "no tasks\n");
    place.fails(
        2,
        &["run", "two.yaml", "-o", "row=x"],
        "error: the pipeline declares no output `row`; it declares `rows`\n\
         hint: write `outputs: { name: task.output }` in its file, or `lockstep show RECORD` for a task's\n",
    );
}

#[test]
fn programs_are_told_of_every_task() {
    let place = place();
    let run = place.json(&["run", "two.yaml"]);
    let names: Vec<_> = run["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["task"].clone())
        .collect();
    assert_eq!(names, ["first", "second"]);
    assert_eq!(run["outputs"]["rows"], run["tasks"][1]["outputs"]["rows"]);
    let again = place.json(&["run", "two.yaml"]);
    assert_eq!((&again["plan"], &again["tasks"][1]["cached"]), (&run["plan"], &json!(true)));
}

const FAILING: &str = "name: failing
tasks:
  bad: { program: trap.wasm, outputs: { o: text/plain } }
  after: { program: cat.wasm, inputs: { i: bad.o } }
  other: { program: cat.wasm, when: '1 > 2' }
  good: { program: cat.wasm }
";

#[test]
fn a_failure_is_told_with_what_it_kept_from_running() {
    let place = place();
    place.write("failing.yaml", FAILING);
    let error = "error: task `bad` trapped: unreachable\nwasm trap";
    let first = said(&place, &["run", "failing.yaml", "-j1"]);
    assert_eq!(first.code, 4);
    assert!(
        first
            .stderr
            .starts_with("task outcome took memory outputs\nbad trapped: unreachable [TIME] 64.0 KiB\n"),
        "{}",
        first.stderr
    );
    assert!(
        first.stderr.contains("\nafter skipped after bad\n") && first.stderr.contains("\ngood not started\n"),
        "{}",
        first.stderr
    );
    assert!(
        first.stderr.contains("\nerror: task `bad` trapped: unreachable\n"),
        "{error}: {}",
        first.stderr
    );
    assert!(
        first
            .stderr
            .ends_with("hint: `lockstep show [RECORD]` shows its inputs and its log\n"),
        "{}",
        first.stderr
    );

    let run = place.json(&["run", "failing.yaml", "--keep-going"]);
    let task = |name: &str| -> Value {
        run["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|task| task["task"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(
        task("after"),
        json!({"task": "after", "outputs": {}, "skipped": {"after": "bad"}})
    );
    assert_eq!(
        task("other"),
        json!({"task": "other", "outputs": {}, "skipped": {"when": "1 > 2"}})
    );
    assert_eq!(task("good")["outcome"], json!({"is": "succeeded"}));
    assert_eq!(place.run(&["run", "failing.yaml", "-k", "-q"]).code, 4);
}

#[test]
fn parameters_come_from_a_file_and_from_the_line() {
    let place = place();
    place.write("deep.yaml", "share: 0.25\n");
    place.write("deep.json", "{\"share\": 0.75}");
    let share = |rest: &[&str]| {
        let run = place.json(&[&["run", "two.yaml"], rest].concat());
        run["tasks"][0]["run"]["entry"]["parameters"]["share"].clone()
    };
    assert_eq!(share(&[]), 0.5);
    assert_eq!(share(&["--parameters", "deep.yaml"]), 0.25);
    assert_eq!(share(&["--parameters", "deep.json"]), 0.75);
    assert_eq!(share(&["--parameters", "deep.yaml", "-p", "share=2"]), 2.0);
    place.fails(
        3,
        &["run", "two.yaml", "-p", "share=half"],
        "error: two.yaml: parameter `share` takes a value of kind number, not \"half\"\n",
    );
    place.fails(
        3,
        &["plan", "two.yaml", "-p", "shares=1"],
        "error: two.yaml: the pipeline has no parameter `shares`; it has `share`\n",
    );
    place.fails(
        2,
        &["run", "steps.wasm#copy", "-i", "raw=raw.csv", "--keep-going"],
        "error: --keep-going needs a pipeline, and steps.wasm#copy is not one\n\
         hint: a pipeline is a file that ends in .yaml, or a plan that ends in .json\n",
    );
}

#[test]
fn what_a_pipeline_declares_as_inputs_is_given_on_the_line() {
    let place = place();
    place.write(
        "in.yaml",
        "name: in\ninputs: { raw: text/csv }\noutputs: { rows: a.rows }\ntasks: { a: { step: steps.wasm#copy, inputs: { raw: raw } } }\n",
    );
    let run = place.json(&["run", "in.yaml", "-i", "raw=raw.csv"]);
    assert_eq!(run["outputs"]["rows"]["size"], 22);
    place.fails(
        3,
        &["run", "in.yaml"],
        "error: in.yaml: missing input `raw` (text/csv) of the pipeline\n",
    );
}

#[test]
fn ctrl_c_keeps_what_is_done() {
    let place = place();
    place.write(
        "long.yaml",
        "name: long\ntasks:\n  a: { step: steps.wasm#copy, inputs: { raw: raw.csv } }\n  b: { program: endless.wasm, inputs: { i: a.rows } }\n",
    );
    let child = place
        .command(&["run", "long.yaml", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while place.run(&["log"]).stdout.lines().count() < 2 {
        assert!(started.elapsed() < Duration::from_secs(60), "the first task did not end");
    }
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&run["tasks"][0]["outcome"]["is"], &run["tasks"][1]["outcome"]["is"]),
        (&json!("succeeded"), &json!("interrupted"))
    );
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "a | half the way\nerror: interrupted after 1 of 2 tasks\nhint: results of finished tasks are kept; run the same command to continue\n"
    );
    assert_eq!(place.json(&["plan", "long.yaml"])["tasks"][0]["fate"], "hit");
}

#[test]
fn what_the_disk_refuses_is_told_with_its_path_and_loses_nothing() {
    let place = place();
    place.json(&["run", "two.yaml"]);
    // a limit on file sizes simulates a full disk; it also applies to root
    let limited = |blocks: u32, arguments: &[&str]| {
        let script = format!("ulimit -f {blocks}; trap '' XFSZ; exec \"$0\" \"$@\"");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_lockstep")]).args(arguments);
        command
            .env_clear()
            .env("HOME", place.path(""))
            .current_dir(place.path(""))
            .output()
            .unwrap()
    };
    place.write("big.csv", vec![b'x'; 300 << 10]);
    let output = limited(512, &["run", "steps.wasm#copy", "-i", "raw=big.csv"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("big.csv: File too large"), "{stderr}");
    assert_eq!(place.json(&["fsck"])["findings"], json!([]));
    assert_eq!(place.json(&["run", "two.yaml"])["tasks"][1]["cached"], true);

    let unreadable = place.path("raw.csv");
    std::fs::set_permissions(&unreadable, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::read(&unreadable).is_err() {
        let said = place.run(&["run", "two.yaml"]);
        assert!(said.stderr.contains("raw.csv: Permission denied"), "{}", said.stderr);
    }
}
