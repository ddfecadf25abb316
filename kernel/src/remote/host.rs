use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Error as SocketError};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::output::CellError;
use crate::websocket::V1;

/// The timeout of requests to a host.
const PATIENCE: Duration = Duration::from_secs(20);

/// The name of the kernelspec on a host.
const KERNEL: &str = "lockstep";

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A kernel on a host.
#[derive(Clone, Debug)]
pub struct Host {
    /// The host's URL: `http://` or `https://`, with an optional base path.
    pub url: String,
    /// The token.
    pub token: Token,
    /// The kernel's UUID. It is the same for the same notebook, so that a new process reconnects to the existing kernel.
    pub kernel: String,
    /// Environment variables for the kernel: `KERNEL_WORKING_DIR` and others.
    pub env: BTreeMap<String, String>,
}

/// The source of the token.
#[derive(Clone)]
pub enum Token {
    /// No token.
    Absent,
    /// The token itself.
    Given(String),
    /// A file, read for each connection, so that a new token takes effect.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    /// Omits the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// An error of a request to a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The host does not respond.
    #[error(
        "can't reach host {url}: {why}\nhint: start it with `lockstep serve` or check the URL, then re-run the cell; the kernel reconnects by itself"
    )]
    Away {
        /// the host's URL
        url: String,
        /// why not
        why: String,
    },
    /// The token is invalid or lacks permission.
    #[error(
        "host {url} rejected the token: {why}\nhint: put a valid token into LOCKSTEP_TOKEN or the file given with --token-file, then re-run the cell; `lockstep serve` prints its token at startup"
    )]
    Refused {
        /// the host's URL
        url: String,
        /// the host's message
        why: String,
    },
    /// The token file can't be read.
    #[error("can't read token file {}: {why}\nhint: write the token to it, then re-run the cell", path.display())]
    Token {
        /// the file
        path: PathBuf,
        /// why not
        why: String,
    },
    /// The response is unexpected.
    #[error("host {url} did not start a kernel: {why}\nhint: check that `lockstep serve` listens at this URL")]
    Failed {
        /// the host's URL
        url: String,
        /// the host's message
        why: String,
    },
}

impl From<&HostError> for CellError {
    fn from(error: &HostError) -> Self {
        let name = match error {
            HostError::Away { .. } => "HostAway",
            HostError::Refused { .. } | HostError::Token { .. } => "HostRefused",
            HostError::Failed { .. } => "HostFailed",
        };
        Self::new(name, error.to_string())
    }
}

impl Host {
    /// Returns an HTTP client without proxies.
    pub(super) fn client(&self) -> Result<Client, HostError> {
        // An error means that a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().timeout(PATIENCE);
        client.build().map_err(|error| self.away(&error))
    }

    /// Starts the kernel if needed and connects to it as `session`, to receive the messages after `after`.
    pub(super) async fn connect(self, client: Client, session: String, after: String) -> Result<Socket, HostError> {
        let mut env = self.env.clone();
        env.insert("KERNEL_ID".to_owned(), self.kernel.clone());
        let body = json!({ "name": KERNEL, "env": env });
        self.ask(&client, Method::POST, "", Some(body)).await?;
        let address = self.address(&format!("/{}/channels?session_id={session}&after={after}", self.kernel));
        // `ws` for `http`, `wss` for `https`
        let address = address.replacen("http", "ws", 1);
        let mut request = address.into_client_request().map_err(|error| self.failed(error))?;
        request
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", HeaderValue::from_static(V1));
        if let Some(token) = self.token()? {
            let value = HeaderValue::try_from(format!("token {token}")).map_err(|error| self.failed(error))?;
            request.headers_mut().insert("Authorization", value);
        }
        let config = tungstenite::protocol::WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let connecting = tokio_tungstenite::connect_async_with_config(request, Some(config), true);
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(SocketError::Http(response))) => Err(self.declined(response.status().as_u16(), "")),
            Ok(Err(error)) => Err(self.away(&error)),
            Err(_) => Err(self.away(&"no answer")),
        }
    }

    pub(super) async fn interrupt(self, client: Client) -> Result<(), HostError> {
        let path = format!("/{}/interrupt", self.kernel);
        self.ask(&client, Method::POST, &path, None).await
    }

    /// Shuts down or restarts the kernel on the host.
    pub(super) async fn shut_down(self, client: Client, restart: bool) -> Result<(), HostError> {
        match restart {
            true => {
                self.ask(&client, Method::POST, &format!("/{}/restart", self.kernel), None)
                    .await
            }
            false => self.ask(&client, Method::DELETE, &format!("/{}", self.kernel), None).await,
        }
    }

    async fn ask(&self, client: &Client, method: Method, path: &str, body: Option<Value>) -> Result<(), HostError> {
        let mut request = client.request(method, self.address(path));
        if let Some(token) = self.token()? {
            request = request.header(AUTHORIZATION, format!("token {token}"));
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| self.away(&innermost(&error)))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        Err(self.declined(status.as_u16(), &text))
    }

    fn address(&self, path: &str) -> String {
        format!("{}/api/kernels{path}", self.url.trim_end_matches('/'))
    }

    fn token(&self) -> Result<Option<String>, HostError> {
        match &self.token {
            Token::Absent => Ok(None),
            Token::Given(token) => Ok(Some(token.clone())),
            Token::File(path) => match std::fs::read_to_string(path) {
                Ok(token) => Ok(Some(token.trim().to_owned())),
                Err(error) => Err(HostError::Token {
                    path: path.clone(),
                    why: error.to_string(),
                }),
            },
        }
    }

    fn declined(&self, status: u16, body: &str) -> HostError {
        let said: Value = serde_json::from_str(body).unwrap_or_default();
        let said = said["message"].as_str().or_else(|| said["error"]["message"].as_str());
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let (url, why) = (self.url.clone(), said.map_or_else(|| status.to_string(), str::to_owned));
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => HostError::Refused { url, why },
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                HostError::Away { url, why }
            }
            _ => HostError::Failed { url, why },
        }
    }

    fn away(&self, why: &dyn std::fmt::Display) -> HostError {
        HostError::Away {
            url: self.url.clone(),
            why: why.to_string(),
        }
    }

    fn failed(&self, why: impl std::fmt::Display) -> HostError {
        HostError::Failed {
            url: self.url.clone(),
            why: why.to_string(),
        }
    }
}

/// Returns the innermost cause, which is the most specific: `Connection refused`.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
