//! Writing a Response-PDU that keeps within its size.

use std::sync::atomic::Ordering::Relaxed;

use super::columns::Columns;
use super::counters::{Counters, tally};
use super::pdu::Refusal;
use super::request::{Kind, Request};
use crate::ber::{self, tag};
use crate::view::Cell;

/// Error statuses (RFC 3416 section 3).
const NO_ERROR: i32 = 0;
pub(super) const NO_SUCH_NAME: i32 = 2;
pub(super) const NOT_WRITABLE: i32 = 17;

const TOO_BIG: Failure = Failure { status: 1, index: 0 };
/// Octets that a length takes beyond its first one, in anything that fits into a datagram.
const LONGER_LENGTH: usize = 2;

/// A response with an error status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) status: i32,
    /// Number of the variable at fault, from 1; 0 is none.
    pub(super) index: usize,
}

/// Where a response is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Response {
    pub(super) id: i32,
    /// Where it begins.
    pub(super) start: usize,
    /// Where it has to end.
    pub(super) limit: usize,
}

/// The variable bindings of a response.
pub(super) struct Varbinds<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// The length that `out` may reach.
    limit: usize,
    pub(super) count: usize,
}

impl Response {
    /// Writes it with these variable bindings; after a failure nothing is written.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Varbinds<'_>) -> Result<(), Failure>,
    ) -> Result<usize, Failure> {
        let pdu = self.begin(out, NO_ERROR, 0);
        let list = ber::begin(out, tag::SEQUENCE);
        let mut varbinds = Varbinds { out, limit: self.limit.saturating_sub(2 * LONGER_LENGTH), count: 0 };
        let filled = fill(&mut varbinds);
        let count = varbinds.count;
        if let Err(failure) = filled {
            out.truncate(self.start);
            return Err(failure);
        }
        ber::end(out, list);
        ber::end(out, pdu);
        Ok(count)
    }

    fn begin(&self, out: &mut Vec<u8>, status: i32, index: usize) -> usize {
        let pdu = ber::begin(out, tag::RESPONSE);
        ber::push_integer(out, self.id);
        ber::push_integer(out, status);
        ber::push_integer(out, i32::try_from(index).unwrap_or(i32::MAX));
        pdu
    }

    /// Writes the error that stands for a failure, and counts what is sent.
    pub(super) fn finish(
        &self,
        answered: Result<usize, Failure>,
        request: &Request<'_>,
        version1: bool,
        counters: &Counters,
        out: &mut Vec<u8>,
    ) -> Result<usize, Refusal> {
        let number = match answered {
            Ok(number) => number,
            Err(failure) => {
                self.write_failure(failure, request, version1, out);
                if out.len() > self.limit && failure != TOO_BIG {
                    out.truncate(self.start);
                    self.write_failure(TOO_BIG, request, version1, out);
                }
                0
            }
        };
        if out.len() > self.limit {
            out.truncate(self.start);
            tally(&counters.silent_drops);
            return Err(Refusal::TooBig);
        }
        tally(&counters.out_responses);
        match answered {
            Ok(number) if matches!(request.kind, Kind::Get | Kind::GetNext) => {
                counters.in_request_variables.fetch_add(number as u64, Relaxed);
            }
            Err(TOO_BIG) => tally(&counters.out_too_bigs),
            Err(Failure { status: NO_SUCH_NAME, .. }) => tally(&counters.out_no_such_names),
            _ => {}
        }
        Ok(number)
    }

    /// With the variable bindings of the request, unless they are what is too big (RFC 3416 section 4.2.1); in version 1
    /// with them always (RFC 1157 section 4.1.2).
    fn write_failure(&self, failure: Failure, request: &Request<'_>, version1: bool, out: &mut Vec<u8>) {
        let pdu = self.begin(out, failure.status, failure.index);
        if failure == TOO_BIG && !version1 {
            ber::push_empty(out, tag::SEQUENCE);
        } else {
            out.extend_from_slice(request.list);
        }
        ber::end(out, pdu);
    }
}

impl Varbinds<'_> {
    /// One more.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failure> {
        let length = self.out.len();
        write(self.out);
        if self.out.len() > self.limit {
            self.out.truncate(length);
            return Err(TOO_BIG);
        }
        self.count += 1;
        Ok(())
    }

    /// A cell and as many as fit of those behind it that are encoded with it, `most` at most; and how many.
    pub(super) fn copy(&mut self, columns: &Columns, cell: Cell, most: usize) -> Result<usize, Failure> {
        let (block, place) = columns.block(cell);
        let (octets, count) = block.run(place, most, self.limit.saturating_sub(self.out.len()));
        if count == 0 {
            return Err(TOO_BIG);
        }
        self.out.extend_from_slice(octets);
        self.count += count;
        Ok(count)
    }
}
