//! Notifications as messages of SNMPv1 and SNMPv2c, and the responses that acknowledge informs.

use std::net::Ipv4Addr;

use lbstats::{Oid, Value};

use crate::ber::{self, BerError, Reader, tag};

/// sysUpTime.0
pub const SYS_UP_TIME: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 3, 0];
/// snmpTrapOID.0
pub const SNMP_TRAP_OID: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];

const VERSION_1: i32 = 0;
const VERSION_2C: i32 = 1;
/// enterpriseSpecific, of the generic traps of SNMPv1 (RFC 1157 section 4.1.6).
const ENTERPRISE_SPECIFIC: i32 = 6;

/// A notification before it is a PDU of some version.
#[derive(Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// sysUpTime.0, in hundredths of a second.
    pub uptime: u32,
    /// The value of snmpTrapOID.0.
    pub trap: &'a [u32],
    /// The objects: names of instances, and values. None may be a Counter64 where SNMPv1 is spoken.
    pub objects: &'a [(&'a [u32], Value<'a>)],
}

/// What a response to an inform says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    /// The number of the inform.
    pub request: i32,
    /// 0 if it was taken.
    pub error_status: i32,
}

/// Why a datagram is no response to an inform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// It is no SNMP message.
    #[error(transparent)]
    Ber(#[from] BerError),
    /// It is of another version or community.
    #[error("another version or community")]
    Foreign,
}

impl Notification<'_> {
    /// Variable bindings it is sent with, the two at its head included.
    pub fn varbinds(&self) -> u64 {
        2 + self.objects.len() as u64
    }

    /// Appends an SNMPv2-Trap-PDU, or an InformRequest-PDU (RFC 3416 sections 4.2.6 and 4.2.7).
    pub fn push_pdu(&self, out: &mut Vec<u8>, inform: bool, request: i32) {
        ber::push_pdu(out, if inform { tag::INFORM } else { tag::TRAP }, [request, 0, 0], |out| {
            ber::push_varbind(out, SYS_UP_TIME, Value::TimeTicks(self.uptime));
            ber::push_varbind(out, SNMP_TRAP_OID, Value::ObjectIdentifier(self.trap));
            self.push_objects(out);
        });
    }

    /// A message of SNMPv2c (RFC 1901) with a trap or an inform.
    pub fn v2c(&self, community: &[u8], inform: bool, request: i32) -> Vec<u8> {
        ber::message(VERSION_2C, community, |out| self.push_pdu(out, inform, request))
    }

    /// A message of SNMPv1 with the trap that stands for this one (RFC 3584 section 3.2). `agent` is the address that it
    /// comes from, 0.0.0.0 if that is none of IPv4.
    pub fn v1(&self, community: &[u8], agent: Ipv4Addr) -> Vec<u8> {
        // A trap of SNMPv1 has a zero before its last arc, or had none when it was made for SNMPv2.
        let (enterprise, specific) = match self.trap {
            [enterprise @ .., 0, specific] | [enterprise @ .., specific] => (enterprise, *specific),
            [] => (&[][..], 0),
        };
        ber::message(VERSION_1, community, |out| {
            let pdu = ber::begin(out, tag::TRAP_V1);
            ber::push_oid(out, enterprise);
            ber::push_string(out, tag::IP_ADDRESS, &agent.octets());
            ber::push_integer(out, ENTERPRISE_SPECIFIC);
            ber::push_unsigned(out, tag::INTEGER, specific.into());
            ber::push_unsigned(out, tag::TIME_TICKS, self.uptime.into());
            let list = ber::begin(out, tag::SEQUENCE);
            self.push_objects(out);
            ber::end(out, list);
            ber::end(out, pdu);
        })
    }

    fn push_objects(&self, out: &mut Vec<u8>) {
        self.objects.iter().for_each(|(name, value)| ber::push_varbind(out, name, *value));
    }
}

/// Reads a message of SNMPv2c that should be the response to an inform of this community.
///
/// # Errors
/// As [`ResponseError`] says: then it is to be ignored.
pub fn read_v2c(datagram: &[u8], community: &[u8]) -> Result<Acknowledgement, ResponseError> {
    let mut outside = Reader::new(datagram);
    let mut message = outside.element(tag::SEQUENCE)?;
    outside.finish()?;
    let version = message.integer()?;
    if version != VERSION_2C || message.string()? != community {
        return Err(ResponseError::Foreign);
    }
    let pdu = message.element(tag::RESPONSE)?;
    message.finish()?;
    Ok(read_pdu(pdu)?)
}

/// Reads the contents of a Response-PDU (RFC 3416 section 3).
///
/// # Errors
/// As [`BerError`] says.
pub fn read_pdu(mut pdu: Reader<'_>) -> Result<Acknowledgement, BerError> {
    let (request, error_status) = (pdu.integer()?, pdu.integer()?);
    pdu.integer()?;
    let mut list = pdu.element(tag::SEQUENCE)?;
    pdu.finish()?;
    let mut name = Oid::default();
    while list.peek().is_some() {
        let mut varbind = list.element(tag::SEQUENCE)?;
        varbind.oid(&mut name)?;
        varbind.any()?;
        varbind.finish()?;
    }
    Ok(Acknowledgement { request, error_status })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rasn_snmp::{v1, v2, v2c};

    use super::*;

    const OBJECTS: &[(&[u32], Value<'static>)] = &[
        (&[1, 3, 6, 1, 4, 1, 23263, 2, 1, 0], Value::Integer(201)),
        (&[1, 3, 6, 1, 4, 1, 23263, 2, 2, 0], Value::OctetString(b"Server app/one is DOWN")),
    ];
    const NOTIFICATION: Notification<'_> =
        Notification { uptime: 4_000_000_000, trap: &[1, 3, 6, 1, 4, 1, 23263, 3, 1002], objects: OBJECTS };

    /// Names and values as rasn reads them.
    fn bindings(list: &[v2::VarBind]) -> Vec<String> {
        list.iter().map(|binding| format!("{} {:?}", binding.name, binding.value)).collect()
    }

    #[test]
    fn traps_and_informs_are_those_of_rfc_3416() {
        for inform in [false, true] {
            let message = NOTIFICATION.v2c(b"secret", inform, 0x7fff_ffff);
            let message: v2c::Message<v2::Pdus> = rasn::ber::decode(&message).unwrap();
            assert_eq!((message.version, &message.community[..]), (1.into(), &b"secret"[..]));
            let pdu = match message.data {
                v2::Pdus::Trap(v2::Trap(pdu)) if !inform => pdu,
                v2::Pdus::InformRequest(v2::InformRequest(pdu)) if inform => pdu,
                other => panic!("{other:?}"),
            };
            assert_eq!((pdu.request_id, pdu.error_status, pdu.error_index), (0x7fff_ffff, 0, 0));
            let bindings = bindings(&pdu.variable_bindings);
            assert_eq!(bindings.len() as u64, NOTIFICATION.varbinds());
            assert!(
                bindings[0].starts_with("1.3.6.1.2.1.1.3.0 ") && bindings[0].contains("4000000000"),
                "{bindings:?}"
            );
            assert!(bindings[1].starts_with("1.3.6.1.6.3.1.1.4.1.0 "), "{bindings:?}");
            assert!(bindings[2].starts_with("1.3.6.1.4.1.23263.2.1.0 ") && bindings[2].contains("201"), "{bindings:?}");
        }
    }

    #[test]
    fn a_trap_of_version_1_is_that_of_rfc_3584() {
        let message = NOTIFICATION.v1(b"secret", Ipv4Addr::new(192, 0, 2, 7));
        let message: v1::Message<v1::Pdus> = rasn::ber::decode(&message).unwrap();
        assert_eq!(message.version, 0.into());
        let v1::Pdus::Trap(trap) = message.data else { panic!("{message:?}") };
        assert_eq!(trap.enterprise.to_string(), "1.3.6.1.4.1.23263.3");
        assert_eq!((trap.generic_trap, trap.specific_trap), (6.into(), 1002.into()));
        assert_eq!(trap.time_stamp.0, 4_000_000_000);
        assert!(format!("{:?}", trap.agent_addr).contains("192"), "{:?}", trap.agent_addr);
        assert_eq!(trap.variable_bindings.len(), OBJECTS.len());
        // With a zero before the last arc, it is no part of the enterprise.
        let trap = Notification { trap: &[1, 3, 6, 1, 4, 1, 8072, 4, 0, 3], ..NOTIFICATION };
        let message: v1::Message<v1::Pdus> = rasn::ber::decode(&trap.v1(b"", Ipv4Addr::UNSPECIFIED)).unwrap();
        let v1::Pdus::Trap(trap) = message.data else { panic!("{message:?}") };
        assert_eq!(trap.enterprise.to_string(), "1.3.6.1.4.1.8072.4");
        assert_eq!(trap.specific_trap, 3.into());
    }

    /// What a receiver sends back: the inform as a response.
    fn response(request: i32, error_status: i32) -> Vec<u8> {
        ber::message(VERSION_2C, b"secret", |out| {
            ber::push_pdu(out, tag::RESPONSE, [request, error_status, 0], |out| NOTIFICATION.push_objects(out));
        })
    }

    #[test]
    fn responses_are_read_and_anything_else_is_not() {
        assert_eq!(read_v2c(&response(7, 0), b"secret"), Ok(Acknowledgement { request: 7, error_status: 0 }));
        assert_eq!(read_v2c(&response(-7, 5), b"secret"), Ok(Acknowledgement { request: -7, error_status: 5 }));
        assert_eq!(read_v2c(&response(7, 0), b"other"), Err(ResponseError::Foreign));
        assert_eq!(read_v2c(&NOTIFICATION.v1(b"secret", Ipv4Addr::LOCALHOST), b"secret"), Err(ResponseError::Foreign));
        let inform = NOTIFICATION.v2c(b"secret", true, 7);
        assert!(matches!(read_v2c(&inform, b"secret"), Err(ResponseError::Ber(BerError::Tag { found: 0xa6, .. }))));
        let response = response(7, 0);
        for end in 0..response.len() {
            assert!(read_v2c(&response[..end], b"secret").is_err(), "{end}");
        }
        assert!(read_v2c(&[&response[..], &[0]].concat(), b"secret").is_err());
    }

    proptest! {
        #[test]
        fn any_datagram_is_read_or_refused(datagram in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_v2c(&datagram, b"secret");
        }

        #[test]
        fn a_changed_octet_never_panics(place in 0_usize..100, octet: u8) {
            let mut datagram = response(7, 0);
            let place = place % datagram.len();
            datagram[place] = octet;
            let _ = read_v2c(&datagram, b"secret");
        }
    }
}
