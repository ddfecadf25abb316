use super::*;
use crate::step::Limits;

impl Case {
    fn explained(&self, tasks: &str) -> Vec<Value> {
        let explained = explain(&self.runtime, &self.plan(tasks), &Limits::default()).unwrap();
        explained.iter().map(|explained| json!(explained)).collect()
    }
}

/// The fate of each task.
fn fates(explained: &[Value]) -> Vec<(&str, &str)> {
    explained
        .iter()
        .map(|one| (one["task"].as_str().unwrap(), one["fate"].as_str().unwrap()))
        .collect()
}

const TASKS: &str = "a: { step: m.wasm#copy, inputs: { rows: raw.csv } }
     b: { step: n.wasm#json, inputs: { rows: raw.csv }, parameters: { depth: 4 } }
     c: { step: m.wasm#copy, inputs: { rows: a.rows }, seed: 2 }";

fn case() -> Case {
    let case = Case::new();
    case.write("n.wasm", steps("n"));
    case
}

#[test]
fn what_was_never_run_is_run_and_others_wait_for_it() {
    let case = case();
    let explained = case.explained(TASKS);
    assert_eq!(fates(&explained), [("a", "miss"), ("b", "miss"), ("c", "waits")]);
    assert_eq!(explained[0]["why"], json!({"reason": "no-earlier-run"}));
    assert_eq!(explained[2]["on"], json!(["a"]));
    case.execute(&case.plan(TASKS), &jobs(2));
    let explained = case.explained(TASKS);
    assert_eq!(fates(&explained), [("a", "hit"), ("b", "hit"), ("c", "hit")]);
    assert_eq!(explained[0]["outputs"]["rows"]["media_type"], "text/csv");
}

#[test]
fn the_field_that_differs_is_named() {
    let case = case();
    case.execute(&case.plan(TASKS), &jobs(1));
    let why = |from: &str, to: &str| {
        let explained = case.explained(&TASKS.replace(from, to));
        let miss = explained.into_iter().find(|one| one["fate"] == "miss").unwrap();
        (miss["task"].as_str().unwrap().to_owned(), miss["why"]["differences"].clone())
    };
    assert_eq!(
        why("depth: 4", "depth: 5"),
        (
            "b".into(),
            json!([{"field": "parameter", "name": "depth", "was": 4, "is": 5}])
        )
    );
    assert_eq!(
        why("seed: 2", "seed: 3"),
        ("c".into(), json!([{"field": "seed", "was": 2, "is": 3}]))
    );
    let [n, m] = [steps("n"), steps("")].map(crate::digest::Digest::of);
    assert_eq!(
        why("n.wasm", "m.wasm"),
        ("b".into(), json!([{"field": "module", "was": n, "is": m}]))
    );

    case.write("raw.csv", "x\n2\n");
    let [was, is] = ["x\n1\n", "x\n2\n"].map(crate::digest::Digest::of);
    let of_raw = json!([{"field": "input", "name": "rows", "was": was, "is": is, "from": "raw.csv"}]);
    let explained = case.explained(TASKS);
    assert_eq!(fates(&explained), [("a", "miss"), ("b", "miss"), ("c", "waits")]);
    assert_eq!(
        (&explained[0]["why"]["differences"], &explained[1]["why"]["differences"]),
        (&of_raw, &of_raw)
    );
    let only_a = TASKS.lines().next().unwrap();
    case.execute(&case.plan(only_a), &jobs(1));
    let explained = case.explained(TASKS);
    assert_eq!(fates(&explained), [("a", "hit"), ("b", "miss"), ("c", "miss")]);
    let of_a = json!([{"field": "input", "name": "rows", "was": was, "is": is, "from": "a.rows"}]);
    assert_eq!(explained[2]["why"]["differences"], of_a);
}

#[test]
fn limits_outcomes_and_lost_bytes_are_reasons_too() {
    let case = case();
    let endless = |limits: &str| format!("e: {{ program: endless.wasm, {limits} }}");
    let fuel = |fuel: u64| endless(&format!("limits: {{ fuel: {fuel} }}"));
    let run = |tasks: &str| drop(case.execute(&case.plan(tasks), &jobs(1)));
    run(&fuel(1000));
    let explained = case.explained(&fuel(1000));
    assert_eq!((fates(&explained)[0].1, &explained[0]["succeeded"]), ("hit", &json!(false)));
    let why = case.explained(&fuel(2000))[0]["why"].clone();
    assert_eq!(
        (&why["reason"], &why["limit"], &why["was"], &why["is"]),
        (&json!("limit"), &json!("fuel"), &json!(1000), &json!(2000))
    );

    let case = Case::new();
    drop(case.execute(&case.plan(&endless("timeout: 5ms")), &jobs(1)));
    let why = case.explained(&endless("timeout: 5ms"))[0]["why"].clone();
    assert_eq!(
        (&why["reason"], &why["outcome"]),
        (&json!("not-deterministic"), &json!("interrupted: the time limit was reached"))
    );
}

#[test]
fn another_program_is_no_earlier_run() {
    let case = case();
    case.execute(&case.plan(&cat_of("a", "raw.csv")), &jobs(1));
    let reason = |tasks: &str| case.explained(tasks)[0]["why"]["reason"].clone();
    assert_eq!(reason("b: { program: trap.wasm }"), "no-earlier-run");
    assert_eq!(reason(&cat_of("b", "m.wasm")), "differs");
}

#[test]
fn what_is_skipped_and_what_will_be_several_is_told() {
    let case = case();
    case.write("parts/x.csv", "x");
    case.write("parts/y.csv", "y");
    let tasks = "a: { for_each: { p: parts }, step: m.wasm#copy, inputs: { rows: p } }
         b: { program: cat.wasm, inputs: { all: a.rows } }
         c: { step: m.wasm#copy, inputs: { rows: raw.csv }, when: '1 > 2' }
         d: { step: m.wasm#copy, inputs: { rows: c.rows } }";
    assert_eq!(
        fates(&case.explained(tasks)),
        [
            ("a[x.csv]", "miss"),
            ("a[y.csv]", "miss"),
            ("b", "waits"),
            ("c", "skipped"),
            ("d", "skipped")
        ]
    );
    case.execute(&case.plan(tasks), &jobs(2));
    let explained = case.explained(tasks);
    assert_eq!(
        fates(&explained),
        [
            ("a[x.csv]", "hit"),
            ("a[y.csv]", "hit"),
            ("b", "hit"),
            ("c", "skipped"),
            ("d", "skipped")
        ]
    );
    assert_eq!(
        (&explained[3]["because"], &explained[4]["because"]),
        (&json!("condition not met: 1 > 2"), &json!("`c` has no outputs"))
    );
}
