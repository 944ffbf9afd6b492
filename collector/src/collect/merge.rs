//! The tables of several stats sockets as one: which number each process has, and whose rows are left out.

use std::path::PathBuf;
use std::sync::Arc;

use lbstats::schema::{BACKEND, FRONTEND, PROCESS, SERVER};
use lbstats::{Field, FieldError, Table, TableBuilder};

use super::socket::Kept;

/// The tables of lbStats over all sockets, and for each socket why its rows are not among them.
pub(super) struct Merged {
    pub(super) tables: [Arc<Table>; 4],
    pub(super) faults: Vec<Option<String>>,
}

impl Merged {
    /// Without rows and faults, for this many sockets.
    pub(super) fn empty(sockets: usize) -> Self {
        let tables = [&PROCESS, &FRONTEND, &BACKEND, &SERVER].map(|schema| Arc::new(Table::empty(schema)));
        Self { tables, faults: vec![None; sockets] }
    }
}

/// Merges the readings of the sockets at `paths`. Tables of a single one are shared; copying those of several takes
/// milliseconds with thousands of servers, so another thread does it.
pub(super) async fn merge(readings: Vec<Option<Arc<Kept>>>, paths: Vec<PathBuf>) -> Merged {
    if readings.len() <= 1 {
        return merged(&readings, &paths);
    }
    match tokio::task::spawn_blocking(move || merged(&readings, &paths)).await {
        Ok(merged) => merged,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels it, and with it the task that waits here.
            Err(_) => std::future::pending().await,
        },
    }
}

fn merged(readings: &[Option<Arc<Kept>>], paths: &[PathBuf]) -> Merged {
    let mut merged = Merged::empty(readings.len());
    let mut taken: Vec<(u32, usize, &Kept)> = Vec::new();
    for (place, reading) in readings.iter().enumerate() {
        let Some(kept) = reading else { continue };
        let number = number(place, kept);
        let clash = taken.iter().find(|(other, _, before)| *other == number || same_process(before, kept));
        if let Some((_, other, before)) = clash {
            merged.faults[place] = Some(fault(paths, place, *other, number, same_process(before, kept)));
        } else {
            taken.push((number, place, kept));
        }
    }
    if let [(number, _, kept)] = taken[..]
        && number == kept.process_number
    {
        merged.tables = kept.tables.clone();
        return merged;
    }
    for (which, table) in merged.tables.iter_mut().enumerate() {
        let mut builder = TableBuilder::new(table.schema());
        for (number, place, kept) in &taken {
            if let Err(error) = append(&mut builder, &kept.tables[which], *number) {
                merged.faults[*place] = Some(format!("rows of {} are missing: {error}", paths[*place].display()));
            }
        }
        *table = Arc::new(builder.finish().0);
    }
    merged
}

/// HAProxy's own number where it has several processes; else the place of the socket, from 1.
pub(super) fn number(place: usize, kept: &Kept) -> u32 {
    if kept.processes > 1 || kept.process_number > 1 {
        kept.process_number
    } else {
        u32::try_from(place + 1).unwrap_or(u32::MAX)
    }
}

/// One process with two stats sockets; in containers two processes may have one pid, but not the same node name.
fn same_process(one: &Kept, two: &Kept) -> bool {
    let node = |kept: &Kept| {
        let column = PROCESS.place("node")?;
        kept.tables[0].text(column, 0).map(<[u8]>::to_vec)
    };
    one.pid.is_some() && one.pid == two.pid && node(one) == node(two)
}

fn fault(paths: &[PathBuf], place: usize, other: usize, number: u32, same: bool) -> String {
    let (path, other) = (paths[place].display(), paths[other].display());
    if same {
        format!("{path} is a socket of the same HAProxy process as {other}: list only one of them")
    } else {
        format!(
            "HAProxy on {path} is process {number} and so is the one on {other}: \
             list only sockets of one HAProxy with nbproc, or only HAProxies of one process"
        )
    }
}

/// Appends the rows of a table as those of process `number`.
fn append(builder: &mut TableBuilder, table: &Table, number: u32) -> Result<(), FieldError> {
    (0..table.len()).try_for_each(|row| {
        builder.push(|column, _| match (column, table.number(column, row), table.text(column, row)) {
            // All four tables begin with the number of the process.
            (0, ..) => Field::Number(number.into()),
            (_, Some(number), _) => Field::Number(number),
            (_, _, Some(text)) => Field::Text(text),
            _ => Field::Absent,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::socket::Kept;

    const FIELDS: [(&str, Field<'_>); 6] = [
        ("iid", Field::Number(2)),
        ("sid", Field::Number(1)),
        ("pxname", Field::Text(b"www")),
        ("svname", Field::Text(b"s")),
        ("Pid", Field::Number(4711)),
        ("stot", Field::Number(5)),
    ];

    fn kept(process_number: u32, processes: u32, pid: u32, node: &str) -> Option<Arc<Kept>> {
        let tables = [&PROCESS, &FRONTEND, &BACKEND, &SERVER].map(|schema| {
            let mut builder = TableBuilder::new(schema);
            let row = builder.push(|place, column| match column.source {
                _ if place == 0 => Field::Number(process_number.into()),
                "node" => Field::Text(node.as_bytes()),
                source => FIELDS.iter().find(|(name, _)| *name == source).map_or(Field::Absent, |(_, field)| *field),
            });
            row.unwrap();
            Arc::new(builder.finish().0)
        });
        Some(Arc::new(Kept { tables, process_number, processes, ..crate::collect::socket::tests::kept(pid, &[]) }))
    }

    fn rows(merged: &Merged) -> [Vec<Vec<u32>>; 4] {
        merged.tables.clone().map(|table| (0..table.len()).map(|row| table.index(row).collect()).collect())
    }

    fn paths(sockets: usize) -> Vec<PathBuf> {
        (1..=sockets).map(|number| format!("/run/{number}.sock").into()).collect()
    }

    #[test]
    fn one_socket_shares_its_tables() {
        let kept = kept(1, 1, 7, "n");
        let merged = merged(std::slice::from_ref(&kept), &paths(1));
        for (table, own) in merged.tables.iter().zip(&kept.unwrap().tables) {
            assert!(Arc::ptr_eq(table, own));
        }
        assert_eq!(merged.faults, [None]);
    }

    #[test]
    fn processes_of_one_haproxy_keep_their_numbers_in_any_order() {
        let merged = merged(&[kept(3, 3, 7, "n"), None, kept(1, 3, 8, "n")], &paths(3));
        let expected = [vec![vec![1], vec![3]], vec![vec![1, 2], vec![3, 2]], vec![vec![1, 2], vec![3, 2]]];
        assert_eq!(rows(&merged)[..3], expected);
        assert_eq!(rows(&merged)[3], [[1, 2, 1], [3, 2, 1]]);
        assert_eq!(merged.faults, [None, None, None]);
    }

    #[test]
    fn haproxies_side_by_side_are_numbered_by_place_whoever_runs() {
        let (one, two) = (kept(1, 1, 7, "n"), kept(1, 1, 8, "n"));
        let both = merged(&[one, two.clone()], &paths(2));
        assert_eq!(rows(&both)[3], [[1, 2, 1], [2, 2, 1]]);
        let second = merged(&[None, two], &paths(2));
        assert_eq!(rows(&second)[3], [[2, 2, 1]]);
        let total = SERVER.place("stot").unwrap();
        assert_eq!(second.tables[3].number(total, 0), Some(5), "the rest of the row is as it was");
    }

    #[test]
    fn two_containers_may_have_one_pid() {
        let merged = merged(&[kept(1, 1, 8, "one"), kept(1, 1, 8, "two")], &paths(2));
        assert_eq!((merged.tables[0].len(), merged.faults), (2, vec![None, None]));
    }

    #[test]
    fn a_process_is_never_counted_twice() {
        let merged = merged(&[kept(1, 1, 7, "n"), kept(1, 1, 7, "n")], &paths(2));
        assert_eq!(rows(&merged)[0], [[1]]);
        let expected = "/run/2.sock is a socket of the same HAProxy process as /run/1.sock: list only one of them";
        assert_eq!(merged.faults, [None, Some(expected.to_owned())]);
    }

    #[test]
    fn a_number_is_given_once() {
        let merged = merged(&[kept(2, 2, 7, "n"), kept(1, 1, 8, "n")], &paths(2));
        assert_eq!(rows(&merged)[0], [[2]]);
        let fault = merged.faults[1].as_deref().unwrap();
        assert!(fault.starts_with("HAProxy on /run/2.sock is process 2 and so is the one on /run/1.sock"), "{fault}");
    }
}
