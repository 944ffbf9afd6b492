//! What one getnext of a walk costs, without pipes and without snmpd: in the view, with walks kept apart, and through
//! the protocol of `pass_persist`. Times are per cell.
//!
//! `cargo bench -p snmp-export`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lbstats::Oid;
use lbstats::schema::LBSTATS_ROOTS;
use snmp_export::{View, Walks, pass_persist};

#[path = "../src/sample.rs"]
mod sample;

/// Servers, 20 to a backend; a server has 27 cells, so that these are tables of 20,007 and of 540,000.
const SERVERS: [u32; 2] = [741, 20_000];

fn view(servers: u32) -> View {
    let servers = (0..servers).map(|server| (1, server / 20 + 1, server % 20 + 1)).collect();
    View::new(Arc::new(sample::snapshot(&sample::Ids { servers, ..sample::Ids::default() })))
}

/// Every OID that a walk of the first root asks for.
fn oids(view: &View) -> Vec<Oid> {
    let mut oids = vec![Oid::from(LBSTATS_ROOTS[0])];
    let mut next = Oid::default();
    while view.next(&oids[oids.len() - 1], &mut next).is_some() && next.starts_with(LBSTATS_ROOTS[0]) {
        oids.push(next.clone());
    }
    oids.pop();
    oids
}

fn walk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("getnext");
    group.measurement_time(Duration::from_secs(3)).sample_size(20);
    for view in SERVERS.map(view) {
        let oids = oids(&view);
        let cells = oids.len();
        group.throughput(Throughput::Elements(cells as u64));
        group.bench_function(BenchmarkId::new("view", cells), |bencher| {
            let mut found = Oid::default();
            bencher.iter(|| oids.iter().for_each(|oid| assert!(black_box(view.next(oid, &mut found)).is_some())));
        });
        group.bench_function(BenchmarkId::new("walks", cells), |bencher| {
            let (mut walks, mut found) = (Walks::default(), Oid::default());
            bencher.iter(|| {
                for oid in &oids {
                    let now = Instant::now();
                    assert!(black_box(walks.next(now, oid, &mut found, || view.clone())).is_some());
                }
            });
        });
        group.bench_function(BenchmarkId::new("pass_persist", cells), |bencher| {
            let requests: String = oids.iter().map(|oid| format!("PING\ngetnext\n{oid}\n")).collect();
            bencher.iter(|| {
                let mut answers = Count(0);
                pass_persist::serve(requests.as_bytes(), &mut answers, Walks::default(), || view.clone())
                    .expect("memory reads and counting do not fail");
                assert_eq!(answers.0, 2 * cells);
            });
        });
    }
}

/// Counts writes, one an answer.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0 += 1;
        Ok(black_box(octets).len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

criterion_group!(benches, walk);
criterion_main!(benches);
