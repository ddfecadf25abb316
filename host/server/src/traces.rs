//! Traces of requests and runs, sent to an OpenTelemetry collector (OTLP over HTTP).

use axum::extract::{MatchedPath, Request};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::Response;
use lockstep_runtime::pipeline::Plan;
use lockstep_runtime::run::{Ran, Run};
use lockstep_view::error::{Error, Result};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use tracing::field::Empty;
use tracing::{Instrument, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

/// Target of spans, which distinguishes them from log events.
pub const TARGET: &str = "lockstep::traces";

/// Exporter of spans.
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts to send spans to the collector at `url`, such as `http://127.0.0.1:4318`. Must be called within a tokio runtime.
    pub fn to(url: &str) -> Result<Self> {
        // one per process; later calls fail, which is fine
        let _ = rustls::crypto::ring::default_provider().install_default();
        let failed = |e: &dyn std::fmt::Display| {
            Error::config(format_args!("can't send traces to {url}: {e}"))
                .hint("use the address of a collector, such as http://127.0.0.1:4318")
        };
        let client = reqwest::Client::builder().build().map_err(|e| failed(&e))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{}/v1/traces", url.trim_end_matches('/')))
            .build()
            .map_err(|e| failed(&e))?;
        let resource = Resource::builder()
            .with_service_name("lockstep")
            .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter, Tokio).build())
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    /// Returns the layer that exports spans.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let layer = tracing_opentelemetry::layer().with_tracer(self.0.tracer("lockstep"));
        layer.with_filter(Targets::new().with_target(TARGET, tracing::Level::INFO))
    }

    /// Sends the remaining spans and stops.
    pub fn end(&self) {
        if let Err(error) = self.0.shutdown() {
            tracing::warn!("can't send the last traces: {error}");
        }
    }
}

/// Creates a span for the request. Its parent is the caller's span, if the request has one (`traceparent`).
pub async fn trace(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = %method,
        http.route = route,
        http.response.status_code = Empty,
    );
    let _ = span.set_parent(TraceContextPropagator::new().extract(&Headers(request.headers())));
    let response = next.run(request).instrument(span.clone()).await;
    span.record("http.response.status_code", response.status().as_u16());
    response
}

/// Returns a span for a plan. Its runs have no spans.
pub fn plan(plan: &Plan) -> Span {
    tracing::info_span!(target: TARGET, "plan", otel.name = format!("plan {}", plan.name), lockstep.tasks = plan.tasks().len())
}

/// Returns a span for a run, a child of the current span.
pub fn span(run: &Run) -> Span {
    tracing::info_span!(
        target: TARGET,
        "run",
        otel.name = format!("run {}", run.entry.title()),
        lockstep.module = %run.module,
        lockstep.record = Empty,
        lockstep.outcome = Empty,
        lockstep.cached = Empty,
    )
}

/// Adds the result of a run to its span.
pub fn ran(span: &Span, ran: &Ran) {
    span.record("lockstep.record", tracing::field::display(&ran.digest));
    span.record("lockstep.outcome", ran.record.outcome.word());
    span.record("lockstep.cached", ran.cached);
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}
