//! The MIB view: the cells of one snapshot under their OIDs, in order.
//!
//! Nothing is made ahead for a snapshot: an OID is found by binary search in the snapshot's own tables, an answer
//! allocates nothing. A view looks at a snapshot through a [`Tree`], which says which tables grow where; a daemon makes
//! one at its start.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use lbstats::{Oid, Snapshot, Table, Value, unix_micros};

use crate::tree::{Branch, Tree};

/// One snapshot as SNMP sees it. Cheap to clone and to make: it holds no more than the snapshot and the tree.
#[derive(Clone, Debug)]
pub struct View {
    snapshot: Arc<Snapshot>,
    tree: Arc<Tree>,
    /// Without lbStats, because what HAProxy said is too old.
    stale: bool,
}

/// A cell of a view. Of another view, it is a place that may hold something else or be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub(crate) branch: usize,
    pub(crate) column: usize,
    pub(crate) row: usize,
}

/// The tree of views that are made without one.
static USUAL: LazyLock<Arc<Tree>> = LazyLock::new(Arc::default);

impl View {
    /// lbStats of this snapshot, under both its roots, and LBSTATD-MIB under its usual one.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, tree: USUAL.clone(), stale: false }
    }

    /// The same, without lbStats if HAProxy's tables were read longer ago than `max_age`, or never.
    pub fn unless_older(snapshot: Arc<Snapshot>, max_age: Duration) -> Self {
        Self { stale: is_stale(&snapshot, max_age), ..Self::new(snapshot) }
    }

    /// This view through another tree.
    #[must_use]
    pub fn through(self, tree: &Arc<Tree>) -> Self {
        Self { tree: tree.clone(), ..self }
    }

    /// The snapshot it shows.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Whether it is what [`View::unless_older`] makes of this snapshot now.
    pub fn is_still(&self, snapshot: &Arc<Snapshot>, max_age: Duration) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot) && self.stale == is_stale(snapshot, max_age)
    }

    /// Whether the other shows the same cells of the same snapshot.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.snapshot, &other.snapshot)
            && Arc::ptr_eq(&self.tree, &other.tree)
            && self.stale == other.stale
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
        let column = self.branches()[branch].columns.binary_search_by_key(&arc, |(arc, _)| *arc).ok()?;
        let row = match self.branches()[branch].scalars {
            false => self.table(branch).row_at(index)?,
            true => (index == [0] && self.rows(branch) > 0).then_some(0)?,
        };
        Some(Cell { branch, column, row })
    }

    /// Whether `oid` is at or below a column, so that what is missing there is an instance and not the object.
    pub fn has_object(&self, oid: &[u32]) -> bool {
        let arc = self.branch_of(oid).and_then(|(branch, below)| Some((branch, below.first()?)));
        arc.is_some_and(|(branch, arc)| {
            self.branches()[branch].columns.binary_search_by_key(arc, |column| column.0).is_ok()
        })
    }

    /// The first cell whose OID is above `oid`.
    pub fn cell_after(&self, oid: &[u32]) -> Option<Cell> {
        let Some((branch, below)) = self.branch_of(oid) else {
            return self.first_from(self.branches().partition_point(|branch| *branch.entry <= *oid));
        };
        let Some((&arc, index)) = below.split_first() else { return self.first_from(branch) };
        let Branch { columns, scalars, .. } = &self.branches()[branch];
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
        let Branch { entry, columns, scalars, .. } = &self.branches()[cell.branch];
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
        self.table(cell.branch).value(self.branches()[cell.branch].columns[cell.column].1, cell.row)
    }

    /// The branch that `oid` is in, and what remains of it below the branch's entry.
    fn branch_of<'a>(&self, oid: &'a [u32]) -> Option<(usize, &'a [u32])> {
        let branch = self.branches().partition_point(|branch| *branch.entry <= *oid).checked_sub(1)?;
        oid.strip_prefix(&*self.branches()[branch].entry).map(|below| (branch, below))
    }

    /// The first cell of the first branch from this one that has any.
    fn first_from(&self, branch: usize) -> Option<Cell> {
        let branch = (branch..self.branches().len()).find(|branch| self.rows(*branch) > 0)?;
        Some(Cell { branch, column: 0, row: 0 })
    }

    /// This cell, or where its column, or its table, has no such row or column, the first cell after it.
    fn cell_from(&self, mut cell: Cell) -> Option<Cell> {
        let rows = self.rows(cell.branch);
        if cell.row >= rows {
            cell = Cell { column: cell.column + 1, row: 0, ..cell };
        }
        let there = rows > 0 && cell.column < self.branches()[cell.branch].columns.len();
        if there { Some(cell) } else { self.first_from(cell.branch + 1) }
    }

    /// Number of columns of each branch.
    pub(crate) fn widths(&self) -> impl Iterator<Item = usize> {
        self.branches().iter().map(|branch| branch.columns.len())
    }

    /// Number of rows of a branch.
    pub(crate) fn rows(&self, branch: usize) -> usize {
        let rows = self.table(branch).len();
        if self.branches()[branch].scalars { rows.min(1) } else { rows }
    }

    fn branches(&self) -> &[Branch] {
        self.tree.branches(self.stale)
    }

    fn table(&self, branch: usize) -> &Table {
        (self.branches()[branch].table)(&self.snapshot)
    }
}

/// Whether HAProxy's tables were read longer ago than this, or never.
fn is_stale(snapshot: &Snapshot, max_age: Duration) -> bool {
    let oldest = u64::try_from(max_age.as_micros()).unwrap_or(u64::MAX);
    snapshot.haproxy_read.is_none_or(|read| unix_micros().saturating_sub(read) > oldest)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ops::Bound;

    use std::net::IpAddr;

    use super::*;
    use crate::sample::{self, Ids};
    use lbstats::schema::{self, ALOHA_PRODUCT, ALOHA_ROOT, ALOHA_SCALARS, LBSTATD_ROOT, LBSTATS_ROOTS, Module};
    use proptest::collection::vec;
    use proptest::prelude::*;

    static WITH_ALOHA: LazyLock<Arc<Tree>> = LazyLock::new(|| Arc::new(Tree::new(true, LBSTATD_ROOT).unwrap()));

    /// Every cell under its OID, straight from the tables.
    fn model(snapshot: &Snapshot, aloha: bool) -> BTreeMap<Vec<u32>, Value<'_>> {
        let mut cells = BTreeMap::new();
        for (arc, source) in ALOHA_SCALARS.iter().filter(|_| aloha && !snapshot.processes.is_empty()) {
            let place = schema::PROCESS.place(source).unwrap();
            cells.insert([ALOHA_PRODUCT, &[*arc, 0]].concat(), snapshot.processes.value(place, 0));
        }
        for root in LBSTATS_ROOTS.into_iter().chain(aloha.then_some(ALOHA_ROOT)) {
            snapshot.lbstats().into_iter().for_each(|table| model_table(&mut cells, root, table));
        }
        let own_root = [LBSTATD_ROOT, &[1]].concat();
        let daemon = snapshot.daemon().iter().map(|table| &**table);
        snapshot.kernel().into_iter().chain(daemon).for_each(|table| model_table(&mut cells, &own_root, table));
        cells
    }

    fn model_table<'a>(cells: &mut BTreeMap<Vec<u32>, Value<'a>>, root: &[u32], table: &'a Table) {
        let schema = table.schema();
        for (place, column) in schema.mib_columns().iter().enumerate() {
            if schema.module == Module::Lbstatd && place < schema.index {
                continue;
            }
            for row in 0..table.len() {
                let mut oid = [root, &[schema.arc]].concat();
                match schema.index {
                    0 => oid.extend([column.arc.unwrap(), 0]),
                    _ => oid.extend([1, column.arc.unwrap()]),
                }
                oid.extend(index(table, row));
                cells.insert(oid, table.value(place, row));
            }
        }
    }

    /// As RFC 2578 section 7.7 says, written down a second time.
    fn index(table: &Table, row: usize) -> Vec<u32> {
        let mut arcs = Vec::new();
        for column in 0..table.schema().index {
            match table.text(column, row) {
                Some(text) => {
                    arcs.push(u32::try_from(text.len()).unwrap());
                    arcs.extend(text.iter().map(|octet| u32::from(*octet)));
                }
                None => arcs.push(u32::try_from(table.number(column, row).unwrap()).unwrap()),
            }
        }
        arcs
    }

    /// Ids that meet the ends of their range, and each other, often.
    fn ids() -> impl Strategy<Value = Ids> {
        let id = || prop_oneof![1_u32..6, Just(0), Just(2_147_483_647), any::<u32>().prop_map(|id| id >> 1)];
        let pid = || 1_u32..4;
        let address = prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            (0_u8..3).prop_map(|last| IpAddr::from([127, 0, 0, last])),
            any::<[u8; 16]>().prop_map(IpAddr::from),
        ];
        let namespace = prop_oneof![Just(0), Just(u32::MAX), 4_026_531_840_u32..4_026_531_843];
        let listeners = vec((namespace, address, prop_oneof![0_u16..3, any::<u16>()]), 0..8);
        let lbstats =
            (vec(pid(), 0..4), vec((pid(), id()), 0..6), vec((pid(), id()), 0..6), vec((pid(), id(), id()), 0..12));
        (lbstats, listeners, vec("[a-c]{1,3}", 0..4)).prop_map(|(lbstats, listeners, hooks)| {
            let (processes, frontends, backends, servers) = lbstats;
            Ids { processes, frontends, backends, servers, listeners, hooks, base: 0 }
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
            let view = if aloha { view.through(&WITH_ALOHA) } else { view };
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
            let view = if aloha { view.through(&WITH_ALOHA) } else { view };
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
    fn what_haproxy_said_too_long_ago_is_not_shown_and_the_rest_is() {
        let mut snapshot = sample::snapshot(&Ids { processes: vec![1], ..Ids::default() });
        snapshot.generation = 7;
        let hour = Duration::from_secs(3600);
        for (read, rows) in
            [(None, false), (Some(unix_micros() - 1_000_000), true), (Some(unix_micros() - 3_601_000_000), false)]
        {
            snapshot.haproxy_read = read;
            let snapshot = Arc::new(snapshot.clone());
            let view = View::unless_older(snapshot.clone(), hour);
            let [mut pid, mut generation] = [LBSTATS_ROOTS[1], LBSTATD_ROOT].map(Oid::from);
            pid.extend(&[1, 1, 1, 1]);
            generation.extend(&[1, 8, 1, 0]);
            assert_eq!(view.get(&pid), rows.then_some(Value::Integer(1)), "read at {read:?}");
            assert_eq!(view.get(&generation), Some(Value::Counter64(7)));
            assert_eq!(view.next(LBSTATS_ROOTS[0], &mut Oid::default()).is_some(), rows);
            assert!(view.is_still(&snapshot, hour) && !view.is_still(&Arc::new(Snapshot::clone(&snapshot)), hour));
            assert_eq!(view.is_still(&snapshot, Duration::from_millis(500)), !rows, "what has aged since");
        }
    }

    #[test]
    fn an_address_is_its_length_and_its_octets() {
        let listeners = vec![(0, IpAddr::from([127, 0, 0, 1]), 80), (0, IpAddr::from([10, 0, 0, 1]), 443)];
        let view = View::new(Arc::new(sample::snapshot(&Ids { listeners, ..Ids::default() })));
        let mut oid = Oid::default();
        assert_eq!(view.next(&[LBSTATD_ROOT, &[1, 1]].concat(), &mut oid), Some(Value::OctetString(b"")));
        assert_eq!(oid.to_string(), ".1.3.6.1.4.1.8072.9999.9999.4300.1.1.1.5.0.1.4.10.0.0.1.443");
    }
}
