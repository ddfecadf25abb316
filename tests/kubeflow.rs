//! Exports to Kubeflow Pipelines and Argo, checked and run with Kubeflow's own SDK: its messages, compiler and local runner.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::setup::{Bucket, GUESTS, Place, ROOT, binary, build};

/// Digests by task and output.
type Digests = BTreeMap<String, BTreeMap<String, String>>;

/// Runs `check` of `clients/kfp_contract.py`. Returns its output.
fn contract(place: &Place, check: &str, arguments: &[&str]) -> String {
    contract_with(place, &[], check, arguments)
}

fn contract_with(place: &Place, secret: &[(&str, String)], check: &str, arguments: &[&str]) -> String {
    let python = Path::new(ROOT).join("target/kfp/bin/python");
    assert!(python.exists(), "{} is missing: run `make test`", python.display());
    let output = Command::new(python)
        .arg(Path::new(ROOT).join("tests/clients/kfp_contract.py"))
        .arg(check)
        .args(arguments)
        .current_dir(place.directory.path())
        .envs(secret.iter().map(|(name, value)| (name, value)))
        .env("LOCKSTEP", binary())
        .env("LOCKSTEP_STORE", place.store())
        .env("LOCKSTEP_CACHE", cache())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Returns the user's cache, so that each module is compiled once.
fn cache() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = || Some(variable("HOME")?.join(".cache"));
    variable("XDG_CACHE_HOME").or_else(home).unwrap_or_default().join("lockstep")
}

/// The metadata of a pipeline's outputs, by task and output.
type Left = BTreeMap<String, BTreeMap<String, Value>>;

/// Runs the pipeline in the SDK's local runner. Returns the metadata of its outputs.
fn left(place: &Place, secret: &[(&str, String)], file: &str, arguments: &Value) -> Left {
    let root = place.path("root").display().to_string();
    let printed = contract_with(place, secret, "runs", &[file, &root, &arguments.to_string()]);
    let line = printed.lines().find_map(|line| line.strip_prefix("left: "));
    serde_json::from_str(line.unwrap_or_else(|| panic!("{printed}"))).unwrap()
}

fn digests_left(left: Left) -> Digests {
    let digest = |(name, metadata): (String, Value)| (name, metadata["lockstep_digest"].as_str().unwrap().to_owned());
    left.into_iter()
        .map(|(task, made)| (task, made.into_iter().map(digest).collect()))
        .collect()
}

/// Returns the digests of a `lockstep run`, with Kubeflow's task names.
fn digests(ran: &Value) -> Digests {
    let tasks = ran["tasks"].as_array().unwrap_or_else(|| panic!("{ran:#}")).iter();
    let outputs = |task: &Value| {
        let outputs = task["outputs"].as_object().unwrap().iter();
        outputs
            .map(|(name, artifact)| (name.clone(), artifact["digest"].as_str().unwrap().to_owned()))
            .collect()
    };
    let label = |task: &Value| task["task"].as_str().unwrap().replace('[', "-").replace(']', "");
    tasks.map(|task| (label(task), outputs(task))).collect()
}

fn all_cached(ran: &Value) -> bool {
    ran["tasks"].as_array().unwrap().iter().all(|task| task["cached"] == true)
}

fn penguins() -> Place {
    let place = Place::new();
    for file in ["penguins.yaml", "penguins.csv"] {
        std::fs::copy(Path::new(ROOT).join("examples/penguins").join(file), place.path(file)).unwrap();
    }
    std::fs::copy(build("examples/penguins", "penguins.wasm"), place.path("penguins.wasm")).unwrap();
    place
}

fn succeeds(place: &Place, arguments: &[&str]) -> String {
    let output = place.lockstep(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
    stderr
}

#[test]
fn the_penguins_have_the_same_results_in_kubeflow() {
    let (bucket, place, alone) = (Bucket::start(), penguins(), penguins());
    let mut export = place.lockstep(&["export", "penguins.yaml", "--to", "kfp", "-o", "kfp.yaml"]);
    export.args(["--shared", Bucket::URL]).envs(bucket.secret());
    assert!(export.status().unwrap().success());
    contract(&place, "parses", &["kfp.yaml"]);

    // same results as here, with the file's parameters and with others. Containers have only the bucket
    let containers = Place::new();
    let file = place.path("kfp.yaml").display().to_string();
    let run = |arguments: Value| left(&containers, &bucket.secret(), &file, &arguments);
    let here = digests(&alone.json(&["run", "penguins.yaml"]));
    let there = run(json!({}));
    let accuracy = there["score"]["metrics"]["accuracy"].as_f64().unwrap();
    assert!((0.9..=1.0).contains(&accuracy), "{accuracy}");
    assert_eq!(digests_left(there), here);
    let fewer = digests(&alone.json(&["run", "penguins.yaml", "-p", "trees=20"]));
    assert_ne!(fewer["train"], here["train"]);
    assert_eq!(digests_left(run(json!({ "trees": 20 }))), fewer);

    // runs in the containers are cached here, for both files
    for file in ["penguins.yaml", "kfp.yaml"] {
        let mut ran = place.lockstep(&["run", file, "--json", "--shared", Bucket::URL]);
        let ran = ran.envs(bucket.secret()).output().unwrap();
        let ran: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert!(all_cached(&ran), "{file}: {ran:#}");
        assert_eq!(digests(&ran), here);
    }
}

#[test]
fn the_penguins_have_the_same_results_in_argo() {
    let (bucket, place, alone) = (Bucket::start(), penguins(), penguins());
    let mut export = place.lockstep(&["export", "penguins.yaml", "--to", "argo", "-o", "argo.yaml"]);
    export.args(["--shared", Bucket::URL]).envs(bucket.secret());
    assert!(export.status().unwrap().success());
    let printed = contract(&place, "argo", &["argo.yaml"]);
    let pods = printed.lines().find_map(|line| line.strip_prefix("pods: ")).unwrap();
    let pods: Vec<Vec<String>> = serde_json::from_str(pods).unwrap();
    assert_eq!(pods.len(), 5);
    for args in &pods {
        // each pod starts with an empty store
        let pod = Place::new();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut run = pod.lockstep(&args);
        let ran = run
            .envs(bucket.secret())
            .env("LOCKSTEP_SHARED", Bucket::URL)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    let mut ran = place.lockstep(&["run", "penguins.yaml", "--json", "--shared", Bucket::URL]);
    let ran: Value = serde_json::from_slice(&ran.envs(bucket.secret()).output().unwrap().stdout).unwrap();
    assert!(all_cached(&ran), "{ran:#}");
    assert_eq!(digests(&ran), digests(&alone.json(&["run", "penguins.yaml"])));
}

#[test]
fn a_pipeline_of_the_sdk_is_run_here() {
    let place = penguins();
    let steps = ["clean", "split", "train", "score", "plot"];
    for step in steps {
        let (what, file) = (format!("penguins.wasm#{step}"), format!("{step}.yaml"));
        succeeds(&place, &["export", &what, "--to", "kfp", "-o", &file]);
        contract(&place, "parses", &[&file]);
    }
    let files = steps.map(|step| format!("{step}.yaml"));
    let mut arguments = vec!["compiled.yaml"];
    arguments.extend(files.iter().map(String::as_str));
    contract(&place, "compiles", &arguments);
    contract(&place, "parses", &["compiled.yaml"]);
    let ran = place.json(&["run", "compiled.yaml", "-i", "raw=penguins.csv", "-p", "trees=20"]);
    assert_eq!(
        digests(&ran),
        digests(&place.json(&["run", "penguins.yaml", "-p", "trees=20"]))
    );
    // one component by itself
    let alone = place.json(&["run", "clean.yaml", "-i", "raw=penguins.csv"]);
    assert_eq!(digests(&alone)["clean"], digests(&ran)["clean"]);
}

/// Returns a place with a pipeline of the SDK that has loops, branches and a nested pipeline, and its input.
fn nested() -> Place {
    let place = Place::new();
    std::fs::write(place.path("words"), "one\ntwo\n").unwrap();
    for step in ["busy", "gather"] {
        let (what, file) = (format!("{}#{step}", GUESTS.display()), format!("{step}.yaml"));
        succeeds(&place, &["export", &what, "--to", "kfp", "-o", &file]);
    }
    contract(&place, "nests", &["nested.yaml", "busy.yaml", "gather.yaml"]);
    place
}

#[test]
fn loops_and_branches_of_the_sdk_have_the_same_results_as_ours() {
    let place = nested();
    let text = "name: p
tasks:
  begin: { step: MODULE#busy, inputs: { text: words }, parameters: { rounds: 2 } }
  begun: { step: MODULE#busy, inputs: { text: begin.text }, parameters: { rounds: 1 } }
  each: { for_each: { n: [5, 6] }, step: MODULE#busy, inputs: { text: begun.text }, parameters: { rounds: '{{ n }}' } }
  all: { step: MODULE#gather, inputs: { parts: each.text } }
  chosen: { for_each: { n: [7] }, step: MODULE#busy, inputs: { text: words }, parameters: { rounds: '{{ n }}' } }
  few: { step: MODULE#gather, inputs: { parts: chosen.text } }
  outer: { for_each: { n: [3, 4] }, step: MODULE#busy, inputs: { text: words }, parameters: { rounds: '{{ n }}' } }
  inner: { for_each: { part: outer.text }, step: MODULE#busy, inputs: { text: part }, parameters: { rounds: 8 } }
  branch: { for_each: { n: [10, 11, 12] }, step: MODULE#busy, inputs: { text: words }, parameters: { rounds: '{{ n }}' } }
  last: { for_each: { part: branch.text }, step: MODULE#busy, inputs: { text: part }, parameters: { rounds: 13 } }
"
    .replace("MODULE", &GUESTS.display().to_string());
    std::fs::write(place.path("p.yaml"), text).unwrap();
    let ours = digests(&place.json(&["run", "p.yaml"]));
    let run = |more: &[&str]| {
        let all = [&["run", "nested.yaml", "-i", "words=words"][..], more].concat();
        place.json(&all)
    };
    let ran = run(&[]);
    let here = digests(&ran);
    for (task, same) in [
        ("twice/busy-2", "begun"),
        ("for-loop-2-0/busy", "each-0"),
        ("for-loop-2-1/busy", "each-1"),
        ("gather", "all"),
        ("for-loop-3-0/condition-4/busy-2", "chosen-0"),
        ("gather-2", "few"),
        ("for-loop-5-1/busy-3", "outer-1"),
        ("for-loop-5-0/for-loop-7-1/busy-4", "inner-0"),
        ("for-loop-5-1/for-loop-7-1/busy-4", "inner-1"),
        ("condition-branches-8/condition-9/busy-5", "branch-0"),
        ("busy-8", "last-0"),
    ] {
        assert_eq!(here[task], ours[same], "{task}");
    }
    assert_eq!(ran["outputs"]["Output"]["digest"], json!(here["busy-8"]["text"]));

    // parameters select the branches
    let skipped = |ran: &Value, name: &str| {
        let mut tasks = ran["tasks"].as_array().unwrap().iter();
        tasks.find(|task| task["task"] == name).unwrap()["skipped"].clone()
    };
    let (some, many) = (
        "condition-branches-8/condition-10/busy-6",
        "condition-branches-8/condition-11/busy-7",
    );
    assert_eq!(skipped(&ran, some), json!({ "when": r#""few" != "few""# }));
    let other = run(&["-p", "how=some", "-p", "most=3", "-p", "rounds=[4]"]);
    let made = digests(&other);
    assert_eq!((&made[some], &made["busy-8"]), (&ours["branch-1"], &ours["last-1"]));
    assert_eq!(made["for-loop-5-0/busy-3"], ours["outer-1"]);
    assert!(!made.contains_key("for-loop-5-1/busy-3"));
    assert_eq!(skipped(&other, many), json!({ "when": "3 <= 2" }));
    let after = skipped(&other, "gather-2")["after"].to_string();
    assert!(after.contains("/condition-4/busy-2"), "{after}");
    let last = digests(&run(&["-p", "how=many"]));
    assert_eq!((&last[many], &last["busy-8"]), (&ours["branch-2"], &ours["last-2"]));
    assert_eq!(last["for-loop-3-1/condition-4/busy-2"].len(), 1);
}

#[test]
fn directories_instances_and_values_have_the_same_results_in_kubeflow() {
    let text = "name: p
parameters: { rounds: 3, most: 2 }
tasks:
  scatter: { step: MODULE#scatter, inputs: { lines: words } }
  each: { for_each: { rounds: [1, 2, '{{ most }}'] }, step: MODULE#busy, inputs: { text: words }, parameters: { rounds: '{{ rounds }}' } }
  one: { step: MODULE#busy, inputs: { text: words }, parameters: { rounds: '{{ rounds }}' }, when: '{{ most }} > 1' }
  never: { step: MODULE#busy, inputs: { text: one.text }, when: '{{ most }} > 2' }
  gather: { step: MODULE#gather, inputs: { parts: each.text } }
  whole: { step: MODULE#gather, inputs: { parts: scatter.parts }, limits: { memory: 1GiB }, retries: 2 }
  given: { step: MODULE#gather, inputs: { parts: parts } }
"
    .replace("MODULE", &GUESTS.display().to_string());
    let make = || {
        let place = Place::new();
        std::fs::write(place.path("p.yaml"), &text).unwrap();
        std::fs::write(place.path("words"), "one\ntwo\n").unwrap();
        std::fs::create_dir(place.path("parts")).unwrap();
        std::fs::write(place.path("parts/a"), "first\n").unwrap();
        place
    };
    let (place, alone) = (make(), make());
    let said = succeeds(&place, &["export", "p.yaml", "--to", "kfp", "-o", "kfp.yaml"]);
    assert!(
        said.contains("parameter `most` is fixed to its current value") && said.contains("task `never` is omitted"),
        "{said}"
    );
    contract(&place, "parses", &["kfp.yaml"]);
    let mut here = digests(&alone.json(&["run", "p.yaml"]));
    here.remove("never");
    assert_eq!(here.len(), 8);
    assert_eq!(digests_left(left(&place, &[], "kfp.yaml", &json!({}))), here);
    let ran = place.json(&["run", "kfp.yaml"]);
    assert!(all_cached(&ran), "{ran:#}");
    assert_eq!(digests(&ran), here);
    let other = digests(&alone.json(&["run", "p.yaml", "-p", "rounds=7"]));
    let there = digests_left(left(&place, &[], "kfp.yaml", &json!({ "rounds": 7 })));
    assert_eq!(there["one"], other["one"]);
}

#[test]
fn texts_of_the_sdk_that_look_like_numbers_stay_texts() {
    let place = Place::new();
    let make = format!("{}#make", GUESTS.display());
    succeeds(&place, &["export", &make, "--to", "kfp", "-o", "make.yaml"]);
    let texts = [
        "1e3",
        "25921e05",
        "1e+20",
        "0o17",
        "08540",
        "01234",
        "1.10",
        "1_000",
        "0x1F",
        "-.5",
        ".nan",
        "12:30",
        "2024-05-01",
        "yes",
        "null",
        "7",
    ];
    let record = |ran: &Value| ran["record"].clone();
    let by_hand: Vec<Value> = texts
        .iter()
        .map(|text| record(&place.json(&["run", &make, "-p", &format!("word={text}")])))
        .collect();
    for file in ["texts.yaml", "texts.json"] {
        contract(&place, "texts", &[file, "make.yaml", &json!(texts).to_string()]);
        let ran = place.json(&["run", file]);
        let tasks = ran["tasks"].as_array().unwrap_or_else(|| panic!("{file}: {ran:#}"));
        assert_eq!(tasks.len(), 1 + 3 * texts.len());
        for text in &by_hand {
            let same = tasks.iter().filter(|task| record(task) == *text).count();
            let expected = if *text == by_hand[0] { 4 } else { 3 };
            assert_eq!(same, expected, "{file}: {text}");
        }
    }
}
