//! Pipelines of SDK steps with the real command: instances known only at run time, and kills at any moment.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::setup::{Bucket, GUESTS, Place, ROOT, build};

/// Returns a place with a pipeline of these tasks. `MODULE` in them is replaced by the guests' module.
fn place(tasks: &str) -> Place {
    let place = Place::new();
    let tasks: String = tasks.lines().map(|line| format!("  {}\n", line.trim_start())).collect();
    let text = format!("name: p\ntasks:\n{tasks}").replace("MODULE", &GUESTS.display().to_string());
    std::fs::write(place.path("p.yaml"), text).unwrap();
    std::fs::write(place.path("words"), "one\ntwo\nthree\n").unwrap();
    place
}

/// Returns the digests of all outputs, by task and output.
fn digests(run: &Value) -> BTreeMap<String, String> {
    let tasks = run["tasks"].as_array().unwrap().iter();
    let outputs = tasks.flat_map(|task| {
        let outputs = task["outputs"].as_object().unwrap().iter();
        outputs.map(move |(name, artifact)| {
            (
                format!("{}.{name}", task["task"].as_str().unwrap()),
                artifact["digest"].as_str().unwrap().to_owned(),
            )
        })
    });
    outputs.collect()
}

fn names(run: &Value) -> Vec<&str> {
    run["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["task"].as_str().unwrap())
        .collect()
}

fn text(place: &Place, digest: &str) -> String {
    let output = place.lockstep(&["show", digest, "--raw"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

const SCATTERED: &str = "scatter: { step: MODULE#scatter, inputs: { lines: words } }
    each: { for_each: { part: scatter.parts }, step: MODULE#busy, inputs: { text: part } }
    twice: { for_each: { part: each.text }, step: MODULE#busy, inputs: { text: part }, parameters: { rounds: 3 } }
    gather: { step: MODULE#gather, inputs: { parts: twice.text } }";

#[test]
fn parts_of_a_step_are_mapped_and_gathered() {
    let place = place(SCATTERED);
    let planned = place.json(&["plan", "p.yaml"]);
    let fates: Vec<_> = planned["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["fate"].as_str().unwrap())
        .collect();
    assert_eq!(
        (names(&planned), fates),
        (
            vec!["scatter", "each", "twice", "gather"],
            vec!["miss", "waits", "waits", "waits"]
        )
    );

    let run = place.json(&["run", "p.yaml"]);
    let all = [
        "scatter",
        "each[000]",
        "each[001]",
        "each[002]",
        "twice[000]",
        "twice[001]",
        "twice[002]",
        "gather",
    ];
    assert_eq!(names(&run), all);
    assert_eq!(
        text(&place, &digests(&run)["gather.text"]),
        format!("000: one 0 {0}\n001: two 0 {0}\n002: three 0 {0}\n", rounds(3))
    );

    // one more line: only its own instances and the gathering task are run
    std::fs::write(place.path("words"), "one\ntwo\nthree\nfour\n").unwrap();
    let run = place.json(&["run", "p.yaml"]);
    let executed: Vec<_> = run["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|task| task["cached"] == false)
        .map(|task| task["task"].as_str().unwrap())
        .collect();
    assert_eq!(executed, ["scatter", "each[003]", "twice[003]", "gather"]);
    let planned = place.json(&["plan", "p.yaml"]);
    assert_eq!(names(&planned).len(), 10);
    assert!(
        planned["tasks"].as_array().unwrap().iter().all(|task| task["fate"] == "hit"),
        "{planned:#}"
    );
}

/// Returns the result of `busy` for a number of rounds.
fn rounds(count: u64) -> String {
    (0..count).fold(0u64, |sum, round| sum.wrapping_mul(31) ^ round).to_string()
}

#[test]
fn the_rows_of_a_table_are_split_into_parts() {
    let place = place(
        "make: { step: MODULE#make, parameters: { rows: 25 } }
         count: { for_each: { part: make.table, rows: 10 }, step: MODULE#count, inputs: { lines: part } }
         whole: { for_each: { part: make.table }, step: MODULE#count, inputs: { lines: part } }",
    );
    let run = place.json(&["run", "p.yaml", "--jobs", "2"]);
    assert_eq!(names(&run), ["make", "count[0]", "count[1]", "count[2]", "whole[0]"]);
    let input = |task: &Value| {
        task["run"]["inputs"]["lines"]["artifact"]["digest"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let shown = |at: usize| place.json(&["show", &input(&run["tasks"][at])])["rows"].clone();
    let rows = |at: usize| shown(at).as_array().unwrap().len();
    // `show` prints at most 20 rows
    assert_eq!([rows(1), rows(2), rows(3), rows(4)], [10, 10, 5, 20]);
    assert_eq!((&shown(2)[0], &shown(3)[4]), (&json!([1.0]), &json!([2.4000000000000004])));
}

const SMALL: &str = "a: { for_each: { n: [1, 2, 3, 4, 5, 6, 7, 80000] }, step: MODULE#busy, inputs: { text: words }, parameters: { rounds: '{{ n }}' } }
    b: { for_each: { text: a.text }, step: MODULE#busy, inputs: { text: text }, parameters: { rounds: 20000 } }
    c: { step: MODULE#gather, inputs: { parts: b.text } }";

#[test]
fn a_pipeline_killed_100_times_has_the_same_results() {
    let undisturbed = digests(&place(SMALL).json(&["run", "p.yaml"]));
    assert_eq!(undisturbed.len(), 17);
    let took = {
        let place = place(SMALL);
        let start = Instant::now();
        place.json(&["run", "p.yaml"]);
        start.elapsed()
    };
    let (mut killed, mut rounds) = (0, 0u32);
    while rounds < 100 {
        let place = place(SMALL);
        // killed at another moment each time until it completes
        loop {
            let mut child = place
                .lockstep(&["run", "p.yaml"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(took.min(Duration::from_secs(1)) * (rounds * 37 % 100) / 100);
            child.kill().unwrap();
            rounds += 1;
            match child.wait().unwrap().code() {
                None => killed += 1,
                Some(code) => break assert_eq!(code, 0),
            }
            if rounds % 10 == 0 {
                break;
            }
        }
        assert_eq!(digests(&place.json(&["run", "p.yaml"])), undisturbed);
        assert_eq!(place.json(&["fsck"])["findings"], json!([]));
    }
    assert!(killed > 50, "only {killed} processes were killed while running");
}

#[test]
fn the_penguins_have_the_same_results_on_another_processor() {
    let place = Place::new();
    for file in ["penguins.yaml", "penguins.csv"] {
        std::fs::copy(Path::new(ROOT).join("examples/penguins").join(file), place.path(file)).unwrap();
    }
    std::fs::copy(build("examples/penguins", "penguins.wasm"), place.path("penguins.wasm")).unwrap();
    let run = place.json(&["run", "penguins.yaml"]);
    let verified = place.json(&["verify", "penguins.yaml", "--on", "pulley"]);
    assert_eq!(verified["good"], true, "{verified}");
    let field = |list: &Value, name: &str| -> Vec<Value> {
        let mut all: Vec<Value> = list.as_array().unwrap().iter().map(|one| one[name].clone()).collect();
        all.sort_by_key(Value::to_string);
        all
    };
    assert_eq!(field(&verified["verified"], "record"), field(&run["tasks"], "record"));
    assert_eq!(field(&verified["verified"], "verdict"), vec![json!("good"); 5]);
}

/// `lockstep demo` has a module in the command: that of the sources, and of the compiler that `rustc.txt` names.
#[test]
fn the_demo_needs_no_rust_and_has_the_results_of_the_sources() {
    let carried = Path::new(ROOT).join("host/src/commands/demo");
    let built = build("examples/penguins", "penguins.wasm");
    let rustc = Command::new("rustc").arg("-vV").output().unwrap().stdout;
    if std::fs::read(carried.join("rustc.txt")).unwrap() == rustc {
        let is_same = std::fs::read(carried.join("penguins.wasm")).unwrap() == std::fs::read(&built).unwrap();
        assert!(
            is_same,
            "the module of `lockstep demo` is out of date: run `make demo-module`"
        );
    }
    let place = Place::new();
    let demo = place.lockstep(&["demo", "--json"]).env("PATH", "").output().unwrap();
    assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));
    let demo: Value = serde_json::from_slice(&demo.stdout).unwrap();
    std::fs::copy(built, place.path("lockstep-demo/penguins.wasm")).unwrap();
    let run = place.json(&["run", "lockstep-demo/penguins.yaml", "--no-cache"]);
    assert_eq!(digests(&demo), digests(&run));
    let figure = std::fs::read(place.path("lockstep-demo/figure.svg")).unwrap();
    assert!(figure == std::fs::read(Path::new(ROOT).join("examples/penguins/figure.svg")).unwrap());
    // A file that is not the example's is kept.
    std::fs::write(place.path("lockstep-demo/penguins.csv"), "mine").unwrap();
    let again = place.lockstep(&["demo"]).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(std::fs::read(place.path("lockstep-demo/penguins.csv")).unwrap(), b"mine");
}

/// A machine takes compiled code from the shared store if it is sealed with its own key. Otherwise it compiles the code and
/// uploads it.
#[test]
fn compiled_code_is_shared_between_machines_with_the_same_key() {
    let bucket = Bucket::start();
    let run = |key: &str| {
        let place = Place::new();
        let what = format!("{}#nothing", GUESTS.display());
        let output = place
            .lockstep(&["run", &what, "--no-cache", "--shared", Bucket::URL])
            .env("LOCKSTEP_CACHE", place.path("cache"))
            .env("LOCKSTEP_CODE_KEY", key)
            .envs(bucket.secret())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (ours, theirs) = ("a".repeat(32), "b".repeat(32));
    assert_eq!(run(&ours).0, Some(0));
    let first = bucket.compiled();
    assert_eq!(first.len(), 1);
    assert_eq!(run(&ours).0, Some(0));
    assert_eq!(bucket.compiled(), first, "downloaded code is not uploaded again");

    let bytes = || std::fs::read(&first[0].0).unwrap();
    let sealed = bytes();
    assert_eq!(run(&theirs).0, Some(0));
    assert_ne!(bucket.compiled(), first, "code sealed with another key is not trusted");
    let (other, end) = (bytes(), sealed.len() - 32);
    assert!(other[..end] == sealed[..end] && other[end..] != sealed[end..]);
    let (refused, said) = run("too short");
    assert!(refused == Some(3) && said.contains("LOCKSTEP_CODE_KEY"), "{said}");
}
