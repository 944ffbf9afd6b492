//! A notification for the master to send to whoever it has been told to.

use lbstats::Value;

use super::value::{Data, write_varbind};
use super::wire::{Order, Writer};

/// sysUpTime.0
const SYS_UP_TIME: [u32; 9] = [1, 3, 6, 1, 2, 1, 1, 3, 0];
/// snmpTrapOID.0
const SNMP_TRAP_OID: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];

/// The variable bindings of a Notify PDU (RFC 2741 section 6.2.10), encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// In network byte order, as a session sends everything that is no answer.
    pub(super) varbinds: Vec<u8>,
    /// How many there are.
    pub(super) count: u32,
}

impl Notification {
    /// A notification `trap` (the value of snmpTrapOID.0) without objects. Without an `uptime` (sysUpTime.0, in
    /// hundredths of a second) the master takes its own, which is what managers expect.
    pub fn new(uptime: Option<u32>, trap: &[u32]) -> Self {
        let mut notification = Self { varbinds: Vec::new(), count: 0 };
        if let Some(ticks) = uptime {
            notification.push(&SYS_UP_TIME, Value::TimeTicks(ticks));
        }
        notification.push(&SNMP_TRAP_OID, Value::ObjectIdentifier(trap));
        notification
    }

    /// The same with one object more.
    #[must_use]
    pub fn with(mut self, name: &[u32], value: Value<'_>) -> Self {
        self.push(name, value);
        self
    }

    fn push(&mut self, name: &[u32], value: Value<'_>) {
        write_varbind(&mut Writer::new(&mut self.varbinds, Order::Big), name, &Data::from(value));
        self.count += 1;
    }
}
