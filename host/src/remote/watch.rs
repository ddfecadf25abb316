//! Work of a host, followed to its end over server-sent events.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use lockstep_runtime::pipeline::{Done, End, Event, Plan, Skipped, TaskError};
use lockstep_runtime::sandbox::{Interrupt, Stream};
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;

use super::{Remote, TRIES, read, read_ran};
use crate::error::{Error, Result};

/// A host says something at least every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// How often it is looked whether somebody interrupts.
const LOOK: Duration = Duration::from_millis(50);

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

/// How far the work was followed.
struct Followed<'a> {
    plan: Option<&'a Plan>,
    /// The number of the last event.
    seen: u64,
    tasks: Vec<Done>,
    result: Option<Value>,
}

impl Remote {
    /// Tells `on` what happens to the work until it has ended: its tasks, and its result.
    pub(super) async fn watch(
        &self,
        id: &str,
        plan: Option<&Plan>,
        interrupt: &Interrupt,
        on: &mut dyn FnMut(Event),
    ) -> Result<(Vec<Done>, Value)> {
        let mut followed = Followed {
            plan,
            seen: 0,
            tasks: Vec::new(),
            result: None,
        };
        let mut failed = 0;
        loop {
            let seen = followed.seen;
            let cut = self.follow(id, &mut followed, interrupt, on).await;
            if let Some(result) = followed.result.take() {
                return Ok((followed.tasks, result));
            }
            // it was cut off; what was seen is not sent again
            failed = if followed.seen > seen { 0 } else { failed + 1 };
            if failed == TRIES {
                return Err(cut
                    .err()
                    .unwrap_or_else(|| Error::host("the host says nothing of the work any more")));
            }
            tokio::time::sleep(Duration::from_millis(200 << failed)).await;
        }
    }

    async fn follow(
        &self,
        id: &str,
        followed: &mut Followed<'_>,
        interrupt: &Interrupt,
        on: &mut dyn FnMut(Event),
    ) -> Result<()> {
        let request = self.request(Method::GET, self.url(&format!("works/{id}/events")));
        let request = request.header("last-event-id", followed.seen.to_string());
        let response = self.sent(request).await.map_err(|trouble| self.error(trouble))?;
        let mut pieces = response.bytes_stream();
        let mut text = Vec::new();
        let mut cancelled = false;
        loop {
            let next = tokio::time::timeout(SILENCE, pieces.next());
            tokio::pin!(next);
            let piece = loop {
                tokio::select! {
                    piece = &mut next => break piece,
                    () = tokio::time::sleep(LOOK), if !cancelled => {
                        if interrupt.is_triggered() {
                            cancelled = true;
                            self.cancel(id).await?;
                        }
                    }
                }
            };
            let Ok(Some(piece)) = piece else { return Ok(()) };
            text.extend_from_slice(&piece.map_err(|e| self.away(&e))?);
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                followed.take(&String::from_utf8_lossy(&event), on)?;
                if followed.result.is_some() {
                    return Ok(());
                }
            }
        }
    }

    async fn cancel(&self, id: &str) -> Result<()> {
        let request = self.request(Method::DELETE, self.url(&format!("works/{id}")));
        self.answer(request).await.map(drop).map_err(|trouble| self.error(trouble))
    }
}

impl Followed<'_> {
    /// Takes in one event: lines of `id`, `event` and `data`.
    fn take(&mut self, text: &str, on: &mut dyn FnMut(Event)) -> Result<()> {
        let (mut name, mut data, mut number) = ("", String::new(), None);
        for line in text.lines() {
            match line.split_once(':') {
                Some(("event", value)) => name = value.trim(),
                Some(("id", value)) => number = value.trim().parse().ok(),
                Some(("data", value)) => data.push_str(value.strip_prefix(' ').unwrap_or(value)),
                _ => {}
            }
        }
        if data.is_empty() {
            return Ok(());
        }
        let value: Value =
            serde_json::from_str(&data).map_err(|e| Error::host(format_args!("the host's answer can't be read: {e}")))?;
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
                let done = self.done(value)?;
                on(Event::Finished { done: &done });
                self.tasks.push(done);
            }
            "ended" => {
                self.order(&value)?;
                self.result = Some(value);
            }
            // `dropped`: the logs of records have it
            _ => {}
        }
        self.seen = number.unwrap_or(self.seen);
        Ok(())
    }

    fn done(&self, mut value: Value) -> Result<Done> {
        let task: String = read(value["task"].take())?;
        let end = if value.get("record").is_some() {
            End::Ran(Box::new(read_ran(value)?))
        } else if let Some(skipped) = value.get("skipped") {
            End::Skipped(self.skipped(&task, skipped))
        } else if let Some(error) = value.get("error") {
            End::Error(TaskError::Elsewhere(error.as_str().unwrap_or_default().to_owned()))
        } else {
            End::NotStarted
        };
        Ok(Done { task, end })
    }

    fn skipped(&self, task: &str, told: &Value) -> Skipped {
        let said = told["when"].as_str().unwrap_or_default();
        let own = |name: &str| name == task || task.strip_prefix(name).is_some_and(|rest| rest.starts_with('['));
        let tasks = self.plan.iter().flat_map(|plan| plan.tasks()).filter(|task| own(&task.name));
        let condition = tasks.flat_map(|task| &task.when).find(|when| when.to_string() == said);
        match condition {
            Some(when) => Skipped::When(when.clone()),
            None => Skipped::After(told["after"].as_str().unwrap_or(said).to_owned()),
        }
    }

    /// All tasks as the result lists them: in the order of the plan, and with those whose turn never came.
    fn order(&mut self, result: &Value) -> Result<()> {
        let Some(listed) = result["tasks"].as_array() else {
            return Ok(());
        };
        let tasks = listed.iter().map(|task| self.done(task.clone()));
        self.tasks = tasks.collect::<Result<_>>()?;
        Ok(())
    }
}
