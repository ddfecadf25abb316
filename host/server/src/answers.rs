use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use lockstep_runtime::digest::Digest;
use lockstep_runtime::run::Ran;
use quick_cache::sync::Cache;

use crate::extract::blocking;
use crate::{Answer, Namespace};

/// Cache of recent responses, by digest of the request body: the same body requests the same run. An entry is valid while the store
/// has all of its artifacts.
pub struct Answers(pub Cache<Digest, Arc<Answered>>);

/// A cached response.
pub struct Answered {
    /// The result that the response shows.
    pub ran: Ran,
    /// The body of the response.
    pub body: Bytes,
    /// Time of the last check that the store has all of its artifacts.
    asked: Mutex<Instant>,
}

/// Minimum interval between such checks.
const HOLDS: Duration = Duration::from_secs(1);

impl Answered {
    /// Creates the response for a result that is now cached.
    pub fn new(mut ran: Ran) -> Self {
        ran.cached = true;
        Self {
            body: Bytes::from(ran.to_json().to_string()),
            ran,
            asked: Mutex::new(Instant::now()),
        }
    }

    /// Returns whether the store still has all artifacts of the result.
    pub async fn holds(self: &Arc<Self>, namespace: &Arc<Namespace>) -> Answer<bool> {
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.elapsed() < HOLDS {
                return Ok(true);
            }
            *asked = Instant::now();
        }
        let (own, namespace) = (self.clone(), namespace.clone());
        blocking(move || Ok(namespace.runtime.is_kept(&own.ran.digest, &own.ran.record)?)).await
    }
}

impl Default for Answers {
    fn default() -> Self {
        Self(Cache::new(4096))
    }
}
