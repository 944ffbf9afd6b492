//! What is reported, when, and what is only counted.

use super::*;

#[test]
fn discovery_is_answered_with_the_engine() {
    let agent = Agent::new();
    for (count, engine_id) in [&b""[..], b"\x80", &[0; 12], &[0x80; 33], b"another engine"].into_iter().enumerate() {
        let message = agent.request("", SecurityLevel::NoAuthNoPriv, |envelope| {
            envelope.engine_id = engine_id;
            envelope.context_engine_id = engine_id;
            envelope.clock = Clock::default();
        });
        let expected = Answer::report(Counter::UnknownEngineIds, u32::try_from(count).unwrap() + 1);
        assert_eq!(agent.receive(&message), expected, "{engine_id:x?}");
    }
}

#[test]
fn who_is_not_known_learns_so() {
    let agent = Agent::new();
    for (level, request_id) in [
        (SecurityLevel::NoAuthNoPriv, 4711),
        (SecurityLevel::AuthNoPriv, 4711),
        // What is encrypted cannot be looked into yet.
        (SecurityLevel::AuthPriv, 0),
    ] {
        let count = agent.count(Counter::UnknownUserNames) + 1;
        let answer = agent.receive(&agent.request("stranger", level, |_| {}));
        let oid = Counter::UnknownUserNames.oid().to_vec();
        assert_eq!(answer, Answer::Report(oid, count, request_id, 0), "{level}");
    }
    let invalid = agent.request("any", SecurityLevel::NoAuthNoPriv, |envelope| envelope.user = b"\xff\xfe");
    assert_eq!(agent.receive(&invalid), Answer::report(Counter::UnknownUserNames, 4));
}

#[test]
fn a_level_without_keys_is_not_supported() {
    let agent = Agent::new();
    for (count, (user, level)) in
        [("nobody", SecurityLevel::AuthNoPriv), ("nobody", SecurityLevel::AuthPriv), ("signs", SecurityLevel::AuthPriv)]
            .into_iter()
            .enumerate()
    {
        let answer = agent.receive(&agent.request(user, level, |_| {}));
        let Answer::Report(oid, value, _, 0) = answer else { panic!("{answer:?}") };
        assert_eq!((&oid[..], value), (Counter::UnsupportedSecLevels.oid(), u32::try_from(count).unwrap() + 1));
    }
}

#[test]
fn a_wrong_digest_is_reported_without_protection() {
    let agent = Agent::new();
    let stranger = Key::from_passphrase(AuthProtocol::Sha256, b"another passphrase").unwrap();
    let stranger = auth::Authenticator::new(AuthProtocol::Sha256, &stranger);
    let forged = agent.request("signs", SecurityLevel::AuthNoPriv, |envelope| {
        envelope.protection = Protection::Auth(&stranger);
    });
    assert_eq!(agent.receive(&forged), Answer::report(Counter::WrongDigests, 1));
    // Codes of another protocol's length are wrong, too.
    for (count, protocol) in (2..).zip([AuthProtocol::Sha1, AuthProtocol::Sha512]) {
        let other = auth::Authenticator::new(protocol, &Key::from(vec![1; 20]));
        let forged = agent
            .request("signs", SecurityLevel::AuthNoPriv, |envelope| envelope.protection = Protection::Auth(&other));
        assert_eq!(agent.receive(&forged), Answer::report(Counter::WrongDigests, count));
    }
}

#[test]
fn stale_and_replayed_messages_are_reported_authentically() {
    let agent = Agent::new();
    let oid = Counter::NotInTimeWindows.oid().to_vec();
    let sent = agent.request("encrypts", SecurityLevel::AuthPriv, |_| {});
    assert_eq!(agent.receive_at(agent.now + Duration::from_secs(150), &sent), Answer::Response(0, 3));
    let late = agent.receive_at(agent.now + Duration::from_secs(151), &sent);
    assert_eq!(late, Answer::Report(oid.clone(), 1, 0, 1));
    for (count, boots, time) in [(2, 2, 3600), (3, 4, 3600), (4, 0, 0), (5, 3, 3449), (6, 3, 3751)] {
        let message =
            agent.request("signs", SecurityLevel::AuthNoPriv, |envelope| envelope.clock = Clock { boots, time });
        assert_eq!(agent.receive(&message), Answer::Report(oid.clone(), count, 4711, 1), "{boots} {time}");
    }
    // What is not authentic has no time.
    let plain = agent.request("nobody", SecurityLevel::NoAuthNoPriv, |envelope| envelope.clock = Clock::default());
    assert_eq!(agent.receive(&plain), Answer::Response(0, 0));
}

#[test]
fn what_makes_no_sense_decrypted_was_encrypted_with_another_key() {
    let agent = Agent::new();
    let cipher = privacy::Cipher::new(PrivProtocol::Aes128, &Key::from(vec![1; 16])).unwrap();
    let message = agent.request("encrypts", SecurityLevel::AuthPriv, |envelope| {
        envelope.protection = Protection::AuthPriv(agent.any.auth().unwrap(), &cipher, [0; 8]);
    });
    let oid = Counter::DecryptionErrors.oid().to_vec();
    assert_eq!(agent.receive(&message), Answer::Report(oid, 1, 0, 0));
}

#[test]
fn other_contexts_and_other_pdus_are_reported_as_they_were_sent() {
    let agent = Agent::new();
    let report = |counter: Counter, count| Answer::Report(counter.oid().to_vec(), count, 4711, 3);
    let encrypts = |kind, change: fn(&mut Envelope<'_>)| {
        agent.receive(&agent.message("encrypts", SecurityLevel::AuthPriv, &pdu(kind), change))
    };
    assert_eq!(encrypts(tag::GET, |envelope| envelope.context_name = b"other"), report(Counter::UnknownContexts, 1));
    let elsewhere: fn(&mut Envelope<'_>) = |envelope| envelope.context_engine_id = b"another engine";
    assert_eq!(encrypts(tag::GET, elsewhere), report(Counter::UnknownPduHandlers, 1));
    assert_eq!(encrypts(tag::INFORM, |_| {}), report(Counter::UnknownPduHandlers, 2));
    // These want no answer, and responses are never answered.
    assert_eq!(encrypts(tag::TRAP, |_| {}), Answer::None);
    assert_eq!(agent.count(Counter::UnknownPduHandlers), 3);
    assert_eq!(encrypts(tag::RESPONSE, |_| {}), Answer::None);
    assert_eq!(encrypts(tag::REPORT, |_| {}), Answer::None);
    assert_eq!(encrypts(tag::TRAP_V1, |_| {}), Answer::Report(Counter::DecryptionErrors.oid().to_vec(), 1, 0, 0));
    assert_eq!(agent.count(Counter::UnknownPduHandlers), 3);
}

/// The PDU decides whether there may be a Report; the flag does while the PDU cannot be seen.
#[test]
fn nobody_who_does_not_wait_gets_a_report() {
    let agent = Agent::new();
    let sent = |level, kind, reportable| {
        agent.receive(&agent.message("stranger", level, &pdu(kind), |envelope| envelope.reportable = reportable))
    };
    for kind in [tag::TRAP, tag::RESPONSE, tag::REPORT] {
        assert_eq!(sent(SecurityLevel::NoAuthNoPriv, kind, true), Answer::None, "{kind:#x}");
    }
    assert_ne!(sent(SecurityLevel::NoAuthNoPriv, tag::GET, false), Answer::None);
    assert_eq!(sent(SecurityLevel::AuthPriv, tag::GET, false), Answer::None);
    assert_ne!(sent(SecurityLevel::AuthPriv, tag::GET, true), Answer::None);
    assert_eq!(agent.count(Counter::UnknownUserNames), 6, "all are counted");
}
