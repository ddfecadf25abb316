use super::*;

#[test]
fn tasks_come_after_what_they_read() {
    let case = Case::new();
    let yaml = "name: p\nparameters: { depth: 6 }\ntasks:\n  a: { step: m.wasm#copy, inputs: { rows: b.rows }, parameters: { depth: '{{ depth }}' } }\n  b: { step: m.wasm#copy, inputs: { rows: raw.csv } }\n";
    let plan = case.resolve_with(yaml, &Arguments::default()).unwrap();
    let names: Vec<_> = plan.tasks().iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    let a = &plan.tasks()[1];
    assert_eq!(
        json!(a.wires),
        json!({"rows": {"from": {"output": {"task": "b", "output": "rows"}}}})
    );
    assert!(a.run.inputs.is_empty());
    assert_eq!(
        json!(a.run.entry),
        json!({"kind": "step", "name": "copy", "parameters": {"depth": 6}})
    );
    assert_eq!(plan.tasks()[0].files, [("rows".to_owned(), "raw.csv".to_owned())].into());
}

#[test]
fn a_plan_is_what_its_text_says() {
    let case = Case::new();
    let plan = case.plan(
        "a: { step: m.wasm#json, inputs: { rows: raw.csv }, retries: 2, timeout: 1m, limits: { memory: 1MiB, fuel: 7 } }
         b: { step: m.wasm#copy, inputs: { rows: raw.csv }, when: 'a.rows.x < 1' }
         c: { for_each: { x: [1, 2] }, step: m.wasm#copy, inputs: { rows: b.rows }, parameters: { depth: '{{ x }}' } }
         d: { step: m.wasm#join, inputs: { rows: c.rows } }",
    );
    let text = plan.write().unwrap();
    assert_eq!(Plan::read(&text).unwrap(), plan);
    assert_eq!(plan.digest().unwrap(), crate::digest::Digest::of(&text));
    let task = |name: &str| json!(plan.tasks().iter().find(|task| task.name == name).unwrap());
    assert_eq!(task("a")["limits"], json!({"memory": 1 << 20, "fuel": 7, "time_ms": 60_000}));
    assert_eq!((&task("a")["retries"], task("b").get("retries")), (&json!(2), None));
    assert_eq!(
        task("b")["when"],
        json!([{"left": {"output": {"of": {"task": "a", "output": "rows"}, "path": ["x"]}}, "is": "<", "right": 1}])
    );
    assert_eq!(task("c[1]")["run"]["entry"]["parameters"], json!({"depth": 2}));
    assert_eq!(
        task("d")["wires"]["rows"]["from"],
        json!({"gathered": {"0": {"task": "c[0]", "output": "rows"}, "1": {"task": "c[1]", "output": "rows"}}})
    );

    let changed = |change: &dyn Fn(&mut Value)| {
        let mut json = serde_json::from_slice(&text).unwrap();
        change(&mut json);
        Plan::read(json.to_string().as_bytes()).unwrap_err().to_string()
    };
    assert_eq!(
        changed(&|plan| plan["version"] = json!(2)),
        "the plan has version 2; this lockstep reads version 1: use a newer lockstep"
    );
    assert!(changed(&|plan| plan["surprise"] = json!(1)).starts_with("invalid plan: unknown field `surprise`"));
    let reversed = changed(&|plan| plan["tasks"].as_array_mut().unwrap().reverse());
    assert_eq!(reversed, "`d` depends on task `c[0]`, which does not precede it in the plan");
    let twice = changed(&|plan| {
        let first = plan["tasks"][0].clone();
        plan["tasks"].as_array_mut().unwrap().push(first);
    });
    assert_eq!(twice, "duplicate task `a` in the plan");
}

#[test]
fn faults_are_named_with_their_place() {
    let case = Case::new();
    let head = |task: &str| case.head(task);
    assert_eq!(
        case.error("name: p\ntasks:\n  a: { step: m.wasm#cop, inputs: { rows: raw.csv } }\n"),
        "p.yaml:3:14: the module has no step `cop`; it has `copy`, `draw`, `join`, `json`\n  |\n3 |   a: { step: m.wasm#cop, inputs: { rows: raw.csv } }\n  |              ^"
    );
    assert_eq!(
        head("{ step: m.wasm#copy, inputs: { row: raw.csv } }"),
        "p.yaml:3:42: step `copy` has no input `row`; it has `rows`"
    );
    assert_eq!(
        head("{ step: m.wasm#copy, inputs: { rows: raw.csv }, parameters: { depth: deep } }"),
        "p.yaml:3:75: step `copy`: parameter `depth` takes a value of kind integer, not \"deep\""
    );
    assert_eq!(
        head("{ step: m.wasm#copy, inputs: { rows: a.rows } }"),
        "p.yaml:3:43: the tasks form a cycle: `a` reads from `a`"
    );
    assert_eq!(
        head("{ step: m.wasm#copy, inputs: { rows: '{{ where }}' } }"),
        "p.yaml:3:43: the pipeline has no parameter `where`; it has none"
    );
    assert!(head("{ step: m.wasm#copy, inputs: { rows: no.csv } }").contains("3:43: `no.csv` is neither a task output"));
    assert!(head("{ stp: m.wasm }").starts_with("p.yaml:3:8: unknown field `stp`"));
    assert!(head("{ }").contains("needs exactly one of `step: MODULE#STEP`, `program: MODULE` and `pipeline: FILE`"));
    assert!(case.error("name: p\ntasks: [").starts_with("p.yaml:2:"));
    assert_eq!(
        head("{ step: m.wasm#copy, inputs: { rows: raw.csv }, limits: { memory: much } }"),
        "p.yaml:3:62: `much` is not a size: write 512MiB, 2GB or 4096"
    );
    assert_eq!(
        head("{ step: m.wasm#copy, inputs: { rows: raw.csv }, timeout: soon }"),
        "p.yaml:3:63: `soon` is not a duration: write 500ms, 30s or 10m"
    );
}

/// Returns the first line of the error for these tasks; the second task is on line 4.
fn of_two(case: &Case, first: &str, second: &str) -> String {
    let text = case.error(&format!("name: p\ntasks:\n  a: {first}\n  b: {second}\n"));
    text.lines().next().unwrap().to_owned()
}

#[test]
fn what_does_not_fit_together_is_an_error_of_the_plan() {
    let case = Case::new();
    let copy = "{ step: m.wasm#copy, inputs: { rows: raw.csv } }";
    let each = "{ for_each: { x: [1, 2] }, step: m.wasm#copy, inputs: { rows: raw.csv } }";
    let faults = [
        (
            copy,
            "{ step: m.wasm#copy, inputs: { rows: a.row } }",
            "4:43: task `a` has no output `row`; it has `rows`",
        ),
        (
            copy,
            "{ step: m.wasm#draw, inputs: { rows: a.rows } }",
            "4:43: input `rows` of step `draw` is image/svg+xml, but `a.rows` is text/csv",
        ),
        (
            each,
            "{ step: m.wasm#copy, inputs: { rows: a.rows } }",
            "4:43: input `rows` of step `copy` is text/csv, but `a.rows` is application/vnd.lockstep.directory+json, with one entry per instance; declare the input as `Parts<T>`, or iterate over it with `for_each`",
        ),
        (
            copy,
            "{ step: m.wasm#join, inputs: { rows: a.rows } }",
            "4:43: input `rows` of step `join` is application/vnd.lockstep.directory+json, but `a.rows` is text/csv",
        ),
        (
            "{ step: m.wasm#copy, inputs: { rows: b.rows } }",
            "{ step: m.wasm#copy, inputs: { rows: a.rows } }",
            "4:43: the tasks form a cycle: `a` reads from `b` reads from `a`",
        ),
        (
            copy,
            "{ step: m.wasm#copy, inputs: { rows: raw.csv }, when: 'a.rows < 1' }",
            "4:60: a.rows is text/csv: `when` reads only JSON, metrics, text and values",
        ),
        (
            copy,
            "{ step: m.wasm#copy, inputs: { rows: raw.csv }, when: 'c.rows < 1' }",
            "4:60: the pipeline has no task `c`; it has `a`, `b`",
        ),
        (
            copy,
            "{ step: m.wasm#copy, inputs: { rows: raw.csv }, when: '1' }",
            "4:60: invalid condition: write `when: \"task.output.field < 0.9\"` or `when: \"{{ parameter }} == true\"`, with ==, !=, <, <=, > or >=",
        ),
        (
            copy,
            "{ step: m.wasm#copy, inputs: { rows: raw.csv }, when: 'true < 1' }",
            "4:60: can't compare true and 1 with `<`",
        ),
        (
            copy,
            "{ for_each: { p: a.rows }, step: m.wasm#copy, inputs: { rows: p } }",
            "4:18: `for_each` iterates over a list, a directory or a table, but a.rows is text/csv",
        ),
        (
            "{ step: m.wasm#json, inputs: { rows: raw.csv } }",
            "{ for_each: { p: a.rows, rows: 2 }, step: m.wasm#json, inputs: { rows: p } }",
            "4:18: `rows` applies only to tables; a directory is split into its entries, a list into its items",
        ),
        (
            "{ step: m.wasm#json, inputs: { rows: raw.csv } }",
            "{ for_each: { p: a.rows }, step: m.wasm#copy, inputs: { rows: p } }",
            "4:68: input `rows` of step `copy` is text/csv, but `p` is application/json",
        ),
        (
            copy,
            "{ for_each: { p: raw.csv }, step: m.wasm#copy, inputs: { rows: p } }",
            "4:18: `for_each` iterates over a list, a directory or a table (an Arrow stream), not over text/csv",
        ),
        (
            copy,
            "{ for_each: { p: 7 }, step: m.wasm#copy, inputs: { rows: p } }",
            "4:18: `for_each` iterates over a list, a task output or a file, not over 7",
        ),
        (
            copy,
            "{ for_each: { p: [], q: [] }, step: m.wasm#copy }",
            "4:18: invalid `for_each`: write `for_each: { item: [1, 2] }`, `{ part: task.output }` or `{ part: task.table, rows: 1000 }`",
        ),
        (copy, "{ pipeline: q.yaml }", "4:18: pipeline file q.yaml not found"),
        (
            copy,
            "{ pipeline: p.yaml, retries: 1 }",
            "4:6: `retries` applies only to a `step` or a `program`; set it on the tasks of that pipeline",
        ),
    ];
    let mut found = Vec::new();
    for (first, second, expected) in faults {
        found.push((of_two(&case, first, second), format!("p.yaml:{expected}")));
    }
    let (found, expected): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    assert_eq!(found, expected);
    let twice = case.error("name: p\ntasks:\n  a: { step: m.wasm#copy }\n  a: { step: m.wasm#copy }\n");
    assert!(twice.starts_with("p.yaml:4:3: the key `a` is here twice"), "{twice}");
}

#[test]
fn what_can_be_read_as_something_else_fits() {
    let case = Case::new();
    let plan = case.plan(
        "a: { step: m.wasm#copy, inputs: { rows: raw.csv } }
         b: { program: cat.wasm, stdin: i, stdout: o, inputs: { i: a.rows }, outputs: { o: application/octet-stream } }
         c: { step: m.wasm#draw, inputs: { rows: b.o } }",
    );
    assert_eq!(plan.tasks().len(), 3);
}

#[test]
fn parameters_have_the_kind_of_their_defaults() {
    let case = Case::new();
    let yaml = "name: p\nparameters: { depth: 6, share: 0.5, name: x, any: null }\ntasks: {}\n";
    let pipeline = Pipeline::parse(&case.directory.path().join("p.yaml"), yaml.to_owned()).unwrap();
    let parse = |name: &str, text: &str| {
        let typed = BTreeMap::from([(name.to_owned(), text.to_owned())]);
        let parsed = pipeline.parse_parameters(&typed).map_err(|e| e.message);
        parsed.map(|mut parameters| parameters.remove(name).unwrap())
    };
    assert_eq!(parse("depth", "7"), Ok(json!(7)));
    assert_eq!(parse("share", "1"), Ok(json!(1.0)));
    assert_eq!(parse("name", "7"), Ok(json!("7")));
    assert_eq!(parse("any", "[7]"), Ok(json!([7])));
    assert_eq!(
        parse("depth", "deep"),
        Err("parameter `depth` takes a value of kind integer, not \"deep\"".to_owned())
    );
    assert_eq!(
        parse("dept", "7"),
        Err("the pipeline has no parameter `dept`; it has `any`, `depth`, `name`, `share`".to_owned())
    );
    case.write("deep.yaml", "depth: 9 # deep\nname: y\n");
    case.write("deep.json", "{\"depth\": 9, \"name\": \"y\"}");
    for file in ["deep.yaml", "deep.json"] {
        let read = Pipeline::read_parameters(&case.directory.path().join(file), None).unwrap();
        assert_eq!(json!(read), json!({"depth": 9, "name": "y"}));
    }
    case.write("bad.yaml", "depth: [\n");
    let error = Pipeline::read_parameters(&case.directory.path().join("bad.yaml"), None).unwrap_err();
    assert!(error.place.file.ends_with("bad.yaml") && error.place.line > 0);
}

#[test]
fn a_number_in_a_text_is_as_it_was_written_or_refused() {
    let case = Case::new();
    case.write("sub.yaml", "name: sub\nparameters: { version: 1.5 }\ntasks: {}\n");
    let arg = "a: { program: cat.wasm, args: ['v{{ version }}'] }";
    for (parameters, task, wrong) in [
        (
            "version: 1.10",
            arg,
            "p.yaml:2:24: `1.10` becomes `1.1` in the text that uses it",
        ),
        (
            "version: 1e3",
            arg,
            "p.yaml:2:24: `1e3` becomes `1000.0` in the text that uses it",
        ),
        (
            "version: { major: 1.50 }",
            "a: { program: cat.wasm, args: ['{{ version.major }}'] }",
            "p.yaml:2:33: `1.50` becomes",
        ),
        (
            "x: 1",
            "a: { for_each: { v: [1.0, 1.20] }, program: cat.wasm, env: { V: '{{ v }}' } }",
            "p.yaml:4:29: `1.20` becomes",
        ),
        (
            "x: 1",
            "a: { pipeline: sub.yaml, parameters: { version: 2.00 } }",
            "p.yaml:4:51: `2.00` becomes",
        ),
        ("version: 01234", arg, "p.yaml:2:24: `01234` is not clearly a number"),
        ("version: '1.10'", arg, ""),
        ("version: 1.1", arg, ""),
        ("version: 100", arg, ""),
        (
            "depth: 1.10",
            "a: { step: m.wasm#copy, inputs: { rows: raw.csv }, values: { x: '{{ depth }}' } }",
            "no number in a text",
        ),
    ] {
        let text = format!("name: p\nparameters: {{ {parameters} }}\ntasks:\n  {task}\n");
        let parsed = Pipeline::parse(std::path::Path::new("p.yaml"), text);
        let message = parsed.err().map(|error| error.to_string()).unwrap_or_default();
        match wrong {
            "" | "no number in a text" => assert_eq!(message, "", "{parameters}"),
            wrong => assert!(message.starts_with(wrong), "{parameters}: {message}"),
        }
    }
    let file = case.directory.path().join("p.yaml");
    let text = format!("name: p\nparameters: {{ version: 1.5 }}\ntasks:\n  {arg}\n");
    let pipeline = Pipeline::parse(&file, text).unwrap();
    let parse = |text: &str| pipeline.parse_parameters(&BTreeMap::from([("version".to_owned(), text.to_owned())]));
    assert_eq!(parse("1.7").unwrap()["version"], json!(1.7));
    assert!(parse("1.10").unwrap_err().message.contains("`1.10` becomes `1.1`"));
    case.write("more.yaml", "version: 1.10\n");
    let read = Pipeline::read_parameters(&case.directory.path().join("more.yaml"), Some(&pipeline));
    assert!(read.unwrap_err().to_string().contains("more.yaml:1:10: `1.10` becomes `1.1`"));
}

#[test]
fn items_of_a_list_fill_texts_and_values() {
    let case = Case::new();
    case.write("a.csv", "a");
    case.write("b.csv", "b");
    let plan = case.plan(
        "t: { for_each: { of: [{ file: a, depth: 1 }, { file: b, depth: 2 }] }, step: m.wasm#copy, inputs: { rows: '{{ of.file }}.csv' }, parameters: { depth: '{{ of.depth }}' } }",
    );
    let tasks: Vec<_> = plan
        .tasks()
        .iter()
        .map(|task| {
            (
                &*task.name,
                &*task.files["rows"],
                json!(task.run.entry)["parameters"]["depth"].clone(),
            )
        })
        .collect();
    assert_eq!(tasks, [("t[0]", "a.csv", json!(1)), ("t[1]", "b.csv", json!(2))]);
    let missing = case.head("{ for_each: { of: [{ x: 1 }] }, step: m.wasm#copy, inputs: { rows: '{{ of.y }}' } }");
    assert_eq!(missing, "p.yaml:3:73: `of.y`: {\"x\":1} has no field `y`");
}

#[test]
fn a_pipeline_within_a_pipeline_is_put_in_its_place() {
    let case = Case::new();
    let sub = "name: sub\nparameters: { depth: 1 }\ninputs: { raw: text/csv }\noutputs: { rows: second.rows, raw: raw }\ntasks:
  first: { step: m.wasm#copy, inputs: { rows: raw }, parameters: { depth: '{{ depth }}' } }
  second: { step: m.wasm#copy, inputs: { rows: first.rows } }\n";
    case.write("sub.yaml", sub.replace(", raw: raw }", " }"));
    let plan = case.plan(
        "p: { for_each: { d: [4, 5] }, pipeline: sub.yaml, inputs: { raw: raw.csv }, parameters: { depth: '{{ d }}' }, when: '{{ d }} > 4' }
         q: { pipeline: sub.yaml, inputs: { raw: raw.csv } }
         z: { step: m.wasm#copy, inputs: { rows: q.rows } }",
    );
    let names: Vec<_> = plan.tasks().iter().map(|task| task.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "p[0]/first",
            "p[0]/second",
            "p[1]/first",
            "p[1]/second",
            "q/first",
            "q/second",
            "z"
        ]
    );
    let task = |name: &str| json!(plan.tasks().iter().find(|task| task.name == name).unwrap());
    assert_eq!(task("p[1]/first")["run"]["entry"]["parameters"]["depth"], 5);
    assert_eq!(
        task("p[1]/second")["when"],
        json!([{"left": {"value": 5}, "is": ">", "right": 4}])
    );
    assert_eq!(
        task("z")["wires"]["rows"]["from"],
        json!({"output": {"task": "q/second", "output": "rows"}})
    );

    let head = |task: &str| case.head(task);
    assert_eq!(
        head("{ pipeline: sub.yaml }"),
        "p.yaml:3:6: sub.yaml: missing input `raw` (text/csv) of the pipeline"
    );
    assert_eq!(
        head("{ pipeline: sub.yaml, inputs: { raw: raw.csv, row: raw.csv } }"),
        "p.yaml:3:6: sub.yaml: the pipeline has no input `row`; it has `raw`"
    );
    case.write("sub.yaml", sub);
    let error = case.error("name: p\ntasks: { q: { pipeline: sub.yaml, inputs: { raw: raw.csv } } }\n");
    assert!(
        error.starts_with("sub.yaml:4:36: `raw` is not a task output (`task.output`); the tasks are `first`, `second`"),
        "{error}"
    );
}

#[test]
fn a_pipeline_can_not_be_part_of_itself() {
    let case = Case::new();
    case.write("q.yaml", "name: q\ntasks: { r: { pipeline: r.yaml } }\n");
    case.write("r.yaml", "name: r\ntasks: { q: { pipeline: q.yaml } }\n");
    let error = case.error("name: p\ntasks: { q: { pipeline: q.yaml } }\n");
    assert!(
        error.starts_with("r.yaml:2:25: a pipeline can't include itself: p.yaml -> q.yaml -> r.yaml -> q.yaml"),
        "{error}"
    );
}

#[test]
fn inputs_of_the_pipeline_are_given_from_outside() {
    let case = Case::new();
    let yaml = "name: p\ninputs: { raw: text/csv }\noutputs: { rows: a.rows }\ntasks:\n  a: { step: m.wasm#copy, inputs: { rows: raw } }\n";
    let raw = case.runtime.store.import(&case.directory.path().join("raw.csv")).unwrap();
    let given = Arguments {
        inputs: [("raw".to_owned(), raw.clone())].into(),
        ..Arguments::default()
    };
    let plan = case.resolve_with(yaml, &given).unwrap();
    assert_eq!(plan.tasks()[0].run.inputs["rows"].artifact, raw);
    assert_eq!(case.execute(&plan, &jobs(1)).outputs["rows"].digest, raw.digest);
    assert_eq!(case.error(yaml), "p.yaml: missing input `raw` (text/csv) of the pipeline");
}

#[test]
fn many_tasks_in_a_row_are_planned() {
    let case = Case::new();
    let mut tasks = cat_of("t0", "raw.csv") + "\n";
    for i in 1..3000 {
        tasks += &(cat_of(&format!("t{i}"), &format!("t{}.o", i - 1)) + "\n");
    }
    let plan = case.plan(&tasks);
    let names: Vec<_> = plan.tasks().iter().map(|task| task.name.clone()).collect();
    assert_eq!(names, (0..3000).map(|i| format!("t{i}")).collect::<Vec<_>>());
}
