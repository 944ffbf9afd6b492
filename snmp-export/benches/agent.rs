//! What one GetBulk of the own agent costs without a socket: the request decoded, the start found, the variable bindings
//! copied, the message closed; on a walk, and where a block is encoded for the first time. And decoding the same request
//! with rasn, which is why the agent has a reader of its own.
//!
//! `cargo bench -p snmp-export --bench agent`

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lbstats::Oid;
use lbstats::schema::LBSTATS_ROOTS;
use rasn_snmp::v2::Pdus;
use rasn_snmp::v2c::Message;
use snmp_export::View;
use snmp_export::agent::{Agent, Answer, Columns, Community, Subtrees, System, Worker};
use snmp_export::ber::{self, tag};

#[path = "../src/sample.rs"]
mod sample;

const MANAGER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const SERVERS: u32 = 20_000;

fn columns() -> Arc<Columns> {
    let servers = (0..SERVERS).map(|server| (1, server / 20 + 1, server % 20 + 1)).collect();
    let snapshot = sample::snapshot(&sample::Ids { servers, ..sample::Ids::default() });
    Arc::new(Columns::new(View::new(Arc::new(snapshot))))
}

fn worker() -> Worker {
    let system = System {
        description: String::new(),
        object_id: Oid::default(),
        contact: String::new(),
        name: String::new(),
        location: String::new(),
        modules: Vec::new(),
    };
    Worker::new(Arc::new(Agent::new(&system, vec![Community::new("public")], Subtrees::all(), 1472)))
}

fn request(kind: u8, oid: &[u32]) -> Vec<u8> {
    ber::message(1, b"public", |out| {
        ber::push_pdu(out, kind, [1_234_567_890, 0, 50], |out| ber::push_varbind_empty(out, oid, tag::NULL));
    })
}

/// The requests of a walk of one root, and how many variable bindings answer them.
fn walk(columns: &Arc<Columns>) -> (Vec<Vec<u8>>, usize) {
    let (mut worker, mut requests, mut total) = (worker(), Vec::new(), 0);
    let mut oid = Oid::from(LBSTATS_ROOTS[0]);
    let mut next = Oid::default();
    while oid.starts_with(LBSTATS_ROOTS[0]) {
        let request = request(tag::GET_BULK, &oid);
        let Answer::Send(_, count) = worker.answer(&request, MANAGER, Instant::now(), || columns.clone()) else {
            unreachable!("requests of this community are answered");
        };
        for _ in 0..count {
            columns.view().next(&oid, &mut next);
            std::mem::swap(&mut oid, &mut next);
        }
        requests.push(request);
        total += count;
    }
    (requests, total)
}

fn agent(criterion: &mut Criterion) {
    let columns = columns();
    let (requests, varbinds) = walk(&columns);
    let mut group = criterion.benchmark_group("agent");
    group.measurement_time(Duration::from_secs(5)).sample_size(20);

    group.throughput(Throughput::Elements(varbinds as u64));
    group.bench_function("walk, encoded before", |bencher| {
        let mut worker = worker();
        bencher.iter(|| ask(&mut worker, &requests, &columns));
    });
    group.bench_function("walk, a new snapshot", |bencher| {
        let view = columns.view().clone();
        bencher.iter_batched(
            || (worker(), Arc::new(Columns::new(view.clone()))),
            |(mut worker, columns)| ask(&mut worker, &requests, &columns),
            BatchSize::LargeInput,
        );
    });

    group.throughput(Throughput::Elements(1));
    let mut oid = Oid::from(LBSTATS_ROOTS[0]);
    oid.extend(&[4, 1, 8, 1, 500, 7]);
    group.bench_function("get", |bencher| {
        let (mut worker, request) = (worker(), [request(tag::GET, &oid)]);
        bencher.iter(|| ask(&mut worker, &request, &columns));
    });
    group.bench_function("decode a request with rasn", |bencher| {
        bencher.iter(|| rasn::ber::decode::<Message<Pdus>>(black_box(&requests[0])).expect("a request is a message"));
    });
}

fn ask(worker: &mut Worker, requests: &[Vec<u8>], columns: &Arc<Columns>) {
    for request in requests {
        let answer = worker.answer(request, MANAGER, Instant::now(), || columns.clone());
        assert!(matches!(black_box(answer), Answer::Send(..)));
    }
}

criterion_group!(benches, agent);
criterion_main!(benches);
