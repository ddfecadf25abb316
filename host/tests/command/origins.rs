//! `lineage`, `diff` and the filters of `log`.

use lockstep_runtime::digest::Digest;
use serde_json::{Value, json};

use crate::place::{Place, program, steps};

/// Writes `> ` and its input.
fn quote() -> Vec<u8> {
    let body = "(call $write (i32.const 1) (i32.const 1024) (i32.const 2))
        (call $write (i32.const 1) (i32.const 4096) (call $read (i32.const 0)))";
    program("> ", body)
}

fn place() -> Place {
    let place = Place::new();
    place.write("quote.wasm", quote());
    place.write("steps.wasm", steps());
    place.write("a.txt", "hello\n");
    place
}

/// Quotes `from` to `to`. Returns the record.
fn quoted(place: &Place, from: &str, to: &str) -> String {
    let (input, output) = (format!("text={from}"), format!("quoted:text/plain={to}"));
    let run = ["run", "quote.wasm", "-i", &input, "--stdin", "text", "--stdout", &output];
    place.json(&run)["record"].as_str().unwrap().to_owned()
}

#[test]
fn lineage_goes_back_to_what_was_given_and_on_to_what_was_made() {
    let place = place();
    let first = quoted(&place, "a.txt", "b.txt");
    let second = quoted(&place, "b.txt", "c.txt");
    let [a, b, c] = ["hello\n", "> hello\n", "> > hello\n"].map(|text| Digest::of(text).short());
    let module = Digest::of(quote()).short();
    place.says(
        &["lineage", "c.txt"],
        &format!(
            "{c}  text/plain  10 B
└─ program of module {module}, record [RECORD]
   └─ text  {b}  text/plain  8 B
      └─ program of module {module}, record [RECORD]
         └─ text  {a}  text/plain  6 B  given
"
        ),
        "",
    );
    let up = place.run(&["lineage", &second]).stdout;
    assert!(up.starts_with("program of module") && up.lines().count() == 4, "{up}");
    place.says(
        &["lineage", "a.txt", "--down"],
        &format!(
            "{a}  text/plain  6 B
└─ program of module {module}, record [RECORD]
   └─ quoted  {b}  text/plain  8 B
      └─ program of module {module}, record [RECORD]
         └─ quoted  {c}  text/plain  10 B
"
        ),
        "",
    );
    let of_module = place.json(&["lineage", "quote.wasm", "--down"]);
    let mut records: Vec<Value> = of_module["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["record"].clone())
        .collect();
    records.sort_by_key(Value::to_string);
    let mut expected = [json!(first), json!(second)];
    expected.sort_by_key(Value::to_string);
    assert_eq!(records, expected);
}

#[test]
fn lineage_is_a_graph() {
    let place = place();
    quoted(&place, "a.txt", "b.txt");
    let made = Digest::of("> hello\n").short();
    let mermaid = place.run(&["lineage", "b.txt", "--graph", "mermaid"]).stdout;
    let lines: Vec<&str> = mermaid.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "flowchart TD",
            &format!("  n0(\"{made}<br/>text/plain  8 B\"):::focus"),
            "  n1(\"5891b5b522d5<br/>text/plain  6 B\"):::plain"
        ]
    );
    assert_eq!(lines[4..6], ["  n1 -->|\"text\"| n2", "  n2 -->|\"quoted\"| n0"]);
    assert!(place.run(&["lineage", "b.txt", "--graph", "svg"]).stdout.starts_with("<svg "));
    assert!(
        place
            .run(&["lineage", "b.txt", "--graph", "dot"])
            .stdout
            .starts_with("digraph {\n")
    );
}

#[test]
fn a_file_of_a_directory_that_was_read_leads_on() {
    let place = place();
    std::fs::create_dir(place.path("d")).unwrap();
    place.write("d/x.txt", "x");
    place.json(&[
        "run",
        "quote.wasm",
        "-i",
        "d=d",
        "-i",
        "text=a.txt",
        "--stdin",
        "text",
        "--stdout",
        "quoted=b",
    ]);
    let down = place.json(&["lineage", "d/x.txt", "--down"]);
    assert_eq!(down["runs"][0]["outputs"]["quoted"], json!(Digest::of("> hello\n")));
}

#[test]
fn a_run_that_hands_on_what_it_was_given_did_not_make_it() {
    let place = place();
    place.json(&["run", "steps.wasm#copy", "-i", "raw=a.txt", "-o", "rows=rows.csv"]);
    place.says(&["lineage", "a.txt"], "5891b5b522d5  text/plain  6 B  given\n", "");
}

#[test]
fn two_records_differ_in_what_went_in_and_what_came_out() {
    let place = place();
    place.write("old.csv", "name,mass\nAdelie,3750\nGentoo,5000\n");
    place.write("new.csv", "name,mass\nAdelie,3750\nGentoo,5050\n");
    let run = |input: &str, share: &str| {
        let (input, share) = (format!("raw={input}"), format!("share={share}"));
        let run = place.json(&["run", "steps.wasm#copy", "-i", &input, "-p", &share]);
        run["record"].as_str().unwrap().to_owned()
    };
    let (old, new) = (run("old.csv", "0.5"), run("new.csv", "0.25"));
    let told = place.run(&["diff", &old, &new]);
    let cells = |line: &str| {
        line.split("  ")
            .filter(|cell| !cell.is_empty())
            .map(|cell| cell.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let lines: Vec<Vec<String>> = told.stdout.lines().map(cells).collect();
    let place_of = "row 2, column mass: 5000 and 5050";
    let [left, right] = ["old.csv", "new.csv"].map(|name| Digest::of(place.read(name)).short());
    assert_eq!(lines[0][0], "inputs");
    assert_eq!(lines[1], ["parameter share", "0.5", "0.25"]);
    assert_eq!(lines[2], ["input raw", &left, &right, place_of]);
    assert_eq!(lines[3][0], "results");
    assert_eq!(lines[4], ["output rows", &left, &right, place_of]);
    assert_eq!(lines.len(), 5);
    assert_eq!(place.run(&["diff", &old, &old]).stdout, "no difference\n");
    let json = place.json(&["diff", &old, &new]);
    assert_eq!((&json["equal"], &json["in"][0]["left"]), (&json!(false), &json!("0.5")));
}

#[test]
fn two_artifacts_differ_first_where_they_say() {
    let place = place();
    place.write("a.json", r#"{"x":[1,2]}"#);
    place.write("b.json", r#"{"x":[1,3]}"#);
    place.write("b.txt", "hella\n");
    place.says(&["diff", "a.txt", "b.txt"], "line 1, column 5: hello and hella\n", "");
    place.says(&["diff", "a.txt", "a.txt"], "no difference\n", "");
    assert_eq!(
        place.json(&["diff", "a.json", "b.json"])["first"],
        json!({"pointer": "/x/1", "offset": 8, "left": "2", "right": "3"})
    );
    let record = quoted(&place, "a.txt", "c.txt");
    place.fails(
        2,
        &["diff", "a.txt", &record],
        &format!(
            "error: {record} is a record, a.txt is an artifact\nhint: compare two records or two artifacts; RECORD/OUTPUT names an output of a record\n"
        ),
    );
}

#[test]
fn the_log_is_filtered() {
    let place = place();
    quoted(&place, "a.txt", "b.txt");
    place.run(&["run", "steps.wasm#copy", "-i", "raw=a.txt"]);
    place.write("fail.wasm", program("", "(call $proc_exit (i32.const 3))"));
    place.run(&["run", "fail.wasm"]);
    let steps = |filter: &[&str]| {
        let log = place.json(&[&["log"], filter].concat());
        let step = |run: &Value| format!("{} {}", run["step"].as_str().unwrap(), run["is"].as_str().unwrap());
        log["runs"].as_array().unwrap().iter().map(step).collect::<Vec<_>>()
    };
    assert_eq!(steps(&[]), [" failed", "copy succeeded", " succeeded"]);
    assert_eq!(steps(&["--outcome", "failed"]), [" failed"]);
    assert_eq!(steps(&["--step", "copy"]), ["copy succeeded"]);
    assert_eq!(steps(&["--module", "quote.wasm", "--since", "1d"]), [" succeeded"]);
    assert_eq!(steps(&["--since", "0s"]), Vec::<String>::new());
    place.says(
        &["log", "--step", "copi"],
        "",
        "no matching runs in [PLACE]/.local/share/lockstep/store\n",
    );
    place.fails(
        2,
        &["log", "--module", "no.wasm"],
        "error: no.wasm is neither a file nor a digest\n\
         hint: give the path of the module, or the digest that `lockstep inspect` and `lockstep show` print\n",
    );
}
