//! The cells of a view as variable bindings, encoded ahead: a GetBulk is a search and a copy.
//!
//! Each column is cut into blocks of rows. A block is encoded when something of it is asked for in bulk, by whichever
//! worker comes first, and is gone with the snapshot. What nobody asks for is never encoded, and nobody waits for more
//! than one block.

use std::ops::Range;
use std::sync::OnceLock;

use lbstats::Oid;

use crate::ber::{self, tag};
use crate::view::{Cell, View};

/// Rows of a block: about 4 KB, and some microseconds to encode.
const ROWS: usize = 128;

/// A view, and what of it has been encoded so far.
#[derive(Debug)]
pub struct Columns {
    view: View,
    /// Place in `columns` of the first column of each branch.
    first: Vec<usize>,
    columns: Vec<OnceLock<Box<[OnceLock<Block>]>>>,
}

/// Some rows of one column, a variable binding behind the other.
#[derive(Debug)]
pub(super) struct Block {
    octets: Vec<u8>,
    /// Where each variable binding ends.
    ends: Vec<u32>,
}

impl Columns {
    /// The columns of a view; nothing is encoded yet.
    pub fn new(view: View) -> Self {
        let (mut first, mut columns) = (Vec::new(), Vec::new());
        for width in view.widths() {
            first.push(columns.len());
            columns.resize_with(columns.len() + width, OnceLock::new);
        }
        Self { view, first, columns }
    }

    /// The view they are of.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The block that a cell is in, and the cell's place there.
    pub(super) fn block(&self, cell: Cell) -> (&Block, usize) {
        let blocks = self.columns[self.first[cell.branch] + cell.column].get_or_init(|| {
            let blocks = self.view.rows(cell.branch).div_ceil(ROWS);
            std::iter::repeat_with(OnceLock::new).take(blocks).collect()
        });
        let block = cell.row / ROWS;
        let encode = || {
            let end = self.view.rows(cell.branch).min((block + 1) * ROWS);
            Block::new(&self.view, cell, block * ROWS..end)
        };
        (blocks[block].get_or_init(encode), cell.row % ROWS)
    }
}

impl Block {
    /// These rows, one at least, of the column of a cell.
    fn new(view: &View, cell: Cell, rows: Range<usize>) -> Self {
        let cell = |row| Cell { row, ..cell };
        let (mut oid, mut last) = (Oid::default(), Oid::default());
        view.oid(cell(rows.start), &mut oid);
        view.oid(cell(rows.end - 1), &mut last);
        // Rows ascend, so what the outermost ones have in common all of them have.
        let common = oid.iter().zip(&*last).take_while(|(one, other)| one == other).count().max(2);
        let mut stem = Vec::new();
        ber::push_arcs(&mut stem, &oid[..common]);

        let mut octets = Vec::with_capacity(rows.len() * (stem.len() + 24));
        let mut ends = Vec::with_capacity(rows.len());
        for row in rows {
            view.oid(cell(row), &mut oid);
            let varbind = ber::begin(&mut octets, tag::SEQUENCE);
            let name = ber::begin(&mut octets, tag::OID);
            octets.extend_from_slice(&stem);
            oid[common..].iter().for_each(|arc| ber::push_subidentifier(&mut octets, u64::from(*arc)));
            ber::end(&mut octets, name);
            ber::push_value(&mut octets, view.value(cell(row)));
            ber::end(&mut octets, varbind);
            ends.push(u32::try_from(octets.len()).unwrap_or(u32::MAX));
        }
        Self { octets, ends }
    }

    /// Rows in it.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// As many whole variable bindings from this place on, `most` at most, as fit into `room` octets; and their number.
    pub(super) fn run(&self, place: usize, most: usize, room: usize) -> (&[u8], usize) {
        let start = if place == 0 { 0 } else { self.ends[place - 1] as usize };
        let ends = &self.ends[place..self.len().min(place.saturating_add(most))];
        let count = ends.partition_point(|end| *end as usize - start <= room);
        let end = if count == 0 { start } else { ends[count - 1] as usize };
        (&self.octets[start..end], count)
    }
}
