//! Client for the HTTP API of a kernel's pod, which is a host with one kernel.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use axum::http::header::{AUTHORIZATION, CONNECTION, CONTENT_TYPE, UPGRADE};
use axum::http::{HeaderMap, Method, StatusCode};
use lockstep_cluster::pod::PORT;
use lockstep_view::error::{Error, innermost};
use reqwest::{Client, Response};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::super::hosted::{Details, Model};
use super::super::specs::NAME;
use super::super::{ID, UNNAMED};

/// Timeout of most requests.
const PATIENCE: Duration = Duration::from_secs(5);
/// Timeout for starting, restarting and shutting down a kernel, which may have to wait for a cell to end.
const WORK: Duration = Duration::from_secs(20);

/// A running pod.
#[derive(Clone)]
pub struct Pod {
    pub name: String,
    address: String,
    token: String,
    http: Client,
    /// Becomes true when the pod is known to have ended.
    gone: watch::Sender<bool>,
}

/// Error of a request to a pod.
pub enum AskError {
    /// The pod is unreachable, for this reason.
    Away(String),
    /// The pod responded with this error.
    Refused(String),
}

/// Model of a kernel, as sent by the pod.
#[derive(Deserialize)]
struct PodModel {
    id: String,
    last_activity: String,
    execution_state: String,
    connections: usize,
    #[serde(default)]
    running: Option<String>,
}

impl Pod {
    pub fn new(name: &str, address: &str, token: String, http: &Client) -> Self {
        Self {
            name: name.to_owned(),
            address: address.to_owned(),
            token,
            http: http.clone(),
            gone: watch::channel(false).0,
        }
    }

    /// Whether the pod accepts requests.
    pub async fn is_ready(&self) -> bool {
        let asked = self.http.get(self.url("/health/ready")).timeout(PATIENCE).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Starts a kernel, or returns the existing one with this ID. A kernel from another pod is resumed.
    pub async fn create(&self, id: &str, env: &BTreeMap<String, String>) -> Result<Model, AskError> {
        let mut env = env.clone();
        if env.insert(ID.to_owned(), id.to_owned()).is_none() {
            env.insert(UNNAMED.to_owned(), "1".to_owned());
        }
        let body = json!({ "name": NAME, "env": env }).to_string();
        let ask = self.request(Method::POST, "/api/kernels", WORK);
        let answer = ask.header(CONTENT_TYPE, "application/json").body(body).send().await;
        told(checked(answer).await?).await
    }

    /// Returns the model of the kernel; `None` if it has ended.
    pub async fn model(&self, id: &str) -> Result<Option<Model>, AskError> {
        let answer = self
            .request(Method::GET, &format!("/api/kernels/{id}"), PATIENCE)
            .send()
            .await;
        match checked(answer).await {
            Ok(answer) if answer.status() == StatusCode::NOT_FOUND => Ok(None),
            Ok(answer) => told(answer).await.map(Some),
            Err(error) => Err(error),
        }
    }

    pub async fn interrupt(&self, id: &str) -> Result<(), AskError> {
        let ask = self.request(Method::POST, &format!("/api/kernels/{id}/interrupt"), PATIENCE);
        checked(ask.send().await).await.map(drop)
    }

    pub async fn restart(&self, id: &str) -> Result<Model, AskError> {
        let ask = self.request(Method::POST, &format!("/api/kernels/{id}/restart"), WORK);
        told(checked(ask.send().await).await?).await
    }

    pub async fn shut_down(&self, id: &str) -> Result<(), AskError> {
        let ask = self.request(Method::DELETE, &format!("/api/kernels/{id}"), WORK);
        checked(ask.send().await).await.map(drop)
    }

    /// Opens the kernel's channels with the client's headers and query, so that the WebSocket handshake is end to end.
    pub async fn channels(&self, id: &str, query: &str, headers: &HeaderMap) -> Result<Response, AskError> {
        let mut ask = self.http.get(self.url(&format!("/api/kernels/{id}/channels?{query}")));
        for (name, value) in headers {
            let is_handshake = name == CONNECTION || name == UPGRADE || name.as_str().starts_with("sec-websocket-");
            if is_handshake {
                ask = ask.header(name, value);
            }
        }
        let answer = tokio::time::timeout(WORK, self.authorized(ask).send()).await;
        let answer = answer.map_err(|_| AskError::Away("no answer".to_owned()))?;
        let answer = checked(answer).await?;
        match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => Ok(answer),
            other => Err(AskError::Refused(other.to_string())),
        }
    }

    /// Marks the pod as ended, which disconnects clients.
    pub fn is_gone(&self) {
        self.gone.send_replace(true);
    }

    /// Waits until the pod is marked as ended.
    pub async fn ended(&self) {
        // can't fail, as `self` holds the sender
        let _ = self.gone.subscribe().wait_for(|gone| *gone).await;
    }

    fn request(&self, method: Method, path: &str, patience: Duration) -> reqwest::RequestBuilder {
        self.authorized(self.http.request(method, self.url(path)).timeout(patience))
    }

    fn authorized(&self, ask: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        ask.header(AUTHORIZATION, format!("token {}", self.token))
    }

    fn url(&self, path: &str) -> String {
        match self.address.contains(':') {
            true => format!("http://[{}]:{PORT}{path}", self.address),
            false => format!("http://{}:{PORT}{path}", self.address),
        }
    }
}

/// Returns the requested environment of a kernel, from that in its pod; `None` if a client chose its ID.
pub fn env_of_unnamed(mut env: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    env.remove(UNNAMED)?;
    env.remove(ID);
    Some(env)
}

/// Returns the response, or an error for failure statuses other than 404.
async fn checked(answer: reqwest::Result<Response>) -> Result<Response, AskError> {
    let answer = answer.map_err(|error| AskError::Away(innermost(&error)))?;
    let status = answer.status();
    if status.is_success() || status == StatusCode::NOT_FOUND || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let said = answer.text().await.unwrap_or_default();
    let message = serde_json::from_str::<serde_json::Value>(&said).ok();
    let message = message.and_then(|said| Some(said.get("message")?.as_str()?.to_owned()));
    Err(AskError::Refused(message.unwrap_or_else(|| status.to_string())))
}

async fn told(answer: Response) -> Result<Model, AskError> {
    let refused = |why: &dyn std::fmt::Display| AskError::Refused(format!("invalid response: {why}"));
    let body = answer.bytes().await.map_err(|e| AskError::Away(e.to_string()))?;
    let told: PodModel = serde_json::from_slice(&body).map_err(|e| refused(&e))?;
    Ok(Model {
        id: told.id,
        last_activity: humantime::parse_rfc3339(&told.last_activity).unwrap_or_else(|_| SystemTime::now()),
        execution_state: told.execution_state,
        connections: told.connections,
        details: Details {
            running: told.running,
            ..Details::default()
        },
    })
}

impl From<AskError> for Error {
    fn from(error: AskError) -> Self {
        let what = match error {
            AskError::Away(why) => format!("can't reach the kernel's pod: {why}"),
            AskError::Refused(why) => format!("the kernel's pod returned an error: {why}"),
        };
        Self::host(what).hint("try again; a lost pod is replaced")
    }
}
