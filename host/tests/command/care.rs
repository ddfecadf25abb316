//! `gc`, `pin` and `fsck`.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::place::{Place, steps};

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
