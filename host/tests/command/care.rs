//! `gc`, `pin`, `fsck` and `backup`, and the version of a store.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use lockstep_runtime::digest::Digest;
use serde_json::{Value, json};

use crate::jobs::until;
use crate::place::{Place, program, steps};
use crate::serve::Host;

const STORE: &str = ".local/share/lockstep/store";

/// Two runs: `copy` of raw.csv and, later, of other.csv.
fn place() -> (Place, [String; 2]) {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("raw.csv", "name,mass\nAdelie,3750\n");
    place.write("other.csv", format!("name,mass\n{}", "Gentoo,5000\n".repeat(100)));
    let run = |input: &str| {
        let ran = place.json(&["run", "steps.wasm#copy", "-i", &format!("raw={input}")]);
        std::thread::sleep(Duration::from_millis(5));
        ran["record"].as_str().unwrap().to_owned()
    };
    let records = [run("raw.csv"), run("other.csv")];
    (place, records)
}

fn runs(place: &Place) -> Vec<Value> {
    let log = place.json(&["log"]);
    log["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["record"].clone())
        .collect()
}

fn is_clean(place: &Place) -> bool {
    place.json(&["fsck"])["findings"] == json!([])
}

#[test]
fn what_no_run_needs_goes() {
    let (place, _) = place();
    place.write("stray.csv", "a\n1\n");
    place.run(&["show", "stray.csv"]);
    place.says(
        &["gc"],
        "removed 0 records, 0 artifacts and 0 leftover files, 0 B total; 5 artifacts (2.4 KiB) kept\n",
        "",
    );
    let would = "would remove 0 records, 1 artifact and 0 leftover files, 4 B total; 4 artifacts (2.4 KiB) kept\n";
    place.says(&["gc", "--grace", "0s", "--dry-run"], would, "");
    place.says(&["gc", "--grace", "0s"], &would.replace("would remove", "removed"), "");
    assert_eq!((runs(&place).len(), is_clean(&place)), (2, true));
}

#[test]
fn old_runs_go_unless_they_are_pinned() {
    let (place, [first, second]) = place();
    place.says(&["pin", &first], "", "");
    place.says(&["pin"], &format!("{first}\n"), "");
    let gone = place.json(&["gc", "--grace", "0s", "--older-than", "0s"]);
    assert_eq!(gone["records"], json!([second]));
    assert_eq!((runs(&place), is_clean(&place)), (vec![json!(first)], true));
    let shown = place.run(&["show", &format!("{first}/rows"), "--raw"]);
    assert_eq!(shown.stdout, "name,mass\nAdelie,3750\n");
    let again = place.json(&["run", "steps.wasm#copy", "-i", "raw=other.csv"]);
    assert_eq!((&again["record"], &again["cached"]), (&json!(second), &json!(false)));
    place.says(&["pin", "--remove", &first], "", "");
    place.fails(
        2,
        &["pin", "--remove", &first],
        &format!("error: {first} is not pinned\nhint: `lockstep pin` lists pins\n"),
    );
    place.json(&["gc", "--grace", "0s", "--older-than", "0s"]);
    assert_eq!((runs(&place), is_clean(&place)), (vec![], true));
}

#[test]
fn the_oldest_runs_go_first() {
    let (place, [first, second]) = place();
    let all = place.json(&["gc", "--dry-run"])["kept_bytes"].as_u64().unwrap();
    let gone = place.json(&["gc", "--grace", "0s", "--keep-size", &(all - 1).to_string()]);
    assert_eq!(gone["records"], json!([first]));
    assert_eq!(gone["bytes"], 22);
    assert_eq!((runs(&place), is_clean(&place)), (vec![json!(second)], true));
    let gone = place.json(&["gc", "--grace", "0s", "--keep-size", "1kB"]);
    assert_eq!(gone["records"], json!([second]));
    assert_eq!(gone["kept"], 0);
}

#[test]
fn what_notebooks_hold_stays_with_what_it_came_from() {
    let (place, [first, second]) = place();
    let rows = |record: &str| place.json(&["show", record])["outputs"]["rows"]["digest"].clone();
    place.write("notebook.ipynb", json!({"cells": [{"outputs": [rows(&first)]}]}).to_string());
    std::fs::create_dir_all(place.path(&format!("{STORE}/sessions"))).unwrap();
    place.write(&format!("{STORE}/sessions/a.json"), json!({"x": rows(&second)}).to_string());
    let gc = ["gc", "--grace", "0s", "--older-than", "0s"];
    let with_notebook = [&gc[..], &["--notebook", "notebook.ipynb"]].concat();
    assert_eq!(place.json(&with_notebook)["records"], json!([]));
    assert_eq!(place.json(&gc)["records"], json!([first]));
    assert_eq!((runs(&place), is_clean(&place)), (vec![json!(second)], true));
    place.fails(
        2,
        &["gc", "--notebook", "no.ipynb"],
        "error: can't read no.ipynb: No such file or directory (os error 2)\n",
    );
}

#[test]
fn what_a_killed_process_left_goes() {
    let (place, _) = place();
    let young = place.path(&format!("{STORE}/staging/young"));
    let old = place.path(&format!("{STORE}/staging/old"));
    for path in [&young, &old] {
        std::fs::write(path, "half").unwrap();
    }
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    let file = std::fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(yesterday).unwrap();
    let gone = place.json(&["gc"]);
    assert_eq!((&gone["leftovers"], &gone["bytes"]), (&json!([old]), &json!(4)));
    assert!(young.exists() && !old.exists());
}

#[test]
fn a_lost_index_is_made_anew() {
    let (place, records) = place();
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(place.path(&format!("{STORE}/index.sqlite{suffix}")));
    }
    assert_eq!(runs(&place).len(), records.len());
    assert_eq!(place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"])["cached"], true);
}

/// Makes all files of the store two days old.
fn age(place: &Place) {
    let time = SystemTime::now() - Duration::from_secs(2 * 24 * 60 * 60);
    let mut open = vec![place.path(STORE).join("blobs"), place.path(STORE).join("records")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            // the owner of a read-only file may change its times
            std::fs::File::open(path).unwrap().set_modified(time).unwrap();
        }
    }
}

/// The number of tasks of a pipeline that outlasts several commands, also on a busy machine.
const LONG: usize = 200;

/// A pipeline of `length` tasks, each of which copies what the one before has made.
fn chain(length: usize) -> String {
    let mut text = "name: chain\noutputs: { rows: t0.rows }\ntasks:\n".replace("t0", &format!("t{}", length - 1));
    for task in 0..length {
        let raw = if task == 0 {
            "raw.csv".to_owned()
        } else {
            format!("t{}.rows", task - 1)
        };
        text += &format!("  t{task}: {{ step: steps.wasm#copy, inputs: {{ raw: {raw} }}, parameters: {{ share: {task} }} }}\n");
    }
    text
}

const ALL: [&str; 5] = ["gc", "--grace", "0s", "--older-than", "0s"];

#[test]
fn a_pipeline_runs_while_all_that_it_does_not_use_is_removed() {
    let (place, [_, other]) = place();
    // the first tasks are cached, and older than any grace
    place.write("short.yaml", chain(5));
    place.write("long.yaml", chain(LONG));
    assert_eq!(place.run(&["run", "short.yaml"]).code, 0);
    age(&place);
    let long = place
        .command(&["run", "long.yaml", "-o", "rows=rows.csv"])
        .stderr(Stdio::piped())
        .spawn();
    let mut long = long.unwrap();
    let (mut swept, mut removed) = (0, Vec::new());
    while long.try_wait().unwrap().is_none() {
        let gone = place.json(&ALL);
        removed.extend(gone["records"].as_array().unwrap().iter().cloned());
        swept += 1;
    }
    let ended = long.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(swept > 3, "{swept}");
    assert!(removed.contains(&json!(other)), "{removed:?}");
    assert_eq!(place.read("rows.csv"), "name,mass\nAdelie,3750\n");
    assert!(is_clean(&place));
    // afterwards, nothing holds anything
    assert_eq!(place.json(&ALL)["kept"], 0);
    assert_eq!(std::fs::read_dir(place.path(STORE).join("leases")).unwrap().count(), 1);
}

#[test]
fn a_killed_process_holds_nothing() {
    let (place, _) = place();
    place.write("endless.wasm", program("", "(loop br 0)"));
    place.write("used.csv", "used");
    let mut endless = place.command(&["run", "endless.wasm", "-i", "in=used.csv"]).spawn().unwrap();
    let used = format!(
        "blobs/sha256/{0}/{1}",
        &Digest::of("used").hex()[..2],
        Digest::of("used").hex()
    );
    let used = place.path(STORE).join(used);
    for _ in 0..1000 {
        if used.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    place.json(&ALL);
    assert!(used.exists());
    endless.kill().unwrap();
    endless.wait().unwrap();
    place.json(&ALL);
    assert!(!used.exists());
}

#[test]
fn the_stores_of_a_hosts_users_and_partial_uploads_are_freed_too() {
    let (place, _) = place();
    let ann = format!("{STORE}/users/ann@example.org");
    for text in ["stray", "queued", "ended"] {
        place.write("in.csv", text);
        place.run(&["show", "in.csv", "--store", &ann]);
    }
    let work = |name: &str, text: &str, ended: Value| {
        let mut work = json!({"id": name, "submission": {"module": Digest::of(text)}});
        if !ended.is_null() {
            work["ended"] = ended;
        }
        std::fs::create_dir_all(place.path(&format!("{ann}/host/works"))).unwrap();
        place.write(&format!("{ann}/host/works/{name}.json"), work.to_string());
    };
    work("a", "queued", Value::Null);
    work("b", "ended", json!({}));
    std::fs::create_dir_all(place.path(&format!("{ann}/host/uploads"))).unwrap();
    for (name, age) in [("young", 1), ("old", 25)] {
        let path = format!("{ann}/host/uploads/{name}");
        place.write(&path, "half");
        let file = std::fs::File::options().write(true).open(place.path(&path)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age * 60 * 60))
            .unwrap();
    }
    let gone = place.json(&["gc", "--grace", "0s"]);
    let digests: BTreeSet<&str> = gone["artifacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|artifact| artifact["digest"].as_str().unwrap())
        .collect();
    let expected = ["stray", "ended"].map(|text| Digest::of(text).to_string());
    assert_eq!(digests, expected.iter().map(String::as_str).collect());
    assert_eq!(gone["leftovers"], json!([place.path(&ann).join("host/uploads/old")]));
    assert_eq!(place.json(&["fsck", "--store", &ann])["artifacts"], 1);
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let (place, _) = place();
    let version = format!("{STORE}/version");
    assert_eq!(
        place.read(&version),
        format!("{{\"store\":1,\"lockstep\":\"{}\"}}\n", env!("CARGO_PKG_VERSION"))
    );
    place.write(&version, "{\"store\":2,\"lockstep\":\"7.1.0\",\"more\":true}\n");
    place.fails(
        3,
        &["log"],
        &format!(
            "error: [PLACE]/{version} has version 2, but this version of lockstep reads version 1\n\
             hint: lockstep 7.1.0 wrote it: install that version or a newer one\n\
             hint: --store DIR selects another store\n\
             hint: the store is [PLACE]/{STORE}; --store DIR selects another\n"
        ),
    );
    place.write(&version, "");
    let said = place.run(&["log"]);
    assert_eq!(said.code, 3);
    let start = format!("error: [PLACE]/{version} is damaged: EOF while parsing a value at line 1 column 0\n");
    assert!(said.stderr.starts_with(&start), "{said:?}");
    // a store from before there were versions
    std::fs::remove_file(place.path(&version)).unwrap();
    assert_eq!(runs(&place).len(), 2);
    assert!(place.path(&version).exists());
}

/// The store in `golden` was written by the first version of the format.
#[test]
fn a_store_of_an_older_program_is_read() {
    let place = Place::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command/golden");
    let copied = Command::new("cp").arg("-r").arg(golden).arg(place.path("store")).status();
    assert!(copied.unwrap().success());
    let at = |arguments: &[&str]| place.json(&[arguments, &["--store", "store"]].concat());
    let check = at(&["fsck"]);
    assert_eq!((&check["findings"], &check["records"]), (&json!([]), &json!(2)));
    let log = at(&["log"]);
    let record = log["runs"][0]["record"].as_str().unwrap();
    assert_eq!(log["runs"].as_array().unwrap().len(), 2);
    assert_eq!(at(&["pin"])["pins"].as_array().unwrap().len(), 1);
    let shown = place.run(&["show", &format!("{record}/rows"), "--raw", "--store", "store"]);
    assert_eq!(shown.stdout, "name,mass\nAdelie,3750\n");
    assert_eq!(place.run(&["verify", record, "--store", "store"]).code, 0);
}

#[test]
fn a_backup_taken_while_runs_go_on_is_whole_and_can_be_restored() {
    let (place, [first, _]) = place();
    place.says(&["pin", &first], "", "");
    std::fs::create_dir_all(place.path(&format!("{STORE}/sessions"))).unwrap();
    place.write(&format!("{STORE}/sessions/a.json"), "{}");
    place.write("long.yaml", chain(LONG));
    let mut long = place.command(&["run", "long.yaml"]).stderr(Stdio::null()).spawn().unwrap();
    let mut taken = 0;
    while long.try_wait().unwrap().is_none() {
        let copied = place.json(&["backup", "copy"]);
        assert_eq!(copied["damaged"], json!([]), "{copied}");
        assert_eq!(place.json(&["fsck", "--store", "copy"])["findings"], json!([]));
        place.json(&["gc", "--grace", "0s"]);
        taken += 1;
    }
    assert!(long.wait().unwrap().success());
    assert!(taken > 1, "{taken}");
    place.json(&["backup", "copy"]);
    std::fs::remove_dir_all(place.path(STORE)).unwrap();
    let restored = place.run(&["backup", "--store", "copy", STORE]);
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(is_clean(&place));
    assert_eq!(place.json(&["fsck"])["records"], LONG + 2);
    assert_eq!(place.json(&["pin"])["pins"], json!([first]));
    assert_eq!(place.read(&format!("{STORE}/sessions/a.json")), "{}");
    assert_eq!(place.json(&["run", "long.yaml"])["tasks"][LONG - 1]["cached"], true);
    assert_eq!(place.run(&["verify", &first]).code, 0);
    // the restored store is in use, so nothing is copied over it
    place.fails(
        2,
        &["backup", "--store", "copy", STORE],
        &format!("error: [PLACE]/{STORE} is neither empty nor a backup of [PLACE]/copy\nhint: give a new directory\n"),
    );
    let inside = format!("{STORE}/copy");
    let said = place.run(&["backup", &inside]);
    assert_eq!(
        (
            said.code,
            said.stderr.contains("contain each other\nhint: give a directory outside")
        ),
        (2, true),
        "{said:?}"
    );
}

#[test]
fn damage_is_named_and_not_backed_up() {
    let (place, _) = place();
    let hex = Digest::of("name,mass\nAdelie,3750\n").hex();
    let blob = place.path(STORE).join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, "damaged").unwrap();
    let said = place.run(&["backup", "copy"]);
    assert_eq!(said.code, 6);
    assert!(
        said.stderr
            .starts_with(&format!("warning: sha256:{hex} is damaged and was not copied\n")),
        "{said:?}"
    );
    assert!(!place.path(&format!("copy/blobs/sha256/{}/{hex}", &hex[..2])).exists());
}

#[test]
fn a_host_frees_its_stores_by_itself() {
    let (place, records) = place();
    place.write("stray.csv", "a\n1\n");
    place.run(&["show", "stray.csv"]);
    age(&place);
    let stray = Digest::of("a\n1\n").hex();
    let stray = place.path(STORE).join(format!("blobs/sha256/{}/{stray}", &stray[..2]));
    let host = Host::start_with(place, &["--gc-every", "1s"]);
    for _ in 0..1000 {
        if !stray.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!stray.exists());
    let count = |text: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("lockstep_gc_total{succeeded=\"Yes\"} "));
        line.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    let mut text = String::new();
    // it counts after it has removed everything
    for _ in 0..1000 {
        text = String::from_utf8(host.ask("GET", "/metrics", b"").body).unwrap();
        if count(&text) > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(
        count(&text) > 0 && text.contains("lockstep_gc_removed_bytes_total 4\n"),
        "{text}"
    );
    assert_eq!(runs(&host.place).len(), records.len());
}

#[test]
fn a_quota_says_which_runs_a_host_removes() {
    let (place, records) = place();
    age(&place);
    place.write("quotas.toml", "[default]\ngc_older_than = '0s'\n");
    place.fails(
        3,
        &["serve", "--check", "--quotas", "quotas.toml"],
        "error: quotas.toml: gc_older_than and gc_keep_size have no effect without gc-every\n\
         hint: set the interval too, such as --gc-every 6h\n",
    );
    assert!(!records.is_empty());
    let host = Host::start_with(place, &["--gc-every", "1s", "--quotas", "quotas.toml"]);
    until("all runs are removed", || runs(&host.place).is_empty().then_some(()));
}
