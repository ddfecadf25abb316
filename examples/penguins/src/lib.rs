//! Palmer penguins: clean, split, train, score, plot.

use lockstep::prelude::*;

/// Drop rows whose given columns are empty.
///
/// An empty field and `NA` are both "empty".
#[step(output = "rows")]
pub fn clean(
    /// the rows to clean
    raw: Table,
    /// which columns must hold something; all of them if not given
    columns: Param<Option<Vec<String>>>,
) -> Result<Table> {
    let all = || raw.columns().into_iter().map(String::from).collect();
    let columns: Vec<String> = columns.into_inner().unwrap_or_else(all);
    let mut keep = vec![true; raw.rows()];
    for name in &columns {
        let column = raw.column(name)?;
        keep.iter_mut()
            .enumerate()
            .for_each(|(row, keep)| *keep &= column.is_valid(row));
    }
    raw.filter(&keep)
}
