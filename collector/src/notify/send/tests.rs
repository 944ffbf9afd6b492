//! Receivers that answer, that answer late, and that do not answer.

use std::sync::atomic::AtomicU64;

use super::super::event::Kind;
use super::super::{Community, Receiver, Security};
use super::*;
use crate::faces::Faces;

const QUICK: Duration = Duration::from_millis(20);

fn event() -> Arc<Event> {
    let (name, message) = ("app/one".to_owned(), "Server app/one is DOWN".to_owned());
    Arc::new(Event { kind: Some(Kind::ServerDown), name, message, uptime: Duration::from_secs(1) })
}

fn peer(to: SocketAddr, inform: bool) -> Peer {
    let security = Security::V2c(Community("c".to_owned()));
    let receiver = Receiver { to, security, inform, timeout: QUICK, retries: 2 };
    let dialect = if inform { Dialect::V2cInform(b"c".to_vec()) } else { Dialect::V2cTrap(b"c".to_vec()) };
    Peer::new(&receiver, dialect, Requests::from_random(u32::MAX))
}

async fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Takes datagrams, and acknowledges all but the first `deaf` ones.
async fn acknowledge(socket: UdpSocket, deaf: usize, seen: Arc<AtomicU64>) {
    let mut buffer = [0; 1500];
    for count in 0.. {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        seen.fetch_add(1, Relaxed);
        if count >= deaf {
            let tag = buffer.iter().position(|octet| *octet == 0xa6).unwrap();
            buffer[tag] = 0xa2;
            socket.send_to(&buffer[..length], from).await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_inform_is_repeated_until_it_is_acknowledged() {
    for (deaf, expected) in [(0, true), (2, true), (3, false)] {
        let (receiver, address) = socket().await;
        let seen = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(acknowledge(receiver, deaf, seen.clone()));
        let delivered = peer(address, true).deliver(&event()).await;
        assert_eq!(delivered.is_ok(), expected, "{delivered:?}");
        assert_eq!(seen.load(Relaxed), deaf.min(2) as u64 + 1);
        task.abort();
    }
}

#[tokio::test]
async fn a_late_acknowledgement_is_not_that_of_the_next_inform() {
    let (receiver, address) = socket().await;
    let mut peer = peer(address, true);
    peer.retries = 0;
    peer.deliver(&event()).await.unwrap_err();
    let mut buffer = [0; 1500];
    let (length, from) = receiver.recv_from(&mut buffer).await.unwrap();
    let tag = buffer.iter().position(|octet| *octet == 0xa6).unwrap();
    buffer[tag] = 0xa2;
    receiver.send_to(&buffer[..length], from).await.unwrap();
    peer.deliver(&event()).await.unwrap_err();
}

#[tokio::test]
async fn nobody_there_is_said_and_counted() {
    let (receiver, address) = socket().await;
    drop(receiver);
    let faces = Faces::default();
    let (sender, _) = broadcast::channel(QUEUE);
    let state = faces.add("notifications", address.to_string());
    tokio::spawn(serve(peer(address, false), state.clone(), sender.subscribe()));
    sender.send(event()).unwrap();
    // On loopback the refusal comes with the trap itself.
    for _ in 0..500 {
        if state.refused.load(Relaxed) > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let face = &faces.read()[0];
    assert_eq!(face.refused, 1);
    assert!(face.error.as_deref().unwrap().starts_with("nobody listens for notifications at 127.0.0.1"), "{face:?}");
}

#[tokio::test]
async fn a_receiver_that_is_behind_misses_the_oldest_and_nobody_waits() {
    let (deaf, address) = socket().await;
    let faces = Faces::default();
    let (sender, _) = broadcast::channel(4);
    let state = faces.add("notifications", address.to_string());
    tokio::spawn(serve(peer(address, true), state.clone(), sender.subscribe()));
    for _ in 0..100 {
        sender.send(event()).unwrap();
    }
    drop(sender);
    for _ in 0..500 {
        if state.refused.load(Relaxed) == 100 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((state.refused.load(Relaxed), state.requests.load(Relaxed)), (100, 0));
    drop(deaf);
}

#[test]
fn numbers_are_not_given_twice_and_never_negative() {
    let requests = Requests::from_random(u32::MAX);
    let other = requests.clone();
    assert_eq!([requests.next(), other.next(), requests.next()], [i32::MAX, 0, 1]);
}
