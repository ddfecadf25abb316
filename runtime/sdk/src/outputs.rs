use std::path::Path;

use crate::step::Ports;
use crate::{Artifact, Result};

/// The return value of a step: an [`Artifact`], which is a single output, or a struct with `#[derive(Outputs)]`, whose fields
/// are the outputs.
///
/// ```
/// use lockstep::prelude::*;
///
/// #[derive(Outputs)]
/// struct Parts {
///     /// rows to learn from
///     train: Table,
///     /// rows to be judged by
///     test: Table,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be what a step returns",
    label = "neither an artifact nor #[derive(Outputs)]",
    note = "for one output return Table, Csv, Text, Bytes, Json<T>, Metrics, Figure or a type with #[derive(Serialize, Deserialize)]",
    note = "for several outputs return a struct with #[derive(Outputs)]"
)]
pub trait Outputs: Sized {
    /// The declared outputs.
    const PORTS: Ports;

    /// Writes every output into the directory `out`. A single output has the name `name`.
    fn write_outputs(self, out: &Path, name: &str) -> Result<()>;
}

impl<T: Artifact> Outputs for T {
    const PORTS: Ports = Ports::One(T::MEDIA_TYPE);

    fn write_outputs(self, out: &Path, name: &str) -> Result<()> {
        self.write_artifact(&out.join(name))
    }
}
