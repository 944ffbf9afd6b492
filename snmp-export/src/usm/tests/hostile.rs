//! Messages that somebody has spoilt, by plan or by chance.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A message made of its parts as they are, right or wrong.
fn raw(version: i32, header: &[u8], parameters: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let message = ber::begin(&mut out, tag::SEQUENCE);
    ber::push_integer(&mut out, version);
    out.extend_from_slice(header);
    ber::push_string(&mut out, tag::OCTET_STRING, parameters);
    out.extend_from_slice(data);
    ber::end(&mut out, message);
    out
}

fn header(id: i32, max_size: i32, flags: &[u8], model: i32) -> Vec<u8> {
    let mut out = Vec::new();
    let header = ber::begin(&mut out, tag::SEQUENCE);
    ber::push_integer(&mut out, id);
    ber::push_integer(&mut out, max_size);
    ber::push_string(&mut out, tag::OCTET_STRING, flags);
    ber::push_integer(&mut out, model);
    ber::end(&mut out, header);
    out
}

fn parameters(boots: i32, time: i32, user: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let fields = ber::begin(&mut out, tag::SEQUENCE);
    ber::push_string(&mut out, tag::OCTET_STRING, Agent::new().usm.engine().id().octets());
    ber::push_integer(&mut out, boots);
    ber::push_integer(&mut out, time);
    [user, b"", b""].iter().for_each(|text| ber::push_string(&mut out, tag::OCTET_STRING, text));
    ber::end(&mut out, fields);
    out
}

fn scoped(pdu: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let scoped = ber::begin(&mut out, tag::SEQUENCE);
    ber::push_string(&mut out, tag::OCTET_STRING, Agent::new().usm.engine().id().octets());
    ber::push_string(&mut out, tag::OCTET_STRING, b"");
    out.extend_from_slice(pdu);
    ber::end(&mut out, scoped);
    out
}

#[test]
fn what_breaks_the_syntax_is_malformed() {
    let agent = Agent::new();
    let (head, par, data) = (header(77, 65_507, &[4], 3), parameters(3, 3600, b"nobody"), scoped(&pdu(tag::GET)));
    let good = raw(3, &head, &par, &data);
    assert_eq!(agent.receive(&good), Answer::Response(0, 0));
    for (spoilt, how) in [
        (raw(2, &head, &par, &data), "another version"),
        (raw(3, &header(-1, 65_507, &[4], 3), &par, &data), "a negative id"),
        (raw(3, &header(77, 483, &[4], 3), &par, &data), "a size below 484"),
        (raw(3, &header(77, -1, &[4], 3), &par, &data), "a negative size"),
        (raw(3, &header(77, 65_507, &[], 3), &par, &data), "no flags"),
        (raw(3, &header(77, 65_507, &[4, 4], 3), &par, &data), "two octets of flags"),
        (raw(3, &header(77, 65_507, &[4], 0), &par, &data), "model 0"),
        (raw(3, &head, b"", &data), "no parameters"),
        (raw(3, &head, &par[..par.len() - 1], &data), "cut parameters"),
        (raw(3, &head, &[&par[..], &[0]].concat(), &data), "octets behind the parameters"),
        (raw(3, &head, &parameters(-1, 0, b"nobody"), &data), "negative boots"),
        (raw(3, &head, &parameters(3, -1, b"nobody"), &data), "a negative time"),
        (raw(3, &head, &parameters(3, 3600, &[b'n'; 33]), &data), "a name of 33 octets"),
        (raw(3, &head, &par, b""), "no data"),
        (raw(3, &head, &par, &[0x04, 0]), "encrypted data without its flag"),
        (raw(3, &head, &par, &scoped(b"")), "no PDU"),
        (raw(3, &head, &par, &scoped(&pdu(tag::TRAP_V1))), "a PDU of version 1"),
        (raw(3, &head, &par, &scoped(&[pdu(tag::GET), pdu(tag::GET)].concat())), "two PDUs"),
        (raw(3, &head, &par, &[&data[..], &data].concat()), "two scoped PDUs"),
        ([&good[..], &[0]].concat(), "octets behind the message"),
        ([&[0x30, 0x80], &good[2..], &[0, 0]].concat(), "an indefinite length"),
        (good[..good.len() - 1].to_vec(), "cut off"),
        (Vec::new(), "nothing"),
    ] {
        assert_eq!(agent.receive(&spoilt), Answer::Malformed, "{how}");
    }
}

#[test]
fn other_models_and_privacy_alone_are_counted_and_not_answered() {
    let agent = Agent::new();
    let (par, data) = (parameters(3, 3600, b"nobody"), scoped(&pdu(tag::GET)));
    for model in [1, 2, 4, i32::MAX] {
        assert_eq!(agent.receive(&raw(3, &header(77, 484, &[4], model), b"whatever", &data)), Answer::None);
    }
    assert_eq!(agent.receive(&raw(3, &header(77, 484, &[6], 3), &par, &data)), Answer::None);
    assert_eq!(agent.count(Counter::UnknownSecurityModels), 4);
    assert_eq!(agent.count(Counter::InvalidMsgs), 1);
    // The other bits of the flags say nothing.
    assert_eq!(agent.receive(&raw(3, &header(77, 65_507, &[0xfc], 3), &par, &data)), Answer::Response(0, 0));
}

/// All of it is authentic: whichever bit is changed, the message is none of this user's any more.
#[test]
fn no_bit_of_a_protected_message_can_be_changed() {
    for (user, level) in [("signs", SecurityLevel::AuthNoPriv), ("encrypts", SecurityLevel::AuthPriv)] {
        let agent = Agent::new();
        let message = agent.request(user, level, |_| {});
        for bit in 0..8 * message.len() {
            let mut changed = message.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let answer = agent.receive(&changed);
            // Without the flag of authentication, and so below the user's level.
            let denied = matches!(answer, Answer::Response(16, 0));
            let refused = !matches!(answer, Answer::Response(..));
            assert!(denied || refused, "{user}: bit {bit}: {answer:?}");
        }
        assert_eq!(agent.receive(&message), Answer::Response(0, if user == "signs" { 1 } else { 3 }));
    }
}

#[test]
fn a_salt_of_another_length_decrypts_nothing() {
    let agent = Agent::new();
    let message = agent.request("encrypts", SecurityLevel::AuthPriv, |_| {});
    // The salt is the string of eight nines; one octet of it goes, and all lengths around it shrink.
    let place = message.windows(10).position(|octets| *octets == [4, 8, 9, 9, 9, 9, 9, 9, 9, 9]).unwrap();
    let mut shorter = message.clone();
    shorter.remove(place + 2);
    shorter[place + 1] = 7;
    let shrink = |message: &mut Vec<u8>, at: usize| message[at] -= 1;
    // Message (long form), then the header of the message, then the string and the sequence of the parameters.
    let string = 4 + 3 + 2 + usize::from(message[8]);
    for at in [3, string + 1, string + 3] {
        shrink(&mut shorter, at);
    }
    let code = place - 24..place;
    agent.any.auth().unwrap().sign(&mut shorter, code);
    let oid = Counter::DecryptionErrors.oid().to_vec();
    assert_eq!(agent.receive(&shorter), Answer::Report(oid, 1, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_octets_make_it_panic(octets in vec(any::<u8>(), 0..300), prefix: prop::sample::Index) {
        let agent = Agent::new();
        agent.receive(&octets);
        // The beginning of a real message, and then anything.
        let message = agent.request("any", SecurityLevel::AuthPriv, |_| {});
        let mut spliced = message[..prefix.index(message.len())].to_vec();
        spliced.extend(octets.iter().take(message.len() - spliced.len()));
        let answer = agent.receive(&spliced);
        prop_assert!(spliced == message || !matches!(answer, Answer::Response(0, 1..)), "{:?}", answer);
    }

    /// Authentic garbage: an attacker who is a user.
    #[test]
    fn no_scoped_pdu_makes_it_panic(pdu in vec(any::<u8>(), 0..60), context in vec(any::<u8>(), 0..8), encrypted: bool) {
        let agent = Agent::new();
        let level = if encrypted { SecurityLevel::AuthPriv } else { SecurityLevel::AuthNoPriv };
        let message = agent.message("any", level, &pdu, |envelope| envelope.context_name = &context);
        let (mut datagram, mut out) = (message, Vec::new());
        agent.usm.receive(agent.now, &mut datagram, &mut out);
        let mut informer = Informer::new("any", SecurityLevel::AuthPriv, InformKeys::Anywhere(keys()), 1).unwrap();
        informer.message(agent.now, &[5, 0], &mut out).unwrap();
        informer.hear(agent.now, &mut datagram);
    }
}
