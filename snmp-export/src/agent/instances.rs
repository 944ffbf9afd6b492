//! Objects that are not in a snapshot: the `system` and `snmp` groups (RFC 3418), one instance at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use lbstats::{Oid, Value};

use super::counters::{Counters, SNMP_GROUP, counter32};

const SYSTEM: [u32; 7] = [1, 3, 6, 1, 2, 1, 1];
const SNMP: [u32; 7] = [1, 3, 6, 1, 2, 1, 11];
/// Applications, and end-to-end: 2^(4-1) + 2^(7-1).
const SERVICES: i32 = 72;
/// authenticationFailure traps: disabled(2).
const NO_AUTHENTICATION_TRAPS: i32 = 2;

/// One instance of an object.
#[derive(Debug)]
pub struct Instance {
    /// Its whole OID, whose last arc is the index.
    pub oid: Oid,
    /// Its value.
    pub content: Content,
}

/// The value of an instance.
pub enum Content {
    /// An OCTET STRING that does not change.
    Text(Vec<u8>),
    /// An OBJECT IDENTIFIER that does not change.
    ObjectIdentifier(Oid),
    /// Whatever this says when it is asked. It must not block.
    Now(Box<dyn Fn() -> Value<'static> + Send + Sync>),
}

/// What the `system` group says.
#[derive(Clone, Debug)]
pub struct System {
    /// sysDescr
    pub description: String,
    /// sysObjectID
    pub object_id: Oid,
    /// sysContact
    pub contact: String,
    /// sysName
    pub name: String,
    /// sysLocation
    pub location: String,
    /// MIB modules that are served: the rows of sysORTable, each an OID and what it is.
    pub modules: Vec<(Oid, String)>,
}

impl Instance {
    /// An instance `group`.`below`.
    pub fn new(group: &[u32], below: &[u32], content: Content) -> Self {
        let mut oid = Oid::from(group);
        oid.extend(below);
        Self { oid, content }
    }

    /// Its value now.
    pub(super) fn value(&self) -> Value<'_> {
        match &self.content {
            Content::Text(octets) => Value::OctetString(octets),
            Content::ObjectIdentifier(oid) => Value::ObjectIdentifier(oid),
            Content::Now(value) => value(),
        }
    }

    /// The object that it is an instance of: the OID without the index.
    pub(super) fn object(&self) -> &[u32] {
        &self.oid[..self.oid.len().saturating_sub(1)]
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Content")
    }
}

/// The `system` group; sysUpTime counts from `started`.
pub(super) fn system(system: &System, started: Instant) -> Vec<Instance> {
    let text = |text: &str| Content::Text(text.as_bytes().to_vec());
    let scalar = |arc, content| Instance::new(&SYSTEM, &[arc, 0], content);
    let mut instances = vec![
        scalar(1, text(&system.description)),
        scalar(2, Content::ObjectIdentifier(system.object_id.clone())),
        scalar(3, Content::Now(Box::new(move || Value::TimeTicks(ticks_since(started))))),
        scalar(4, text(&system.contact)),
        scalar(5, text(&system.name)),
        scalar(6, text(&system.location)),
        scalar(7, Content::Now(Box::new(|| Value::Integer(SERVICES)))),
        // sysORLastChange: the table is as it was at the start.
        scalar(8, Content::Now(Box::new(|| Value::TimeTicks(0)))),
    ];
    for (row, (oid, description)) in (1..).zip(&system.modules) {
        let cell = |column, content| Instance::new(&SYSTEM, &[9, 1, column, row], content);
        instances.push(cell(2, Content::ObjectIdentifier(oid.clone())));
        instances.push(cell(3, text(description)));
        instances.push(cell(4, Content::Now(Box::new(|| Value::TimeTicks(0)))));
    }
    instances
}

/// The `snmp` group.
pub(super) fn snmp(counters: &Arc<Counters>) -> Vec<Instance> {
    let scalar = |arc, content| Instance::new(&SNMP, &[arc, 0], content);
    let mut instances: Vec<Instance> = SNMP_GROUP
        .into_iter()
        .map(|(arc, counter)| {
            let counters = counters.clone();
            scalar(arc, Content::Now(Box::new(move || counter32(counter(&counters)))))
        })
        .collect();
    instances.push(scalar(30, Content::Now(Box::new(|| Value::Integer(NO_AUTHENTICATION_TRAPS)))));
    // snmpProxyDrops: nothing is forwarded.
    instances.push(scalar(32, Content::Now(Box::new(|| Value::Counter32(0)))));
    instances
}

/// Hundredths of a second since then, modulo 2^32.
fn ticks_since(started: Instant) -> u32 {
    let ticks = started.elapsed().as_millis() / 10;
    u32::try_from(ticks & 0xffff_ffff).unwrap_or_default()
}
