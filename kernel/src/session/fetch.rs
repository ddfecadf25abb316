//! `:fetch`: files that are downloaded once and then identified by digest.

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lockstep_runtime::digest::Digest;
use lockstep_runtime::step::{Artifact, MediaType};
use reqwest::redirect::Policy;
use reqwest::{Client, NoProxy, Proxy, Url};

use super::downloads::{Downloads, PublicOnly};
use super::execute::Execution;
use super::{Account, SessionError, failure};
use crate::notebook::Notebook;
use crate::output::CellError;

/// How often an interrupt is checked.
const POLL: Duration = Duration::from_millis(20);
/// The timeout for connecting and for each read.
const PATIENCE: Duration = Duration::from_secs(60);

/// The timeout for a whole download of a confined kernel.
const WHOLE: Duration = Duration::from_secs(30 * 60);
/// Maximum number of redirects of a download of a confined kernel.
const REDIRECTS: usize = 10;

/// The arguments of `:fetch`.
pub(super) struct Wanted<'a> {
    pub url: &'a str,
    /// The expected digest.
    pub digest: Option<Digest>,
}

/// An error of a download.
enum Failure {
    Interrupted,
    Session(SessionError),
    Said(String),
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        // The innermost cause is the most specific: `Connection refused`.
        let mut innermost: &dyn Error = &error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        Self::Said(innermost.to_string())
    }
}

/// Returns the latest digest of each download in a notebook, by URL.
pub fn fetched_by(notebook: &Notebook) -> BTreeMap<String, Digest> {
    let accounts = notebook.data(Account::MEDIA_TYPE);
    let accounts = accounts.filter_map(|value| serde_json::from_value::<Account>(value.clone()).ok());
    accounts.flat_map(|account| account.fetched).collect()
}

impl Execution<'_> {
    /// Fetches a URL: from the store if its digest is known, else from the network. Returns whether it came from the store.
    pub(super) fn fetch(&mut self, range: &Range<usize>, wanted: &Wanted<'_>) -> Result<(Artifact, bool), CellError> {
        let refuse = |this: &Self, problem: &str| this.refuse(range.clone(), problem);
        let url = Url::parse(wanted.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(url) = url else {
            let problem = format!("`{}` is not a URL\nhint: write `https://...`", wanted.url);
            return Err(refuse(self, &problem));
        };
        let pinned = wanted.digest.or_else(|| self.fetched.get(wanted.url).copied());
        let store = &self.setup.runtime.store;
        let known = pinned.map(|digest| store.artifact(&digest)).transpose();
        if let Some(artifact) = known.map_err(SessionError::from)?.flatten()
            && store.contains(&artifact.digest).map_err(SessionError::from)?
        {
            self.note_fetched(wanted.url, artifact.digest);
            return Ok((artifact, true));
        }
        if let Some(why) = self.confined().and_then(|downloads| downloads.check(&url).err()) {
            let problem = format!(
                "can't fetch {url}: {why}\nhint: the administrator of the host can allow it with `lockstep serve --fetch-from`"
            );
            return Err(refuse(self, &problem));
        }
        let artifact = self.download(&url).map_err(|failure| match failure {
            Failure::Interrupted => failure::interrupted(),
            Failure::Session(error) => error.into(),
            Failure::Said(said) => {
                let problem =
                    format!("can't fetch {url}: {said}\nhint: open the URL in a browser, or read a file with `:input`");
                refuse(self, &problem)
            }
        })?;
        match pinned.filter(|pinned| *pinned != artifact.digest) {
            None => {
                self.note_fetched(wanted.url, artifact.digest);
                Ok((artifact, false))
            }
            Some(pinned) => {
                let problem = format!(
                    "{url} has changed: got {}, expected {pinned}\n\
                     hint: to accept the new content, write `:fetch name = \"{url}\" {}`",
                    artifact.digest, artifact.digest
                );
                Err(refuse(self, &problem))
            }
        }
    }

    fn note_fetched(&mut self, url: &str, digest: Digest) {
        self.fetched.insert(url.to_owned(), digest);
        self.account.fetched.insert(url.to_owned(), digest);
    }

    /// Downloads into the store, with a progress bar.
    fn download(&mut self, url: &Url) -> Result<Artifact, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Said(error.to_string()))?;
        runtime.block_on(self.transfer(url))
    }

    async fn transfer(&mut self, url: &Url) -> Result<Artifact, Failure> {
        let client = self.client()?;
        let interrupt = self.interrupt;
        let mut answer = unless(interrupt, client.get(url.clone()).send()).await??.error_for_status()?;
        let length = answer.content_length().filter(|length| *length > 0);
        let media_type = media_type(
            url,
            answer.headers().get("content-type").and_then(|value| value.to_str().ok()),
        );
        let mut writer = self.setup.runtime.store.writer();
        while let Some(chunk) = unless(interrupt, answer.chunk()).await?? {
            let written = writer.write_at(writer.len(), &chunk);
            written.map_err(|error| Failure::Said(format!("can't store it: {error}")))?;
            if let Some(downloads) = self.confined().filter(|downloads| writer.len() > downloads.size) {
                let most = downloads.size;
                return Err(Failure::Said(format!(
                    "it is larger than {most} bytes, the limit of this host"
                )));
            }
            let percent = length.map(|length| (writer.len() * 100 / length).min(100) as u8);
            self.output.progress(percent.or(Some(0)));
        }
        self.output.progress(None);
        let kept = writer.finish().map_err(SessionError::from);
        let (digest, size) = kept.map_err(Failure::Session)?;
        let artifact = Artifact {
            digest,
            media_type,
            size,
        };
        let noted = self.setup.runtime.store.note_artifact(&artifact).map_err(SessionError::from);
        noted.map_err(Failure::Session)?;
        Ok(artifact)
    }

    /// Returns what a confined kernel may download.
    fn confined(&self) -> Option<&Downloads> {
        self.setup.confined.as_ref().map(|confined| &confined.downloads)
    }

    /// Returns a client that uses the proxies of the environment. A proxy resolves names itself, so it decides which addresses are reached.
    fn client(&self) -> Result<Client, Failure> {
        // An error means that a provider is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let environment = &self.setup.toolchain.locations().environment;
        let variable = |name: &str| {
            let value = environment.get(Path::new(&name.to_lowercase()).as_os_str());
            let value = value.or_else(|| environment.get(Path::new(name).as_os_str()));
            value.and_then(|value| value.to_str()).filter(|value| !value.is_empty())
        };
        let except = variable("NO_PROXY").and_then(NoProxy::from_string);
        let mut client = Client::builder().read_timeout(PATIENCE).connect_timeout(PATIENCE);
        if let Some(downloads) = self.confined() {
            let downloads = downloads.clone();
            let follow = Policy::custom(move |attempt| match downloads.check(attempt.url()) {
                Ok(()) if attempt.previous().len() < REDIRECTS => attempt.follow(),
                Ok(()) => attempt.error("too many redirects"),
                Err(why) => attempt.error(why),
            });
            client = client.redirect(follow).dns_resolver(Arc::new(PublicOnly)).timeout(WHOLE);
        }
        if let Some(proxy) = variable("HTTP_PROXY") {
            client = client.proxy(Proxy::http(proxy)?.no_proxy(except.clone()));
        }
        if let Some(proxy) = variable("HTTPS_PROXY") {
            client = client.proxy(Proxy::https(proxy)?.no_proxy(except));
        }
        Ok(client.user_agent(concat!("lockstep/", env!("CARGO_PKG_VERSION"))).build()?)
    }
}

/// Waits for `work` unless it is interrupted.
async fn unless<T>(interrupt: &lockstep_runtime::sandbox::Interrupt, work: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::pin!(work);
    loop {
        match tokio::time::timeout(POLL, &mut work).await {
            Ok(done) => return Ok(done),
            Err(_) if interrupt.is_triggered() => return Err(Failure::Interrupted),
            Err(_) => {}
        }
    }
}

/// Returns the media type by file name, else as the server declares it.
fn media_type(url: &Url, said: Option<&str>) -> MediaType {
    let by_name = MediaType::of_path(Path::new(url.path()));
    match said.and_then(|said| said.split(';').next()) {
        Some(said) if by_name == MediaType::default() => MediaType::new(said.trim()),
        _ => by_name,
    }
}
