use std::error::Error;
use std::fmt;
use std::io;

use object_store::client::HttpError;

/// What can go wrong with a shared store.
#[derive(Debug, thiserror::Error)]
pub enum SharedError {
    /// It is no such URL.
    #[error("`{url}` is no shared store: write s3://BUCKET or s3://BUCKET/PREFIX")]
    Url {
        /// what was given
        url: String,
    },
    /// The settings don't fit together.
    #[error("the settings of {url} can't be used: {why}")]
    Settings {
        /// the shared store
        url: String,
        /// why
        why: String,
    },
    /// There is no thread for it.
    #[error("can't start the thread of the shared store: {source}")]
    Threads {
        /// why
        source: io::Error,
    },
    /// It was asked, and refused.
    #[error("the shared store refused to {doing} {object}: {why}")]
    Refused {
        /// read, write, ...
        doing: &'static str,
        /// `s3://bucket/key`
        object: String,
        /// the status and what the server said
        why: String,
    },
    /// It can't be reached, or answers that it can't serve now; it was tried several times.
    #[error("can't {doing} {object} of the shared store: {why}")]
    Away {
        /// read, write, ...
        doing: &'static str,
        /// `s3://bucket/key`
        object: String,
        /// why
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

/// What a server answered.
struct Answer<'a> {
    /// `403 Forbidden`
    status: &'a str,
    body: &'a str,
}

impl<'a> Answer<'a> {
    /// object_store tells the status of an answer only as text.
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

/// The text of the first element `tag` of an answer of S3.
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
