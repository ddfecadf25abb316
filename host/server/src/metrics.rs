//! Metrics, in the OpenMetrics text format.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use lockstep_runtime::run::Ran;
use lockstep_runtime::store::Sweep;
use lockstep_view::error::{Error, Result};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::Server;
use super::answer::Answer;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RunLabels {
    outcome: &'static str,
    cached: Truth,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelValue)]
enum Truth {
    Yes,
    No,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WorkLabels {
    kind: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SweepLabels {
    succeeded: Truth,
}

/// All metrics of the host.
pub struct Metrics {
    registry: Registry,
    runs: Family<RunLabels, Counter>,
    run_seconds: Histogram,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabels, Histogram>,
    connections: Gauge,
    running: Gauge,
    waiting: Gauge,
    kernels: Gauge,
    memory: Gauge,
    guests: Gauge,
    works: Family<WorkLabels, Counter>,
    sweeps: Family<SweepLabels, Counter>,
    swept: Counter,
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 4.0, 10))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("lockstep");
        let (runs, requests) = (Family::default(), Family::default());
        let run_seconds = seconds();
        let request_seconds = Family::<RouteLabels, Histogram>::new_with_constructor(seconds);
        let connections = Gauge::default();
        let (running, waiting, kernels, memory) = (Gauge::default(), Gauge::default(), Gauge::default(), Gauge::default());
        registry.register("runs", "Completed runs, by outcome", runs.clone());
        registry.register_with_unit(
            "run",
            "Time from a run request to its result",
            Unit::Seconds,
            run_seconds.clone(),
        );
        registry.register("requests", "HTTP requests, by route and status", Family::clone(&requests));
        registry.register_with_unit(
            "request",
            "Time from a request to the start of its response, by route",
            Unit::Seconds,
            request_seconds.clone(),
        );
        registry.register("connections", "Open connections, WebSockets included", connections.clone());
        registry.register("sandboxes", "Jobs and cells in progress", running.clone());
        registry.register("queue", "Queued jobs", waiting.clone());
        registry.register("kernels", "Active kernels", kernels.clone());
        registry.register_with_unit(
            "resident_memory",
            "Resident memory of the process",
            Unit::Bytes,
            memory.clone(),
        );
        let (guests, works) = (Gauge::default(), Family::default());
        registry.register("works", "Ended work items, by kind and state", Family::clone(&works));
        registry.register_with_unit("guest_memory", "Memory limits of running guests", Unit::Bytes, guests.clone());
        let (sweeps, swept) = (Family::default(), Counter::default());
        registry.register("gc", "Garbage collections of a store", Family::clone(&sweeps));
        registry.register_with_unit("gc_removed", "Data removed by garbage collection", Unit::Bytes, swept.clone());
        Self {
            registry,
            sweeps,
            swept,
            runs,
            run_seconds,
            requests,
            request_seconds,
            connections,
            running,
            waiting,
            kernels,
            memory,
            guests,
            works,
        }
    }
}

impl Metrics {
    /// Counts a completed run, or task of a plan.
    pub fn ran(&self, ran: &Ran) {
        let labels = RunLabels {
            outcome: ran.record.outcome.word(),
            cached: if ran.cached { Truth::Yes } else { Truth::No },
        };
        self.runs.get_or_create(&labels).inc();
    }

    /// Notes the time from the request of a run to its result.
    pub fn took(&self, time: Duration) {
        self.run_seconds.observe(time.as_secs_f64());
    }

    /// Counts a work item that is over.
    pub fn ended(&self, kind: &'static str, state: &'static str) {
        self.works.get_or_create(&WorkLabels { kind, state }).inc();
    }

    /// Counts a garbage collection.
    pub fn swept(&self, sweep: &Result<Sweep>) {
        let succeeded = if sweep.is_ok() { Truth::Yes } else { Truth::No };
        self.sweeps.get_or_create(&SweepLabels { succeeded }).inc();
        self.swept.inc_by(sweep.as_ref().map_or(0, Sweep::bytes));
    }

    /// Counts a response.
    pub fn answered(&self, counted: Counted, status: StatusCode) {
        let Counted { route, start } = counted;
        let route = route.as_ref().map_or("none", MatchedPath::as_str).to_owned();
        let time = start.elapsed().as_secs_f64();
        let of_route = RouteLabels { route: route.clone() };
        self.request_seconds.get_or_create(&of_route).observe(time);
        let labels = RequestLabels {
            route,
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
    }
}

/// Data about a request in progress.
pub struct Counted {
    route: Option<MatchedPath>,
    start: Instant,
}

impl Counted {
    /// Starts the clock of a request.
    pub fn new(request: &Request) -> Self {
        Self {
            route: request.extensions().get().cloned(),
            start: Instant::now(),
        }
    }
}

/// Handles `GET /metrics`.
pub async fn metrics(State(server): State<Arc<Server>>) -> Answer<Response> {
    let metrics = &server.metrics;
    let (running, waiting) = server.gate.counts();
    let free = server.connections.available_permits();
    let open = server.settings.connections().saturating_sub(free);
    metrics.connections.set(open.try_into().unwrap_or(i64::MAX));
    metrics.running.set(running as i64);
    metrics.waiting.set(waiting as i64);
    metrics.guests.set(server.gate.memory_used().try_into().unwrap_or(i64::MAX));
    metrics.kernels.set(server.kernels() as i64);
    metrics.memory.set(resident().unwrap_or(0));
    let mut text = String::new();
    encode(&mut text, &metrics.registry).map_err(|e| Error::host(format_args!("can't encode metrics: {e}")))?;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}

/// Returns the resident memory of this process in bytes.
fn resident() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
