//! The built-in module `lockstep:tables`. Modules of steps call it for formats that they can't read themselves, so that they need not
//! contain Parquet and its compressions.

use lockstep::prelude::*;

/// Convert a table in any format to an Arrow stream.
#[step(output = "table")]
pub fn read(
    /// Parquet, Arrow or CSV, with any compression of its own
    file: TableReader,
) -> TableReader {
    file
}
