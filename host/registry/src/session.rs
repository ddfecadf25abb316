use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{LOCATION, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::{Credentials, Reference, RegistryError, TRIES};

/// A repository in a registry.
pub struct Registry {
    pub(super) reference: Reference,
    client: Client,
    /// `https://host/v2/repository/`
    base: Url,
    credentials: Option<Credentials>,
    /// The authentication that the registry requires.
    login: Mutex<Login>,
    /// Drives connections. Callers wait on their own threads.
    threads: tokio::runtime::Runtime,
}

/// The authentication of requests.
#[derive(Clone, Default)]
enum Login {
    #[default]
    None,
    Basic,
    Bearer(String),
}

/// The operation on the repository, for messages and for token scopes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    Read,
    Write,
}

impl Doing {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    fn scope(self) -> &'static str {
        match self {
            Self::Read => "pull",
            Self::Write => "pull,push",
        }
    }
}

/// The authentication challenge of a 401 response.
struct Challenge {
    scheme: String,
    parameters: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// Creates a client for the repository of `reference`. Uses TLS, except for loopback addresses and if `plain`. Does not connect yet.
    pub fn new(reference: Reference, credentials: Option<Credentials>, plain: bool) -> Result<Self, RegistryError> {
        // there is one provider per process; an error means that it is already installed
        let _ = rustls::crypto::ring::default_provider().install_default();
        let scheme = if plain || reference.is_loopback() { "http" } else { "https" };
        let address = format!("{scheme}://{}/v2/{}/", reference.registry, reference.repository);
        let base = Url::parse(&address).map_err(|e| RegistryError::Reference {
            reference: reference.to_string(),
            reason: e.to_string(),
        })?;
        let away = |source| away(&base, source);
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_secs(300))
            .build()
            .map_err(away)?;
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(|source| RegistryError::Threads { source })?;
        Ok(Self {
            reference,
            client,
            base,
            credentials,
            login: Mutex::default(),
            threads,
        })
    }

    pub(super) fn wait<T>(&self, task: impl Future<Output = T>) -> T {
        self.threads.block_on(task)
    }

    /// Returns the URL of `path` in the repository.
    pub(super) fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }

    /// Returns the URL of the `Location` header.
    pub(super) fn location(&self, response: &Response) -> Option<Url> {
        response.url().join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
    }

    /// Sends a request, and authenticates if the registry requires it. A response of any status is `Ok`.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        doing: Doing,
        with: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let request = || {
            let request = with(self.client.request(method.clone(), url.clone()));
            match self.login(url) {
                Login::None => request,
                Login::Basic => self.signed(request),
                Login::Bearer(token) => request.bearer_auth(token),
            }
        };
        let response = request().send().await.map_err(|e| away(url, e))?;
        match challenge(&response).filter(|_| self.is_own(url)) {
            None => Ok(response),
            Some(challenge) => {
                self.authorize(&challenge, doing).await?;
                request().send().await.map_err(|e| away(url, e))
            }
        }
    }

    /// Returns the error for an unsuccessful response.
    pub(super) async fn refusal(&self, response: Response, doing: Doing, what: &str) -> RegistryError {
        let (status, doing, what) = (response.status(), doing.word(), what.to_owned());
        let answer = match told(response).await {
            Some(told) => format!("{status}, {told}"),
            None => status.to_string(),
        };
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Refused { doing, what, answer },
            StatusCode::NOT_FOUND => RegistryError::Absent { what },
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                RegistryError::Trouble { doing, what, answer }
            }
            _ => RegistryError::Answer { doing, what, answer },
        }
    }

    /// Returns whether `url` belongs to the registry. Tokens and passwords are not sent to other hosts that it redirects to.
    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    fn login(&self, url: &Url) -> Login {
        let login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_own(url) { login.clone() } else { Login::None }
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials {
            Some(Credentials::Password { user, password }) => request.basic_auth(user, Some(password)),
            Some(Credentials::IdentityToken(_)) | None => request,
        }
    }

    async fn authorize(&self, challenge: &Challenge, doing: Doing) -> Result<(), RegistryError> {
        let login = match challenge.scheme.as_str() {
            "bearer" => Login::Bearer(self.token(challenge, doing).await?),
            _ if matches!(self.credentials, Some(Credentials::IdentityToken(_))) => return Err(RegistryError::NoPassword),
            _ => Login::Basic,
        };
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = login;
        Ok(())
    }

    /// Requests a token (<https://distribution.github.io/distribution/spec/auth/token/>), in exchange for an identity token if there is
    /// one (<https://distribution.github.io/distribution/spec/auth/oauth/>).
    async fn token(&self, challenge: &Challenge, doing: Doing) -> Result<String, RegistryError> {
        let unusable = |answer: &str| RegistryError::Answer {
            doing: "issue",
            what: "a token".to_owned(),
            answer: answer.to_owned(),
        };
        let realm = challenge.parameters.get("realm").and_then(|realm| Url::parse(realm).ok());
        let mut url = realm.ok_or_else(|| unusable("the challenge has no valid realm"))?;
        if url.scheme() != "https" && self.base.scheme() == "https" {
            return Err(RegistryError::Plain { realm: url.to_string() });
        }
        let own = format!("repository:{}:{}", self.reference.repository, doing.scope());
        let service = challenge
            .parameters
            .get("service")
            .map(|service| ("service", service.as_str()));
        let request = match &self.credentials {
            Some(Credentials::IdentityToken(token)) => {
                let grant = [
                    ("grant_type", "refresh_token"),
                    ("client_id", "lockstep"),
                    ("refresh_token", token),
                    ("scope", &own),
                ];
                let form: Vec<_> = grant.into_iter().chain(service).collect();
                self.client.post(url.clone()).form(&form)
            }
            _ => {
                url.query_pairs_mut().extend_pairs(service).append_pair("scope", &own);
                self.signed(self.client.get(url.clone()))
            }
        };
        let response = request.send().await.map_err(|e| away(&url, e))?;
        if !response.status().is_success() {
            return Err(self.refusal(response, doing, &self.reference.to_string()).await);
        }
        let json = limited(response, 1 << 20)
            .await?
            .ok_or_else(|| unusable("the response is too large"))?;
        let token: Token = serde_json::from_slice(&json).map_err(|e| unusable(&e.to_string()))?;
        token
            .token
            .or(token.access_token)
            .ok_or_else(|| unusable("the response contains no token"))
    }
}

/// Runs `task`, and retries with increasing pauses if the registry can't be reached or is temporarily unavailable.
pub(super) async fn persist<T, F: Future<Output = Result<T, RegistryError>>>(task: impl Fn() -> F) -> Result<T, RegistryError> {
    let mut pause = Duration::from_millis(200);
    for _ in 1..TRIES {
        match task().await {
            Err(RegistryError::Away { .. } | RegistryError::Trouble { .. }) => tokio::time::sleep(pause).await,
            other => return other,
        }
        pause *= 4;
    }
    task().await
}

/// Reads the response body; `None` if it is larger than `most` bytes.
pub(super) async fn limited(mut response: Response, most: u64) -> Result<Option<Vec<u8>>, RegistryError> {
    let (url, mut bytes) = (response.url().clone(), Vec::new());
    while let Some(piece) = response.chunk().await.map_err(|e| away(&url, e))? {
        if (bytes.len() + piece.len()) as u64 > most {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Some(bytes))
}

pub(super) fn away(url: &Url, source: reqwest::Error) -> RegistryError {
    let mut url = url.clone();
    url.set_query(None);
    RegistryError::Away {
        url: url.to_string(),
        source: Box::new(source.without_url()),
    }
}

fn challenge(response: &Response) -> Option<Challenge> {
    if response.status() != StatusCode::UNAUTHORIZED {
        return None;
    }
    parse_challenge(response.headers().get(WWW_AUTHENTICATE)?.to_str().ok()?)
}

/// Parses a header such as `Bearer realm="https://...",service="..."` (RFC 9110, section 11.6.1).
fn parse_challenge(header: &str) -> Option<Challenge> {
    let (scheme, mut rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    let mut parameters = BTreeMap::new();
    while let Some((name, value)) = rest.split_once('=') {
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => value.split_at(value.find(',').unwrap_or(value.len())),
        };
        parameters.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        rest = after.trim_start().strip_prefix(',').unwrap_or_default();
    }
    Some(Challenge {
        scheme: scheme.to_ascii_lowercase(),
        parameters,
    })
}

/// Returns the first error message of a response, shortened.
async fn told(response: Response) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        message: Option<String>,
    }
    let json = limited(response, 64 << 10).await.ok()??;
    let errors: Errors = serde_json::from_slice(&json).ok()?;
    let message = errors.errors.into_iter().next()?.message?;
    Some(message.chars().filter(|letter| !letter.is_control()).take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_asks_for_is_read() {
        let read = |header: &str| {
            let Challenge { scheme, parameters } = parse_challenge(header).unwrap();
            let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("{scheme} {}", parameters.join(" "))
        };
        assert_eq!(
            read(r#"Bearer realm="https://auth.example.org/token",service="registry, a",scope="repository:a:pull,push""#),
            "bearer realm=https://auth.example.org/token scope=repository:a:pull,push service=registry, a"
        );
        assert_eq!(read("Basic realm=here"), "basic realm=here");
        assert_eq!(read("Basic"), "basic ");
        assert!(parse_challenge("Bearer realm=\"unclosed").is_none());
    }
}
