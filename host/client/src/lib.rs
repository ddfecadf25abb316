//! A host that does the work instead of this machine: a thin client of its API. What it runs has the digests that it has here.

mod names;
mod transfer;
mod watch;

use std::time::Duration;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::pipeline::{Event, Executed, Execution, Explained, Plan};
use lockstep_runtime::run::{Entry, Ran, Reuse, Run};
use lockstep_runtime::sandbox::{Interrupt, Stream};
use lockstep_runtime::step::{Limits, OwnLimits};
use lockstep_runtime::store::{Row, Runs, Store};
use lockstep_view::error::{Error, Kind, Result, innermost};
use lockstep_view::events::{ran, read};
use lockstep_view::needs::{Needs, needs_of_plan, needs_of_run};
use lockstep_view::threads::threads;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Value, json};

/// A host, and what it knows this caller by.
pub struct Remote {
    client: Client,
    /// `https://host/base/api/v1/`
    base: Url,
    /// Drives connections. Whoever asks waits.
    threads: tokio::runtime::Runtime,
}

/// What a host says of an error.
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

/// What an answer was, when it was none.
enum Trouble {
    /// The host lacks this.
    Missing(Digest),
    /// There is nothing of that name.
    Absent(Error),
    Error(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// A request is sent again so often when no answer comes.
const TRIES: u32 = 5;

impl Remote {
    /// The host at `url`, which knows this caller by `token`.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self> {
        let wrong = |why: &dyn std::fmt::Display| {
            Error::user(format_args!("{url} is no address of a host: {why}")).hint("write --host https://HOST[:PORT]")
        };
        let base = Url::parse(&format!("{}/api/v1/", url.trim_end_matches('/'))).map_err(|e| wrong(&e))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(wrong(&"it must start with https:// or http://"));
        }
        // a process has one: whichever comes first serves all
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Error::user("the token has characters that no token has"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = Client::builder()
            .default_headers(headers)
            .connect_timeout(Duration::from_secs(5))
            .build()
            .map_err(|e| Error::host(format_args!("no connections can be made: {e}")))?;
        let threads = threads("host", 2)?;
        Ok(Self { client, base, threads })
    }

    /// Carries out `run` there. What of it the host lacks is sent from `store`.
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

    /// Carries out `plan` there. What of it the host lacks is sent from `store`.
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

    /// What [`lockstep_runtime::pipeline::explain`] says of `plan` there.
    pub fn explain(&self, store: &Store, plan: &Plan) -> Result<Vec<Explained>> {
        let body = json!({ "plan": plan });
        let answer = self.submit(store, "plans/explain", &body, || needs_of_plan(store, plan))?;
        read(answer["tasks"].clone())
    }

    /// The answer to `body`. If the host lacks something, all that the body `needs` is sent first, as far as it is here.
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

    /// The newest records there that `runs` asks for.
    pub fn rows(&self, runs: &Runs) -> Result<Vec<Row>> {
        #[derive(Deserialize)]
        struct Told {
            record: Digest,
            key: lockstep_runtime::digest::RunKey,
            module: Digest,
            step: String,
            is: String,
            outcome: String,
            started_ms: u64,
            wall_us: u64,
        }
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
        let told: Vec<Told> = read(self.threads.block_on(self.get(url))?["runs"].clone())?;
        let row = |told: Told| Row {
            record: told.record,
            key: told.key,
            module: told.module,
            step: told.step,
            word: told.is,
            outcome: told.outcome,
            started_ms: told.started_ms,
            wall_us: told.wall_us,
            links: Vec::new(),
            artifacts: Vec::new(),
        };
        Ok(told.into_iter().map(row).collect())
    }

    /// The artifacts and records there whose digest starts with `hex`.
    fn resolve(&self, hex: &str) -> Result<Vec<Digest>> {
        let answer = self.threads.block_on(self.get(self.url(&format!("digests/{hex}"))))?;
        read(answer["digests"].clone())
    }

    /// The record called `digest` there, if there is one.
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

    /// Runs a record again there: whether it came to the same, and the digest of what it came to.
    pub fn verify(&self, digest: &Digest) -> Result<(bool, Digest)> {
        let answer = self
            .threads
            .block_on(self.post(&format!("records/{}/verify", digest.hex()), &json!({})));
        let answer = answer.map_err(|trouble| self.error(trouble))?;
        Ok((read(answer["same"].clone())?, read(answer["again"].clone())?))
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

    /// The answer to a request that may be sent several times.
    async fn answer(&self, request: RequestBuilder) -> Result<Value, Trouble> {
        let response = self.sent(request).await?;
        let bytes = response.bytes().await.map_err(|e| self.away(&e))?;
        serde_json::from_slice(&bytes).map_err(|e| self.strange(&e).into())
    }

    /// The response to a request that may be sent several times, if it is a good one.
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
            Err(_) => Err(self.strange(&format_args!("the status is {status}")).into()),
        }
    }

    fn error(&self, trouble: Trouble) -> Error {
        match trouble {
            Trouble::Absent(error) | Trouble::Error(error) => error,
            Trouble::Missing(digest) => Error::user(format_args!(
                "{} has no {digest}, and neither has the store here",
                self.name()
            )),
        }
    }

    fn refused(&self, why: &str) -> Error {
        Error::new(Kind::Denied, format_args!("{} refuses: {why}", self.name()))
            .hint("set LOCKSTEP_TOKEN to a token of that host; `lockstep token create NAME` makes one there")
    }

    fn away(&self, error: &reqwest::Error) -> Error {
        Error::host(format_args!("{} can't be reached: {}", self.name(), innermost(error))).hint(
            "check the address, and that `lockstep serve` runs there; without --host and LOCKSTEP_HOST the work is done here",
        )
    }

    fn strange(&self, why: &dyn std::fmt::Display) -> Error {
        Error::host(format_args!("{} does not answer as a host of lockstep: {why}", self.name())).hint("check the address")
    }

    /// `https://host:port`
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

/// The error of work that came to none of what it should.
fn said(result: &Value) -> Error {
    match serde_json::from_value::<SaidError>(result.clone()) {
        Ok(SaidError { error }) => error.into(),
        Err(_) => Error::host("the host did not say what the work came to"),
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
