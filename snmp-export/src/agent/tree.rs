//! Everything the agent can show one asker, in the order of OIDs: single instances, and the cells of a view.

use lbstats::{Oid, Value};

use super::access::Subtrees;
use super::columns::Columns;
use super::instances::Instance;
use crate::ber;
use crate::view::Cell;

/// What there is to see for one PDU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree<'a> {
    /// In the order of their OIDs; none of them stands within a column of the view.
    pub(super) instances: &'a [Instance],
    pub(super) columns: &'a Columns,
    pub(super) subtrees: &'a Subtrees,
    /// Whether there are objects of type Counter64: version 1 has no such type (RFC 3584 section 4.2.2.1).
    pub(super) counter64: bool,
}

/// A place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Instance(usize),
    Cell(Cell),
}

impl<'a> Tree<'a> {
    /// The instance of exactly this OID.
    pub(super) fn at(&self, oid: &[u32]) -> Option<Place> {
        self.subtrees.holding(oid)?;
        let place = match self.instances.binary_search_by(|instance| (*instance.oid).cmp(oid)) {
            Ok(place) => Place::Instance(place),
            Err(_) => Place::Cell(self.columns.view().cell_at(oid)?),
        };
        self.is_shown(place).then_some(place)
    }

    /// Whether `oid` is an object, or an instance that an object might have.
    pub(super) fn has_object(&self, oid: &[u32]) -> bool {
        let ours = || self.instances.iter().any(|instance| oid.starts_with(instance.object()));
        self.subtrees.holding(oid).is_some() && (self.columns.view().has_object(oid) || ours())
    }

    /// The first place above `oid`, and its OID in `into`, which has no meaning where there is none.
    pub(super) fn after(&self, oid: &[u32], into: &mut Oid) -> Option<Place> {
        let instance = self.instances.partition_point(|instance| *instance.oid <= *oid);
        self.first(self.columns.view().cell_after(oid), instance, into)
    }

    /// The place behind this one, whose OID is `oid`, and the OID of the place behind in `into`.
    pub(super) fn following(&self, place: Place, oid: &[u32], into: &mut Oid) -> Option<Place> {
        let view = self.columns.view();
        let next = match place {
            Place::Instance(_) => view.cell_after(oid),
            Place::Cell(cell) => {
                let next = view.following(cell);
                if let Some(next) = next.filter(|next| next.row > cell.row) {
                    view.oid(next, into);
                    if self.subtrees.holding(into).is_some() {
                        return Some(Place::Cell(next));
                    }
                }
                next
            }
        };
        self.first(next, self.instances.partition_point(|instance| *instance.oid <= *oid), into)
    }

    /// The first of these two, or of what stands behind them, that is shown; and its OID in `into`.
    fn first(&self, mut cell: Option<Cell>, mut instance: usize, into: &mut Oid) -> Option<Place> {
        let view = self.columns.view();
        loop {
            let place = match (cell, self.instances.get(instance)) {
                (None, None) => return None,
                (None, Some(there)) => {
                    into.assign(&there.oid);
                    Place::Instance(instance)
                }
                (Some(cell), there) => {
                    view.oid(cell, into);
                    match there.filter(|there| *there.oid < **into) {
                        Some(there) => {
                            into.assign(&there.oid);
                            Place::Instance(instance)
                        }
                        None => Place::Cell(cell),
                    }
                }
            };
            if self.subtrees.holding(into).is_none() {
                let root = self.subtrees.after(into)?;
                cell = view.cell_at(root).or_else(|| view.cell_after(root));
                instance = self.instances.partition_point(|instance| instance.oid < *root);
            } else if self.is_shown(place) {
                return Some(place);
            } else if let Place::Cell(hidden) = place {
                // The rest of its column is of the same type.
                cell = view.behind_column(hidden);
            } else {
                instance += 1;
            }
        }
    }

    /// The value at a place.
    pub(super) fn value(&self, place: Place) -> Value<'a> {
        match place {
            Place::Instance(place) => self.instances[place].value(),
            Place::Cell(cell) => self.columns.view().value(cell),
        }
    }

    /// Appends what stands at a place, whose OID this is.
    pub(super) fn push(&self, place: Place, oid: &[u32], out: &mut Vec<u8>) {
        ber::push_varbind(out, oid, self.value(place));
    }

    fn is_shown(&self, place: Place) -> bool {
        self.counter64 || !matches!(self.value(place), Value::Counter64(_))
    }
}
