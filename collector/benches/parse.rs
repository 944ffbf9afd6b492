//! How fast a reading is parsed: 20,000 servers, beside a plain search for the ends of line in the same octets.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark of data that is known; the macros make public items")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lbstatd::haproxy::parse;

const INFO: &str = include_str!("../tests/haproxy-2.6/oper.show_info.txt");
const STAT: &str = include_str!("../tests/haproxy-2.6/oper.show_stat.txt");

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(4)).without_plots();
    targets = reading
}
criterion_main!(benches);

fn reading(criterion: &mut Criterion) {
    for (name, output) in [("27 rows", format!("{INFO}{STAT}")), ("20,000 servers", large(20_000))] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(output.len() as u64));
        group.bench_function("parse", |bencher| bencher.iter(|| parse(black_box(output.as_bytes())).unwrap()));
        group.bench_function("ends of line", |bencher| {
            bencher.iter(|| memchr::memchr_iter(b'\n', black_box(output.as_bytes())).count());
        });
        group.finish();
    }
}

/// The real header, and the real row of a server again and again, in backends of 100.
fn large(servers: u32) -> String {
    let header = STAT.lines().next().unwrap();
    let row = STAT.lines().find(|line| line.starts_with("webservers,web1,")).unwrap();
    let (before, after) = row.split_once(",1,10,101,").unwrap();
    let mut output = format!("{INFO}{header}\n");
    for server in 0..servers {
        writeln!(output, "{before},1,{},{},{after}", server / 100 + 2, server % 100 + 1).unwrap();
    }
    output + "\n"
}
