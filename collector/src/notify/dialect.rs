//! A notification in the receiver's version of SNMP, and what the receiver says to it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use lbstats::{Value, traps};
use snmp_export::notification::{self, Notification};
use snmp_export::usm::{self, Informer, SecurityLevel};

use super::event::{Event, display_string};
use crate::snmpv3::Snmpv3;

/// How one receiver is spoken to.
#[derive(Debug)]
pub enum Dialect {
    /// Traps of SNMPv1.
    V1(Vec<u8>),
    /// Traps of SNMPv2c.
    V2cTrap(Vec<u8>),
    /// Informs of SNMPv2c.
    V2cInform(Vec<u8>),
    /// Traps of SNMPv3; our engine is the authoritative one.
    V3Trap(Account),
    /// Informs of SNMPv3; the receiver's engine is the authoritative one. Made when the first one is sent, and made anew
    /// after a failure: the user may have other keys by then.
    V3Inform(Account, Option<Box<Informer>>),
}

/// As whom SNMPv3 is spoken.
#[derive(Debug)]
pub struct Account {
    /// The engine and its users; none where there are none.
    pub snmpv3: Option<Arc<Snmpv3>>,
    /// Name of the user.
    pub user: String,
    /// At which level.
    pub level: SecurityLevel,
}

/// What a datagram of the receiver means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It has taken the inform.
    Taken,
    /// The message must be made anew and sent again.
    Again,
    /// It does not take the inform, and why; anybody may have said so.
    Refused(String),
    /// Nothing.
    Nothing,
}

impl Dialect {
    /// Whether the receiver acknowledges what it takes.
    pub fn is_inform(&self) -> bool {
        matches!(self, Self::V2cInform(_) | Self::V3Inform(..))
    }

    /// Whether there is all that it takes to speak.
    ///
    /// # Errors
    /// When the user is not known or has not the keys for the level.
    pub fn check(&mut self) -> Result<(), String> {
        match self {
            Self::V3Trap(account) => account.trap(&[]).map(|_| ()),
            Self::V3Inform(account, informer) => account.informer(informer).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// After a failure: what was learned of the receiver and the user is learned anew.
    pub fn forget(&mut self) {
        if let Self::V3Inform(_, informer) = self {
            *informer = None;
        }
    }

    /// Variable bindings of its message: those of SNMPv1 are the objects alone.
    pub fn varbinds(&self, event: &Event) -> u64 {
        let all = event.with_notification(|notification| notification.varbinds());
        if matches!(self, Self::V1(_)) { all - 2 } else { all }
    }

    /// The message for an event. `from` is the address it will come from.
    ///
    /// # Errors
    /// When the user is not known or has not the keys for the level.
    pub fn message(&mut self, event: &Event, request: i32, from: IpAddr) -> Result<Vec<u8>, String> {
        event.with_notification(|notification| match self {
            Self::V1(community) => {
                let agent = match from.to_canonical() {
                    IpAddr::V4(agent) => agent,
                    IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
                };
                Ok(notification.v1(community, agent))
            }
            Self::V2cTrap(community) => Ok(notification.v2c(community, false, request)),
            Self::V2cInform(community) => Ok(notification.v2c(community, true, request)),
            Self::V3Trap(account) => {
                let mut pdu = Vec::new();
                notification.push_pdu(&mut pdu, false, request);
                account.trap(&pdu)
            }
            Self::V3Inform(account, informer) => {
                let (mut pdu, mut message) = (Vec::new(), Vec::new());
                notification.push_pdu(&mut pdu, true, request);
                let made = account.informer(informer)?.message(Instant::now(), &pdu, &mut message);
                made.map(|()| message).map_err(|error| error.to_string())
            }
        })
    }

    /// Takes in a datagram that came back while the inform of this number was waited for.
    pub fn hear(&mut self, datagram: &mut [u8], request: i32) -> Heard {
        let answered = |to: i32, error_status: i32| match error_status {
            _ if to != request => Heard::Nothing,
            0 => Heard::Taken,
            status => Heard::Refused(format!("the receiver answers with error status {status}")),
        };
        match self {
            Self::V2cInform(community) => match notification::read_v2c(datagram, community) {
                Ok(response) => answered(response.request, response.error_status),
                Err(_) => Heard::Nothing,
            },
            Self::V3Inform(_, Some(informer)) => match informer.hear(Instant::now(), datagram) {
                usm::Heard::Response { request_id, error_status } => answered(request_id, error_status),
                usm::Heard::Again => Heard::Again,
                usm::Heard::Refused(reason) => Heard::Refused(reason.to_string()),
                usm::Heard::Nothing => Heard::Nothing,
            },
            _ => Heard::Nothing,
        }
    }
}

impl Account {
    /// The message that carries a trap.
    fn trap(&self, pdu: &[u8]) -> Result<Vec<u8>, String> {
        let usm = self.snmpv3()?.usm();
        let user = usm.user(&self.user);
        let user =
            user.ok_or_else(|| format!("there is no SNMPv3 user {0}: `lbstatd user add {0}` makes one", self.user))?;
        let mut message = Vec::new();
        let wrapped = usm.trap(Instant::now(), &user, self.level, pdu, &mut message);
        wrapped.map(|()| message).map_err(|error| error.to_string())
    }

    /// The one who sends informs, made unless it is there.
    fn informer<'a>(&self, informer: &'a mut Option<Box<Informer>>) -> Result<&'a mut Informer, String> {
        if informer.is_none() {
            let made = self.snmpv3()?.informer(&self.user, self.level).map_err(|error| format!("{error:#}"))?;
            *informer = Some(Box::new(made));
        }
        informer.as_deref_mut().ok_or_else(String::new)
    }

    fn snmpv3(&self) -> Result<&Snmpv3, String> {
        let none = || format!("SNMPv3 is not running: `lbstatd user add {}`, then restart lbstatd", self.user);
        self.snmpv3.as_deref().ok_or_else(none)
    }
}

impl Event {
    /// The notification that tells of this.
    pub fn with_notification<T>(&self, then: impl FnOnce(&Notification<'_>) -> T) -> T {
        let (message, name) = (display_string(&self.message), display_string(&self.name));
        let message = (traps::AL_TRAP_MSG, Value::OctetString(message.as_bytes()));
        // The clock of an agent runs full after 497 days.
        let uptime = u32::try_from(self.uptime.as_millis() / 10 % (1 << 32)).unwrap_or_default();
        match self.kind {
            Some(kind) => {
                let id = (traps::AL_TRAP_ID, Value::Integer(kind.id()));
                let name = (traps::AL_TRAP_NAME, Value::OctetString(name.as_bytes()));
                then(&Notification { uptime, trap: traps::AL_TRAP, objects: &[id, message, name] })
            }
            None => then(&Notification { uptime, trap: traps::E_NOTIFICATION_MSG, objects: &[message] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::event::Kind;
    use super::*;

    fn event() -> Event {
        Event {
            kind: Some(Kind::ServerDown),
            name: "app/one".into(),
            message: "Server app/one is DOWN".into(),
            uptime: Duration::from_secs(500 * 86_400),
        }
    }

    #[test]
    fn an_event_becomes_the_notification_of_the_mib() {
        event().with_notification(|notification| {
            assert_eq!(u64::from(notification.uptime), 500 * 8_640_000 % (1 << 32));
            let shown: Vec<String> =
                notification.objects.iter().map(|(name, value)| format!("{name:?} {value}")).collect();
            assert_eq!(
                shown,
                [
                    "[1, 3, 6, 1, 4, 1, 23263, 2, 1, 0] INTEGER: 201",
                    "[1, 3, 6, 1, 4, 1, 23263, 2, 2, 0] STRING: \"Server app/one is DOWN\"",
                    "[1, 3, 6, 1, 4, 1, 23263, 2, 3, 0] STRING: \"app/one\"",
                ]
            );
        });
        let test = Event { kind: None, ..event() };
        test.with_notification(|notification| {
            assert_eq!((notification.trap, notification.objects.len()), (traps::E_NOTIFICATION_MSG, 1));
        });
    }

    #[test]
    fn only_the_answer_to_this_inform_is_one() {
        let mut dialect = Dialect::V2cInform(b"secret".to_vec());
        let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut response = dialect.message(&event(), 77, from).unwrap();
        assert_eq!(dialect.hear(&mut response.clone(), 77), Heard::Nothing, "our own inform");
        // A receiver returns the inform as a response (RFC 3416 section 4.2.7).
        let tag = response.iter().position(|octet| *octet == 0xa6).unwrap();
        response[tag] = 0xa2;
        assert_eq!(dialect.hear(&mut response.clone(), 77), Heard::Taken);
        assert_eq!(dialect.hear(&mut response.clone(), 78), Heard::Nothing);
        let mut other = Dialect::V2cInform(b"other".to_vec());
        assert_eq!(other.hear(&mut response, 77), Heard::Nothing);
    }
}
