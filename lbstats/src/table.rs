//! Tables of cells, laid out column after column, the order in which SNMP walks them.
//!
//! A cell is one u64: a number, or the place of a text or histogram in the table's buffers. That keeps a row of 27
//! columns in 216 bytes, and 20,000 servers in a few megabytes.

use std::cmp::Ordering;

use crate::histogram::Histogram;
use crate::schema::{Column, Syntax, TableSchema};
use crate::value::Value;

/// The largest number a cell holds; a larger one is refused.
pub const MAX_NUMBER: u64 = ABSENT - 1;

const ABSENT: u64 = u64::MAX;

/// One table of a snapshot: rows in ascending order of their index, without duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    schema: &'static TableSchema,
    rows: usize,
    /// Column after column, `rows` cells each.
    cells: Vec<u64>,
    text: Vec<u8>,
    /// A cell names one by its place from 1; 0 is the empty one, which takes no room.
    histograms: Vec<Histogram>,
}

/// Collects the rows of a [`Table`] in any order.
#[derive(Debug)]
pub struct TableBuilder {
    schema: &'static TableSchema,
    /// Row after row, as they come.
    cells: Vec<u64>,
    text: Vec<u8>,
    histograms: Vec<Histogram>,
}

/// The arcs of a row's index, as SNMP appends them to a column's OID (RFC 2578 section 7.7): a number is one arc, a text
/// its length and then its octets.
#[derive(Clone, Debug)]
pub struct Index<'a> {
    table: &'a Table,
    row: usize,
    column: usize,
    /// What is left of the text under way.
    octets: std::slice::Iter<'a, u8>,
}

/// What a source says about one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// The source has no such value.
    Absent,
    /// A number, 0 to [`MAX_NUMBER`].
    Number(u64),
    /// Octets, not necessarily UTF-8.
    Text(&'a [u8]),
    /// Durations.
    Histogram(&'a Histogram),
}

/// Why a field cannot stand in its column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The column holds numbers and the source sent something else.
    #[error("field {field} holds `{text}`, which is no number from 0 to {MAX_NUMBER}")]
    NotANumber {
        /// Name of the field at its source.
        field: &'static str,
        /// What was there instead, shortened.
        text: String,
    },
    /// A column of the index is empty, or holds more than an index can.
    #[error("field {field} is part of the row's index and holds no number and no text that fits there")]
    Index {
        /// Name of the field at its source.
        field: &'static str,
    },
    /// A histogram in a column of something else, or something else in a column of histograms.
    #[error("field {field} and what it shall hold: only one of them is a histogram")]
    NotAHistogram {
        /// Name of the field at its source.
        field: &'static str,
    },
    /// The texts of one table exceed 4 GiB.
    #[error("more than 4 GiB of text in one table")]
    TooMuchText,
}

impl Table {
    /// A table without rows.
    pub fn empty(schema: &'static TableSchema) -> Self {
        Self { schema, rows: 0, cells: Vec::new(), text: Vec::new(), histograms: Vec::new() }
    }

    /// What its columns are.
    pub fn schema(&self) -> &'static TableSchema {
        self.schema
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The number in a cell, as its source sent it; none if absent or no number.
    ///
    /// # Panics
    /// If there is no such column or row, as all accessors here.
    pub fn number(&self, column: usize, row: usize) -> Option<u64> {
        let cell = self.cell(column, row);
        (cell != ABSENT && self.schema.columns[column].syntax.is_number()).then_some(cell)
    }

    /// The text in a cell, as its source sent it; none if absent or no text.
    pub fn text(&self, column: usize, row: usize) -> Option<&[u8]> {
        let cell = self.cell(column, row);
        (cell != ABSENT && self.schema.columns[column].syntax.is_text()).then(|| &self.text[span(cell)])
    }

    /// The histogram in a cell; none if absent or no histogram.
    pub fn histogram(&self, column: usize, row: usize) -> Option<&Histogram> {
        let cell = self.cell(column, row);
        if cell == ABSENT || !matches!(self.schema.columns[column].syntax, Syntax::Histogram(_)) {
            return None;
        }
        match usize::try_from(cell).ok()?.checked_sub(1) {
            None => Some(&Histogram::EMPTY),
            Some(place) => self.histograms.get(place),
        }
    }

    /// Whether a cell holds anything.
    pub fn has(&self, column: usize, row: usize) -> bool {
        self.cell(column, row) != ABSENT
    }

    /// What SNMP sends for a cell: the schema's conversion of the number or text, or its value for an absent one.
    pub fn value(&self, column: usize, row: usize) -> Value<'_> {
        let declared = &self.schema.columns[column];
        if declared.syntax.is_text() {
            return Value::OctetString(self.text(column, row).unwrap_or_default());
        }
        declared.convert(self.number(column, row))
    }

    /// The index of a row: the first `schema().index` columns, as SNMP appends them to a column's OID.
    pub fn index(&self, row: usize) -> Index<'_> {
        Index { table: self, row, column: 0, octets: [].iter() }
    }

    /// The first row whose index is above `suffix` in the order of OIDs; `len()` if there is none.
    pub fn row_after(&self, suffix: &[u32]) -> usize {
        self.partition_point(|row| self.index(row).le(suffix.iter().copied()))
    }

    /// The row with this index.
    pub fn row_at(&self, suffix: &[u32]) -> Option<usize> {
        let row = self.partition_point(|row| self.index(row).lt(suffix.iter().copied()));
        (row < self.rows && self.index(row).eq(suffix.iter().copied())).then_some(row)
    }

    /// Cells, texts and histograms as they go over a wire; [`Table::from_parts`] takes them back.
    pub(crate) fn parts(&self) -> (&[u64], &[u8], &[Histogram]) {
        (&self.cells, &self.text, &self.histograms)
    }

    /// A table of foreign cells, texts and histograms; none if they do not make one.
    pub(crate) fn from_parts(
        schema: &'static TableSchema,
        cells: Vec<u64>,
        text: Vec<u8>,
        histograms: Vec<Histogram>,
    ) -> Option<Self> {
        let width = schema.columns.len();
        if !cells.len().is_multiple_of(width) {
            return None;
        }
        let table = Self { schema, rows: cells.len() / width, cells, text, histograms };
        let fits = |declared: &Column, cell: u64| match declared.syntax {
            _ if cell == ABSENT => true,
            Syntax::Histogram(_) => cell <= table.histograms.len() as u64,
            syntax => !syntax.is_text() || table.text.get(span(cell)).is_some(),
        };
        let mut columns = schema.columns.iter().enumerate();
        let cells_fit = columns.all(|(place, declared)| table.column(place).iter().all(|cell| fits(declared, *cell)));
        let mut index = schema.columns[..schema.index].iter().enumerate();
        let index_fits =
            index.all(|(place, declared)| table.column(place).iter().all(|cell| fits_index(declared, *cell)));
        // Only an index that fits can be compared.
        let ordered = || schema.index == 0 || (1..table.rows).all(|row| table.index(row - 1).lt(table.index(row)));
        (cells_fit && index_fits && ordered()).then_some(table)
    }

    fn cell(&self, column: usize, row: usize) -> u64 {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        self.cells[column * self.rows + row]
    }

    fn column(&self, column: usize) -> &[u64] {
        &self.cells[column * self.rows..(column + 1) * self.rows]
    }

    fn partition_point(&self, below: impl Fn(usize) -> bool) -> usize {
        let (mut low, mut high) = (0, self.rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if below(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

impl Iterator for Index<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        if let Some(octet) = self.octets.next() {
            return Some(u32::from(*octet));
        }
        if self.column == self.table.schema.index {
            return None;
        }
        let column = self.column;
        self.column += 1;
        let cell = self.table.cell(column, self.row);
        if !self.table.schema.columns[column].syntax.is_text() {
            return Some(u32::try_from(cell).expect("both ways to make a table check the index"));
        }
        let text = &self.table.text[span(cell)];
        self.octets = text.iter();
        Some(u32::try_from(text.len()).expect("both ways to make a table check the index"))
    }
}

impl TableBuilder {
    /// A builder without rows.
    pub fn new(schema: &'static TableSchema) -> Self {
        Self { schema, cells: Vec::new(), text: Vec::new(), histograms: Vec::new() }
    }

    /// Appends a row: `field` is asked once for each column, in the order of the schema.
    ///
    /// # Errors
    /// When a field does not fit its column; the row is then not there.
    pub fn push<'a>(&mut self, mut field: impl FnMut(usize, &'static Column) -> Field<'a>) -> Result<(), FieldError> {
        let (cells, text, histograms) = (self.cells.len(), self.text.len(), self.histograms.len());
        let result = self.schema.columns.iter().enumerate().try_for_each(|(place, column)| {
            let cell = self.encode(column, field(place, column))?;
            let cell = if place < self.schema.index { index_cell(column, cell)? } else { cell };
            self.cells.push(cell);
            Ok(())
        });
        if result.is_err() {
            self.cells.truncate(cells);
            self.text.truncate(text);
            self.histograms.truncate(histograms);
        }
        result
    }

    /// Appends all rows of a table of the same schema.
    ///
    /// # Errors
    /// When the texts together exceed what a table holds.
    ///
    /// # Panics
    /// If the schemas differ.
    pub fn append(&mut self, table: &Table) -> Result<(), FieldError> {
        assert!(std::ptr::eq(self.schema, table.schema), "tables of two schemas");
        (0..table.rows).try_for_each(|row| {
            self.push(|column, declared| match declared.syntax {
                Syntax::Histogram(_) => table.histogram(column, row).map_or(Field::Absent, Field::Histogram),
                syntax if syntax.is_text() => table.text(column, row).map_or(Field::Absent, Field::Text),
                _ => table.number(column, row).map_or(Field::Absent, Field::Number),
            })
        })
    }

    /// The table, and how many rows were left out because their index stood there already (the first one stays).
    pub fn finish(self) -> (Table, usize) {
        let width = self.schema.columns.len();
        let rows = self.cells.len() / width;
        let mut order: Vec<usize> = (0..rows).collect();
        let mut duplicates = 0;
        if self.schema.index > 0 {
            order.sort_by(|a, b| self.compare(*a, *b));
            order.dedup_by(|later, first| self.compare(*later, *first).is_eq());
            duplicates = rows - order.len();
        }
        let mut cells = Vec::with_capacity(order.len() * width);
        for column in 0..width {
            cells.extend(order.iter().map(|row| self.cells[row * width + column]));
        }
        let Self { schema, text, histograms, .. } = self;
        (Table { schema, rows: order.len(), cells, text, histograms }, duplicates)
    }

    /// The order of two rows, that of their index as OIDs: a text by its length first.
    fn compare(&self, a: usize, b: usize) -> Ordering {
        let width = self.schema.columns.len();
        let index = self.schema.columns[..self.schema.index].iter().enumerate();
        let mut orders = index.map(|(column, declared)| {
            let (a, b) = (self.cells[a * width + column], self.cells[b * width + column]);
            if !declared.syntax.is_text() {
                return a.cmp(&b);
            }
            let (a, b) = (&self.text[span(a)], &self.text[span(b)]);
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        });
        orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    }

    fn encode(&mut self, column: &'static Column, field: Field<'_>) -> Result<u64, FieldError> {
        match (column.syntax, field) {
            (_, Field::Absent) => Ok(ABSENT),
            (Syntax::Histogram(_), Field::Histogram(histogram)) if *histogram == Histogram::EMPTY => Ok(0),
            (Syntax::Histogram(_), Field::Histogram(histogram)) => {
                self.histograms.push(*histogram);
                Ok(self.histograms.len() as u64)
            }
            (Syntax::Histogram(_), _) | (_, Field::Histogram(_)) => {
                Err(FieldError::NotAHistogram { field: column.source })
            }
            (syntax, Field::Text(text)) if syntax.is_text() => self.encode_text(text),
            (syntax, Field::Number(number)) if syntax.is_text() => self.encode_text(number.to_string().as_bytes()),
            (_, Field::Number(number)) if number <= MAX_NUMBER => Ok(number),
            (_, Field::Number(number)) => Err(not_a_number(column, number.to_string().as_bytes())),
            (_, Field::Text(text)) => Err(not_a_number(column, text)),
        }
    }

    fn encode_text(&mut self, text: &[u8]) -> Result<u64, FieldError> {
        let start = u32::try_from(self.text.len()).map_err(|_| FieldError::TooMuchText)?;
        // The longest text must not look like an absent one.
        let len = u32::try_from(text.len()).ok().filter(|len| *len < u32::MAX).ok_or(FieldError::TooMuchText)?;
        self.text.extend_from_slice(text);
        Ok(u64::from(start) << 32 | u64::from(len))
    }
}

impl Column {
    /// Reads a field as its source prints it: empty is absent, and so is a negative number (HAProxy's "never").
    ///
    /// # Errors
    /// When the column holds numbers and the field is something else.
    pub fn parse<'a>(&'static self, raw: &'a [u8]) -> Result<Field<'a>, FieldError> {
        match (self.syntax, raw) {
            (_, b"") => Ok(Field::Absent),
            (syntax, _) if syntax.is_text() => Ok(Field::Text(raw)),
            (_, [b'-', digits @ ..]) if decimal(digits).is_some() => Ok(Field::Absent),
            _ => decimal(raw)
                .filter(|number| *number <= MAX_NUMBER)
                .map(Field::Number)
                .ok_or_else(|| not_a_number(self, raw)),
        }
    }
}

fn not_a_number(column: &'static Column, raw: &[u8]) -> FieldError {
    let text = String::from_utf8_lossy(&raw[..raw.len().min(24)]).escape_debug().to_string();
    FieldError::NotANumber { field: column.source, text }
}

/// Digits and nothing else, as HAProxy prints them: no sign, no space.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// An absent number of the index takes the schema's value for absent ones (1 for a process, else none).
fn index_cell(column: &'static Column, cell: u64) -> Result<u64, FieldError> {
    let cell = if cell == ABSENT && column.if_absent > 0 { u64::from(column.if_absent) } else { cell };
    if fits_index(column, cell) { Ok(cell) } else { Err(FieldError::Index { field: column.source }) }
}

/// Whether the cell of a column can be part of an index.
fn fits_index(column: &Column, cell: u64) -> bool {
    let number = || column.syntax.index_limit().is_some_and(|limit| cell <= limit);
    let text = || column.syntax.index_octets().is_some_and(|limit| span(cell).len() <= limit);
    cell != ABSENT && (number() || text())
}

/// Where a text cell's octets stand.
fn span(cell: u64) -> std::ops::Range<usize> {
    let (start, len) = ((cell >> 32) as usize, (cell & 0xffff_ffff) as usize);
    start..start + len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{FRONTEND, SERVER};

    fn frontends(ids: &[u64]) -> (Table, usize) {
        let mut builder = TableBuilder::new(&FRONTEND);
        for id in ids {
            builder
                .push(|_, column| match column.source {
                    "iid" => Field::Number(*id),
                    "pxname" => Field::Text(b"www"),
                    "stot" => Field::Number(id * 10),
                    _ => Field::Absent,
                })
                .unwrap();
        }
        builder.finish()
    }

    #[test]
    fn rows_come_out_by_number_and_once() {
        let (table, duplicates) = frontends(&[10, 9, 2, 9]);
        assert_eq!((table.len(), duplicates), (3, 1));
        let ids: Vec<Vec<u32>> = (0..3).map(|row| table.index(row).collect()).collect();
        assert_eq!(ids, [[1, 2], [1, 9], [1, 10]]);
        let total = FRONTEND.place("stot").unwrap();
        assert_eq!(table.value(total, 1), Value::Counter64(90));
        assert_eq!(table.text(FRONTEND.place("pxname").unwrap(), 2), Some(&b"www"[..]));
    }

    #[test]
    fn search_follows_the_order_of_oids() {
        let (table, _) = frontends(&[2, 9]);
        assert_eq!(table.row_at(&[1, 9]), Some(1));
        assert_eq!(table.row_at(&[1]), None);
        assert_eq!(table.row_at(&[1, 9, 0]), None);
        assert_eq!(table.row_after(&[]), 0);
        assert_eq!(table.row_after(&[1]), 0);
        assert_eq!(table.row_after(&[1, 2]), 1);
        assert_eq!(table.row_after(&[1, 2, 5]), 1);
        assert_eq!(table.row_after(&[1, 9]), 2);
    }

    #[test]
    fn a_row_without_an_index_is_refused_and_leaves_nothing() {
        let mut builder = TableBuilder::new(&SERVER);
        let error = builder.push(|_, column| match column.source {
            "svname" | "pxname" => Field::Text(b"x"),
            _ => Field::Absent,
        });
        assert_eq!(error, Err(FieldError::Index { field: "iid" }));
        assert_eq!(builder.finish().0, Table::empty(&SERVER));
    }

    #[test]
    fn foreign_cells_make_a_table_only_if_their_index_does() {
        let (table, _) = frontends(&[2, 9]);
        let (cells, text, _) = table.parts();
        let with = |place: usize, cell: u64| {
            let mut cells = cells.to_vec();
            cells[place] = cell;
            Table::from_parts(&FRONTEND, cells, text.to_vec(), Vec::new())
        };
        let iid = 2 * FRONTEND.place("iid").unwrap();
        assert_eq!(with(iid, 2), Some(table.clone()));
        for (place, cell) in [(iid, ABSENT), (iid, 1 << 31), (iid, 9), (iid, 10), (iid + 1, 2)] {
            assert_eq!(with(place, cell), None, "cell {cell} at {place}");
        }
        assert_eq!(Table::from_parts(&FRONTEND, cells[1..].to_vec(), text.to_vec(), Vec::new()), None);
    }

    #[test]
    fn fields_are_read_strictly() {
        let total = &FRONTEND.columns[FRONTEND.place("stot").unwrap()];
        assert_eq!(total.parse(b"17"), Ok(Field::Number(17)));
        assert_eq!(total.parse(b""), Ok(Field::Absent));
        assert_eq!(total.parse(b"-1"), Ok(Field::Absent));
        for bad in ["1.5", " 1", "+1", "0x1", "-", "1e3", "18446744073709551615", "99999999999999999999"] {
            assert!(matches!(total.parse(bad.as_bytes()), Err(FieldError::NotANumber { field: "stot", .. })), "{bad}");
        }
    }
}
