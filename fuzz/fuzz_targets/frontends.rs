//! A snapshot of frontends, for the targets that are asked for one.

use std::sync::Arc;

use lbstats::schema::FRONTEND;
use lbstats::{Field, Snapshot, TableBuilder};
use snmp_export::View;

/// Frontends with these ids, all of one name.
pub(crate) fn view(ids: impl IntoIterator<Item = u64>, name: &[u8]) -> View {
    let mut frontends = TableBuilder::new(&FRONTEND);
    for iid in ids {
        frontends
            .push(|_, column| match column.source {
                "iid" => Field::Number(iid),
                "pxname" => Field::Text(name),
                _ => Field::Absent,
            })
            .expect("these fit their columns");
    }
    let mut snapshot = Snapshot::empty();
    snapshot.frontends = Arc::new(frontends.finish().0);
    View::new(Arc::new(snapshot))
}
