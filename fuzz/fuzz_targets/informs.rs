//! What comes back to informs, from whoever says it is the receiver: the first octet chooses the version, four more the
//! number of the first message, then datagrams with their lengths in front, each heard after another message was sent.
#![no_main]

use std::sync::LazyLock;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use snmp_export::notification::{Notification, read_v2c};
use snmp_export::usm::{AuthProtocol, Heard, InformKeys, Informer, Key, Keys, PrivProtocol, SecurityLevel};

const COMMUNITY: &[u8] = b"secret";

/// Those of the receiver that the corpus was recorded from.
static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let key = |phrase: &[u8]| Key::from_passphrase(AuthProtocol::Sha1, phrase).expect("it is long enough");
    Keys {
        auth: (AuthProtocol::Sha1, key(b"an authentication phrase")),
        privacy: Some((PrivProtocol::Aes128, key(b"a privacy phrase"))),
    }
});

fuzz_target!(|input: &[u8]| {
    let Some((&[version, a, b, c, d], mut rest)) = input.split_first_chunk() else { return };
    let first = u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff;
    let notification = Notification { uptime: 1, trap: &[1, 3, 6, 1, 4, 1, 23263, 3, 1002], objects: &[] };
    let (mut pdu, mut message) = (Vec::new(), Vec::new());
    notification.push_pdu(&mut pdu, true, 1);
    let keys = InformKeys::Anywhere(KEYS.clone());
    let informer = Informer::new("informs", SecurityLevel::AuthPriv, keys, u64::from(first));
    let mut informer = informer.expect("it has keys for the level");
    // net-snmp's tools, to which the corpus answers, number downwards.
    informer.message(Instant::now(), &pdu, &mut message).expect("an inform is short");
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (datagram, after) = after.split_at(length);
        rest = after;
        if version == 2 {
            let own = notification.v2c(COMMUNITY, true, 1);
            assert!(datagram != own || read_v2c(datagram, COMMUNITY).is_err(), "our own inform is no response");
            let _ = read_v2c(datagram, COMMUNITY);
            continue;
        }
        informer.message(Instant::now(), &pdu, &mut message).expect("an inform is short");
        let before = message.clone();
        if informer.hear(Instant::now(), &mut datagram.to_vec()) != Heard::Nothing {
            // Whatever was learned, the next message can be made, and is another one.
            informer.message(Instant::now(), &pdu, &mut message).expect("an inform is short");
            assert_ne!(message, before);
        }
    }
});
