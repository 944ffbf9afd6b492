//! Requests and their responses (RFC 3416 section 4.2, and RFC 1157 section 4.1 for version 1), without the message
//! around them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use lbstats::Oid;

use super::access::Subtrees;
use super::columns::Columns;
use super::counters::{Counters, tally};
use super::instances::Instance;
use super::request::{Kind, Request};
use super::response::{Failure, NO_SUCH_NAME, NOT_WRITABLE, Response, Varbinds};
use super::tree::{Place, Tree};
use super::walks::Walks;
use crate::ber::{self, BerError, Reader, tag};
use crate::view::Cell;

/// What there is beside the columns.
#[derive(Clone, Copy, Debug)]
pub struct Mib<'a> {
    /// In the order of their OIDs; none of them stands within a column.
    pub instances: &'a [Instance],
    /// Counts what is asked and answered.
    pub counters: &'a Counters,
}

/// Who asks for something, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Address of the manager.
    pub address: IpAddr,
    /// When the request came.
    pub now: Instant,
    /// Whether the PDU is one of version 1.
    pub version1: bool,
    /// What may be shown.
    pub subtrees: &'a Subtrees,
    /// Octets that the Response-PDU may have.
    pub max_size: usize,
}

/// Why a PDU gets no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be decoded.
    #[error(transparent)]
    Malformed(#[from] BerError),
    /// It is a response, a notification or a report: nothing that an agent is asked.
    #[error("the PDU is no request")]
    NoRequest,
    /// Not even an empty response fits.
    #[error("the response does not fit")]
    TooBig,
}

/// Answers PDUs; one for each worker, since it remembers walks.
#[derive(Debug, Default)]
pub struct Responder {
    walks: Walks,
    names: Vec<Oid>,
    cursors: Vec<Cursor>,
}

/// Where one variable of a request has come to.
#[derive(Debug, Default)]
struct Cursor {
    reached: Reached,
    /// The last name given, at first the one asked for.
    oid: Oid,
    /// The name behind it, while that is being given.
    next: Oid,
}

#[derive(Clone, Copy, Debug, Default)]
enum Reached {
    /// The OID that was asked for, which need not exist.
    #[default]
    Start,
    Place(Place),
    End,
}

impl Responder {
    /// Appends to `out` the Response-PDU to the request that `pdu` stands at, and returns how many variable bindings it
    /// has. `newest` is asked for the columns of the newest snapshot; it must not block.
    ///
    /// # Errors
    /// When there is no response; `out` is then as it was.
    pub fn answer(
        &mut self,
        mib: &Mib<'_>,
        asker: &Asker<'_>,
        newest: impl FnOnce() -> Arc<Columns>,
        pdu: &mut Reader<'_>,
        out: &mut Vec<u8>,
    ) -> Result<usize, Refusal> {
        let request = Request::read(pdu, asker.version1, &mut self.names)?;
        let key = request.first_repeater();
        let walked = match self.names[..request.count].get(key) {
            Some(oid) if request.kind.walks() => self.walks.columns(asker.now, asker.address, oid),
            _ => None,
        };
        let columns = walked.unwrap_or_else(newest);
        let counter64 = !asker.version1;
        let tree = Tree { instances: mib.instances, columns: &columns, subtrees: asker.subtrees, counter64 };
        let response = Response { id: request.id, start: out.len(), limit: out.len() + asker.max_size };
        let answered = self.respond(&request, &tree, mib.counters, &response, out);
        if answered.is_ok() && request.kind.walks() && key < request.count {
            self.remember(key, asker, &columns);
        }
        response.finish(answered, &request, asker.version1, mib.counters, out)
    }

    fn respond(
        &mut self,
        request: &Request<'_>,
        tree: &Tree<'_>,
        counters: &Counters,
        response: &Response,
        out: &mut Vec<u8>,
    ) -> Result<usize, Failure> {
        let strict = !tree.counter64;
        match request.kind {
            Kind::Get => {
                tally(&counters.in_gets);
                response.write(out, |varbinds| get(tree, &self.names[..request.count], strict, varbinds))
            }
            Kind::GetNext => {
                tally(&counters.in_get_nexts);
                let cursors = start(&mut self.cursors, &self.names[..request.count]);
                response.write(out, |varbinds| get_next(tree, cursors, strict, varbinds))
            }
            Kind::GetBulk { non_repeaters, max_repetitions } => {
                let cursors = start(&mut self.cursors, &self.names[..request.count]);
                let (single, repeated) = cursors.split_at_mut(non_repeaters);
                response.write(out, |varbinds| {
                    let whole = get_next(tree, single, false, varbinds)
                        .and_then(|()| repeat(tree, repeated, max_repetitions, varbinds));
                    // What does not fit is left out, and that is no error (RFC 3416 section 4.2.3).
                    whole.or(Ok(()))
                })
            }
            Kind::Set => {
                tally(&counters.in_sets);
                tally(&counters.in_bad_community_uses);
                match request.count {
                    0 => response.write(out, |_| Ok(())),
                    // RFC 3584 section 4.4 has noSuchName for notWritable, and RFC 1157 for what cannot be set.
                    _ => Err(Failure { status: if strict { NO_SUCH_NAME } else { NOT_WRITABLE }, index: 1 }),
                }
            }
        }
    }

    /// Remembers how far the walk of this variable has come.
    fn remember(&mut self, key: usize, asker: &Asker<'_>, columns: &Arc<Columns>) {
        if let (Some(asked), Some(cursor)) = (self.names.get(key), self.cursors.get(key))
            && let Reached::Place(_) = cursor.reached
        {
            self.walks.answered(asker.now, asker.address, asked, &cursor.oid, columns);
        }
    }
}

/// A cursor for each of these names, in the memory that others had.
fn start<'a>(cursors: &'a mut Vec<Cursor>, names: &[Oid]) -> &'a mut [Cursor] {
    cursors.resize_with(cursors.len().max(names.len()), Cursor::default);
    let cursors = &mut cursors[..names.len()];
    for (cursor, name) in cursors.iter_mut().zip(names) {
        cursor.reached = Reached::Start;
        cursor.oid.assign(name);
    }
    cursors
}

fn get(tree: &Tree<'_>, names: &[Oid], strict: bool, varbinds: &mut Varbinds<'_>) -> Result<(), Failure> {
    for (name, index) in names.iter().zip(1..) {
        match tree.at(name) {
            Some(place) => varbinds.push(|out| tree.push(place, name, out))?,
            None if strict => return Err(Failure { status: NO_SUCH_NAME, index }),
            None => {
                let there = tree.has_object(name);
                let exception = if there { tag::NO_SUCH_INSTANCE } else { tag::NO_SUCH_OBJECT };
                varbinds.push(|out| ber::push_varbind_empty(out, name, exception))?;
            }
        }
    }
    Ok(())
}

fn get_next(tree: &Tree<'_>, cursors: &mut [Cursor], strict: bool, varbinds: &mut Varbinds<'_>) -> Result<(), Failure> {
    for (cursor, index) in cursors.iter_mut().zip(1..) {
        match cursor.next(tree) {
            Some(place) => {
                varbinds.push(|out| tree.push(place, &cursor.next, out))?;
                cursor.give(place);
            }
            None if strict => return Err(Failure { status: NO_SUCH_NAME, index }),
            None => cursor.end(varbinds)?,
        }
    }
    Ok(())
}

/// The variables in turns, up to so many times.
fn repeat(
    tree: &Tree<'_>,
    cursors: &mut [Cursor],
    max_repetitions: usize,
    varbinds: &mut Varbinds<'_>,
) -> Result<(), Failure> {
    if let [cursor] = cursors {
        return run(tree, cursor, max_repetitions, varbinds);
    }
    for _ in 0..max_repetitions {
        let mut ended = true;
        for cursor in &mut *cursors {
            match cursor.next(tree) {
                Some(place) => {
                    match place {
                        Place::Cell(cell) => varbinds.copy(tree.columns, cell, 1).map(drop)?,
                        Place::Instance(_) => varbinds.push(|out| tree.push(place, &cursor.next, out))?,
                    }
                    cursor.give(place);
                    ended = false;
                }
                None => cursor.end(varbinds)?,
            }
        }
        // More of the same would say nothing (RFC 3416 section 4.2.3).
        if ended {
            break;
        }
    }
    Ok(())
}

/// One variable, up to so many times: as many cells at a time as stand together.
fn run(tree: &Tree<'_>, cursor: &mut Cursor, most: usize, varbinds: &mut Varbinds<'_>) -> Result<(), Failure> {
    let mut left = most;
    while left > 0 {
        match cursor.next(tree) {
            None => return cursor.end(varbinds),
            Some(place @ Place::Instance(_)) => {
                varbinds.push(|out| tree.push(place, &cursor.next, out))?;
                cursor.give(place);
                left -= 1;
            }
            Some(Place::Cell(first)) => left -= run_cells(tree, cursor, first, left, varbinds)?,
        }
    }
    Ok(())
}

/// Cells that stand together, from the one whose name is the cursor's next, and how many.
fn run_cells(
    tree: &Tree<'_>,
    cursor: &mut Cursor,
    first: Cell,
    most: usize,
    varbinds: &mut Varbinds<'_>,
) -> Result<usize, Failure> {
    let (length, before) = (varbinds.out.len(), varbinds.count);
    let mut count = varbinds.copy(tree.columns, first, most)?;
    let mut last = Cell { row: first.row + count - 1, ..first };
    tree.columns.view().oid(last, &mut cursor.oid);
    if tree.subtrees.holding(&cursor.oid) != tree.subtrees.holding(&cursor.next) {
        // What may be shown ends among them.
        varbinds.out.truncate(length);
        varbinds.count = before;
        count = varbinds.copy(tree.columns, first, 1)?;
        last = first;
        cursor.oid.assign(&cursor.next);
    }
    cursor.reached = Reached::Place(Place::Cell(last));
    Ok(count)
}

impl Cursor {
    /// The place behind the one it has reached; its name is then in `next`.
    fn next(&mut self, tree: &Tree<'_>) -> Option<Place> {
        match self.reached {
            Reached::Start => tree.after(&self.oid, &mut self.next),
            Reached::Place(place) => tree.following(place, &self.oid, &mut self.next),
            Reached::End => None,
        }
    }

    /// That place has been given.
    fn give(&mut self, place: Place) {
        self.reached = Reached::Place(place);
        std::mem::swap(&mut self.oid, &mut self.next);
    }

    /// There is nothing behind it.
    fn end(&mut self, varbinds: &mut Varbinds<'_>) -> Result<(), Failure> {
        self.reached = Reached::End;
        varbinds.push(|out| ber::push_varbind_empty(out, &self.oid, tag::END_OF_MIB_VIEW))
    }
}
