//! `show` and `fsck`.

use serde_json::json;

use crate::place::{Place, steps};

fn place() -> Place {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("raw.csv", "name,mass\nAdelie,3750\n\"Gentoo\npapua\",5050.5\n");
    place
}

#[test]
fn a_table_is_a_table() {
    let place = place();
    place.says(
        &["show", "raw.csv"],
        "name              mass\nUtf8           Float64\nAdelie          3750.0\nGentoo\\npapua   5050.5\n",
        "2 rows, 2 columns\n",
    );
    place.says(
        &["show", "raw.csv", "--rows", "1"],
        "name       mass\nUtf8    Float64\nAdelie   3750.0\n",
        "2 rows, 2 columns; the first 1 are shown\n",
    );
    assert_eq!(
        place.json(&["show", "raw.csv", "--rows", "1"]),
        json!({"columns": [{"name": "name", "type": "Utf8"}, {"name": "mass", "type": "Float64"}], "rows": [["Adelie", 3750.0]], "total_rows": 2})
    );
}

#[test]
fn a_pipe_gets_exactly_the_text() {
    let place = place();
    let texts: [&[u8]; 4] = [
        b"no end of line",
        b"\x1b[31mred\x1b[0m \x1b]0;title\x07 \x7f \xc2\x9b2J\n",
        b"not UTF-8: \xff\xfe\n",
        &b"a line of text\n".repeat(100_000),
    ];
    for text in texts {
        place.write("text.txt", text);
        let said = place.command(&["show", "text.txt"]).output().unwrap();
        assert!(said.status.success() && said.stderr.is_empty());
        assert_eq!(said.stdout.len(), text.len());
        assert_eq!(said.stdout, text);
    }
    let large = format!("[{}0]", "1,  ".repeat(1 << 19));
    place.write("large.json", &large);
    place.says(&["show", "large.json"], &large, "");
    assert_eq!(place.json(&["show", "large.json"]).as_array().unwrap().len(), (1 << 19) + 1);
    place.write("text.json", "{\"a\": \"\u{7f}\u{9b}\"}");
    assert_eq!(place.json(&["show", "text.json"]), json!({"a": "\u{7f}\u{9b}"}));
    place.says(&["show", "text.json"], "{\n  \"a\": \"\u{7f}\u{9b}\"\n}\n", "");
}

#[test]
fn columns_of_csv_can_be_given_types() {
    let place = place();
    place.write("people.csv", "zip,born\n1010,2001-05-01\n2020,\n");
    place.says(
        &["show", "people.csv", "--type", "zip=text", "--type", "born=text"],
        "zip   born\nUtf8  Utf8\n1010  2001-05-01\n2020  ∅\n",
        "2 rows, 2 columns\n",
    );
    // the written file has the same types
    place.says(&["show", "people.csv", "--type", "zip=text", "-o", "people.arrow"], "", "");
    let shown = place.json(&["show", "people.arrow"]);
    assert_eq!(shown["rows"], json!([["1010", "2001-05-01"], ["2020", null]]));
    assert_eq!(shown["columns"][0], json!({"name": "zip", "type": "Utf8"}));
    place.fails(
        2,
        &["show", "people.csv", "--type", "zap=text"],
        "error: people.csv: there is no column `zap`; the columns are zip, born\n",
    );
    place.fails(
        2,
        &["show", "people.csv", "--type", "born=integer"],
        "error: people.csv: line 2, column `born`: `2001-05-01` is not an integer\n",
    );

    fn run<'a>(types: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["run", "steps.wasm#copy", "-i", "raw=people.csv"];
        types.iter().for_each(|of| arguments.extend(["--type", of]));
        arguments
    }
    let ran = place.json(&run(&["raw.zip=text"]));
    assert_eq!(
        ran["run"]["inputs"]["raw"]["artifact"]["media_type"],
        "application/vnd.apache.arrow.stream"
    );
    let read = ran["run"]["inputs"]["raw"]["artifact"]["digest"].as_str().unwrap();
    let shown = place.json(&["show", read]);
    assert_eq!(shown["rows"], json!([["1010", "2001-05-01"], ["2020", null]]));
    place.fails(
        2,
        &run(&["rows.zip=text"]),
        "error: --type names input `rows`, which was not supplied\nhint: add --input rows=PATH\n",
    );
    place.fails(
        2,
        &run(&["raw.zip=text", "raw.zip=date"]),
        "error: --type raw.zip is given twice\n",
    );
    place.fails(
        2,
        &["show", read, "--type", "zip=text"],
        &format!("error: {read} is not CSV: its columns have types of their own\nhint: convert columns in the step, with Table::cast\n"),
    );
}

#[test]
fn what_is_no_table_is_shown_as_what_it_is() {
    let place = place();
    place.write("a.json", r#"{"b":[1,2]}"#);
    place.write("a.txt", "no end of line");
    place.write("a.cbor", b"\xa1\x61x\xfb\x3f\xe0\0\0\0\0\0\0");
    place.write("a.svg", "<svg width=\"64\" height=\"32\"></svg>");
    place.write("a.bin", b"\0\x01AB");
    std::fs::create_dir(place.path("d")).unwrap();
    place.write("d/a.txt", "x");
    place.says(&["show", "a.json"], "{\n  \"b\": [\n    1,\n    2\n  ]\n}\n", "");
    place.says(&["show", "a.txt"], "no end of line", "");
    place.says(&["show", "a.cbor"], "{\n  \"x\": 0.5\n}\n", "");
    place.says(
        &["show", "a.svg"],
        "SVG figure, 64 × 32, 34 B\n",
        "-o FILE writes it to a file\n",
    );
    place.says(
        &["show", "a.bin"],
        "application/octet-stream, 4 B\n000000  00 01 41 42                                      ..AB\n",
        "-o FILE writes it to a file\n",
    );
    place.says(&["show", "d"], "a.txt  2d711642b726  text/plain  1 B\n", "");
    assert_eq!(place.json(&["show", "a.cbor"]), json!({"x": 0.5}));
    assert_eq!(place.run(&["show", "a.bin", "--raw"]).stdout, "\0\x01AB");
    place.says(&["show", "d", "-o", "e"], "", "");
    assert_eq!(place.read("e/a.txt"), "x");
}

#[test]
fn a_record_leads_to_all_that_it_used_and_made() {
    let place = place();
    let run = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"]);
    let record = run["record"].as_str().unwrap();
    let shown = place.run(&["show", record]).stdout;
    let fields: Vec<&str> = shown
        .lines()
        .map(|line| line.split("  ").next().unwrap())
        .filter(|w| !w.is_empty())
        .collect();
    assert_eq!(
        fields,
        [
            "record",
            "run",
            "outcome",
            "when",
            "took",
            "parameters",
            "inputs",
            "outputs",
            "log"
        ],
        "{shown}"
    );
    place.says(
        &["show", &format!("{record}/rows"), "-q"],
        "name              mass\nUtf8           Float64\nAdelie          3750.0\nGentoo\\npapua   5050.5\n",
        "",
    );
    let log = run["log"]["digest"].as_str().unwrap();
    place.says(&["show", log], "half the way\n", "");
    let mut expected = run.clone();
    expected.as_object_mut().unwrap().remove("cached");
    assert_eq!(place.json(&["show", record]), expected);
}

#[test]
fn a_damaged_store_is_found_and_mended() {
    let place = place();
    let run = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"]);
    place.says(&["fsck"], "3 artifacts (1.2 KiB) and 1 records read, 0 damaged\n", "");
    let digest = run["log"]["digest"].as_str().unwrap();
    let hex = &digest["sha256:".len()..];
    let blob = place.path(&format!(".local/share/lockstep/store/blobs/sha256/{}/{hex}", &hex[..2]));
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, "something else").unwrap();
    let said = place.run(&["fsck"]);
    assert_eq!(
        said.stdout.lines().next(),
        Some(format!("artifact {digest} is corrupt: its content does not match its digest").as_str())
    );
    assert_eq!(
        (said.code, said.stderr.as_str()),
        (
            6,
            "error: [PLACE]/.local/share/lockstep/store is damaged\nhint: `lockstep fsck --fix` removes damaged data; later runs recreate it\n"
        )
    );
    assert_eq!(place.run(&["fsck", "--fix"]).code, 0);
    let again = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv"]);
    assert_eq!((&again["record"], &again["cached"]), (&run["record"], &json!(false)));
    assert_eq!(place.run(&["fsck"]).code, 0);
}

#[test]
fn a_run_heals_every_file_of_the_store() {
    let place = place();
    place.write("pipeline.yaml", PIPELINE);
    let run = || {
        let ran = place.json(&["run", "pipeline.yaml"]);
        let digests = |task: &serde_json::Value| (task["task"].clone(), task["outputs"].clone(), task["record"].clone());
        ran["tasks"].as_array().unwrap().iter().map(digests).collect::<Vec<_>>()
    };
    let expected = run();
    let store = place.path(".local/share/lockstep/store");
    let files: Vec<_> = ["blobs", "records"]
        .iter()
        .flat_map(|kind| files(&store.join(kind)))
        .collect();
    assert!(files.len() >= 5, "{files:?}");
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| *bytes.last_mut().unwrap() ^= 1,
    ];
    for file in &files {
        for damage in damages {
            let mut bytes = std::fs::read(file).unwrap();
            damage(&mut bytes);
            std::fs::remove_file(file).unwrap();
            std::fs::write(file, bytes).unwrap();
            assert_eq!(run(), expected, "{}", file.display());
        }
        std::fs::remove_file(file).unwrap();
        assert_eq!(run(), expected, "{}", file.display());
    }
    place.run(&["fsck"]);
    assert_eq!(place.run(&["fsck"]).code, 0);
}

/// Two tasks, of which the second reads what the first wrote.
const PIPELINE: &str = "name: two
tasks:
  first: { step: steps.wasm#copy, inputs: { raw: raw.csv } }
  second: { step: steps.wasm#again, inputs: { raw: first.rows }, parameters: { times: 2 } }
";

fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}
