//! Splits CSV (RFC 4180) into records, as the crate `csv` does, but many bytes at a time: separators, quotes and line ends are found with
//! SIMD in the sandbox.

use std::io::{Read, Seek};
use std::ops::Range;

use anyhow::{Result, bail};

use crate::{Texts, Values, number};

/// Default of the number of bytes to read at once.
const PIECE: usize = 256 * 1024;

/// Maximum size of a record, in bytes, and of a batch without its last record.
const MAX_RECORD: usize = 1 << 30;

/// Number of bytes that are searched at once.
const BLOCK: usize = 64;

/// Texts up to this length are copied in one go, in bytes.
const SHORT: usize = 16;

/// Blanks after the last byte of the buffer, so that a block can start at each byte.
const PADDING: [u8; BLOCK] = [b' '; BLOCK];

/// What CSV is read from.
trait Source: Read + Seek {}

impl<T: Read + Seek> Source for T {}

/// The records of a source. Blank lines are no records, unless there is one column: then they are records with an empty field.
pub struct Records<'s> {
    // no type parameter, so that the code is compiled in this crate
    source: Box<dyn Source + 's>,
    separator: u8,
    /// Number of bytes to read at once.
    piece: usize,
    is_one_column: bool,
    /// The bytes of the source from `offset` on, and the padding.
    buffer: Vec<u8>,
    offset: u64,
    /// Whether the buffer has the last byte of the source.
    has_all: bool,
    /// The start of the next record in the buffer.
    next: usize,
    /// The start of each record of the batch.
    starts: Vec<usize>,
    /// The fields of the batch, record by record.
    fields: Vec<Range<usize>>,
    /// The text of a field without its quotes.
    unquoted: Vec<u8>,
    marks: Marks,
}

/// A column of a batch.
pub struct Column<'a> {
    records: &'a Records<'a>,
    column: usize,
    columns: usize,
    nulls: &'a [Vec<u8>],
    /// The length of the longest null.
    longest: usize,
}

/// The positions of separators, quotes and line ends in the buffer.
#[derive(Default)]
struct Marks {
    /// The marks before this place have been returned.
    place: usize,
    block: usize,
    /// Bit n: there is a mark at `block + n`, which has not been returned.
    bits: u64,
}

impl<'s> Records<'s> {
    /// Reads the records of `source`, from its start.
    pub fn new(source: impl Read + Seek + 's, separator: u8) -> Result<Self> {
        Self::by(PIECE, Box::new(source), separator)
    }

    fn by(piece: usize, mut source: Box<dyn Source + 's>, separator: u8) -> Result<Self> {
        if matches!(separator, b'"' | b'\n' | b'\r') {
            bail!("fields can't be separated by `{}`", separator.escape_ascii());
        }
        source.rewind()?;
        let mut records = Self {
            source,
            separator,
            piece,
            is_one_column: false,
            buffer: PADDING.to_vec(),
            offset: 0,
            has_all: false,
            next: 0,
            starts: Vec::new(),
            fields: Vec::new(),
            unquoted: Vec::new(),
            marks: Marks::default(),
        };
        records.byte("\u{feff}".len())?;
        if records.bytes().starts_with("\u{feff}".as_bytes()) {
            records.next = "\u{feff}".len();
        }
        Ok(records)
    }

    /// Returns the bytes that have been read, after those of earlier batches.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len()]
    }

    fn len(&self) -> usize {
        self.buffer.len() - PADDING.len()
    }

    /// Reads the record with the names of the columns. Returns the number of columns; 0 if there is no record.
    pub fn header(&mut self) -> Result<usize> {
        self.batch(None, 1)?;
        self.is_one_column = self.fields.len() == 1;
        Ok(self.fields.len())
    }

    /// Reads at most `most` records with `columns` fields each. Returns their number, 0 at the end.
    pub fn batch(&mut self, columns: Option<usize>, most: usize) -> Result<usize> {
        self.buffer.drain(..self.next);
        self.offset += self.next as u64;
        self.next = 0;
        self.starts.clear();
        self.fields.clear();
        self.marks.search_from(self.next, &self.buffer, self.separator);
        while self.starts.len() < most && self.next < MAX_RECORD {
            if let Some(columns) = columns {
                self.plain(columns, most);
                if self.starts.len() == most {
                    break;
                }
            }
            let complete = self.fields.len();
            let Some(start) = self.record()? else { break };
            self.starts.push(start);
            let count = self.fields.len() - complete;
            if let Some(columns) = columns.filter(|columns| *columns != count) {
                let line = self.line_of(self.starts.len() - 1)?;
                let fields = if count == 1 { "field" } else { "fields" };
                bail!("line {line} has {count} {fields}, but the header has {columns}");
            }
        }
        Ok(self.starts.len())
    }

    /// Returns a column of the batch of records with `columns` fields. Fields equal to one of `nulls` are nulls.
    pub fn column<'a>(&'a self, column: usize, columns: usize, nulls: &'a [Vec<u8>]) -> Column<'a> {
        Column {
            records: self,
            column,
            columns,
            nulls,
            longest: nulls.iter().map(Vec::len).max().unwrap_or_default(),
        }
    }

    /// Returns the line in which record number `record` of the batch starts, counted from 1. Reads the source again, so that counting lines costs
    /// nothing where there is no error.
    pub fn line_of(&mut self, record: usize) -> Result<u64> {
        self.line(self.starts[record])
    }

    fn line(&mut self, place: usize) -> Result<u64> {
        let position = self.source.stream_position()?;
        self.source.rewind()?;
        let mut before = self.source.by_ref().take(self.offset + place as u64);
        let (mut piece, mut line, mut last) = (vec![0; PIECE], 1, 0);
        loop {
            let count = before.read(&mut piece)?;
            for byte in &piece[..count] {
                line += u64::from(*byte == b'\r' || *byte == b'\n' && last != b'\r');
                last = *byte;
            }
            if count == 0 {
                break;
            }
        }
        self.source.seek(std::io::SeekFrom::Start(position))?;
        Ok(line)
    }

    fn read_more(&mut self) -> Result<()> {
        let len = self.len();
        if len - self.next > MAX_RECORD {
            let line = self.line(self.next)?;
            bail!("line {line}: the row has more than 1 GiB");
        }
        self.buffer.truncate(len);
        // a record of any length needs few reads
        let count = self.piece.max(len) as u64;
        let read = self.source.by_ref().take(count).read_to_end(&mut self.buffer)?;
        self.buffer.extend_from_slice(&PADDING);
        self.has_all = (read as u64) < count;
        self.marks
            .search_from(self.marks.place.min(len), &self.buffer, self.separator);
        Ok(())
    }

    /// Returns the byte at a place of the buffer; `None` at the end.
    fn byte(&mut self, place: usize) -> Result<Option<u8>> {
        while place >= self.len() && !self.has_all {
            self.read_more()?;
        }
        Ok(self.bytes().get(place).copied())
    }

    /// Returns the place of the next mark; `None` at the end.
    fn mark(&mut self) -> Result<Option<usize>> {
        loop {
            let mark = self.marks.next(&self.buffer, self.separator);
            if mark < self.len() {
                return Ok(Some(mark));
            }
            if self.has_all {
                return Ok(None);
            }
            self.read_more()?;
        }
    }

    /// Returns whether the byte ends a field without quotes.
    fn is_end(&self, byte: u8) -> bool {
        byte == self.separator || matches!(byte, b'\n' | b'\r')
    }

    /// Splits records as [`record`](Self::record) does, but faster, and only as long as they have `columns` fields without quotes and are in the
    /// buffer.
    fn plain(&mut self, columns: usize, most: usize) {
        let (buffer, separator, len) = (self.buffer.as_slice(), self.separator, self.len());
        let (mut block, mut complete, mut start) = (self.next, self.fields.len(), self.next);
        'blocks: while block < len && self.starts.len() < most {
            let mut bits = search(buffer, block, separator);
            while bits != 0 {
                let mark = block + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let byte = buffer[mark];
                if byte == separator && mark < len {
                    self.fields.push(start..mark);
                    start = mark + 1;
                    continue;
                }
                let end = match byte {
                    b'\n' => mark + 1,
                    b'\r' if buffer[mark + 1] == b'\n' => mark + 2,
                    _ => break 'blocks,
                };
                let is_blank = mark == self.next;
                if is_blank || end > len || self.fields.len() + 1 - complete != columns {
                    break 'blocks;
                }
                self.fields.push(start..mark);
                self.starts.push(self.next);
                (self.next, start, complete) = (end, end, self.fields.len());
                if self.starts.len() == most {
                    break 'blocks;
                }
                // past the end of the line
                bits &= u64::MAX.checked_shl((end - block) as u32).unwrap_or_default();
            }
            block = (block + BLOCK).max(start);
        }
        self.fields.truncate(complete);
        self.marks.search_from(self.next, &self.buffer, self.separator);
    }

    /// Splits the next record. Returns its start; `None` at the end.
    fn record(&mut self) -> Result<Option<usize>> {
        let first = self.fields.len();
        let mut start = self.next;
        // the text of a quoted field
        let mut quoted = None;
        loop {
            let Some(mark) = self.mark()? else {
                let (record, len) = (self.next, self.len());
                if record == len {
                    return Ok(None);
                }
                self.fields.push(quoted.unwrap_or(start..len));
                self.next = len;
                return Ok(Some(record));
            };
            let byte = self.buffer[mark];
            if byte == self.separator {
                self.fields.push(quoted.take().unwrap_or(start..mark));
                start = mark + 1;
            } else if byte == b'"' {
                // within a field, it is a character like others
                if mark == start && quoted.is_none() {
                    quoted = Some(self.quoted(mark)?);
                }
            } else {
                let record = self.next;
                self.next = mark + 1;
                if byte == b'\r' && self.byte(self.next)? == Some(b'\n') {
                    self.next += 1;
                    self.marks.skip_to(self.next, &self.buffer, self.separator);
                }
                let is_blank = mark == record && self.fields.len() == first && quoted.is_none();
                if is_blank && !self.is_one_column {
                    start = self.next;
                    continue;
                }
                self.fields.push(quoted.unwrap_or(start..mark));
                return Ok(Some(record));
            }
        }
    }

    /// Reads the field that starts with the quote at `open`. Returns where its text is. The next mark is what ends the field.
    fn quoted(&mut self, open: usize) -> Result<Range<usize>> {
        let close = loop {
            match self.mark()? {
                Some(mark) if self.buffer[mark] == b'"' => break mark,
                Some(_) => {}
                None => return self.unclosed(open),
            }
        };
        match self.byte(close + 1)? {
            Some(byte) if !self.is_end(byte) => self.escaped(open, close),
            _ => Ok(open + 1..close),
        }
    }

    /// Like [`quoted`](Self::quoted), for a field with text after its second quote, which is at `second`. Two quotes are one; after a single
    /// quote, all that follows is text. The text is written to its place without these quotes.
    fn escaped(&mut self, open: usize, second: usize) -> Result<Range<usize>> {
        self.unquoted.clear();
        let (mut place, mut is_quoted) = (second, true);
        while let Some(byte) = self.byte(place)? {
            if is_quoted && byte == b'"' {
                place += 1;
                is_quoted = self.byte(place)? == Some(b'"');
                if !is_quoted {
                    continue;
                }
            } else if !is_quoted && self.is_end(byte) {
                break;
            }
            self.unquoted.push(byte);
            place += 1;
        }
        if is_quoted {
            return self.unclosed(open);
        }
        let end = second + self.unquoted.len();
        self.buffer[second..end].copy_from_slice(&self.unquoted);
        self.marks.skip_to(place, &self.buffer, self.separator);
        Ok(open + 1..end)
    }

    fn unclosed<T>(&mut self, quote: usize) -> Result<T> {
        let line = self.line(quote)?;
        bail!("line {line}: the field that starts with `\"` has no closing `\"`")
    }
}

impl<'a> Column<'a> {
    fn rows(&self) -> usize {
        self.records.starts.len()
    }

    /// Returns the field of a row.
    pub fn field(&self, row: usize) -> &'a [u8] {
        &self.records.buffer[self.records.fields[row * self.columns + self.column].clone()]
    }

    fn start(&self, row: usize) -> usize {
        self.records.fields[row * self.columns + self.column].start
    }

    /// Returns the fields; `None` for nulls.
    pub fn fields(&self) -> impl Iterator<Item = Option<&'a [u8]>> {
        (0..self.rows()).map(|row| {
            let field = self.field(row);
            (!self.is_null(field)).then_some(field)
        })
    }

    fn is_null(&self, field: &[u8]) -> bool {
        field.len() <= self.longest && self.nulls.iter().any(|null| null == field)
    }

    /// Returns the first row from `row` on whose field is no null, and for which `holds` is false.
    pub fn first(&self, row: usize, holds: fn(&[u8]) -> bool) -> Option<usize> {
        (row..self.rows()).find(|row| {
            let field = self.field(*row);
            !holds(field) && !self.is_null(field)
        })
    }

    /// Returns the integers. The error is the first row whose field is none.
    pub fn integers(&self) -> Result<Values<i64>, usize> {
        self.values(number::integer)
    }

    /// Returns the doubles. The error is the first row whose field is none.
    pub fn floats(&self) -> Result<Values<f64>, usize> {
        self.values(number::float)
    }

    fn values<T: Copy + Default>(&self, parse: impl Fn(&[u8]) -> Option<T>) -> Result<Values<T>, usize> {
        let mut values = Vec::with_capacity(self.rows());
        let mut is_null = Vec::new();
        for row in 0..self.rows() {
            let field = self.field(row);
            match parse(field) {
                // `nulls` may contain numbers
                Some(value) if !self.is_null(field) => values.push(value),
                _ if self.is_null(field) => {
                    is_null.resize(row, false);
                    is_null.push(true);
                    values.push(T::default());
                }
                _ => return Err(row),
            }
        }
        if !is_null.is_empty() {
            is_null.resize(self.rows(), false);
        }
        Ok(Values { values, is_null })
    }

    /// Returns the texts.
    pub fn texts(&self) -> Texts {
        let mut texts = Texts {
            bytes: Vec::new(),
            offsets: Vec::with_capacity(self.rows() + 1),
            is_null: Vec::new(),
        };
        texts.offsets.push(0);
        for row in 0..self.rows() {
            let field = self.field(row);
            if self.is_null(field) {
                texts.is_null.resize(row, false);
                texts.is_null.push(true);
            } else {
                let start = self.start(row);
                // a fixed number of bytes is copied faster
                match self.records.buffer.get(start..start + SHORT).filter(|_| field.len() <= SHORT) {
                    Some(bytes) => {
                        texts.bytes.extend_from_slice(bytes);
                        texts.bytes.truncate(texts.bytes.len() - (SHORT - field.len()));
                    }
                    None => texts.bytes.extend_from_slice(field),
                }
            }
            // a batch has at most 2 GiB
            texts.offsets.push(texts.bytes.len() as i32);
        }
        if !texts.is_null.is_empty() {
            texts.is_null.resize(self.rows(), false);
        }
        texts
    }
}

impl Marks {
    /// The next mark is at `place` or after it.
    fn search_from(&mut self, place: usize, buffer: &[u8], separator: u8) {
        *self = Self {
            place,
            block: place,
            bits: search(buffer, place, separator),
        };
    }

    /// Returns the place of the next mark; if there is none, one beyond the text of the buffer.
    fn next(&mut self, buffer: &[u8], separator: u8) -> usize {
        while self.bits == 0 {
            if self.block + 2 * BLOCK > buffer.len() {
                self.place = buffer.len();
                return self.place;
            }
            self.block += BLOCK;
            self.bits = search(buffer, self.block, separator);
        }
        let mark = self.block + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        self.place = mark + 1;
        mark
    }

    /// Like [`search_from`](Self::search_from), for a place that is not before that of the last mark.
    fn skip_to(&mut self, place: usize, buffer: &[u8], separator: u8) {
        if place < self.block + BLOCK {
            self.bits &= u64::MAX << (place - self.block);
            self.place = place;
        } else {
            self.search_from(place, buffer, separator);
        }
    }
}

/// Returns a bit for each byte of the block at `start` that is a separator, a quote or the end of a line.
#[cfg(target_feature = "simd128")]
fn search(buffer: &[u8], start: usize, separator: u8) -> u64 {
    use core::arch::wasm32::{u8x16_bitmask, u8x16_eq, u8x16_splat, u64x2, v128_or};
    let (words, _) = buffer[start..start + BLOCK].as_chunks::<8>();
    let (mut bits, mut shift) = (0, 0);
    for pair in words.as_chunks::<2>().0 {
        let bytes = u64x2(u64::from_le_bytes(pair[0]), u64::from_le_bytes(pair[1]));
        let is = |byte: u8| u8x16_eq(bytes, u8x16_splat(byte));
        let marks = v128_or(v128_or(is(separator), is(b'"')), v128_or(is(b'\n'), is(b'\r')));
        bits |= u64::from(u8x16_bitmask(marks)) << shift;
        shift += 16;
    }
    bits
}

#[cfg(not(target_feature = "simd128"))]
fn search(buffer: &[u8], start: usize, separator: u8) -> u64 {
    let block = buffer[start..start + BLOCK].iter().rev();
    block.fold(0, |bits, byte| {
        bits << 1 | u64::from(*byte == separator || matches!(byte, b'"' | b'\n' | b'\r'))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use csv::ReaderBuilder;
    use proptest::prelude::*;

    use super::*;

    /// Returns the records of a text that is read `piece` bytes at a time.
    fn records(text: &[u8], piece: usize) -> Result<Vec<Vec<Vec<u8>>>> {
        let mut records = Records::by(piece, Box::new(Cursor::new(text)), b',')?;
        let mut all = Vec::new();
        while records.batch(None, 1)? > 0 {
            let fields = records.fields.iter();
            all.push(fields.map(|field| records.buffer[field.clone()].to_vec()).collect());
        }
        Ok(all)
    }

    /// Returns the records of a text as the crate `csv` reads them.
    fn peer(text: &[u8]) -> Vec<Vec<Vec<u8>>> {
        let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
        let records = reader.byte_records();
        records
            .map(|record| record.unwrap().iter().map(<[u8]>::to_vec).collect())
            .collect()
    }

    proptest! {
        #[test]
        fn records_are_those_of_the_crate_csv(text in "[a,\"\n\r \u{e9}\u{feff}]{0,200}", piece in 1..90_usize) {
            match records(text.as_bytes(), piece) {
                Ok(records) => prop_assert_eq!(records, peer(text.as_bytes())),
                // the crate ends a field without a closing quote at the end of the text
                Err(error) => {
                    prop_assert!(error.to_string().ends_with("has no closing `\"`"), "{}", error);
                    prop_assert_eq!(records(format!("{text}\"").as_bytes(), piece).unwrap(), peer(text.as_bytes()));
                }
            }
        }

        #[test]
        fn records_of_plain_fields_are_split(rows in prop::collection::vec(("[a-z]{0,90}", "[0-9]{0,9}"), 0..90), piece in 1..300_usize) {
            let text: String = rows.iter().map(|(a, b)| format!("{a},{b}\n")).collect();
            let mut records = Records::by(piece, Box::new(Cursor::new(text)), b',').unwrap();
            prop_assert_eq!(records.batch(Some(2), 1000).unwrap(), rows.len());
            for (row, (a, b)) in rows.iter().enumerate() {
                prop_assert_eq!(records.column(0, 2, &[]).field(row), a.as_bytes());
                prop_assert_eq!(records.column(1, 2, &[]).field(row), b.as_bytes());
                prop_assert_eq!(records.line_of(row).unwrap(), row as u64 + 1);
            }
        }
    }
}
