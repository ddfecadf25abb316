//! A client of the API of a host. Runs on a host give the same digests as local runs.

mod names;
mod transfer;
mod watch;

use std::time::Duration;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Event, Executed, Execution, Explained, Plan};
use lockstep_runtime::run::{Direction, Entry, Ran, Reuse, Run};
use lockstep_runtime::sandbox::{Interrupt, Stream};
use lockstep_runtime::step::{Limits, OwnLimits};
use lockstep_runtime::store::{Row, Runs, Store};
use lockstep_view::error::{Error, Kind, Result, innermost};
use lockstep_view::events::{ran, read};
use lockstep_view::needs::{Needs, needs_of_plan, needs_of_run};
use lockstep_view::runs;
use lockstep_view::threads::threads;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

/// A client of a host.
pub struct Remote {
    client: Client,
    /// `https://host/base/api/v1/`
    base: Url,
    /// Drives connections. Callers block.
    threads: tokio::runtime::Runtime,
}

/// An error of a host.
#[derive(Deserialize)]
struct Said {
    kind: String,
    message: String,
    #[serde(default)]
    details: Vec<String>,
    #[serde(default)]
    hints: Vec<String>,
    missing: Option<Digest>,
}

#[derive(Deserialize)]
struct SaidError {
    error: Said,
}

/// Why a request failed.
enum Trouble {
    /// The host does not have this artifact.
    Missing(Digest),
    /// Nothing has that name.
    Absent(Error),
    Error(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The maximum number of runs in a list of a host.
const LISTED: usize = 10_000;

/// The maximum number of attempts of a request.
const TRIES: u32 = 5;

impl Remote {
    /// Creates a client of the host at `url`, with `token`.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self> {
        let wrong = |why: &dyn std::fmt::Display| {
            Error::user(format_args!("{url} is not the URL of a host: {why}")).hint("give --host https://HOST[:PORT]")
        };
        let base = Url::parse(&format!("{}/api/v1/", url.trim_end_matches('/'))).map_err(|e| wrong(&e))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong(&"it must start with https:// or http://"));
        }
        // one per process: fails if there is one already
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Error::user("the token contains invalid characters"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|e| Error::host(format_args!("can't create an HTTP client: {e}")))?;
        let threads = threads("host", 2)?;
        Ok(Self { client, base, threads })
    }

    /// Executes `run` on the host. Uploads what the host lacks from `store`.
    pub fn run(
        &self,
        store: &Store,
        run: &Run,
        reuse: Reuse,
        limits: &Limits,
        interrupt: &Interrupt,
        log: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Ran> {
        let body = run_request(run, reuse, limits);
        let answer = self.submit(store, "runs?wait=0", &body, || needs_of_run(store, run))?;
        if answer.get("record").is_some() {
            let ran = ran(answer)?;
            self.replay_log(store, &ran, log)?;
            return Ok(ran);
        }
        let id = work_id(&answer)?;
        let mut on = |event: Event| {
            if let Event::Log { stream, bytes, .. } = event {
                log(stream, bytes);
            }
        };
        let result = self.threads.block_on(self.watch(&id, None, interrupt, &mut on))?.1;
        match result.get("record") {
            Some(_) => ran(result),
            None => Err(said(&result)),
        }
    }

    /// Executes `plan` on the host. Uploads what the host lacks from `store`.
    pub fn execute(
        &self,
        store: &Store,
        plan: &Plan,
        execution: &Execution,
        interrupt: &Interrupt,
        on: &mut (dyn FnMut(Event) + Send),
    ) -> Result<Executed> {
        let body = json!({
            "plan": plan,
            "limits": OwnLimits::from(&execution.limits),
            "fresh": execution.reuse != Reuse::Records,
            "keep_going": execution.keep_going,
        });
        let answer = self.submit(store, "plans", &body, || needs_of_plan(store, plan))?;
        let (tasks, result) = self
            .threads
            .block_on(self.watch(&work_id(&answer)?, Some(plan), interrupt, on))?;
        match serde_json::from_value(result["outputs"].clone()) {
            Ok(outputs) => Ok(Executed { tasks, outputs }),
            Err(_) => Err(said(&result)),
        }
    }

    /// Returns what [`lockstep_runtime::pipeline::explain`] returns for `plan` on the host.
    pub fn explain(&self, store: &Store, plan: &Plan) -> Result<Vec<Explained>> {
        let body = json!({ "plan": plan });
        let answer = self.submit(store, "plans/explain", &body, || needs_of_plan(store, plan))?;
        read(answer["tasks"].clone())
    }

    /// Sends `body` and returns the response. If the host lacks something, uploads `needs` from `store` first.
    fn submit(&self, store: &Store, path: &str, body: &Value, needs: impl FnOnce() -> Result<Needs>) -> Result<Value> {
        let answer = match self.threads.block_on(self.post(path, body)) {
            Err(Trouble::Missing(_)) => {
                self.threads.block_on(self.send(store, needs()?))?;
                self.threads.block_on(self.post(path, body))
            }
            other => other,
        };
        answer.map_err(|trouble| self.error(trouble))
    }

    /// Returns the newest records on the host that match `runs`.
    pub fn rows(&self, runs: &Runs) -> Result<Vec<Row>> {
        let mut url = self.url("records");
        let mut pairs = url.query_pairs_mut();
        pairs
            .append_pair("most", &runs.most.to_string())
            .append_pair("since_ms", &runs.since_ms.to_string());
        for (name, value) in [("step", &runs.step), ("module", &runs.module), ("outcome", &runs.word)] {
            if let Some(value) = value {
                pairs.append_pair(name, value);
            }
        }
        drop(pairs);
        let told: Vec<Value> = read(self.threads.block_on(self.get(url))?["runs"].clone())?;
        if told.len() == LISTED && runs.most > LISTED {
            return Err(
                Error::user(format_args!("{} lists at most {LISTED} runs at a time", self.name()))
                    .hint(format_args!("select fewer: `-n {LISTED}` for the newest, or `--since`")),
            );
        }
        told.into_iter().map(runs::from_json).collect()
    }

    /// Returns the lineage of a record or an artifact on the host, as [`lockstep_view::lineage::to_json`] writes it.
    pub fn lineage(&self, start: &Digest, is_record: bool, direction: Direction) -> Result<Value> {
        let kind = if is_record { "records" } else { "artifacts" };
        let way = if direction == Direction::Up { "up" } else { "down" };
        let url = self.url(&format!("{kind}/{}/lineage?direction={way}", start.hex()));
        self.threads.block_on(self.get(url))
    }

    /// Adds the schedule that `body` describes, of `plan`. Uploads what the host lacks from `store`.
    pub fn add_schedule(&self, store: &Store, plan: &Plan, mut body: Value) -> Result<Value> {
        body["plan"] = json!(plan);
        self.submit(store, "schedules", &body, || needs_of_plan(store, plan))
    }

    /// Returns the address of `path`, which the host has named.
    pub fn address(&self, path: &str) -> String {
        format!("{}{path}", self.name())
    }

    /// Sends `GET path`, and returns the JSON of the response.
    pub fn read(&self, path: &str) -> Result<Value> {
        self.threads.block_on(self.get(self.url(path)))
    }

    /// Sends `DELETE path`, and returns the JSON of the response.
    pub fn remove(&self, path: &str) -> Result<Value> {
        let removed = self.answer(self.request(Method::DELETE, self.url(path)));
        self.threads.block_on(removed).map_err(|trouble| self.error(trouble))
    }

    /// Sends `body` to `path` of the API and returns the response.
    pub fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        self.threads
            .block_on(self.post(path, body))
            .map_err(|trouble| self.error(trouble))
    }

    /// Returns the artifacts and records on the host whose digest starts with `hex`.
    fn resolve(&self, hex: &str) -> Result<Vec<Digest>> {
        let answer = self.threads.block_on(self.get(self.url(&format!("digests/{hex}"))))?;
        read(answer["digests"].clone())
    }

    /// Returns the record `digest` on the host, if there is one.
    fn record(&self, digest: &Digest) -> Result<Option<Ran>> {
        let request = self.request(Method::GET, self.url(&format!("records/{}", digest.hex())));
        let mut told = match self.threads.block_on(self.answer(request)) {
            Ok(told) => told,
            Err(Trouble::Absent(_)) => return Ok(None),
            Err(trouble) => return Err(self.error(trouble)),
        };
        told["cached"] = json!(true);
        ran(told).map(Some)
    }

    fn replay_log(&self, store: &Store, ran: &Ran, log: &mut dyn FnMut(Stream, &[u8])) -> Result<()> {
        if let Some(artifact) = &ran.record.log {
            self.take(store, artifact)?;
            let bytes = store.get(&artifact.digest)?;
            lockstep_runtime::run::chunks(&bytes).for_each(|chunk| log(chunk.stream, chunk.bytes));
        }
        Ok(())
    }

    fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url)
    }

    async fn get(&self, url: Url) -> Result<Value> {
        self.answer(self.request(Method::GET, url))
            .await
            .map_err(|trouble| self.error(trouble))
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        let request = self
            .request(Method::POST, self.url(path))
            .header("content-type", "application/json");
        self.answer(request.body(body.to_string())).await
    }

    /// Sends a request, with retries, and returns the response.
    async fn answer(&self, request: RequestBuilder) -> Result<Value, Trouble> {
        let response = self.sent(request).await?;
        let bytes = response.bytes().await.map_err(|e| self.away(&e))?;
        serde_json::from_slice(&bytes).map_err(|e| self.strange(&e).into())
    }

    /// Sends a request, with retries, and returns a successful response.
    async fn sent(&self, request: RequestBuilder) -> Result<Response, Trouble> {
        let mut tried = 0;
        loop {
            tried += 1;
            let again = request.try_clone();
            let sent = match again {
                Some(again) => again.send().await,
                None => return self.checked(request.send().await.map_err(|e| self.away(&e))?).await,
            };
            let passing = match &sent {
                Ok(response) => response.status() == StatusCode::SERVICE_UNAVAILABLE,
                Err(error) => error.is_connect() || error.is_request(),
            };
            if !passing || tried == TRIES {
                return self.checked(sent.map_err(|e| self.away(&e))?).await;
            }
            tokio::time::sleep(Duration::from_millis(200 << tried)).await;
        }
    }

    async fn checked(&self, response: Response) -> Result<Response, Trouble> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.bytes().await.map_err(|e| self.away(&e))?;
        match serde_json::from_slice::<SaidError>(&bytes) {
            Ok(SaidError { error }) => Err(match error.missing {
                Some(missing) => Trouble::Missing(missing),
                None if status == StatusCode::UNAUTHORIZED => Trouble::Error(self.refused(&error.message)),
                None if status == StatusCode::NOT_FOUND => Trouble::Absent(error.into()),
                None => Trouble::Error(error.into()),
            }),
            Err(_) => Err(self.strange(&format_args!("status {status}")).into()),
        }
    }

    fn error(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Absent(error) | Trouble::Error(error) => error,
            Trouble::Missing(digest) => Error::user(format_args!("neither {} nor the local store has {digest}", self.name())),
        }
    }

    fn refused(&self, why: &str) -> Error {
        Error::new(Kind::Denied, format_args!("{} refused the request: {why}", self.name()))
            .hint("set LOCKSTEP_TOKEN to a token of that host; `lockstep token create NAME` creates one there")
    }

    fn away(&self, error: &reqwest::Error) -> Error {
        Error::host(format_args!("{} can't be reached: {}", self.name(), innermost(error))).hint(
            "check the URL, and that `lockstep serve` runs there; omit --host and unset LOCKSTEP_HOST to run on this machine",
        )
    }

    fn strange(&self, why: &dyn std::fmt::Display) -> Error {
        Error::host(format_args!("unexpected response from {}: {why}", self.name()))
            .hint("check that the URL is that of a lockstep host")
    }

    /// Returns `https://host:port`.
    fn name(&self) -> String {
        self.base.origin().ascii_serialization()
    }
}

impl From<Said> for Error {
    fn from(said: Said) -> Self {
        let kind = Kind::ALL
            .into_iter()
            .map(|(kind, _)| kind)
            .find(|kind| kind.name() == said.kind);
        let error = Self::new(kind.unwrap_or(Kind::Host), said.message);
        let error = said.details.into_iter().fold(error, |error, detail| error.detail(detail));
        said.hints.into_iter().fold(error, |error, hint| error.hint(hint))
    }
}

/// Returns the error in the result of failed work.
fn said(result: &Value) -> Error {
    match serde_json::from_value::<SaidError>(result.clone()) {
        Ok(SaidError { error }) => error.into(),
        Err(_) => Error::host("the host sent no result"),
    }
}

fn work_id(answer: &Value) -> Result<String> {
    read(answer["id"].clone())
}

fn run_request(run: &Run, reuse: Reuse, limits: &Limits) -> Value {
    let inputs = run.inputs.iter().map(|(name, input)| {
        let artifact = &input.artifact;
        let mut told = json!({ "digest": artifact.digest, "media_type": artifact.media_type });
        if let Some(at) = &input.at {
            told["at"] = json!(at);
        }
        (name.clone(), told)
    });
    let mut request = json!({
        "module": run.module,
        "inputs": inputs.collect::<serde_json::Map<_, _>>(),
        "modules": run.modules,
        "seed": run.seed,
        "limits": OwnLimits::from(limits),
        "fresh": reuse != Reuse::Records,
    });
    match &run.entry {
        Entry::Step { name, parameters } => {
            request["step"] = json!(name);
            request["parameters"] = json!(parameters);
        }
        Entry::Program {
            args,
            env,
            stdin,
            stdout,
        } => {
            request["args"] = json!(args);
            request["env"] = json!(env);
            request["stdin"] = json!(stdin);
            request["stdout"] = json!(stdout);
            request["outputs"] = json!(run.outputs);
        }
    }
    request
}
