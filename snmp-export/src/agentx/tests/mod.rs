//! The subagent against a master of the tests' own, which shares no code with it.

mod codec;
mod peer;
mod protocol;
mod requests;

use crate::Tree;
use std::sync::Arc;
use std::time::Instant;

use super::{Event, Session, SessionError};
use crate::sample::{self, Ids};
use crate::view::View;
use crate::walks::Walks;
use lbstats::Oid;
use peer::{Answer, Asked};

/// The number that the master gave to the session.
const SESSION: u32 = 0x0102_0304;

/// A session with its master in memory.
struct Pair {
    session: Session,
    newest: View,
    now: Instant,
}

impl Pair {
    /// A session that is open and registered.
    fn open(newest: View) -> Self {
        let mut out = Vec::new();
        let session = Session::open(Tree::default().roots().to_vec(), Walks::default(), "lbstatd test", &mut out);
        let mut pair = Self { session, newest, now: Instant::now() };
        let mut events = Vec::new();
        while !out.is_empty() {
            let (packet, rest) = peer::header(&out);
            let answer = peer::response(true, SESSION, packet.packet, 0);
            out = rest.to_vec();
            let (event, more) = pair.receive(&answer).unwrap();
            events.push(event);
            out.extend(more);
        }
        assert_eq!((events.first(), events.last()), (Some(&Event::Opened), Some(&Event::Registered)));
        assert!(pair.session.is_complete());
        pair
    }

    /// Gives it one PDU: what it was, and what is sent for it.
    fn receive(&mut self, pdu: &[u8]) -> Result<(Event, Vec<u8>), SessionError> {
        let mut out = Vec::new();
        let newest = &self.newest;
        let received = self.session.receive(pdu, self.now, &mut || newest.clone(), &mut out)?;
        let (length, event) = received.expect("a whole PDU");
        assert_eq!(length, pdu.len());
        Ok((event, out))
    }

    /// The answer to a request.
    fn ask(&mut self, asked: &Asked) -> Answer {
        let pdu = asked.encode();
        let (_, out) = self.receive(&pdu).unwrap();
        let answer = Answer::decode(&out);
        let (header, _) = peer::header(&pdu);
        let same = (answer.header.session, answer.header.transaction, answer.header.packet, answer.header.big);
        assert_eq!(same, (header.session, header.transaction, header.packet, header.big));
        answer
    }
}

fn view(ids: &Ids) -> View {
    View::new(Arc::new(sample::snapshot(ids)))
}

/// Three frontends and two servers; of the process nothing.
fn some_rows() -> View {
    view(&Ids { frontends: vec![(1, 2), (1, 10), (2, 1)], servers: vec![(1, 3, 1), (1, 3, 4)], ..Ids::default() })
}

/// Below the first root.
fn below(arcs: &[u32]) -> Vec<u32> {
    let mut oid = Oid::from(lbstats::schema::LBSTATS_ROOTS[0]);
    oid.extend(arcs);
    oid.to_vec()
}
