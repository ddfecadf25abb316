use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{LOCATION, WWW_AUTHENTICATE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::{Reference, RegistryError, TRIES};

/// A name and a password, or a token in place of the password.
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

/// A repository of a registry.
pub struct Registry {
    pub(super) reference: Reference,
    client: Client,
    /// `https://host/v2/repository/`
    base: Url,
    credentials: Option<Credentials>,
    /// What the registry has asked for.
    login: Mutex<Login>,
    /// Drives connections. Whoever asks waits on a thread of its own.
    threads: tokio::runtime::Runtime,
}

/// How requests say who asks.
#[derive(Clone, Default)]
enum Login {
    #[default]
    None,
    Basic,
    Bearer(String),
}

/// What is done to the repository, for messages and for the scope of tokens.
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

/// What a registry asks for with a 401.
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
    /// The repository that `reference` names. It is spoken to over TLS, but on this machine and if `plain`. Nothing is asked of the network
    /// yet.
    pub fn new(reference: Reference, credentials: Option<Credentials>, plain: bool) -> Result<Self, RegistryError> {
        // a process has one: whichever comes first serves all
        let _ = rustls::crypto::ring::default_provider().install_default();
        let scheme = if plain || reference.is_loopback() { "http" } else { "https" };
        let address = format!("{scheme}://{}/v2/{}/", reference.registry, reference.repository);
        let base = Url::parse(&address).map_err(|e| RegistryError::NoBundle {
            what: reference.to_string(),
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

    /// Where `path` of the repository is.
    pub(super) fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap_or_else(|_| self.base.clone())
    }

    /// Where the registry says that one should go on.
    pub(super) fn location(&self, response: &Response) -> Option<Url> {
        response.url().join(response.headers().get(LOCATION)?.to_str().ok()?).ok()
    }

    /// Asks, and says who asks when the registry wants to know. Any answer is one; but for that, an error says that there is none.
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

    /// An error for an answer that is not as hoped.
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

    /// Tokens and passwords are for the registry alone, and not for where it sends us.
    fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    fn login(&self, url: &Url) -> Login {
        let login = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_own(url) { login.clone() } else { Login::None }
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials {
            Some(Credentials { user, password }) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    async fn authorize(&self, challenge: &Challenge, doing: Doing) -> Result<(), RegistryError> {
        let login = match challenge.scheme.as_str() {
            "bearer" => Login::Bearer(self.token(challenge, doing).await?),
            _ => Login::Basic,
        };
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = login;
        Ok(())
    }

    /// A token, by <https://distribution.github.io/distribution/spec/auth/token/>.
    async fn token(&self, challenge: &Challenge, doing: Doing) -> Result<String, RegistryError> {
        let unusable = |answer: &str| RegistryError::Answer {
            doing: "give",
            what: "a token".to_owned(),
            answer: answer.to_owned(),
        };
        let realm = challenge.parameters.get("realm").and_then(|realm| Url::parse(realm).ok());
        let mut url = realm.ok_or_else(|| unusable("it does not say where"))?;
        if url.scheme() != "https" && self.base.scheme() == "https" {
            return Err(RegistryError::Plain { realm: url.to_string() });
        }
        let own = format!("repository:{}:{}", self.reference.repository, doing.scope());
        let service = challenge
            .parameters
            .get("service")
            .map(|service| ("service", service.as_str()));
        url.query_pairs_mut().extend_pairs(service).append_pair("scope", &own);
        let response = self
            .signed(self.client.get(url.clone()))
            .send()
            .await
            .map_err(|e| away(&url, e))?;
        if !response.status().is_success() {
            return Err(self.refusal(response, doing, &self.reference.to_string()).await);
        }
        let json = limited(response, 1 << 20).await?.ok_or_else(|| unusable("it is too long"))?;
        let token: Token = serde_json::from_slice(&json).map_err(|e| unusable(&e.to_string()))?;
        token
            .token
            .or(token.access_token)
            .ok_or_else(|| unusable("there is none in the answer"))
    }
}

/// Does it again, after a while, when the registry can't be reached or has trouble of its own.
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

/// The body, if it has no more bytes than `most`.
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

/// `Bearer realm="https://...",service="..."`, RFC 9110, section 11.6.1
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

/// What a registry says of an error: the first message, in short.
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
