use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::stream::{Stream, StreamExt, iter, unfold};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ErrorAnswer;
use crate::extract::{Path, Query, blocking};
use crate::works::{Entry, WorkItem};
use crate::{Answer, Caller, Refusal};

async fn find(caller: &Caller, id: String) -> Answer<Arc<WorkItem>> {
    let works = caller.namespace.works.clone();
    let work = blocking(move || Ok(works.get(&id)?)).await?;
    work.ok_or_else(|| Refusal::not_found("work item not found; old work items are removed, their records stay"))
}

/// Maximum number of work items in a response.
const MOST: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    most: Option<usize>,
}

/// List submitted work items, newest first
#[utoipa::path(
    get, path = "/api/v1/works",
    params(("most" = Option<usize>, Query, description = "maximum number of work items [default: 50]")),
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn list(caller: Caller, Query(query): Query<ListQuery>) -> Answer<Json<Value>> {
    let most = query.most.unwrap_or(50).min(MOST);
    let works = caller.namespace.works.clone();
    let newest = blocking(move || Ok(works.newest(most)?)).await?;
    Ok(Json(json!({ "works": newest })))
}

/// Show the progress of a work item
#[utoipa::path(
    get, path = "/api/v1/works/{id}",
    params(("id" = String, Path)),
    responses((status = 200, body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn get(caller: Caller, Path(id): Path) -> Answer<Json<Value>> {
    Ok(Json(find(&caller, id).await?.to_json()))
}

/// Cancel a work item; finished tasks keep their records
#[utoipa::path(
    delete, path = "/api/v1/works/{id}",
    params(("id" = String, Path)),
    responses((status = 202, description = "cancellation requested", body = Object), (status = "4XX", body = ErrorAnswer))
)]
pub async fn cancel(caller: Caller, Path(id): Path) -> Answer<(StatusCode, Json<Value>)> {
    let work = find(&caller, id).await?;
    let (works, cancelled) = (caller.namespace.works.clone(), work.clone());
    blocking(move || {
        works.cancel(&cancelled);
        Ok(())
    })
    .await?;
    Ok((StatusCode::ACCEPTED, Json(work.to_json())))
}

/// Follow a work item, as server-sent events
///
/// `started`, `expanded`, `log`, `retrying` and `finished` are events of tasks; `ended` is the last event. `dropped` gives the number of
/// older events that are no longer available. To resume after a lost connection, send `Last-Event-ID`.
#[utoipa::path(
    get, path = "/api/v1/works/{id}/events",
    params(("id" = String, Path), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, body = String, content_type = "text/event-stream"), (status = "4XX", body = ErrorAnswer))
)]
pub async fn events(
    caller: Caller,
    Path(id): Path,
    headers: HeaderMap,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let work = find(&caller, id).await?;
    let seen = headers
        .get("last-event-id")
        .and_then(|text| text.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    let pieces = unfold((work, seen), async |(work, seen)| {
        let (entries, dropped) = work.journal.next(seen).await?;
        let last = entries.last().map_or(seen, |entry| entry.number);
        let dropped = (dropped > 0).then(|| {
            Event::default()
                .event("dropped")
                .data(json!({ "count": dropped }).to_string())
        });
        let events: Vec<_> = dropped.into_iter().chain(entries.iter().map(event)).map(Ok).collect();
        Some((iter(events), (work, last)))
    });
    Ok(Sse::new(pieces.flatten()).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

fn event(entry: &Entry) -> Event {
    Event::default()
        .id(entry.number.to_string())
        .event(&*entry.event)
        .data(&*entry.data)
}
