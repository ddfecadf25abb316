use super::*;
use crate::run::Machine;
use crate::sandbox::{Engine, EngineOptions};
use crate::store::Store;
use serde_json::json;
use std::time::SystemTime;

/// A module with a step `copy` that does nothing and declares `rows -> rows`, and a parameter.
fn module() -> Vec<u8> {
    let line = json!({
        "lockstep": 1, "step": "copy",
        "inputs": [{"name": "rows", "media_type": "text/csv"}],
        "parameters": [{"name": "depth", "kind": "integer", "default": 3}],
        "outputs": [{"name": "rows", "media_type": "text/csv"}],
    })
    .to_string();
    wat::parse_str(format!(
        "(module (@custom \"lockstep:interface\" {line:?}) (memory (export \"memory\") 1) (func (export \"_start\")))"
    ))
    .unwrap()
}

struct Case {
    directory: tempfile::TempDir,
    runtime: Runtime,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("m.wasm"), module()).unwrap();
        std::fs::write(directory.path().join("raw.csv"), "x\n1\n").unwrap();
        let machine = Machine {
            name: "test".into(),
            version: "0".into(),
            clock: || SystemTime::UNIX_EPOCH,
        };
        let engine = Engine::new(&EngineOptions::default()).unwrap();
        Self {
            directory,
            runtime: Runtime::new(engine, Store::memory().unwrap(), machine),
        }
    }

    fn resolve(&self, yaml: &str) -> Result<Plan, PipelineError> {
        let file = self.directory.path().join("p.yaml");
        Pipeline::parse(&file, yaml.to_owned())?.resolve(&self.runtime, &BTreeMap::new())
    }

    fn error(&self, yaml: &str) -> String {
        let text = self.resolve(yaml).unwrap_err().to_string();
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

#[test]
fn tasks_come_after_what_they_read() {
    let case = Case::new();
    let plan = case
        .resolve(
            "name: p\nparameters: { depth: 6 }\ntasks:\n  a: { step: m.wasm#copy, inputs: { rows: b.rows }, parameters: { depth: '{{ depth }}' } }\n  b: { step: m.wasm, inputs: { rows: raw.csv } }\n",
        )
        .unwrap();
    let names: Vec<_> = plan.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(
        plan.tasks[1].wires()["rows"],
        Wire {
            task: "b".into(),
            output: "rows".into()
        }
    );
    let crate::run::Entry::Step { parameters, .. } = &plan.tasks[1].run.entry else {
        panic!("not a step")
    };
    assert_eq!(json!(parameters), json!({"depth": 6}));
}

#[test]
fn faults_are_named_with_their_place() {
    let case = Case::new();
    let task = |text: &str| format!("name: p\ntasks:\n  a: {text}\n");
    let head = |yaml: &str| case.error(yaml).lines().next().unwrap().to_owned();
    assert_eq!(
        case.error(&task("{ step: m.wasm#cop, inputs: { rows: raw.csv } }")),
        "p.yaml:3:14: the module has no step `cop`; it has `copy`\n   |\n 3 |   a: { step: m.wasm#cop, inputs: { rows: raw.csv } }\n   |              ^"
    );
    assert_eq!(
        head(&task("{ step: m.wasm#copy, inputs: { row: raw.csv } }")),
        "p.yaml:3:42: step `copy` has no input `row`; it has `rows`"
    );
    assert_eq!(
        head(&task(
            "{ step: m.wasm#copy, inputs: { rows: raw.csv }, parameters: { depth: deep } }"
        )),
        "p.yaml:3:75: step `copy`: parameter `depth` takes a value of kind integer, not \"deep\""
    );
    assert_eq!(
        head(&task("{ step: m.wasm#copy, inputs: { rows: a.row } }")),
        "p.yaml:3:43: task `a` has no output `row`; it has `rows`"
    );
    assert_eq!(
        head(&task("{ step: m.wasm#copy, inputs: { rows: a.rows } }")),
        "p.yaml:3:43: the tasks form a cycle: `a` reads from `a`"
    );
    assert_eq!(
        head(&task("{ step: m.wasm#copy, inputs: { rows: '{{ where }}' } }")),
        "p.yaml:3:43: the pipeline has no parameter `where`; it has none"
    );
    assert!(head(&task("{ step: m.wasm#copy, inputs: { rows: no.csv } }")).contains("3:43: `no.csv` is neither an output"));
    assert!(
        head(&task("{ stp: m.wasm }")).starts_with("p.yaml:3:8: unknown field `stp`"),
        "{}",
        head(&task("{ stp: m.wasm }"))
    );
    assert!(head(&task("{ }")).contains("needs either `step: MODULE#STEP` or `program: MODULE`"));
    assert!(
        head("name: p\ntasks: [").starts_with("p.yaml:2:"),
        "{}",
        head("name: p\ntasks: [")
    );
}
