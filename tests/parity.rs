//! Every guest has the same digests and the same record in the sandbox, on the command line and in the kernel.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_runtime::sandbox::EngineOptions;
use lockstep_runtime::step::{Limits, interfaces};
use serde_json::{Value, json};

use crate::notebook;
use crate::setup::{GUESTS, Guest, Place, runtime};

/// Returns all guests that end by themselves.
pub fn ending() -> Vec<Guest> {
    let mut guests: Vec<Guest> = [
        "clocks",
        "randomness",
        "surroundings",
        "nans",
        "memory",
        "absent",
        "arithmetic",
        "paths",
        "nothing",
        "error",
        "forgets",
    ]
    .map(Guest::new)
    .into();
    guests.push(Guest::new("files").input("tree", "some bytes"));
    guests.push(
        Guest::new("make")
            .parameter("rows", "7")
            .parameter("word", "Grüße")
            .parameter("list", "[4, 5]"),
    );
    guests.push(Guest::new("learn").parameter("rounds", "3"));
    guests.push(Guest::new("count").input("lines", "one\ntwo\nthree"));
    guests.push(Guest::new("busy").input("text", "word").parameter("rounds", "100"));
    guests.push(Guest::new("panic").parameter("at", "9"));
    guests.push(Guest::new("exit").parameter("code", "200"));
    guests.push(Guest::new("recursion"));
    guests
}

/// Guests that are tested in `limits.rs`, in `pipelines.rs`, in `formats.rs` and by the tests of values.
const ELSEWHERE: [&str; 10] = [
    "hunger", "endless", "sleeps", "reads", "talks", "writes", "take", "scatter", "gather", "texts",
];

#[test]
fn every_guest_has_a_test() {
    let declared = interfaces(&std::fs::read(&*GUESTS).unwrap()).unwrap();
    let declared: BTreeSet<_> = declared.iter().map(|interface| interface.step.clone()).collect();
    let tested = ending().into_iter().map(|guest| guest.step).chain(ELSEWHERE);
    assert_eq!(tested.map(str::to_owned).collect::<BTreeSet<_>>(), declared);
}

#[test]
fn sandbox_command_line_and_kernel_agree() {
    let (place, memory) = (Place::new(), runtime(&EngineOptions::default()));
    let mut cells = Vec::new();
    let mut expected = BTreeMap::new();
    for guest in ending() {
        let sandboxed = guest.sandboxed(&memory, &Limits::default());
        let arguments = guest.arguments(&place);
        let on_command_line = place.json(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(
            on_command_line["record"],
            json!(sandboxed.digest),
            "{}: {on_command_line:#}",
            guest.step
        );
        expected.insert(guest.step, json!(sandboxed.digest));
        cells.push(cell(&guest, &place));
    }
    let notebook = Place::new();
    let ran = notebook::execute(&notebook, &cells, true);
    let in_kernel: BTreeMap<&str, Value> = expected
        .keys()
        .copied()
        .map(|step| (step, notebook::record_of(&ran, step).unwrap_or(Value::Null)))
        .collect();
    assert_eq!(in_kernel, expected);
}

/// A step called as a function in a cell is the same run as on the command line, so the command finds its record.
#[test]
fn a_step_called_as_a_function_is_the_same_run() {
    let place = Place::new();
    let guests = GUESTS.display().to_string();
    let csv = place.path("lines.csv");
    std::fs::write(&csv, "word,length\nhello,5\n").unwrap();
    let codes = [
        format!(":use {guests} as guests"),
        format!(":input lines = {}", csv.display()),
        "let made = guests::make(7, \"Grüße\", None, true, None)?;".to_owned(),
        "let counts = guests::count(&lines)?;\n\
         let sum = guests::take(&made.table, &made.parquet, &made.text, &made.bytes, &lines, &made.json, &made.model, &made.metrics)?;\n\
         println!(\"{counts:?}\");\nsum"
            .to_owned(),
        "let failed = guests::exit(3);\nprintln!(\"{}\", failed.unwrap_err());".to_owned(),
    ];
    let ran = notebook::execute(&place, &codes, false);
    assert_eq!(
        notebook::text(&ran[3]),
        "GRÜSSE: [(\"hello\", 5)]\n{\"bytes\": 20, \"lines\": 2}\n29.1"
    );
    assert_eq!(
        notebook::text(&ran[4]),
        "leaving\nstep `exit` failed with exit code 3: leaving\n"
    );
    let step = |name: &str| format!("{guests}#{name}");
    let input = format!("lines={}", csv.display());
    let (make, count, exit) = (step("make"), step("count"), step("exit"));
    let calls = [
        vec!["run", &make, "-p", "rows=7", "-p", "word=Grüße", "-p", "loud=true"],
        vec!["run", &count, "--input", &input],
        vec!["run", &exit, "-p", "code=3"],
    ];
    let cached = calls.map(|call| place.json(&call)["cached"].clone());
    assert_eq!(cached, [json!(true), json!(true), json!(true)]);
}

/// Returns the `:run` line equivalent to [`Guest::arguments`].
fn cell(guest: &Guest, place: &Place) -> String {
    let mut line = format!(":run {}#{}", GUESTS.display(), guest.step);
    for name in guest.inputs.keys() {
        line += &format!(" {name}={}", place.path(&format!("{}-{name}", guest.step)).display());
    }
    for (name, text) in &guest.parameters {
        line += &format!(
            " {name}={}",
            if text.starts_with('[') {
                format!("\"{text}\"")
            } else {
                text.to_string()
            }
        );
    }
    line
}

/// Values of every kind are passed from one step to another.
#[test]
fn values_cross_steps() {
    let memory = runtime(&EngineOptions::default());
    let made = Guest::new("make").sandboxed(&memory, &Limits::default());
    let bytes = |name: &str| memory.store.get(&made.record.outputs[name].digest).unwrap().to_vec();
    let mut take = Guest::new("take");
    for name in ["table", "parquet", "text", "bytes", "csv", "json", "model", "metrics"] {
        take.inputs.insert(name, bytes(name));
    }
    let taken = take.sandboxed(&memory, &Limits::default());
    assert!(taken.record.outcome.succeeded(), "{}", taken.record.outcome);
    // rows 5 + bytes 5 + 1+2+3 + 0.1*(0+1+2+3+4) + rows 5 = 22.0, in CBOR a double that fits in 16 bits
    let sum = memory.store.get(&taken.record.outputs["sum"].digest).unwrap();
    assert_eq!(sum.to_vec(), [0xf9, 0x4d, 0x80]);
}
