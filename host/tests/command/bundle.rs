//! `bundle`: create, inspect, and replay without any other files.

use std::path::Path;
use std::process::{Command, Stdio};

use lockstep_runtime::digest::{Digest, canonical_json};
use lockstep_runtime::run::Record;
use serde_json::{Value, json};

use crate::place::{Place, Said, program, steps};

const PIPELINE: &str = "name: two
tasks:
  first: { step: steps.wasm#copy, inputs: { raw: raw.csv } }
  second: { step: steps.wasm#again, inputs: { raw: first.rows }, parameters: { times: 2 } }
";

const RAW: &str = "name,mass\nAdelie,3750\n";

pub fn place() -> Place {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("raw.csv", RAW);
    place.write("two.yaml", PIPELINE);
    place
}

/// Collapses runs of spaces in the output.
fn squeezed(said: Said) -> Said {
    let squeeze = |text: &str| -> String {
        let lines = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n");
        lines.collect()
    };
    Said {
        stdout: squeeze(&said.stdout),
        stderr: squeeze(&said.stderr),
        ..said
    }
}

/// Returns the command in an empty network namespace, if that is allowed.
fn unplugged(place: &Place, arguments: &[&str]) -> Command {
    let unshare = |program: &str| {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["-r", "-n", "--", program]);
        command
    };
    let may = unshare("/bin/true").stderr(Stdio::null()).status();
    let inner = place.command(arguments);
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("can't create a network namespace: replaying with network access");
        return inner;
    }
    let mut command = unshare(inner.get_program().to_str().unwrap());
    command
        .args(inner.get_args())
        .env_clear()
        .env("HOME", place.path(""))
        .current_dir(place.path(""))
        .stdin(Stdio::null());
    command
}

#[test]
fn a_bundle_is_replayed_with_nothing_but_itself() {
    let here = place();
    let made = here.json(&["bundle", "create", "two.yaml", "-o", "two.tar"]);
    assert_eq!([&made["pipeline"], &made["tasks"]], [&json!("two"), &json!(2)]);

    // no store, no cache, no network, no PATH
    let there = Place::new();
    std::fs::copy(here.path("two.tar"), there.path("two.tar")).unwrap();
    let said = squeezed(there.said(&mut unplugged(&there, &["bundle", "replay", "two.tar"])));
    let (rows, log) = (Digest::of(RAW).short(), log().short());
    let row = |task: &str, what: &str, digest: &str| format!("{task} {what} {digest} {digest} ✓\n");
    let expected = [
        "task output expected got\n".to_owned(),
        row("first", "(log)", &log),
        row("first", "rows", &rows),
        row("second", "(log)", &log),
        row("second", "rows", &rows),
    ];
    assert_eq!((said.code, said.stdout, said.stderr), (0, expected.concat(), String::new()));
    assert!(!there.path(".local").exists(), "the store of the user must not change");
    assert_eq!(there.json(&["log"])["runs"], json!([]));
}

/// The log of the steps: what they write to stderr.
fn log() -> Digest {
    let place = place();
    let ran = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"]);
    ran["log"]["digest"].as_str().unwrap().parse().unwrap()
}

#[test]
fn the_same_plan_gives_the_same_bytes_anywhere() {
    let bundle = || {
        let place = place();
        place.run(&["bundle", "create", "two.yaml", "-o", "two.tar"]);
        std::fs::read(place.path("two.tar")).unwrap()
    };
    assert!(bundle() == bundle());
    let place = place();
    place.run(&["plan", "two.yaml", "-o", "plan.json"]);
    place.run(&["bundle", "create", "plan.json", "-o", "plan.tar"]);
    assert!(std::fs::read(place.path("plan.tar")).unwrap() == bundle());
}

#[test]
fn inspect_says_what_is_in_it() {
    let place = place();
    let made = place.json(&["bundle", "create", "two.yaml", "--outputs", "-o", "two"]);
    let said = squeezed(place.run(&["bundle", "inspect", "two"]));
    let (module, rows, log) = (Digest::of(steps()), Digest::of(RAW), log());
    let bundle: Digest = made["bundle"].as_str().unwrap().parse().unwrap();
    let size = said.stdout.lines().next().unwrap().rsplit(", ").next().unwrap();
    let expected = format!(
        "two, bundle {}, 2 tasks, {size}

kind name digest media type size
module first {} application/wasm 1.1 KiB
input raw.csv {rows} text/csv 22 B
output first.(log) {} application/vnd.lockstep.log 39 B

task output digest media type size
first rows {rows} text/csv 22 B
second rows {rows} text/csv 22 B
",
        bundle.short(),
        module.short(),
        log.short(),
        rows = rows.short(),
    );
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (0, expected.as_str(), "")
    );
    let json = place.json(&["bundle", "inspect", "two"]);
    assert_eq!(json["bundle"], made["bundle"]);
    assert_eq!(
        json["inputs"],
        json!([{ "name": "raw.csv", "digest": rows, "media_type": "text/csv", "size": 22 }])
    );
    assert_eq!(json["tasks"][1]["outputs"]["rows"]["digest"], json!(rows));
}

#[test]
fn a_run_alone_can_be_bundled() {
    let place = place();
    let ran = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"]);
    place.run(&["bundle", "create", ran["record"].as_str().unwrap(), "-o", "run.tar"]);
    let replayed = place.json(&["bundle", "replay", "run.tar", "--store", "kept"]);
    assert_eq!(replayed["equal"], true, "{replayed:#}");
    // with --store the results are stored, with the same record
    let log = place.json(&["log", "--store", "kept"]);
    assert_eq!(log["runs"][0]["record"], ran["record"]);
}

#[test]
fn only_what_succeeds_is_bundled() {
    let place = place();
    place.write("trap.wasm", program("", "unreachable"));
    place.write(
        "bad.yaml",
        "name: bad\ntasks: { bad: { program: trap.wasm, outputs: { x: text/plain } } }\n",
    );
    let said = place.run(&["bundle", "create", "bad.yaml", "-o", "bad.tar"]);
    assert_eq!(
        (said.code, said.stderr.lines().next().unwrap()),
        (4, "error: task `bad` trapped: unreachable")
    );
    assert!(!place.path("bad.tar").exists());
    place.fails(
        2,
        &["bundle", "create", "two.yaml", "-o", "two.tar.gz"],
        "error: two.tar.gz is compressed: a bundle is an uncompressed tar archive or a directory\nhint: give a file that ends in .tar, or decompress it with gunzip\n",
    );
    place.fails(
        2,
        &["bundle", "create", "raw.csv", "-o", "two.tar"],
        "error: raw.csv is neither a pipeline nor a record\n\
         hint: give PIPELINE.yaml, PLAN.json, NOTEBOOK.ipynb, or a record; `lockstep log` lists them\n",
    );
}

/// Changes the digest that the bundle in `layout` expects for `rows` of the task `second`, and keeps all other digests valid.
fn forge(layout: &Path, rows: Digest) {
    let read = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(layout.join(name)).unwrap()).unwrap() };
    let name = |named: &Value| {
        format!(
            "blobs/sha256/{}",
            named["digest"].as_str().unwrap().trim_start_matches("sha256:")
        )
    };
    let write = |named: &mut Value, json: &Value| {
        let bytes = canonical_json(json).unwrap();
        named["digest"] = json!(Digest::of(&bytes));
        named["size"] = json!(bytes.len());
        std::fs::write(layout.join(name(named)), bytes).unwrap();
    };
    let mut index = read("index.json");
    let mut manifest = read(&name(&index["manifests"][0]));
    let mut expected = read(&name(&manifest["layers"][0]));
    let wanted = expected["tasks"][1]["record"].clone();
    for record in expected["records"].as_array_mut().unwrap() {
        let own = |record: &Value| json!(serde_json::from_value::<Record>(record.clone()).unwrap().digest().unwrap());
        if own(record) == wanted {
            record["outputs"]["rows"]["digest"] = json!(rows);
            let forged = own(record);
            expected["tasks"][1]["record"] = forged;
            break;
        }
    }
    write(&mut manifest["layers"][0], &expected);
    write(&mut index["manifests"][0], &manifest);
    std::fs::write(layout.join("index.json"), canonical_json(&index).unwrap()).unwrap();
}

#[test]
fn what_comes_out_otherwise_is_told() {
    let place = place();
    place.run(&["bundle", "create", "two.yaml", "-o", "two"]);
    let claimed = Digest::of("something better");
    forge(&place.path("two"), claimed);
    let said = squeezed(place.run(&["bundle", "replay", "two"]));
    let (rows, log) = (Digest::of(RAW).short(), log().short());
    let table = format!(
        "task output expected got\nfirst (log) {log} {log} ✓\nfirst rows {rows} {rows} ✓\nsecond (log) {log} {log} ✓\n\
         second rows {} {rows} ✗ different\n",
        claimed.short()
    );
    let error = "error: 1 of 4 digests differ from the bundle\n\
                 hint: run it with --store DIR to keep the results; `lockstep log` and `lockstep show RECORD` then show them\n";
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (4, table.as_str(), error)
    );
    let json = place.json(&["bundle", "replay", "two"]);
    assert_eq!(json["equal"], false);
    // an expected record never answers a run, not even in the store that the bundle was read into
    place.json(&["bundle", "replay", "two", "--store", "kept"]);
    place.write("more.yaml", PIPELINE);
    let run = place.json(&["run", "more.yaml", "--store", "kept"]);
    assert_eq!(run["tasks"][1]["outputs"]["rows"]["digest"], json!(Digest::of(RAW)));
}

#[test]
fn what_is_broken_is_refused_with_the_culprit() {
    let place = place();
    place.run(&["bundle", "create", "two.yaml", "-o", "two.tar"]);
    place.run(&["bundle", "create", "two.yaml", "-o", "two"]);
    let raw = Digest::of(RAW);
    let name = format!("blobs/sha256/{}", raw.hex());
    std::fs::write(place.path("two").join(&name), "name,mass\nAdelie,3751\n").unwrap();
    let found = Digest::of("name,mass\nAdelie,3751\n");
    for command in ["inspect", "replay"] {
        place.fails(
            3,
            &["bundle", command, "two"],
            &format!("error: blob {raw} of the bundle is corrupt: its content has digest {found}\n"),
        );
    }
    std::fs::remove_file(place.path("two").join(&name)).unwrap();
    place.fails(
        3,
        &["bundle", "replay", "two"],
        &format!("error: the bundle is missing {raw} (listed as text/csv)\n"),
    );
    let tar = std::fs::read(place.path("two.tar")).unwrap();
    place.write("two.tar", &tar[..tar.len() / 2]);
    let said = place.run(&["bundle", "replay", "two.tar"]);
    assert_eq!(said.code, 3, "{said:?}");
    place.write("escape.tar", "\u{1b}[2J".repeat(300));
    place.fails(
        3,
        &["bundle", "replay", "escape.tar"],
        "error: escape.tar is not a tar archive, or it is damaged\n",
    );
}
