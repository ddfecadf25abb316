use std::error::Error;
use std::fmt;
use std::io;

use object_store::client::HttpError;

/// An error of a shared store.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// The URL is not valid.
    #[error("`{url}` is not a shared store: write s3://BUCKET or s3://BUCKET/PREFIX")]
    Url {
        /// the URL
        url: String,
    },
    /// The settings are invalid.
    #[error("invalid settings for {url}: {why}")]
    Settings {
        /// the shared store
        url: String,
        /// the cause
        why: String,
    },
    /// The client's thread can't be started.
    #[error("can't start the thread of the shared store: {source}")]
    Threads {
        /// the cause
        source: io::Error,
    },
    /// The server rejected the request.
    #[error("the shared store refused to {doing} {object}: {why}")]
    Refused {
        /// read, write, ...
        doing: &'static str,
        /// `s3://bucket/key`
        object: String,
        /// the HTTP status and the server's message
        why: String,
    },
    /// The server can't be reached or is unavailable, after several attempts.
    #[error("can't {doing} {object} in the shared store: {why}")]
    Away {
        /// read, write, ...
        doing: &'static str,
        /// `s3://bucket/key`
        object: String,
        /// the cause
        why: String,
    },
}

impl SharedError {
    pub(super) fn settings(url: &str, source: object_store::Error) -> Self {
        Self::Settings {
            url: url.to_owned(),
            why: innermost(&source),
        }
    }

    pub(super) fn of(doing: &'static str, object: String, source: &object_store::Error) -> Self {
        let text = innermost(source);
        let (is_away, why) = match Answer::read(&text) {
            Some(answer) => (answer.status.starts_with('5'), answer.to_string()),
            None => (find::<HttpError>(source).is_some(), text),
        };
        match is_away {
            true => Self::Away { doing, object, why },
            false => Self::Refused { doing, object, why },
        }
    }
}

/// An HTTP response.
struct Answer<'a> {
    /// `403 Forbidden`
    status: &'a str,
    body: &'a str,
}

impl<'a> Answer<'a> {
    /// Parses the text of an error. object_store reports the status only as text.
    fn read(text: &'a str) -> Option<Self> {
        let (_, rest) = text.split_once("status code: ")?;
        let (status, body) = rest.split_once(": ").unwrap_or((rest, ""));
        let status = status.trim_end_matches([' ', ':']);
        Some(Self { status, body })
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status)?;
        let said = ["Code", "Message"].into_iter().filter_map(|tag| element(self.body, tag));
        said.into_iter().try_for_each(|text| write!(f, ": {text}"))
    }
}

/// Returns the text of the first `tag` element of an S3 response.
fn element<'a>(xml: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{tag}>"))?;
    let (text, _) = rest.split_once(&format!("</{tag}>"))?;
    Some(text.trim()).filter(|text| !text.is_empty())
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    match error.downcast_ref() {
        Some(found) => Some(found),
        None => find(error.source()?),
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
