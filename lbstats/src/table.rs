//! Tables of cells, laid out column after column, the order in which SNMP walks them.
//!
//! A cell is one u64: a number, or the place of a text in the table's buffer. That keeps a row of 27 columns in 216
//! bytes, and 20,000 servers in a few megabytes.

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
}

/// Collects the rows of a [`Table`] in any order.
#[derive(Debug)]
pub struct TableBuilder {
    schema: &'static TableSchema,
    /// Row after row, as they come.
    cells: Vec<u64>,
    text: Vec<u8>,
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
    /// A column of the index is empty, or above 2147483647.
    #[error("field {field} is part of the row's index and holds no number from 0 to 2147483647")]
    Index {
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
        Self { schema, rows: 0, cells: Vec::new(), text: Vec::new() }
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

    /// The number in a cell, as its source sent it; none if absent or text.
    ///
    /// # Panics
    /// If there is no such column or row, as all accessors here.
    pub fn number(&self, column: usize, row: usize) -> Option<u64> {
        let cell = self.cell(column, row);
        (cell != ABSENT && self.schema.columns[column].syntax != Syntax::Text).then_some(cell)
    }

    /// The text in a cell, as its source sent it; none if absent or a number.
    pub fn text(&self, column: usize, row: usize) -> Option<&[u8]> {
        let cell = self.cell(column, row);
        (cell != ABSENT && self.schema.columns[column].syntax == Syntax::Text).then(|| &self.text[span(cell)])
    }

    /// Whether a cell holds anything.
    pub fn has(&self, column: usize, row: usize) -> bool {
        self.cell(column, row) != ABSENT
    }

    /// What lbStats sends for a cell: the schema's conversion of the number or text, or its value for an absent one.
    pub fn value(&self, column: usize, row: usize) -> Value<'_> {
        let declared = &self.schema.columns[column];
        match declared.syntax {
            Syntax::Text => Value::OctetString(self.text(column, row).unwrap_or_default()),
            _ => declared.convert(self.number(column, row)),
        }
    }

    /// The index of a row: the first `schema().index` columns, as SNMP appends them to a column's OID.
    pub fn index(&self, row: usize) -> impl ExactSizeIterator<Item = u32> + '_ {
        (0..self.schema.index).map(move |column| self.index_arc(column, row))
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

    /// Cells and texts as they go over a wire; [`Table::from_parts`] takes them back.
    pub(crate) fn parts(&self) -> (&[u64], &[u8]) {
        (&self.cells, &self.text)
    }

    /// A table of foreign cells and texts; none if they do not make one.
    pub(crate) fn from_parts(schema: &'static TableSchema, cells: Vec<u64>, text: Vec<u8>) -> Option<Self> {
        let width = schema.columns.len();
        if !cells.len().is_multiple_of(width) {
            return None;
        }
        let table = Self { schema, rows: cells.len() / width, cells, text };
        let texts_fit = schema.columns.iter().enumerate().all(|(column, declared)| {
            declared.syntax != Syntax::Text
                || table.column(column).iter().all(|&cell| cell == ABSENT || table.text.get(span(cell)).is_some())
        });
        let index_fits =
            (0..schema.index).all(|column| table.column(column).iter().all(|&cell| index_of(cell).is_some()));
        // Only an index that fits can be compared.
        let ordered = || schema.index == 0 || (1..table.rows).all(|row| table.index(row - 1).lt(table.index(row)));
        (texts_fit && index_fits && ordered()).then_some(table)
    }

    fn cell(&self, column: usize, row: usize) -> u64 {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        self.cells[column * self.rows + row]
    }

    fn column(&self, column: usize) -> &[u64] {
        &self.cells[column * self.rows..(column + 1) * self.rows]
    }

    fn index_arc(&self, column: usize, row: usize) -> u32 {
        index_of(self.cell(column, row)).expect("both ways to make a table check the index")
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

impl TableBuilder {
    /// A builder without rows.
    pub fn new(schema: &'static TableSchema) -> Self {
        Self { schema, cells: Vec::new(), text: Vec::new() }
    }

    /// Appends a row: `field` is asked once for each column, in the order of the schema.
    ///
    /// # Errors
    /// When a field does not fit its column; the row is then not there.
    pub fn push<'a>(&mut self, mut field: impl FnMut(usize, &'static Column) -> Field<'a>) -> Result<(), FieldError> {
        let (cells, text) = (self.cells.len(), self.text.len());
        let result = self.schema.columns.iter().enumerate().try_for_each(|(place, column)| {
            let cell = self.encode(column, field(place, column))?;
            let cell = if place < self.schema.index { index_cell(column, cell)? } else { cell };
            self.cells.push(cell);
            Ok(())
        });
        if result.is_err() {
            self.cells.truncate(cells);
            self.text.truncate(text);
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
                Syntax::Text => table.text(column, row).map_or(Field::Absent, Field::Text),
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
            let index = |row: usize| &self.cells[row * width..row * width + self.schema.index];
            order.sort_by(|a, b| index(*a).cmp(index(*b)));
            order.dedup_by(|later, first| index(*later) == index(*first));
            duplicates = rows - order.len();
        }
        let mut cells = Vec::with_capacity(order.len() * width);
        for column in 0..width {
            cells.extend(order.iter().map(|row| self.cells[row * width + column]));
        }
        (Table { schema: self.schema, rows: order.len(), cells, text: self.text }, duplicates)
    }

    fn encode(&mut self, column: &'static Column, field: Field<'_>) -> Result<u64, FieldError> {
        match (column.syntax, field) {
            (_, Field::Absent) => Ok(ABSENT),
            (Syntax::Text, Field::Text(text)) => {
                let start = u32::try_from(self.text.len()).map_err(|_| FieldError::TooMuchText)?;
                // The longest text must not look like an absent one.
                let len =
                    u32::try_from(text.len()).ok().filter(|len| *len < u32::MAX).ok_or(FieldError::TooMuchText)?;
                self.text.extend_from_slice(text);
                Ok(u64::from(start) << 32 | u64::from(len))
            }
            (Syntax::Text, Field::Number(number)) => self.encode(column, Field::Text(number.to_string().as_bytes())),
            (_, Field::Number(number)) if number <= MAX_NUMBER => Ok(number),
            (_, Field::Number(number)) => Err(not_a_number(column, number.to_string().as_bytes())),
            (_, Field::Text(text)) => Err(not_a_number(column, text)),
        }
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
            (Syntax::Text, _) => Ok(Field::Text(raw)),
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
    index_of(cell).map(u64::from).ok_or(FieldError::Index { field: column.source })
}

fn index_of(cell: u64) -> Option<u32> {
    u32::try_from(cell).ok().filter(|arc| *arc <= 2_147_483_647)
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
        let (cells, text) = table.parts();
        let with = |place: usize, cell: u64| {
            let mut cells = cells.to_vec();
            cells[place] = cell;
            Table::from_parts(&FRONTEND, cells, text.to_vec())
        };
        let iid = 2 * FRONTEND.place("iid").unwrap();
        assert_eq!(with(iid, 2), Some(table.clone()));
        for (place, cell) in [(iid, ABSENT), (iid, 1 << 31), (iid, 9), (iid, 10), (iid + 1, 2)] {
            assert_eq!(with(place, cell), None, "cell {cell} at {place}");
        }
        assert_eq!(Table::from_parts(&FRONTEND, cells[1..].to_vec(), text.to_vec()), None);
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
