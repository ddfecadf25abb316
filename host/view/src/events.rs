//! What happens while a plan is carried out, as JSON: how a host and pods tell it to who watches.

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

/// The name of an event and what is told of it: `task`, and what belongs to the event.
pub fn told(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Started { task } => ("started", json!({ "task": task })),
        Event::Expanded { task, count } => ("expanded", json!({ "task": task, "count": count })),
        Event::Log { task, stream, bytes } => ("log", log(task, *stream, bytes)),
        Event::Retrying { task, because, left } => ("retrying", json!({ "task": task, "because": because, "left": left })),
        Event::Finished { done } => ("finished", task_to_json(done)),
    }
}

/// `text`, or `base64` of bytes that are no text.
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

/// Tells `on` the event that [`told`] wrote; others are passed over. The task that ended, if one did. `plan` is what is carried out, if that is known.
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

/// A task and what it came to, of what [`task_to_json`] wrote.
pub fn done(plan: Option<&Plan>, mut value: Value) -> Result<Done> {
    let task: String = read(value["task"].take())?;
    let end = if value.get("record").is_some() {
        End::Ran(Box::new(ran(value)?))
    } else if let Some(told) = value.get("skipped") {
        End::Skipped(skipped(plan, &task, told))
    } else if let Some(error) = value.get("error") {
        End::Error(TaskError::Elsewhere(error.as_str().unwrap_or_default().to_owned()))
    } else {
        End::NotStarted
    };
    Ok(Done { task, end })
}

/// A run, of what [`Ran::to_json`] wrote.
pub fn ran(value: Value) -> Result<Ran> {
    Ran::from_json(value).map_err(|e| Error::host(format_args!("what was answered is not what it says: {e}")))
}

/// What JSON says.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| {
        Error::host(format_args!("what was answered can't be read: {e}"))
            .hint("both sides may be of different versions: see `lockstep --version` on both")
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
