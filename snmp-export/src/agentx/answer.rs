//! What a subagent answers to the requests of its master (RFC 2741 section 7.2), from memory.

use std::time::Instant;

use lbstats::Oid;

use super::error::ErrorStatus;
use super::lists::{Ranges, Varbinds};
use super::pdu::{Header, Message, Pdu, RESPONSE};
use super::value::{Data, write_varbind};
use super::wire::{Malformed, Writer};
use crate::view::View;
use crate::walks::Walks;

/// The largest list of variable bindings that is sent, in octets; an answer to a manager is far smaller.
const MAX_ANSWER: usize = 1 << 18;

/// Answers requests, each from one snapshot or from that of its walk.
#[derive(Debug)]
pub(super) struct Answers {
    walks: Walks,
    /// What is read and found, one after the other, in memory that stays.
    start: Oid,
    end: Oid,
    found: Oid,
    repeaters: Vec<Repeater>,
}

/// A range of a GetBulk that is asked for several values.
#[derive(Debug, Default)]
struct Repeater {
    from: Oid,
    end: Oid,
    include: bool,
    ended: bool,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) error: ErrorStatus,
    /// Variable bindings in the response.
    pub(super) varbinds: u32,
}

/// An error status, and the variable binding it is about, from 1; 0 for none.
type Refusal = (ErrorStatus, u16);

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        (ErrorStatus::PARSE_ERROR, 0)
    }
}

impl Answers {
    pub(super) fn new(walks: Walks) -> Self {
        let (start, end, found) = (Oid::default(), Oid::default(), Oid::default());
        Self { walks, start, end, found, repeaters: Vec::new() }
    }

    /// Appends the response to a request within a session; none for a CleanupSet.
    pub(super) fn answer(
        &mut self,
        message: &Message<'_>,
        now: Instant,
        newest: &mut impl FnMut() -> View,
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        let here = message.context.unwrap_or_default().is_empty();
        let fill = |writer: &mut Writer<'_>| match message.pdu {
            Pdu::Get(ranges) => self.get(ranges, here, now, newest, writer),
            Pdu::GetNext(ranges) => self.get_next(ranges, here, now, newest, writer),
            Pdu::GetBulk { non_repeaters, max_repetitions, ranges } => {
                self.get_bulk(ranges, (non_repeaters, max_repetitions), here, now, newest, writer)
            }
            Pdu::TestSet(varbinds) => refuse_set(varbinds),
            // The TestSet before it was refused.
            Pdu::CommitSet => Err((ErrorStatus::COMMIT_FAILED, 0)),
            // Nothing was set.
            Pdu::UndoSet | Pdu::Ping => Ok(0),
            _ => Err((ErrorStatus::PROCESSING_ERROR, 0)),
        };
        (message.pdu != Pdu::CleanupSet).then(|| respond(&message.header, out, fill))
    }

    /// RFC 2741 section 7.2.3.1. `here` says that the context is the one that has objects.
    fn get(
        &mut self,
        mut ranges: Ranges<'_>,
        here: bool,
        now: Instant,
        newest: &mut impl FnMut() -> View,
        writer: &mut Writer<'_>,
    ) -> Result<u32, Refusal> {
        let (begin, mut count) = (writer.octets.len(), 0);
        while ranges.next(&mut self.start, &mut self.end)?.is_some() {
            if !here {
                write_varbind(writer, &self.start, &Data::NoSuchObject);
            } else if let Some(value) = self.walks.get(now, &self.start, &mut *newest) {
                write_varbind(writer, &self.start, &value.into());
            } else {
                let known = self.walks.has_object(now, &self.start, &mut *newest);
                let miss = if known { Data::NoSuchInstance } else { Data::NoSuchObject };
                write_varbind(writer, &self.start, &miss);
            }
            count += 1;
            within_bounds(writer, begin)?;
        }
        Ok(count)
    }

    /// RFC 2741 section 7.2.3.2.
    fn get_next(
        &mut self,
        mut ranges: Ranges<'_>,
        here: bool,
        now: Instant,
        newest: &mut impl FnMut() -> View,
        writer: &mut Writer<'_>,
    ) -> Result<u32, Refusal> {
        let (begin, mut count) = (writer.octets.len(), 0);
        while let Some(include) = ranges.next(&mut self.start, &mut self.end)? {
            if here {
                let range = (&*self.start, &*self.end, include);
                write_next(&mut self.walks, range, now, newest, &mut self.found, writer);
            } else {
                write_varbind(writer, &self.start, &Data::EndOfMibView);
            }
            count += 1;
            within_bounds(writer, begin)?;
        }
        Ok(count)
    }

    /// RFC 2741 section 7.2.3.3. Of the repetitions, as many as fit.
    fn get_bulk(
        &mut self,
        mut ranges: Ranges<'_>,
        (non_repeaters, max_repetitions): (u16, u16),
        here: bool,
        now: Instant,
        newest: &mut impl FnMut() -> View,
        writer: &mut Writer<'_>,
    ) -> Result<u32, Refusal> {
        let (begin, mut count, mut repeaters) = (writer.octets.len(), 0, 0);
        while let Some(include) = ranges.next(&mut self.start, &mut self.end)? {
            if count < u32::from(non_repeaters) {
                if here {
                    let range = (&*self.start, &*self.end, include);
                    write_next(&mut self.walks, range, now, newest, &mut self.found, writer);
                } else {
                    write_varbind(writer, &self.start, &Data::EndOfMibView);
                }
                count += 1;
                within_bounds(writer, begin)?;
                continue;
            }
            if self.repeaters.len() == repeaters {
                self.repeaters.push(Repeater::default());
            }
            let repeater = &mut self.repeaters[repeaters];
            repeater.from.assign(&self.start);
            repeater.end.assign(&self.end);
            (repeater.include, repeater.ended) = (include, !here);
            repeaters += 1;
        }
        let repeaters = &mut self.repeaters[..repeaters];
        for repetition in 0..max_repetitions {
            let (whole, before) = (writer.octets.len(), count);
            for repeater in &mut *repeaters {
                if repeater.ended {
                    write_varbind(writer, &repeater.from, &Data::EndOfMibView);
                } else {
                    let range = (&*repeater.from, &*repeater.end, repeater.include);
                    repeater.ended = !write_next(&mut self.walks, range, now, newest, &mut self.found, writer);
                    repeater.include = false;
                    if !repeater.ended {
                        repeater.from.assign(&self.found);
                    }
                }
                count += 1;
                if within_bounds(writer, begin).is_err() {
                    if repetition == 0 {
                        return Err((ErrorStatus::TOO_BIG, 0));
                    }
                    writer.octets.truncate(whole);
                    return Ok(before);
                }
            }
            if repeaters.iter().all(|repeater| repeater.ended) {
                break;
            }
        }
        Ok(count)
    }
}

/// The first variable binding in a range (start, end, whether the start belongs to it), or that there is none, which
/// is then false.
fn write_next(
    walks: &mut Walks,
    (start, end, include): (&[u32], &[u32], bool),
    now: Instant,
    newest: &mut impl FnMut() -> View,
    found: &mut Oid,
    writer: &mut Writer<'_>,
) -> bool {
    let before_end = |oid: &[u32]| end.is_empty() || oid < end;
    if include
        && before_end(start)
        && let Some(value) = walks.get(now, start, &mut *newest)
    {
        found.assign(start);
        write_varbind(writer, start, &value.into());
        return true;
    }
    match walks.next(now, start, found, newest) {
        Some(value) if before_end(found) => write_varbind(writer, found, &value.into()),
        _ => {
            write_varbind(writer, start, &Data::EndOfMibView);
            return false;
        }
    }
    true
}

fn within_bounds(writer: &Writer<'_>, begin: usize) -> Result<(), Refusal> {
    if writer.octets.len() - begin <= MAX_ANSWER { Ok(()) } else { Err((ErrorStatus::TOO_BIG, 0)) }
}

/// RFC 2741 section 7.2.4.1: the first variable binding is refused, and with it all of them.
fn refuse_set(mut varbinds: Varbinds<'_>) -> Result<u32, Refusal> {
    let (mut name, mut any) = (Oid::default(), false);
    while varbinds.next(&mut name)?.is_some() {
        any = true;
    }
    if any { Err((ErrorStatus::NOT_WRITABLE, 1)) } else { Ok(0) }
}

/// Appends a response whose variable bindings `fill` writes and counts; if it fails, one without any.
pub(super) fn respond(
    header: &Header,
    out: &mut Vec<u8>,
    fill: impl FnOnce(&mut Writer<'_>) -> Result<u32, Refusal>,
) -> Outcome {
    let mut outcome = Outcome { error: ErrorStatus::NO_ERROR, varbinds: 0 };
    let header = Header { kind: RESPONSE, in_context: false, ..*header };
    header.encode(out, |writer| {
        // sysUpTime is the master's to tell.
        writer.u32(0);
        let begin = writer.octets.len();
        writer.u32(0);
        match fill(writer) {
            Ok(varbinds) => outcome.varbinds = varbinds,
            Err((error, index)) => {
                outcome.error = error;
                writer.octets.truncate(begin);
                writer.u16(error.0);
                writer.u16(index);
            }
        }
    });
    outcome
}
