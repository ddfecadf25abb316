use super::*;
use std::num::NonZeroUsize;

use crate::run::{Ran, Reuse, Run};
use crate::sandbox::Stream;
use crate::step::Limits;

const SUCCEEDED: &str = "succeeded";

#[test]
fn any_number_of_threads_comes_to_the_same() {
    let tasks = [
        cat_of("a", "raw.csv"),
        cat_of("b", "a.o"),
        "c: { for_each: { x: [1, 2, 3] }, program: cat.wasm, stdin: i, stdout: o, inputs: { i: a.o }, outputs: { o: text/plain }, args: ['{{ x }}'] }".to_owned(),
        "d: { program: trap.wasm, inputs: { all: c.o, b: b.o } }".to_owned(),
        "e: { program: cat.wasm, inputs: { d: raw.csv }, when: 'b.o == nothing' }".to_owned(),
    ];
    let outcomes = [1, 2, 7].map(|count| {
        let case = Case::new();
        let plan = case.plan(&tasks.join("\n"));
        let executed = case.execute(
            &plan,
            &Execution {
                keep_going: true,
                ..jobs(count)
            },
        );
        let tasks = executed.tasks.iter();
        tasks
            .map(|done| match &done.end {
                End::Ran(ran) => (done.task.clone(), ran.digest.to_string()),
                end => (done.task.clone(), word(end)),
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(
        outcomes[0].iter().map(|(task, _)| task.as_str()).collect::<Vec<_>>(),
        ["a", "b", "c[0]", "c[1]", "c[2]", "d", "e"]
    );
    assert_eq!(outcomes[0][6].1, "not b.o == \"nothing\"");
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "{outcomes:#?}");
}

#[test]
fn a_failure_skips_what_depends_on_it() {
    let case = Case::new();
    let plan = case.plan(&format!(
        "a: {{ program: trap.wasm, outputs: {{ o: text/plain }} }}\n{}\n{}\n{}",
        cat_of("b", "a.o"),
        cat_of("c", "b.o"),
        cat_of("z", "raw.csv"),
    ));
    let trapped = "trapped: unreachable";
    assert_eq!(
        named(&case.ends(&plan, &jobs(1))),
        [("a", trapped), ("b", "after a"), ("c", "after a"), ("z", "not started")]
    );
    let keep_going = Execution {
        keep_going: true,
        ..jobs(1)
    };
    assert_eq!(
        named(&case.ends(&plan, &keep_going)),
        [
            ("a", "cached, trapped: unreachable"),
            ("b", "after a"),
            ("c", "after a"),
            ("z", SUCCEEDED)
        ]
    );
}

#[test]
fn a_condition_skips_and_what_depends_on_it_is_skipped_not_failed() {
    let case = Case::new();
    case.write("score", "0.85");
    let plan = case.plan(&format!(
        "{}\nb: {{ program: cat.wasm, when: 'a.o >= 0.9', stdin: i, stdout: o, inputs: {{ i: a.o }}, outputs: {{ o: text/plain }} }}\n{}
         d: {{ program: cat.wasm, when: 'a.o < 0.9' }}\ne: {{ program: cat.wasm, when: 'a.o.x < 0.9' }}",
        cat_of("a", "score"),
        cat_of("c", "b.o"),
    ));
    let keep_going = Execution {
        keep_going: true,
        ..jobs(2)
    };
    assert_eq!(
        named(&case.ends(&plan, &keep_going)),
        [
            ("a", SUCCEEDED),
            ("b", "not a.o >= 0.9"),
            ("c", "after b"),
            ("d", SUCCEEDED),
            ("e", "`when`: a.o has no field `x`; it has none"),
        ]
    );
}

#[test]
fn what_is_made_for_each_is_a_directory_for_the_next() {
    let case = Case::new();
    for name in ["parts/a.txt", "parts/b.txt"] {
        case.write(name, name);
    }
    let plan = case.plan(
        "a: { for_each: { part: parts }, program: cat.wasm, stdin: i, stdout: o, inputs: { i: part }, outputs: { o: text/plain } }
         b: { for_each: { one: a.o }, program: cat.wasm, stdin: i, stdout: o, inputs: { i: '{{ one }}' }, outputs: { o: text/plain } }
         c: { program: cat.wasm, inputs: { all: b.o } }",
    );
    let executed = case.execute(&plan, &jobs(2));
    assert_eq!(case.text(&executed, "b[b.txt]", "o"), "parts/b.txt");
    let End::Ran(ran) = &executed.tasks.last().unwrap().end else {
        panic!("not run")
    };
    let entries = case
        .runtime
        .store
        .list_directory(&ran.record.run.inputs["all"].artifact)
        .unwrap();
    assert_eq!(entries.keys().collect::<Vec<_>>(), ["a.txt", "b.txt"]);
}

#[test]
fn the_items_of_a_list_that_a_task_makes_are_parts() {
    let case = Case::new();
    case.write("list.json", "[[1,2], {\"x\":3}]");
    case.write("none.json", "[]");
    case.write("no list", "7");
    let list = |name: &str, from: &str, over: &str| {
        format!(
            "{name}: {{ program: cat.wasm, stdin: i, stdout: o, inputs: {{ i: {from} }}, outputs: {{ o: application/json }} }}
             {name}s: {{ for_each: {{ item: {over} }}, step: m.wasm#json, inputs: {{ rows: item }} }}
             {name}all: {{ program: cat.wasm, inputs: {{ all: {name}s.rows }} }}"
        )
    };
    let texts = [("a", "list.json"), ("b", "none.json"), ("c", "'no list'")];
    let mut tasks = texts.map(|(name, from)| list(name, from, &format!("{name}.o"))).to_vec();
    tasks.push("d: { for_each: { item: list.json }, step: m.wasm#json, inputs: { rows: item } }".to_owned());
    let executed = case.execute(
        &case.plan(&tasks.join("\n")),
        &Execution {
            keep_going: true,
            ..jobs(2)
        },
    );
    // `d` iterates over the same items, and whichever comes first runs them
    let ends: Vec<_> = executed
        .tasks
        .iter()
        .map(|done| (done.task.clone(), word(&done.end).replace("cached, ", "")))
        .collect();
    let error = format!(
        "`for_each`: {} (application/json) is not a list that `for_each` can iterate over: invalid type: integer `7`, expected a sequence at line 1 column 1",
        crate::digest::Digest::of(b"7")
    );
    assert_eq!(
        named(&ends),
        [
            ("a", "succeeded"),
            ("as[0]", "succeeded"),
            ("as[1]", "succeeded"),
            ("aall", "succeeded"),
            ("b", "succeeded"),
            ("bs", "no instances"),
            ("ball", "succeeded"),
            ("c", "succeeded"),
            ("cs", error.as_str()),
            ("call", "after cs"),
            ("d[0]", "succeeded"),
            ("d[1]", "succeeded"),
        ]
    );
    assert_eq!(
        ["as[0]", "as[1]", "d[1]"].map(|task| case.text(&executed, task, "rows")),
        ["[1,2]", "{\"x\":3}", "{\"x\":3}"]
    );
}

#[test]
fn nothing_given_and_nothing_made_come_to_the_same() {
    let case = Case::new();
    case.write("none.json", "[]");
    std::fs::create_dir(case.directory.path().join("none")).unwrap();
    case.write("sub.yaml", "name: sub\nparameters: { depth: 1 }\noutputs: { rows: a.rows }\ntasks:\n  a: { step: m.wasm#copy, inputs: { rows: raw.csv } }\n");
    let all = "all: { program: cat.wasm, stdin: i, inputs: { i: raw.csv, all: each.rows } }";
    let mut runs = Vec::new();
    for each in [
        "{ for_each: { item: [] }, step: m.wasm#copy, inputs: { rows: raw.csv }, parameters: { depth: '{{ item }}' } }",
        "{ for_each: { item: none }, step: m.wasm#copy, inputs: { rows: item } }",
        "{ for_each: { item: none.json }, step: m.wasm#json, inputs: { rows: item } }",
        "{ for_each: { item: made.o }, step: m.wasm#json, inputs: { rows: item } }",
        "{ for_each: { item: [] }, program: cat.wasm, stdin: i, inputs: { i: raw.csv }, outputs: { rows: text/plain } }",
        "{ for_each: { item: [] }, pipeline: sub.yaml, parameters: { depth: '{{ item }}' } }",
    ] {
        let made =
            "made: { program: cat.wasm, stdin: i, stdout: o, inputs: { i: none.json }, outputs: { o: application/json } }";
        let plan = case.plan(&format!("{made}\neach: {each}\n{all}"));
        let explained = explain(&case.runtime, &plan, &Default::default()).unwrap();
        let executed = case.execute(&plan, &jobs(2));
        let mut ends: Vec<_> = executed
            .tasks
            .iter()
            .map(|done| (done.task.as_str(), word(&done.end)))
            .collect();
        ends.sort();
        let names: Vec<_> = ends.iter().map(|(task, _)| *task).collect();
        assert_eq!(names, ["all", "each", "made"], "{each}");
        assert_eq!(ends[1].1, "no instances", "{each}");
        assert!(explained.iter().any(|one| one.task == "each"), "{each}");
        let explained = explain(&case.runtime, &plan, &Default::default()).unwrap();
        assert!(
            explained.iter().any(|one| one.task == "each" && one.fate == Fate::Empty),
            "{each}"
        );
        let read = Plan::read(&plan.write().unwrap()).unwrap();
        assert_eq!(read, plan);
        let Some(End::Ran(ran)) = executed
            .tasks
            .into_iter()
            .find(|done| done.task == "all")
            .map(|done| done.end)
        else {
            panic!("{each}")
        };
        assert!(
            case.runtime
                .store
                .list_directory(&ran.record.run.inputs["all"].artifact)
                .unwrap()
                .is_empty()
        );
        runs.push(ran.record.run.key().unwrap());
    }
    runs.dedup();
    assert_eq!(runs.len(), 1);
}

/// Runs `plan` and counts the retry events.
fn retries(case: &Case, plan: &Plan) -> (usize, Vec<(String, String)>) {
    let count = AtomicUsize::new(0);
    let mut on = |event: Event| {
        if let Event::Retrying { .. } = event {
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    let executed = execute(&case.runtime, plan, &jobs(1), &Interrupt::default(), &mut on).unwrap();
    let ends = executed.tasks.into_iter().map(|done| (done.task, word(&done.end)));
    (count.into_inner(), ends.collect())
}

#[test]
fn only_what_may_differ_is_tried_again() {
    let case = Case::new();
    let (count, ends) = retries(&case, &case.plan("a: { program: endless.wasm, timeout: 5ms, retries: 2 }"));
    assert_eq!(
        (count, named(&ends)),
        (2, vec![("a", "interrupted: the time limit was reached")])
    );
    let (count, ends) = retries(&case, &case.plan("a: { program: trap.wasm, retries: 2 }"));
    assert_eq!((count, named(&ends)), (0, vec![("a", "trapped: unreachable")]));
    let (count, ends) = retries(
        &case,
        &case.plan("a: { program: endless.wasm, limits: { fuel: 1000 }, retries: 2 }"),
    );
    assert_eq!((count, named(&ends)), (0, vec![("a", "out of fuel: more than 1000 units")]));
}

#[test]
fn an_interrupt_keeps_what_is_done() {
    let case = Case::new();
    let plan = case.plan(&format!(
        "{}\nb: {{ program: endless.wasm, inputs: {{ i: a.o }}, outputs: {{ o: text/plain }} }}\n{}",
        cat_of("a", "raw.csv"),
        cat_of("c", "b.o")
    ));
    let interrupt = Interrupt::default();
    let mut on = |event: Event| {
        if let Event::Started { task: "b" } = event {
            interrupt.trigger();
        }
    };
    let executed = execute(&case.runtime, &plan, &jobs(2), &interrupt, &mut on).unwrap();
    let ends: Vec<_> = executed.tasks.into_iter().map(|done| (done.task, word(&done.end))).collect();
    assert_eq!(named(&ends), [("a", SUCCEEDED), ("b", "interrupted"), ("c", "after b")]);
    assert_eq!(
        case.ends(&case.plan(&cat_of("a", "raw.csv")), &jobs(1))[0].1,
        "cached, succeeded"
    );
}

/// Returns the maximum number of tasks that run at a time.
fn most_at_a_time(case: &Case, plan: &Plan, execution: &Execution) -> usize {
    let running = Mutex::new((0usize, 0usize));
    let mut on = |event: Event| {
        let mut running = running.lock().unwrap();
        match event {
            Event::Started { .. } => running.0 += 1,
            Event::Finished { .. } => running.0 -= 1,
            _ => (),
        }
        running.1 = running.1.max(running.0);
    };
    execute(&case.runtime, plan, execution, &Interrupt::default(), &mut on).unwrap();
    running.into_inner().unwrap().1
}

#[test]
fn what_runs_at_a_time_fits_into_the_memory() {
    let case = Case::new();
    let mut tasks = String::new();
    for i in 0..6 {
        tasks += &format!("t{i}: {{ program: endless.wasm, seed: {i}, limits: {{ fuel: 20000000, memory: 1MiB }} }}\n");
    }
    let plan = case.plan(&tasks);
    let within = |memory| Execution {
        memory,
        keep_going: true,
        reuse: crate::run::Reuse::Nothing,
        ..jobs(4)
    };
    // the threads start one after another, but each task takes longer than that
    assert!(most_at_a_time(&case, &plan, &within(1 << 30)) > 1);
    assert_eq!(most_at_a_time(&case, &plan, &within(1 << 20)), 1);
    assert_eq!(most_at_a_time(&case, &plan, &within(1)), 1);
    assert!(most_at_a_time(&case, &plan, &within(2 << 20)) <= 2);
}

#[test]
fn nothing_is_run_twice_and_every_wire_is_kept() {
    let case = Case::new();
    let mut tasks = cat_of("t0", "raw.csv") + "\n";
    for i in 1..60 {
        tasks +=
            &(cat_of(&format!("t{i}"), &format!("t{}.o", i / 2)) + "\n").replace("cat.wasm,", &format!("cat.wasm, seed: {i},"));
    }
    let plan = case.plan(&tasks);
    let ended = Mutex::new(Vec::new());
    let mut on = |event: Event| {
        let mut ended = ended.lock().unwrap();
        match event {
            Event::Started { task } => {
                let task = plan.tasks().iter().find(|known| known.name == task).unwrap();
                assert!(
                    task.waits_for().all(|on| ended.iter().any(|done| done == on)),
                    "{}",
                    task.name
                );
            }
            Event::Finished { done } => {
                assert!(!ended.contains(&done.task));
                ended.push(done.task.clone());
            }
            _ => (),
        }
    };
    let execution = Execution {
        jobs: NonZeroUsize::new(3).unwrap(),
        ..Execution::default()
    };
    let executed = execute(&case.runtime, &plan, &execution, &Interrupt::default(), &mut on).unwrap();
    assert!(executed.tasks.iter().all(|done| word(&done.end) == SUCCEEDED));
    assert_eq!(ended.into_inner().unwrap().len(), 60);
    assert_eq!(case.text(&executed, "t59", "o"), "x\n1\n");
}

#[test]
fn a_module_that_makes_the_same_bytes_runs_no_one_else_again() {
    let case = Case::new();
    let tasks = "a: { step: m.wasm#copy, inputs: { rows: raw.csv } }\nb: { step: n.wasm#copy, inputs: { rows: a.rows } }";
    case.write("n.wasm", steps(""));
    case.execute(&case.plan(tasks), &jobs(1));
    case.write("m.wasm", steps("changed, and does the same"));
    assert_eq!(
        named(&case.ends(&case.plan(tasks), &jobs(2))),
        [("a", SUCCEEDED), ("b", "cached, succeeded")]
    );
}

/// Panics for the task `b`.
struct Panics<'r>(&'r Runtime);

impl Carrier for Panics<'_> {
    fn carry_out(
        &self,
        task: &str,
        run: &Run,
        limits: &Limits,
        interrupt: &Interrupt,
        log: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran, TaskError> {
        assert_ne!(task, "b");
        Ok(self.0.run(run, Reuse::Records, limits, interrupt, log)?)
    }
}

#[test]
fn a_panic_ends_the_pipeline_with_an_error() {
    let case = Case::new();
    let plan = case.plan(
        &[
            cat_of("a", "raw.csv"),
            cat_of("b", "a.o"),
            cat_of("c", "b.o"),
            cat_of("d", "a.o"),
        ]
        .join("\n"),
    );
    let carrier = Panics(&case.runtime);
    for count in [1, 4] {
        let keep_going = Execution {
            keep_going: true,
            ..jobs(count)
        };
        let ends = execute_by(
            Some(&carrier),
            &case.runtime,
            &plan,
            &keep_going,
            &Interrupt::default(),
            &mut |_| (),
        );
        let ends: Vec<_> = ends
            .unwrap()
            .tasks
            .iter()
            .map(|done| (done.task.clone(), word(&done.end)))
            .collect();
        assert!(ends[0].1.ends_with(SUCCEEDED) && ends[3].1.ends_with(SUCCEEDED), "{ends:?}");
        assert!(ends[1].1.contains("internal error: assertion"), "{ends:?}");
        assert_eq!(ends[2].1, "after b");
        // A panic of the caller's code leaves no valid state.
        let mut on = |event: Event| assert!(!matches!(event, Event::Finished { done } if done.task == "a"));
        let ended = execute_by(None, &case.runtime, &plan, &keep_going, &Interrupt::default(), &mut on);
        assert!(matches!(ended, Err(TaskError::Panicked(_))));
    }
}
