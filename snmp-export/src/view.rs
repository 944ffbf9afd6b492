//! The MIB view: the cells of one snapshot under their OIDs, in order.
//!
//! Nothing is made ready ahead: an OID is found by binary search in the snapshot's own tables, an answer allocates
//! nothing. A view is a list of branches, each a table under the OID of its entry; another subtree is another branch.
//! A group of scalars is a branch too: the first row of a table, under the index 0.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use lbstats::schema::{self, ALOHA_PRODUCT, ALOHA_ROOT, ALOHA_SCALARS, LBSTATS_ROOTS, TableSchema};
use lbstats::{Oid, Snapshot, Table, Value, unix_micros};

/// One snapshot as SNMP sees it. Cheap to clone and to make: it holds no more than the snapshot.
#[derive(Clone, Debug)]
pub struct View {
    snapshot: Arc<Snapshot>,
    branches: &'static [Branch],
}

/// A cell of a view. Of another view, it is a place that may hold something else or be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub(crate) branch: usize,
    pub(crate) column: usize,
    pub(crate) row: usize,
}

/// A table in the tree: its cells are entry.column.index.
#[derive(Debug)]
struct Branch {
    entry: Oid,
    table: TableOf,
    /// Arc and place in the table of each column, arcs ascending.
    columns: Vec<(u32, usize)>,
    /// Whether it shows the first row only, under the index 0.
    scalars: bool,
}

type TableOf = fn(&Snapshot) -> &Table;

/// The four tables of lbStats under each of its roots.
static LBSTATS: LazyLock<Vec<Branch>> = LazyLock::new(|| ordered(LBSTATS_ROOTS.into_iter().flat_map(tables_under)));

/// The same, the twin in the ALOHA branch, and the scalars of its product.
static WITH_ALOHA: LazyLock<Vec<Branch>> = LazyLock::new(|| {
    let place = |source| schema::PROCESS.place(source).expect("scalars come from columns of the process");
    let product = Branch {
        entry: Oid::from(ALOHA_PRODUCT),
        table: |snapshot| &snapshot.processes,
        columns: ALOHA_SCALARS.iter().map(|(arc, source)| (*arc, place(source))).collect(),
        scalars: true,
    };
    let roots = LBSTATS_ROOTS.into_iter().chain([ALOHA_ROOT]);
    ordered(roots.flat_map(tables_under).chain([product]))
});

fn tables_under(root: &[u32]) -> [Branch; 4] {
    let tables: [(&TableSchema, TableOf); 4] = [
        (&schema::PROCESS, |snapshot| &snapshot.processes),
        (&schema::FRONTEND, |snapshot| &snapshot.frontends),
        (&schema::BACKEND, |snapshot| &snapshot.backends),
        (&schema::SERVER, |snapshot| &snapshot.servers),
    ];
    tables.map(|(schema, table)| {
        let mut entry = Oid::from(root);
        entry.extend(&[schema.arc.expect("a table of lbStats has an arc"), 1]);
        let columns = schema.columns.iter().enumerate().filter_map(|(place, column)| Some((column.arc?, place)));
        Branch { entry, table, columns: columns.collect(), scalars: false }
    })
}

fn ordered(branches: impl Iterator<Item = Branch>) -> Vec<Branch> {
    let mut branches: Vec<Branch> = branches.collect();
    branches.sort_by(|a, b| a.entry.cmp(&b.entry));
    let apart = branches.windows(2).all(|pair| !pair[1].entry.starts_with(&pair[0].entry));
    assert!(apart, "no branch grows on another");
    branches
}

impl View {
    /// lbStats of this snapshot, under all its roots.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, branches: &LBSTATS }
    }

    /// The same, without a cell if HAProxy's tables were read longer ago than `max_age`, or never.
    pub fn unless_older(snapshot: Arc<Snapshot>, max_age: Duration) -> Self {
        let oldest = u64::try_from(max_age.as_micros()).unwrap_or(u64::MAX);
        match snapshot.haproxy_read {
            Some(read) if unix_micros().saturating_sub(read) <= oldest => Self::new(snapshot),
            _ => Self { snapshot, branches: &[] },
        }
    }

    /// This view with the ALOHA twin of lbStats and its product scalars; an empty one stays empty.
    #[must_use]
    pub fn with_aloha(self) -> Self {
        if self.branches.is_empty() { self } else { Self { branches: &WITH_ALOHA, ..self } }
    }

    /// The snapshot it shows.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Whether the other shows the same cells of the same snapshot.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.snapshot, &other.snapshot) && std::ptr::eq(self.branches, other.branches)
    }

    /// The value under exactly this OID.
    pub fn get(&self, oid: &[u32]) -> Option<Value<'_>> {
        self.cell_at(oid).map(|cell| self.value(cell))
    }

    /// The value under the first OID above `oid`, and that OID in `into`; at the end none, and `into` is as it was.
    pub fn next(&self, oid: &[u32], into: &mut Oid) -> Option<Value<'_>> {
        let cell = self.cell_after(oid)?;
        self.oid(cell, into);
        Some(self.value(cell))
    }

    /// The cell under exactly this OID.
    pub fn cell_at(&self, oid: &[u32]) -> Option<Cell> {
        let (branch, below) = self.branch_of(oid)?;
        let (&arc, index) = below.split_first()?;
        let column = self.branches[branch].columns.binary_search_by_key(&arc, |(arc, _)| *arc).ok()?;
        let row = match self.branches[branch].scalars {
            false => self.table(branch).row_at(index)?,
            true => (index == [0] && self.rows(branch) > 0).then_some(0)?,
        };
        Some(Cell { branch, column, row })
    }

    /// Whether `oid` is at or below a column, so that what is missing there is an instance and not the object.
    pub fn has_object(&self, oid: &[u32]) -> bool {
        let arc = self.branch_of(oid).and_then(|(branch, below)| Some((branch, below.first()?)));
        arc.is_some_and(|(branch, arc)| {
            self.branches[branch].columns.binary_search_by_key(arc, |column| column.0).is_ok()
        })
    }

    /// The subtrees that hold every cell, whatever the snapshot: what a subagent registers.
    pub fn subtrees(&self) -> Vec<Oid> {
        let mut subtrees: Vec<Oid> = Vec::new();
        for Branch { entry, scalars, .. } in self.branches {
            // Tables are under one root, which is above table and entry.
            let root = if *scalars { entry } else { &entry[..entry.len() - 2] };
            if !subtrees.iter().any(|subtree| root.starts_with(subtree)) {
                subtrees.retain(|subtree| !subtree.starts_with(root));
                subtrees.push(Oid::from(root));
            }
        }
        subtrees
    }

    /// The first cell whose OID is above `oid`.
    pub fn cell_after(&self, oid: &[u32]) -> Option<Cell> {
        let Some((branch, below)) = self.branch_of(oid) else {
            return self.first_from(self.branches.partition_point(|branch| *branch.entry <= *oid));
        };
        let Some((&arc, index)) = below.split_first() else { return self.first_from(branch) };
        let Branch { columns, scalars, .. } = &self.branches[branch];
        let column = columns.partition_point(|(column, _)| *column < arc);
        if columns.get(column).is_some_and(|(column, _)| *column == arc) {
            let row = if *scalars { usize::from(!index.is_empty()) } else { self.table(branch).row_after(index) };
            return self.cell_from(Cell { branch, column, row });
        }
        self.cell_from(Cell { branch, column, row: 0 })
    }

    /// The cell after a cell of this view.
    pub fn following(&self, cell: Cell) -> Option<Cell> {
        self.cell_from(Cell { row: cell.row + 1, ..cell })
    }

    /// The first cell behind the column of a cell of this view.
    pub(crate) fn behind_column(&self, cell: Cell) -> Option<Cell> {
        self.cell_from(Cell { row: usize::MAX, ..cell })
    }

    /// Makes `into` the OID of a cell of this view.
    ///
    /// # Panics
    /// May panic for a cell of another view, as [`View::value`].
    pub fn oid(&self, cell: Cell, into: &mut Oid) {
        let Branch { entry, columns, scalars, .. } = &self.branches[cell.branch];
        into.assign(entry);
        into.extend(&[columns[cell.column].0]);
        if *scalars {
            into.extend(&[0]);
        } else {
            self.table(cell.branch).index(cell.row).for_each(|arc| into.extend(&[arc]));
        }
    }

    /// The value of a cell of this view.
    pub fn value(&self, cell: Cell) -> Value<'_> {
        self.table(cell.branch).value(self.branches[cell.branch].columns[cell.column].1, cell.row)
    }

    /// The branch that `oid` is in, and what remains of it below the branch's entry.
    fn branch_of<'a>(&self, oid: &'a [u32]) -> Option<(usize, &'a [u32])> {
        let branch = self.branches.partition_point(|branch| *branch.entry <= *oid).checked_sub(1)?;
        oid.strip_prefix(&*self.branches[branch].entry).map(|below| (branch, below))
    }

    /// The first cell of the first branch from this one that has any.
    fn first_from(&self, branch: usize) -> Option<Cell> {
        let branch = (branch..self.branches.len()).find(|branch| self.rows(*branch) > 0)?;
        Some(Cell { branch, column: 0, row: 0 })
    }

    /// This cell, or where its column, or its table, has no such row or column, the first cell after it.
    fn cell_from(&self, mut cell: Cell) -> Option<Cell> {
        let rows = self.rows(cell.branch);
        if cell.row >= rows {
            cell = Cell { column: cell.column + 1, row: 0, ..cell };
        }
        let there = rows > 0 && cell.column < self.branches[cell.branch].columns.len();
        if there { Some(cell) } else { self.first_from(cell.branch + 1) }
    }

    /// Number of columns of each branch.
    pub(crate) fn widths(&self) -> impl Iterator<Item = usize> {
        self.branches.iter().map(|branch| branch.columns.len())
    }

    /// Number of rows of a branch.
    pub(crate) fn rows(&self, branch: usize) -> usize {
        let rows = self.table(branch).len();
        if self.branches[branch].scalars { rows.min(1) } else { rows }
    }

    fn table(&self, branch: usize) -> &Table {
        (self.branches[branch].table)(&self.snapshot)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Bound;

    use super::*;
    use crate::sample::{self, Ids};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Every cell under its OID, straight from the tables.
    fn model(snapshot: &Snapshot, aloha: bool) -> BTreeMap<Vec<u32>, Value<'_>> {
        let mut cells = BTreeMap::new();
        for (arc, source) in ALOHA_SCALARS.iter().filter(|_| aloha && !snapshot.processes.is_empty()) {
            let place = schema::PROCESS.place(source).unwrap();
            cells.insert([ALOHA_PRODUCT, &[*arc, 0]].concat(), snapshot.processes.value(place, 0));
        }
        for root in LBSTATS_ROOTS.into_iter().chain(aloha.then_some(ALOHA_ROOT)) {
            for table in snapshot.lbstats() {
                for (place, column) in table.schema().mib_columns().iter().enumerate() {
                    for row in 0..table.len() {
                        let mut oid = root.to_vec();
                        oid.extend([table.schema().arc.unwrap(), 1, column.arc.unwrap()]);
                        oid.extend(table.index(row));
                        cells.insert(oid, table.value(place, row));
                    }
                }
            }
        }
        cells
    }

    /// Ids that meet the ends of their range, and each other, often.
    fn ids() -> impl Strategy<Value = Ids> {
        let id = || prop_oneof![1_u32..6, Just(0), Just(2_147_483_647), any::<u32>().prop_map(|id| id >> 1)];
        let pid = || 1_u32..4;
        (vec(pid(), 0..4), vec((pid(), id()), 0..6), vec((pid(), id()), 0..6), vec((pid(), id(), id()), 0..12))
            .prop_map(|(processes, frontends, backends, servers)| Ids {
                processes,
                frontends,
                backends,
                servers,
                base: 0,
            })
    }

    /// An OID near a cell, or anywhere.
    fn near(cells: &[Vec<u32>], pick: prop::sample::Index, cut: usize, arc: u32, more: &[u32]) -> Vec<u32> {
        let mut oid = if cells.is_empty() { LBSTATS_ROOTS[0].to_vec() } else { cells[pick.index(cells.len())].clone() };
        oid.truncate(oid.len().saturating_sub(cut));
        if let (Some(last), true) = (oid.last_mut(), arc < 8) {
            *last = last.wrapping_add(arc).wrapping_sub(4);
        }
        oid.extend(more);
        oid
    }

    proptest! {
        #[test]
        fn next_and_get_are_those_of_an_ordered_map(
            ids in ids(), pick: prop::sample::Index, cut in 0_usize..16, arc in 0_u32..16,
            more in vec(prop_oneof![0_u32..30, Just(u32::MAX)], 0..6), aloha: bool,
        ) {
            let snapshot = Arc::new(sample::snapshot(&ids));
            let cells = model(&snapshot, aloha);
            let view = View::new(snapshot.clone());
            let view = if aloha { view.with_aloha() } else { view };
            let oid = near(&cells.keys().cloned().collect::<Vec<_>>(), pick, cut, arc, &more);
            prop_assert_eq!(view.get(&oid), cells.get(&oid).copied());
            let expected = cells.range((Bound::Excluded(oid.clone()), Bound::Unbounded)).next();
            let mut found = Oid::default();
            let value = view.next(&oid, &mut found);
            prop_assert_eq!(value.map(|value| (found.to_vec(), value)), expected.map(|(oid, value)| (oid.clone(), *value)));
        }

        #[test]
        fn a_walk_meets_every_cell_once_in_order(ids in ids(), aloha: bool) {
            let snapshot = Arc::new(sample::snapshot(&ids));
            let view = View::new(snapshot.clone());
            let view = if aloha { view.with_aloha() } else { view };
            let (mut oid, mut next, mut by_oid) = (Oid::default(), Oid::default(), Vec::new());
            while let Some(value) = view.next(&oid, &mut next) {
                by_oid.push((next.to_vec(), value));
                std::mem::swap(&mut oid, &mut next);
            }
            let expected: Vec<_> = model(&snapshot, aloha).into_iter().collect();
            prop_assert_eq!(&by_oid, &expected);

            let cells = std::iter::successors(view.cell_after(&[]), |cell| view.following(*cell));
            let by_cell: Vec<_> = cells.map(|cell| { view.oid(cell, &mut oid); (oid.to_vec(), view.value(cell)) }).collect();
            prop_assert_eq!(&by_cell, &expected);
        }
    }

    #[test]
    fn a_snapshot_without_rows_or_too_old_has_no_cell() {
        let empty = View::new(Arc::new(Snapshot::empty()));
        assert_eq!(empty.next(&[], &mut Oid::default()), None);

        let mut snapshot = sample::snapshot(&Ids { processes: vec![1], ..Ids::default() });
        let hour = Duration::from_secs(3600);
        for (read, rows) in [(None, false), (Some(unix_micros()), true), (Some(unix_micros() - 3_601_000_000), false)] {
            snapshot.haproxy_read = read;
            let view = View::unless_older(Arc::new(snapshot.clone()), hour);
            assert_eq!(view.cell_after(&[]).is_some(), rows, "read at {read:?}");
            let mut pid = Oid::from(LBSTATS_ROOTS[1]);
            pid.extend(&[1, 1, 1, 1]);
            assert_eq!(view.get(&pid), rows.then_some(Value::Integer(1)));
        }
    }
}
