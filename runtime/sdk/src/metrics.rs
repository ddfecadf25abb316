use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use crate::artifact::{create, media_type, read};
use crate::{Artifact, Context, Result};

/// Named numbers that measure quality.
///
/// ```
/// use lockstep::Metrics;
///
/// let metrics = Metrics::from([("accuracy", 0.97), ("loss", 0.1)]);
/// assert_eq!(metrics["accuracy"], 0.97);
/// ```
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metrics(pub BTreeMap<String, f64>);

impl Metrics {
    /// Creates empty metrics.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the metric `name`.
    pub fn set(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), value);
    }
}

impl<N: Into<String>, const COUNT: usize> From<[(N, f64); COUNT]> for Metrics {
    fn from(metrics: [(N, f64); COUNT]) -> Self {
        metrics.into_iter().collect()
    }
}

impl<N: Into<String>> FromIterator<(N, f64)> for Metrics {
    fn from_iter<I: IntoIterator<Item = (N, f64)>>(metrics: I) -> Self {
        Self(metrics.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

impl Deref for Metrics {
    type Target = BTreeMap<String, f64>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Metrics {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.keys().map(|name| name.chars().count()).max().unwrap_or_default();
        self.iter()
            .try_for_each(|(name, value)| writeln!(f, "{name:<width$}  {value}"))
    }
}

impl Artifact for Metrics {
    const MEDIA_TYPE: &'static str = media_type::METRICS;

    fn read(path: &Path) -> Result<Self> {
        let metrics = serde_json::from_slice(&read(path)?);
        Ok(Self(metrics.with_context(|| {
            format!("{} is not a flat map from name to number", path.display())
        })?))
    }

    fn write_artifact(&self, path: &Path) -> Result<()> {
        // JSON has no infinities and no NaN: serde_json would write null, which is not a number
        if let Some((name, value)) = self.iter().find(|(_, value)| !value.is_finite()) {
            crate::bail!("metric `{name}` is {value}: leave out what could not be computed");
        }
        create(path, |file| Ok(serde_json::to_writer(file, &self.0)?))
    }
}
