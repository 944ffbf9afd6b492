//! A notification in the receiver's version of SNMP, and what the receiver says to it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use lbstats::{Value, mib};
use snmp_export::notification::{self, Notification};
use snmp_export::usm::{self, Informer, SecurityLevel, Usm};

use super::event::{Event, display_string};

/// How one receiver is spoken to.
#[derive(Debug)]
pub enum Dialect {
    /// Traps of SNMPv1.
    V1(Vec<u8>),
    /// Traps of SNMPv2c.
    V2cTrap(Vec<u8>),
    /// Informs of SNMPv2c.
    V2cInform(Vec<u8>),
    /// Traps of SNMPv3 by this user at this level; our engine is the authoritative one.
    V3Trap(Arc<Usm>, String, SecurityLevel),
    /// Informs of SNMPv3; the receiver's engine is the authoritative one.
    V3Inform(Box<Informer>),
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
        matches!(self, Self::V2cInform(_) | Self::V3Inform(_))
    }

    /// Variable bindings of its message: those of SNMPv1 are the objects alone.
    pub fn varbinds(&self, event: &Event) -> u64 {
        let all = event.with_notification(Notification::varbinds);
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
            Self::V3Trap(usm, name, level) => {
                let user = usm.user(name).ok_or_else(|| unknown(name))?;
                let (mut pdu, mut message) = (Vec::new(), Vec::new());
                notification.push_pdu(&mut pdu, false, request);
                let wrapped = usm.trap(Instant::now(), &user, *level, &pdu, &mut message);
                wrapped.map(|()| message).map_err(|error| error.to_string())
            }
            Self::V3Inform(informer) => {
                let (mut pdu, mut message) = (Vec::new(), Vec::new());
                notification.push_pdu(&mut pdu, true, request);
                informer.message(Instant::now(), &pdu, &mut message);
                Ok(message)
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
            Self::V3Inform(informer) => match informer.hear(Instant::now(), datagram) {
                usm::Heard::Response { request_id, error_status } => answered(request_id, error_status),
                usm::Heard::Again => Heard::Again,
                usm::Heard::Refused(reason) => Heard::Refused(reason.to_string()),
                usm::Heard::Nothing => Heard::Nothing,
            },
            _ => Heard::Nothing,
        }
    }
}

/// What to say where a user is not known.
pub fn unknown(user: &str) -> String {
    format!("there is no SNMPv3 user {user}: `lbstatd user add {user}` makes one")
}

impl Event {
    /// The notification that tells of this.
    pub fn with_notification<T>(&self, then: impl FnOnce(&Notification<'_>) -> T) -> T {
        let (message, name) = (display_string(&self.message), display_string(&self.name));
        let message = (mib::AL_TRAP_MSG, Value::OctetString(message.as_bytes()));
        // The clock of an agent runs full after 497 days.
        let uptime = u32::try_from(self.uptime.as_millis() / 10 % (1 << 32)).unwrap_or_default();
        match self.kind {
            Some(kind) => {
                let id = (mib::AL_TRAP_ID, Value::Integer(kind.id()));
                let name = (mib::AL_TRAP_NAME, Value::OctetString(name.as_bytes()));
                then(&Notification { uptime, trap: mib::AL_TRAP, objects: &[id, message, name] })
            }
            None => then(&Notification { uptime, trap: mib::E_NOTIFICATION_MSG, objects: &[message] }),
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
            assert_eq!(notification.uptime, (500 * 8_640_000_u64 % (1 << 32)) as u32);
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
            assert_eq!((notification.trap, notification.objects.len()), (mib::E_NOTIFICATION_MSG, 1));
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
