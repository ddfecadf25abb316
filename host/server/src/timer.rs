//! Starts schedules at their times.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use lockstep_runtime::digest::Digest;
use lockstep_view::error::{Error, Kind, Result};

use super::answer::{Answer, Refusal};
use super::audit::{Asked, Who};
use super::extract::blocking;
use super::schedules::{Cause, Schedule, Start, State};
use super::works::{Submission, WorkItem, now_ms};
use super::{Namespace, Server, needs};

/// A start later than this counts as missed.
const LATE_MS: u64 = 60_000;

/// How long to sleep at most. The clock of the machine may be set meanwhile.
const SLEEP: Duration = Duration::from_secs(30);

/// Starts schedules at their times, until the host shuts down.
pub async fn keep_time(server: Arc<Server>) {
    while !server.gate.is_closing() {
        let mut next = None;
        for (user, namespace) in server.namespaces() {
            for schedule in namespace.schedules.all() {
                let due = schedule.next_ms.filter(|due| *due <= now_ms());
                if let Some(due) = due
                    && let Err(refusal) = on_time(&server, user.as_deref(), &namespace, &schedule, due).await
                {
                    tracing::error!(schedule = schedule.name, user, "can't start a schedule: {}", refusal.error);
                }
            }
            next = next.into_iter().chain(namespace.schedules.next_ms()).min();
        }
        let wait = next.map_or(SLEEP, |next| Duration::from_millis(next.saturating_sub(now_ms())));
        tokio::select! {
            // what could not be stored is tried again after a while
            () = tokio::time::sleep(wait.clamp(Duration::from_millis(100), SLEEP)) => {}
            () = server.rescheduled.notified() => {}
        }
    }
}

/// Starts a schedule that is due, or skips this time, and sets the next. If the host ends before that is on disk, the next one starts it again.
async fn on_time(
    server: &Arc<Server>,
    user: Option<&str>,
    namespace: &Arc<Namespace>,
    schedule: &Schedule,
    due: u64,
) -> Answer<()> {
    let now = now_ms();
    let catches_up = schedule.times.as_ref().is_some_and(|times| times.catch_up);
    let late = now.saturating_sub(due) > LATE_MS;
    let mut start = Start {
        at_ms: now,
        due_ms: Some(due),
        by: Cause::Cron,
        work: None,
        why: late.then(|| "the host did not run at this time".to_owned()),
    };
    let asked = Asked::scheduled(&schedule.name);
    if !late || catches_up {
        let token = schedule.token.as_ref().map(|(name, _)| name.clone());
        let who = Who {
            user: user.map(str::to_owned),
            token: token.clone(),
        };
        let started = self::start(server, namespace, schedule, token, Cause::Cron).await;
        let status = started
            .as_ref()
            .map_or_else(|refusal| refusal.status, |_| StatusCode::ACCEPTED);
        match started {
            Ok(work) => start.work = Some(work.id.clone()),
            Err(_) if server.gate.is_closing() => return Ok(()),
            Err(refusal) => start.why = Some(refusal.error.message().to_owned()),
        }
        server.audit.done(asked, who, status);
    }
    let (namespace, name) = (namespace.clone(), schedule.name.clone());
    blocking(move || {
        let schedules = &namespace.schedules;
        schedules.note(&name, &start, None)?;
        schedules.change(&name, |schedule| schedule.next_ms = schedule.next(now))?;
        Ok(())
    })
    .await
}

impl Schedule {
    fn stopped(&self) -> Option<Refusal> {
        let why = match &self.state {
            State::Active => return None,
            State::Paused => format!("schedule {} is paused", self.name),
            State::Stopped(why) => format!("schedule {} is stopped: {why}", self.name),
        };
        let hint = format!("`lockstep schedule resume {}` resumes it", self.name);
        Some(Refusal::conflict(Error::user(why).hint(hint)))
    }
}

/// Submits the work of a schedule with the token `token`. Except for a person's request, its own token must still be valid: otherwise the schedule
/// stops.
pub async fn start(
    server: &Arc<Server>,
    namespace: &Arc<Namespace>,
    schedule: &Schedule,
    token: Option<String>,
    by: Cause,
) -> Answer<Arc<WorkItem>> {
    if by != Cause::Trigger {
        if let Some(refusal) = schedule.stopped() {
            return Err(refusal);
        }
        if let Some(why) = invalid(server, schedule.token.as_ref()).await? {
            let (own, name, reason) = (namespace.clone(), schedule.name.clone(), why.clone());
            let stopped = blocking(move || {
                own.schedules.change(&name, |schedule| {
                    schedule.state = State::Stopped(reason);
                    schedule.next_ms = None;
                })
            });
            stopped.await?;
            tracing::warn!(schedule = schedule.name, "a schedule is stopped: {why}");
            return Err(Error::new(Kind::Denied, format_args!("stopped: {why}")).into());
        }
    }
    let runtime = namespace.runtime.leased();
    let (own, leased, name) = (namespace.clone(), runtime.clone(), schedule.name.clone());
    let (quota, overlap) = (server.gate.quota(&namespace.owner), schedule.overlap);
    let submission = blocking(move || {
        if !overlap {
            check_last(&own, &name)?;
        }
        own.room.check(&quota)?;
        let submission = own.schedules.submission(&name)?;
        if let Submission::Plan { plan, .. } = &submission {
            needs::check(&own, &leased, plan)?;
        }
        Ok(submission)
    })
    .await?;
    if let Submission::Plan { plan, limits, .. } = &submission {
        needs::check_memory(server, &namespace.owner, plan, limits)?;
    }
    server.accept(namespace, runtime, submission, token).await
}

/// Fails if the work item of the last start still runs.
fn check_last(namespace: &Namespace, name: &str) -> Answer<()> {
    let Some(id) = namespace.schedules.last_started(name)?.and_then(|start| start.work) else {
        return Ok(());
    };
    match namespace.works.get(&id)?.filter(|work| !work.state().is_over()) {
        None => Ok(()),
        Some(_) => {
            let error = Error::user(format_args!("the work item of the last start, {id}, is still running"));
            Err(Refusal::conflict(
                error.hint("with --overlap, a schedule does not wait for it"),
            ))
        }
    }
}

/// Returns why a schedule may not start with its token.
async fn invalid(server: &Server, token: Option<&(String, Digest)>) -> Result<Option<String>> {
    let Some((name, hash)) = token else { return Ok(None) };
    let valid = server.access.valid(name).await?;
    Ok((valid != Some(*hash)).then(|| format!("the token {name}, which added it, is revoked or expired")))
}
