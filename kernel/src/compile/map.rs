use std::ops::Range;

/// The origin of a piece of generated source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A verbatim piece of a cell.
    Cell {
        /// which cell
        place: CellRef,
        /// where in its text
        range: Range<usize>,
    },
    /// Generated for a piece of a cell. Any place in it maps to the whole piece.
    Whole {
        /// which cell
        place: CellRef,
        /// where in its text
        range: Range<usize>,
    },
    /// An automatic implementation.
    Derived {
        /// the type
        of: String,
        /// the trait
        implements: &'static str,
    },
    /// The load of a variable.
    Load(String),
    /// The save of a variable.
    Save {
        /// the variable
        name: String,
        /// the statement of the current cell that binds it
        bound: Option<Range<usize>>,
    },
}

/// A reference to a cell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CellRef {
    /// The cell that is being executed.
    Current,
    /// An earlier cell, by its index in the scope.
    Earlier(usize),
}

/// Maps places in generated source to places in cells.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct SourceMap {
    segments: Vec<(Range<usize>, Origin)>,
}

impl SourceMap {
    /// Records the origin of the generated `range`. Ranges are added in order and do not overlap.
    pub(super) fn push(&mut self, range: Range<usize>, origin: Origin) {
        self.segments.push((range, origin));
    }

    /// Returns the origin of the piece at a generated offset.
    pub fn origin(&self, offset: usize) -> Option<&Origin> {
        self.segment(offset).map(|(_, origin)| origin)
    }

    /// Returns the place in a cell for the generated `range`; `None` if it is not from a cell.
    pub fn locate(&self, range: &Range<usize>) -> Option<(CellRef, Range<usize>)> {
        let (generated, origin) = self.segment(range.start)?;
        match origin {
            Origin::Cell { place, range: typed } => {
                let start = typed.start + (range.start - generated.start);
                let end = typed.start + (range.end.min(generated.end).max(range.start) - generated.start);
                Some((*place, start..end))
            }
            Origin::Whole { place, range } => Some((*place, range.clone())),
            Origin::Save { bound, .. } => Some((CellRef::Current, bound.clone()?)),
            Origin::Load(_) | Origin::Derived { .. } => None,
        }
    }

    /// Returns the statement of the current cell that binds a variable which it saves.
    pub fn bound(&self, variable: &str) -> Option<Range<usize>> {
        self.segments.iter().find_map(|(_, origin)| match origin {
            Origin::Save { name, bound } if name == variable => bound.clone(),
            _ => None,
        })
    }

    /// Returns the end of the current cell, for messages about the end of the file.
    pub fn end(&self) -> Option<(CellRef, Range<usize>)> {
        self.segments.iter().rev().find_map(|(_, origin)| match origin {
            Origin::Cell {
                place: CellRef::Current,
                range,
            } => Some((CellRef::Current, range.end..range.end)),
            _ => None,
        })
    }

    fn segment(&self, offset: usize) -> Option<&(Range<usize>, Origin)> {
        let after = self.segments.partition_point(|(range, _)| range.start <= offset);
        let segment = self.segments.get(after.checked_sub(1)?)?;
        // The end belongs to the piece too: `expected ;` points there.
        (offset <= segment.0.end).then_some(segment)
    }
}

/// Returns the byte offset of a line and a column in characters, both from 1, as rustc and panics count them.
pub(crate) fn offset(text: &str, line: usize, column: usize) -> Option<usize> {
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let rest = text.get(start..)?;
    let skipped: usize = rest.chars().take(column.checked_sub(1)?).map(char::len_utf8).sum();
    Some(start + skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_back_to_the_cell() {
        let mut map = SourceMap::default();
        let place = CellRef::Earlier(2);
        map.push(10..20, Origin::Cell { place, range: 100..110 });
        let save = Origin::Save {
            name: "x".into(),
            bound: None,
        };
        map.push(20..25, save.clone());
        map.push(30..40, Origin::Whole { place, range: 5..7 });
        assert_eq!(map.locate(&(12..15)), Some((place, 102..105)));
        assert_eq!(map.locate(&(19..50)), Some((place, 109..110)));
        assert_eq!(map.locate(&(20..21)), None);
        assert_eq!(map.locate(&(33..34)), Some((place, 5..7)));
        assert_eq!(map.locate(&(27..28)), None);
        assert_eq!(map.origin(22), Some(&save));
    }

    #[test]
    fn columns_are_characters() {
        let text = "é\nxéy";
        assert_eq!(offset(text, 2, 3), Some(6));
    }
}
