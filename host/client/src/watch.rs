//! Follows work on a host with server-sent events.

use std::time::Duration;

use futures::StreamExt;
use lockstep_runtime::pipeline::{Done, Event, Plan};
use lockstep_runtime::sandbox::Interrupt;
use lockstep_view::error::{Error, Result};
use lockstep_view::events;
use reqwest::Method;
use serde_json::Value;

use super::{Remote, TRIES};

/// The timeout for events. A host sends one at least every 15 s.
const SILENCE: Duration = Duration::from_secs(45);

/// The interval of checks for an interrupt.
const LOOK: Duration = Duration::from_millis(50);

/// The state of following some work.
struct Followed<'a> {
    plan: Option<&'a Plan>,
    /// The number of the last event.
    seen: u64,
    tasks: Vec<Done>,
    result: Option<Value>,
}

impl Remote {
    /// Passes the events of the work to `on` until it ends. Returns its tasks and its result.
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
            // the connection was lost; resumes after the last event
            failed = if followed.seen > seen { 0 } else { failed + 1 };
            if failed == TRIES {
                return Err(cut.err().unwrap_or_else(|| Error::host("the host stopped sending events")));
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
    /// Handles one event: lines of `id`, `event` and `data`.
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
            serde_json::from_str(&data).map_err(|e| Error::host(format_args!("can't parse the event of the host: {e}")))?;
        match name {
            "ended" => {
                self.order(&value)?;
                self.result = Some(value);
            }
            // `dropped` is ignored: the logs of records are complete
            _ => self.tasks.extend(events::tell(self.plan, name, value, on)?),
        }
        self.seen = number.unwrap_or(self.seen);
        Ok(())
    }

    /// Sets the tasks as the result lists them: in the order of the plan, with those that did not start.
    fn order(&mut self, result: &Value) -> Result<()> {
        let Some(listed) = result["tasks"].as_array() else {
            return Ok(());
        };
        let tasks = listed.iter().map(|task| events::done(self.plan, task.clone()));
        self.tasks = tasks.collect::<Result<_>>()?;
        Ok(())
    }
}
