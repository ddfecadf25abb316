//! Kubeflow Pipelines: export, containers, and local runs of its pipelines. `tests/kubeflow.rs` tests with the SDK.

use serde_json::{Value, json};

use crate::place::{Place, cat, steps};

const RAW: &str = "name,mass\nAdelie,3750\n";

fn place() -> Place {
    let place = Place::new();
    place.write("steps.wasm", steps());
    place.write("cat.wasm", cat());
    place.write("raw.csv", RAW);
    place.write(
        "wine.yaml",
        "name: Wine 2
parameters: { share: 1, times: 3, word: x }
tasks:
  clean: { step: steps.wasm#copy, inputs: { raw: raw.csv }, parameters: { share: '{{ share }}', column: 'a-{{ word }}' }, seed: 7 }
  Again: { step: steps.wasm#again, inputs: { raw: clean.rows }, parameters: { times: '{{ times }}' }, retries: 2 }
  big: { step: steps.wasm#again, inputs: { raw: raw.csv }, parameters: { times: 9007199254740993 } }
  count: { program: cat.wasm, stdin: raw, stdout: text, args: [-l], inputs: { raw: clean.rows }, at: { raw: /data/raw }, outputs: { text: text/plain }, timeout: 10m }
outputs: { text: count.text }
",
    );
    place
}

/// The digest of a module.
fn module(place: &Place, file: &str) -> String {
    place.json(&["inspect", file])["module"].as_str().unwrap().to_owned()
}

fn export(place: &Place, what: &str) -> String {
    let said = place.run(&["export", what, "--to", "kfp", "-o", "kfp.yaml", "--quiet"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let text = place.read("kfp.yaml");
    let text = text.replace(&module(place, "steps.wasm"), "[STEPS]");
    text.replace(&module(place, "cat.wasm"), "[CAT]")
}

#[test]
fn a_pipeline_is_written_with_all_that_its_containers_need() {
    let place = place();
    let text = export(&place, "wine.yaml");
    assert_eq!(text, include_str!("kfp.yaml"));
}

#[test]
fn what_a_reader_might_not_expect_is_said() {
    let place = place();
    place.says(
        &["export", "wine.yaml", "--to", "kfp", "-o", "kfp.yaml"],
        "kfp.yaml\n",
        "note: parameter `word` is fixed to its current value: it is used for more than step parameters\n\
         note: image lockstep-step:0.1.0 is not pinned to a digest; use --image REFERENCE@sha256:...\n\
         note: no shared store is set, and containers read modules and inputs from it; use --shared s3://BUCKET/PREFIX\n",
    );
    let image = format!("ghcr.io/team/step@sha256:{}", "0".repeat(64));
    let said = place.json(&[
        "export",
        "steps.wasm#copy",
        "--to",
        "kfp",
        "-o",
        "copy.yaml",
        "--image",
        &image,
    ]);
    assert_eq!(said["notes"].as_array().unwrap().len(), 2);
}

#[test]
fn what_kubeflow_can_not_be_told_is_an_error() {
    let place = place();
    let wine = place.read("wine.yaml").replace("text/plain", "application/json");
    for (part, how, why) in [
        (
            "part",
            "for_each: { part: count.text }",
            "runs for each part of count.text, which are known only at run time",
        ),
        (
            "count.text",
            "when: 'count.text > 3'",
            "runs only when count.text > 3, which is known only at run time",
        ),
    ] {
        let more = "\n  more: { program: cat.wasm, stdin: raw, stdout: text, inputs: { raw: PART }, outputs: { text: text/plain }, HOW }\noutputs:";
        let more = more.replace("PART", part).replace("HOW", how);
        place.write("more.yaml", wine.replace("\noutputs:", &more));
        let said = place.run(&["export", "more.yaml", "--to", "kfp", "-o", "kfp.yaml"]);
        assert_eq!(said.code, 3, "{}", said.stderr);
        assert_eq!(
            said.stderr,
            format!(
                "error: task `more` {why}: not supported by Kubeflow Pipelines\n\
                 hint: export with `--to argo`, or use a list in `for_each` and a parameter in `when`\n"
            )
        );
    }
    place.fails(
        2,
        &["export", "wine.yaml", "-o", "kfp.yaml"],
        "error: wine.yaml is not a notebook\nhint: give --to kfp or --to argo to export a pipeline or a step\n",
    );
    place.fails(
        2,
        &["export", "steps.wasm", "--to", "kfp", "-o", "kfp.yaml"],
        "error: steps.wasm has several steps: `again`, `copy`\nhint: choose one, as in `lockstep export steps.wasm#again`\n",
    );
    place.fails(
        2,
        &["export", "wine.yaml", "--to", "argo", "-o", "argo.yaml"],
        "error: shared store required, for access from containers\nhint: set --shared s3://BUCKET/PREFIX or LOCKSTEP_SHARED\n",
    );
}

/// The executor input of a container with an output `rows`.
fn executor_input(place: &Place, parameters: Value) -> Value {
    json!({
        "inputs": {
            "parameterValues": parameters,
            "artifacts": { "raw": { "artifacts": [{ "name": "raw", "type": { "schemaTitle": "system.Dataset" }, "uri": place.path("raw.csv"), "metadata": {} }] } },
        },
        "outputs": {
            "artifacts": { "rows": { "artifacts": [{ "name": "rows", "uri": place.path("made/deep/rows"), "metadata": {} }] } },
            "outputFile": place.path("made/executor_output.json"),
        },
    })
}

#[test]
fn a_container_reads_what_kubeflow_gives_and_leaves_what_it_wants() {
    let place = place();
    let by_hand = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv", "-p", "share=2"]);
    // in a cluster, numbers are doubles, and any value may arrive as a string
    for share in [json!(2), json!(2.0), json!("2")] {
        let given = executor_input(&place, json!({ "share": share, "column": null })).to_string();
        let ran = place.json(&["run", "steps.wasm#copy", "--executor-input", &given]);
        assert_eq!((&ran["record"], &ran["cached"]), (&by_hand["record"], &json!(true)));
        assert_eq!(place.read("made/deep/rows"), RAW);
        let said: Value = serde_json::from_str(&place.read("made/executor_output.json")).unwrap();
        assert_eq!(
            said,
            json!({
                "parameterValues": {},
                "artifacts": { "rows": { "artifacts": [{
                    "name": "rows",
                    "uri": place.path("made/deep/rows"),
                    "metadata": {
                        "lockstep_digest": by_hand["outputs"]["rows"]["digest"],
                        "lockstep_media_type": "text/csv",
                        "lockstep_module": by_hand["run"]["module"],
                        "lockstep_step": "copy",
                        "lockstep_run_key": by_hand["key"],
                        "lockstep_record": by_hand["record"],
                    },
                }] } },
            })
        );
    }
}

#[test]
fn an_output_parameter_is_an_output_or_a_field_of_it() {
    let place = place();
    place.write("numbers.json", r#"{"score": {"accuracy": 0.93}, "word": "yes"}"#);
    let mut given = json!({ "inputs": {}, "outputs": { "outputFile": place.path("o/said.json"), "parameters": {} } });
    for name in ["n", "n.score.accuracy", "n.word"] {
        given["outputs"]["parameters"][name] = json!({ "outputFile": place.path(&format!("o/{name}")) });
    }
    let arguments = [
        "run",
        "cat.wasm",
        "-i",
        "raw=numbers.json",
        "--stdin",
        "raw",
        "--stdout",
        "n:application/json",
    ];
    let mut command = arguments.to_vec();
    let given = given.to_string();
    command.extend(["--executor-input", &given]);
    assert_eq!(place.run(&command).code, 0);
    assert_eq!(
        (place.read("o/n.score.accuracy"), place.read("o/n.word")),
        ("0.93".to_owned(), "yes".to_owned())
    );
    let said: Value = serde_json::from_str(&place.read("o/said.json")).unwrap();
    assert_eq!(
        said,
        json!({ "artifacts": {}, "parameterValues": {
            "n": { "score": { "accuracy": 0.93 }, "word": "yes" }, "n.score.accuracy": 0.93, "n.word": "yes",
        } })
    );
}

#[test]
fn a_container_tells_what_is_wrong() {
    let place = place();
    let run = |given: &Value| {
        let said = place.run(&["run", "steps.wasm#copy", "--executor-input", &given.to_string()]);
        (said.code, said.stderr)
    };
    let given = executor_input(&place, json!({ "shar": 2 }));
    assert_eq!(
        run(&given),
        (
            2,
            "error: step `copy` has no parameter `shar`; it has `column`, `share`\n".to_owned()
        )
    );
    let mut given = executor_input(&place, json!({}));
    given["inputs"]["artifacts"]["raw"]["artifacts"][0]["metadata"]["lockstep_digest"] =
        json!(format!("sha256:{}", "1".repeat(64)));
    let (code, said) = run(&given);
    assert_eq!(
        (code, said.starts_with("error: artifact `raw` was modified: ")),
        (6, true),
        "{said}"
    );
    let mut given = executor_input(&place, json!({}));
    given["outputs"]["artifacts"] = json!({ "table": given["outputs"]["artifacts"]["rows"] });
    let (code, said) = run(&given);
    assert_eq!(code, 2, "{said}");
    assert_eq!(
        said,
        "error: Kubeflow requests the unknown output `table`; the run has `rows`\n"
    );
    assert_eq!(run(&json!(1)).0, 2);
}

#[test]
fn a_pipeline_of_kubeflow_is_run_here() {
    let place = place();
    let here = place.json(&["run", "wine.yaml", "-p", "times=4"]);
    export(&place, "wine.yaml");
    let there = place.json(&["run", "kfp.yaml", "-p", "times=4"]);
    let records = |ran: &Value| {
        let tasks = ran["tasks"].as_array().unwrap_or_else(|| panic!("{ran:#}")).iter();
        let mut records: Vec<String> = tasks.map(|task| task["record"].to_string()).collect();
        records.sort();
        records
    };
    assert_eq!(records(&there), records(&here));
    assert_eq!(records(&there).len(), 4);
    assert_eq!(there["outputs"], here["outputs"]);

    // a component by itself
    export(&place, "steps.wasm#copy");
    let alone = place.json(&["run", "kfp.yaml", "-i", "raw=raw.csv", "-p", "share=2"]);
    let by_hand = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv", "-p", "share=2"]);
    assert_eq!(alone["tasks"][0]["record"], by_hand["record"]);
    place.fails(
        2,
        &["run", "kfp.yaml", "-i", "row=raw.csv"],
        "error: the pipeline has no input `row`; it has `raw`\n",
    );
}

#[test]
fn what_is_not_ours_in_a_pipeline_of_kubeflow_is_an_error() {
    let place = place();
    export(&place, "steps.wasm#copy");
    let text = place.read("kfp.yaml");
    place.write(
        "other.yaml",
        text.replace("/lockstep", "python")
            .replace("lockstep-step:0.1.0", "python:3.13"),
    );
    place.fails(
        3,
        &["run", "other.yaml", "-i", "raw=raw.csv"],
        "error: other.yaml:56:11: task `copy`: image python:3.13 does not run lockstep, and only steps of lockstep run locally\n\
         hint: `lockstep export STEP --to kfp` creates components that also run locally\n",
    );
}

/// The component of a step, whose task has `more` in it.
fn with_more(place: &Place, more: &str) {
    export(place, "steps.wasm#copy");
    let (from, to) = ("componentRef:\n", format!("{more}\n        componentRef:\n"));
    place.write("more.yaml", place.read("kfp.yaml").replacen(from, &to, 1));
}

#[test]
fn what_is_known_only_later_is_refused_in_a_pipeline_of_kubeflow() {
    let place = place();
    for (more, field, why) in [
        (
            "triggerPolicy: { strategy: ALL_UPSTREAM_TASKS_COMPLETED }",
            "strategy:",
            "tasks that run after failures of other tasks are not supported\n\
             hint: remove `dsl.ExitHandler` or `ignore_upstream_failure` from the pipeline\n",
        ),
        (
            "artifactIterator: { itemInput: raw, items: { inputArtifact: raws } }",
            "artifactIterator:",
            "loops over a list of artifacts are not supported\n\
             hint: use `dsl.ParallelFor` with a list of values, and create the artifacts inside the loop\n",
        ),
        (
            "parameterIterator: { itemInput: share, items: { raw: '3' } }",
            "items:",
            "can't loop over 3: not a list\n",
        ),
        (
            "parameterIterator: { itemInput: share, items: { inputParameter: shares } }",
            "items:",
            "parameter `shares` has no value\n",
        ),
        (
            "triggerPolicy: { condition: \"inputs.parameter_values['depth'] > 1\" }",
            "condition:",
            "condition `inputs.parameter_values['depth'] > 1`: parameter `depth` has no value\n",
        ),
        (
            "triggerPolicy: { condition: \"inputs.parameter_values['share'] == 'x'\" }",
            "condition:",
            "condition `inputs.parameter_values['share'] == 'x'`: can't compare 0.5 and \"x\" with `==`\n",
        ),
    ] {
        with_more(&place, more);
        place.fails(
            3,
            &["run", "more.yaml", "-i", "raw=raw.csv"],
            &format!("error: more.yaml:{}: task `copy`: {why}", place_of(&place, field)),
        );
    }
    // an output of another task
    let inputs = "            share:\n              componentInputParameter: share\n";
    let later = "            share: { taskOutputParameter: { producerTask: other, outputParameterKey: n } }\n";
    with_more(
        &place,
        "triggerPolicy: { condition: \"inputs.parameter_values['share'] > 1\" }",
    );
    let text = place.read("more.yaml");
    assert!(text.contains(inputs), "{text}");
    place.write("more.yaml", text.replace(inputs, later));
    let at = place_of(&place, later.trim());
    place.fails(
        3,
        &["run", "more.yaml", "-i", "raw=raw.csv"],
        &format!(
            "error: more.yaml:{at}: task `copy`: parameter `share` is the result of another task, which is not supported\n\
             hint: pass results between tasks as artifacts\n"
        ),
    );
}

/// The line and column of `what` in `more.yaml`.
fn place_of(place: &Place, what: &str) -> String {
    let text = place.read("more.yaml");
    let mut lines = text.lines().enumerate();
    let found = lines.find_map(|(line, text)| Some((line + 1, text.find(what)? + 1)));
    let (line, column) = found.unwrap();
    format!("{line}:{column}")
}

#[test]
fn a_fault_in_a_pipeline_of_kubeflow_has_its_place() {
    let place = place();
    export(&place, "steps.wasm#copy");
    let text = place.read("kfp.yaml");
    for (from, to, at, why) in [
        (
            "name: comp-copy",
            "name: comp-cop",
            "name: comp-cop",
            "task `copy`: component `comp-cop` not found; the file has `comp-copy`\n",
        ),
        (
            "executorLabel: exec-copy",
            "executorLabel: exec",
            "name: comp-copy",
            "task `copy`: executor `exec` not found; the file has `exec-copy`\n",
        ),
        (
            "      container:\n",
            "      importer: { artifactUri: { constant: 's3://b/k' } }\n      unused:\n",
            "unused:",
            "`deploymentSpec.executors.exec-copy`: unknown field `unused`, expected one of `container`, `importer`, `resolver`, `customJob`\n",
        ),
        (
            "componentInputParameter: column",
            "runtimeValue: { constant: 'in {{$.pipeline_job_uuid}}' }",
            "column:\n              runtimeValue",
            "task `copy`: parameter `column` has a placeholder, which is not supported: \"in {{$.pipeline_job_uuid}}\"\n\
             hint: pass each value to the step as a parameter of its own, and put them together there\n",
        ),
        (
            "isOptional: true\n          description: a column",
            "isOptional: true\n          literals: [a, 1.10]",
            "column:\n              componentInput",
            "task `copy`: parameter `column` is one of \"a\", \"1.10\", not \"species\"\n",
        ),
    ] {
        assert!(text.contains(from), "{from}\n{text}");
        place.write("more.yaml", text.replacen(from, to, 1));
        let said = place.run(&["run", "more.yaml", "-i", "raw=raw.csv"]);
        let more = place.read("more.yaml");
        let before = &more[..more.rfind(at).unwrap()];
        let (line, column) = (before.matches('\n').count() + 1, before.len() - before.rfind('\n').unwrap());
        let error = said.stderr.split("\n  ").next().unwrap().trim_end();
        assert_eq!(
            (said.code, error),
            (3, format!("error: more.yaml:{line}:{column}: {why}").trim_end())
        );
    }
}

#[test]
fn text_in_a_pipeline_of_kubeflow_stays_text() {
    let place = place();
    export(&place, "steps.wasm#copy");
    let text = place.read("kfp.yaml");
    let by_hand = |word: &str| {
        let word = format!("column={word}");
        place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv", "-p", &word])["record"].clone()
    };
    for word in ["1e3", "25921e05", "0o17", "08540", "1.10", "12e999", "yes"] {
        for (from, to) in [
            ("componentInputParameter: column", "runtimeValue: { constant: WORD }"),
            ("defaultValue: species", "defaultValue: WORD"),
        ] {
            place.write("more.yaml", text.replace(from, &to.replace("WORD", word)));
            let ran = place.json(&["run", "more.yaml", "-i", "raw=raw.csv"]);
            assert_eq!(ran["tasks"][0]["record"], by_hand(word), "{word} {to}");
        }
    }
}

#[test]
fn a_loop_over_nothing_of_kubeflow_has_no_instances() {
    let place = place();
    with_more(&place, "parameterIterator: { itemInput: share, items: { raw: '[]' } }");
    place.says(
        &["run", "more.yaml", "-i", "raw=raw.csv"],
        "",
        "task  outcome       took  memory  outputs\ncopy  no instances\n1 task: 1 without instances in [TIME]\n",
    );
}

#[test]
fn a_task_of_kubeflow_is_run_for_each_of_a_list_and_when_its_condition_holds() {
    let place = place();
    let names = |ran: &Value| {
        let tasks = ran["tasks"].as_array().unwrap_or_else(|| panic!("{ran:#}")).iter();
        let name = |task: &Value| (task["task"].as_str().unwrap().to_owned(), task["record"].clone());
        tasks.map(name).collect::<Vec<_>>()
    };
    with_more(&place, "parameterIterator: { itemInput: share, items: { raw: '[1, 2.0]' } }");
    let ran = names(&place.json(&["run", "more.yaml", "-i", "raw=raw.csv"]));
    for (at, share) in ["share=1", "share=2"].into_iter().enumerate() {
        let by_hand = place.json(&["run", "steps.wasm#copy", "-i", "raw=raw.csv", "-p", share]);
        assert_eq!(ran[at], (format!("copy[{at}]"), by_hand["record"].clone()));
    }
    with_more(
        &place,
        "triggerPolicy: { condition: \"!(inputs.parameter_values['share'] > 1)\" }",
    );
    let ran = place.json(&["run", "more.yaml", "-i", "raw=raw.csv", "-p", "share=2"]);
    assert_eq!(ran["tasks"][0]["skipped"], json!({ "when": "2.0 <= 1" }));
    assert_eq!(names(&place.json(&["run", "more.yaml", "-i", "raw=raw.csv"])).len(), 1);
}
