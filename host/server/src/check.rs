//! Check of the settings of a host.

use std::path::PathBuf;

use lockstep_view::error::Result;
use serde::Serialize;

use super::machine::Surroundings;
use super::{Settings, TokenFile, check_token, tls};

/// Checks the settings and the files that they name, without serving. Returns what the host would do.
pub fn check(settings: &Settings, surroundings: &Surroundings) -> Result<Checked> {
    check_token(surroundings.token.as_deref())?;
    let tls = tls(settings)?;
    let quotas = settings.quotas()?;
    let tokens = TokenFile::new(&surroundings.host_directory()).all()?;
    let memory = settings.memory();
    let limits = settings.limits(memory);
    Ok(Checked {
        url: format!(
            "{}://{}{}/",
            if tls.is_some() { "https" } else { "http" },
            settings.bind(),
            settings.base_path()
        ),
        store: surroundings.directory.clone(),
        tokens: tokens.len() + usize::from(surroundings.token.is_some()),
        trust_header: settings.trust_header().map(str::to_owned),
        jobs: settings.jobs(),
        queue: settings.queue(),
        memory,
        run_memory: limits.memory,
        max_time_ms: limits.time.map_or(u64::MAX, |time| time.as_millis() as u64),
        quotas: quotas.users().map(str::to_owned).collect(),
    })
}

/// What a host would do.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// The address, with a trailing slash.
    pub url: String,
    /// Directory of the store.
    pub store: PathBuf,
    /// Number of tokens. Without any, and without `trust_header`, the host creates one at its start.
    pub tokens: usize,
    /// Header in which a trusted proxy names the user.
    pub trust_header: Option<String>,
    /// Maximum number of concurrent jobs.
    pub jobs: usize,
    /// Maximum number of waiting jobs.
    pub queue: usize,
    /// Memory of all running guests together, in bytes.
    pub memory: u64,
    /// Memory limit of runs that set none, in bytes.
    pub run_memory: u64,
    /// Maximum time of a run, in milliseconds.
    pub max_time_ms: u64,
    /// Users with quotas of their own.
    pub quotas: Vec<String>,
}
