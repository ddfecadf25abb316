//! Events of a plan as JSON, as hosts and pods report them.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lockstep_runtime::pipeline::{Done, End, Event, Plan, Skipped, TaskError};
use lockstep_runtime::run::Ran;
use lockstep_runtime::sandbox::Stream;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::executed::task_to_json;

/// Returns the name of an event and its JSON: `task` and the fields of the event.
pub fn told(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Started { task } => ("started", json!({ "task": task })),
        Event::Expanded { task, count } => ("expanded", json!({ "task": task, "count": count })),
        Event::Log { task, stream, bytes } => ("log", log(task, *stream, bytes)),
        Event::Retrying { task, because, left } => ("retrying", json!({ "task": task, "because": because, "left": left })),
        Event::Finished { done } => ("finished", task_to_json(done)),
    }
}

/// Returns `text`, or `base64` if the bytes are not UTF-8.
fn log(task: &str, stream: Stream, bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({ "task": task, "stream": stream, "text": text }),
        Err(_) => json!({ "task": task, "stream": stream, "base64": BASE64_STANDARD.encode(bytes) }),
    }
}

#[derive(Deserialize)]
struct Log {
    task: String,
    stream: Stream,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Deserialize)]
struct Expanded {
    task: String,
    count: usize,
}

#[derive(Deserialize)]
struct Retrying {
    task: String,
    because: String,
    left: u32,
}

/// Passes an event that [`told`] wrote to `on`, and returns the task that finished, if any. Ignores unknown events. `plan` is the plan, if known.
pub fn tell(plan: Option<&Plan>, name: &str, value: Value, on: &mut dyn FnMut(Event)) -> Result<Option<Done>> {
    match name {
        "started" => on(Event::Started {
            task: value["task"].as_str().unwrap_or_default(),
        }),
        "expanded" => {
            let Expanded { task, count } = read(value)?;
            on(Event::Expanded { task: &task, count });
        }
        "log" => {
            let Log {
                task,
                stream,
                text,
                base64,
            } = read(value)?;
            let bytes = match (text, base64) {
                (Some(text), _) => text.into_bytes(),
                (None, base64) => BASE64_STANDARD.decode(base64.unwrap_or_default()).unwrap_or_default(),
            };
            on(Event::Log {
                task: &task,
                stream,
                bytes: &bytes,
            });
        }
        "retrying" => {
            let Retrying { task, because, left } = read(value)?;
            on(Event::Retrying {
                task: &task,
                because: &because,
                left,
            });
        }
        "finished" => {
            let done = done(plan, value)?;
            on(Event::Finished { done: &done });
            return Ok(Some(done));
        }
        _ => {}
    }
    Ok(None)
}

/// Reads the result of a task that [`task_to_json`] wrote.
pub fn done(plan: Option<&Plan>, mut value: Value) -> Result<Done> {
    let task: String = read(value["task"].take())?;
    let end = if value.get("record").is_some() {
        End::Ran(Box::new(ran(value)?))
    } else if let Some(told) = value.get("skipped") {
        End::Skipped(skipped(plan, &task, told))
    } else if value.get("instances").is_some() {
        End::Empty
    } else if let Some(error) = value.get("error") {
        End::Error(TaskError::Elsewhere(error.as_str().unwrap_or_default().to_owned()))
    } else {
        End::NotStarted
    };
    Ok(Done { task, end })
}

/// Reads a run that [`Ran::to_json`] wrote.
pub fn ran(value: Value) -> Result<Ran> {
    Ran::from_json(value).map_err(|e| Error::host(format_args!("invalid run in the response: {e}")))
}

/// Deserializes JSON.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| {
        Error::host(format_args!("can't parse the response: {e}"))
            .hint("the versions may differ; compare `lockstep --version` on both sides")
    })
}

fn skipped(plan: Option<&Plan>, task: &str, told: &Value) -> Skipped {
    let said = told["when"].as_str().unwrap_or_default();
    let own = |name: &str| name == task || task.strip_prefix(name).is_some_and(|rest| rest.starts_with('['));
    let tasks = plan.iter().flat_map(|plan| plan.tasks()).filter(|task| own(&task.name));
    let condition = tasks.flat_map(|task| &task.when).find(|when| when.to_string() == said);
    match condition {
        Some(when) => Skipped::When(when.clone()),
        None => Skipped::After(told["after"].as_str().unwrap_or(said).to_owned()),
    }
}
