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

/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The name of the kernelspec on a host.
const KERNEL: &str = "lockstep";

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Where a kernel is, and which one.
#[derive(Clone, Debug)]
pub struct Host {
    /// `http://` or `https://`, and the base path if there is one.
    pub url: String,
    /// Who asks.
    pub token: Token,
    /// The kernel's id, a UUID: the same for the same notebook, so that a new process takes up the kernel of an earlier one.
    pub kernel: String,
    /// What the host is told of the kernel's surroundings: `KERNEL_WORKING_DIR` and others.
    pub env: BTreeMap<String, String>,
}

/// Where the token is.
#[derive(Clone)]
pub enum Token {
    /// There is none.
    Absent,
    /// This is it.
    Given(String),
    /// In a file, which is read for each connection, so that a new token is found.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Why a host does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// It does not answer.
    #[error(
        "can't reach the host {url}: {why}\nhint: start it with `lockstep serve`, or see whether the address is right; this kernel goes on trying, so then run the cell again"
    )]
    Away {
        /// Where it should be.
        url: String,
        /// What happened instead.
        why: String,
    },
    /// It does not know the token, or the token is not for this.
    #[error(
        "the host {url} refuses the token: {why}\nhint: put one that it takes into LOCKSTEP_TOKEN or the file given with --token-file, and run the cell again; `lockstep serve` prints its own when it starts"
    )]
    Refused {
        /// Where it is.
        url: String,
        /// What it says.
        why: String,
    },
    /// The file of the token can't be read.
    #[error("can't read the token in {}: {why}\nhint: write it there, and run the cell again", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// It answers something else.
    #[error("the host {url} does not give a kernel: {why}\nhint: see whether `lockstep serve` is what listens there")]
    Failed {
        /// Where it is.
        url: String,
        /// What it says.
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
    /// What makes its requests. No proxy is asked.
    pub(super) fn client(&self) -> Result<Client, HostError> {
        // An error means that it was installed before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().timeout(PATIENCE);
        client.build().map_err(|error| self.away(&error))
    }

    /// Makes sure that the kernel is there, and connects to it: as `session`, which got the message `after` last.
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

    /// Ends the kernel on the host, or begins it anew.
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

/// The cause that says most: `Connection refused`.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost.to_string()
}
