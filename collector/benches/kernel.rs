//! What the kernel programs cost: run time of each per connection, as the kernel accounts for it, and the time of a
//! sample with few and with many sockets. Needs root; `cargo bench -p lbstatd --bench kernel`.
//!
//! The kernel's accounting is on (`kernel.bpf_stats_enabled`) while this runs, and is put back after.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at any unexpected error")]

use std::{
    env, fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lbstatd::kernel::{Kernel, Process, ProgramRuns};

/// Connections of one round. Rounds are short and many, because whatever else runs meanwhile disturbs some of them.
const CONNECTIONS: u32 = 500;
const ROUNDS: usize = 60;
/// Connections whose two ends one process holds: the usual limit is 20,000 descriptors.
const PER_PROCESS: usize = 8_500;
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

fn main() {
    if let Ok(what) = env::var("LBSTATD_BENCH_HOLD") {
        return hold(&what);
    }
    if env::args().any(|argument| argument == "--list") {
        return;
    }
    let before = fs::read_to_string(STATS).unwrap();
    fs::write(STATS, "1").unwrap();
    let mut kernel = Kernel::load().unwrap();
    println!("time in the programs, {ROUNDS} rounds of {CONNECTIONS} connections with one request each:");
    churn(&mut kernel, "accepted, the client's end not counted", &[]);
    churn(&mut kernel, "accepted, and outgoing at the client's end", &[std::process::id().into()]);
    time_samples(&mut kernel, "as it is");
    let listeners = hold_in_children("listeners", 1);
    time_samples(&mut kernel, "1,000 listeners");
    let connections = hold_in_children("connections", 3);
    time_samples(&mut kernel, "1,000 listeners and 51,000 sockets");
    for mut child in listeners.into_iter().chain(connections) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    fs::write(STATS, before.trim()).unwrap();
}

fn churn(kernel: &mut Kernel, what: &str, processes: &[Process]) {
    kernel.sample(processes).unwrap();
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| round(kernel)).collect();
    rounds.sort_unstable();
    let (least, median) = (rounds[0].0, rounds[ROUNDS / 2].0);
    println!("  {what}: median {median} ns per connection, least {least} ns; a median round:");
    for (name, runs, nanoseconds) in &rounds[ROUNDS / 2].1 {
        println!("    {name:<24} {runs:>6} runs, {nanoseconds:>4} ns each");
    }
}

/// Nanoseconds per connection, and of each program its runs and their mean.
fn round(kernel: &Kernel) -> (u128, Vec<(String, u64, u128)>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let before = kernel.runs();
    let server = thread::spawn(move || {
        for _ in 0..CONNECTIONS {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 100]).unwrap();
            stream.write_all(&[0; 1000]).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
    });
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[0; 100]).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    }
    server.join().unwrap();
    let programs = kernel.runs().into_iter().zip(before);
    let spent: Vec<_> = programs
        .map(|(ProgramRuns { name, runs, time, .. }, before)| (name, runs - before.runs, time - before.time))
        .filter(|(_, runs, _)| *runs > 0)
        .collect();
    let all: Duration = spent.iter().map(|(_, _, time)| *time).sum();
    let means = spent.into_iter().map(|(name, runs, time)| (name, runs, time.as_nanos() / u128::from(runs)));
    ((all / CONNECTIONS).as_nanos(), means.collect())
}

fn time_samples(kernel: &mut Kernel, what: &str) {
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            let start = Instant::now();
            kernel.sample(&[]).unwrap();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!(
        "a sample, {what}: median {:?}, least {:?}, worst of {} {:?}",
        times[10],
        times[0],
        times.len(),
        times[20]
    );
}

fn hold_in_children(what: &str, processes: usize) -> Vec<Child> {
    let start = || {
        let mut child = Command::new(env::current_exe().unwrap())
            .env("LBSTATD_BENCH_HOLD", what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        child
    };
    (0..processes).map(|_| start()).collect()
}

/// A child: opens sockets, says so with one byte, and keeps them until its input ends.
fn hold(what: &str) {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut listeners = vec![listen()];
    let mut connections = Vec::new();
    if what == "listeners" {
        listeners.extend((1..1000).map(|_| listen()));
    } else {
        for _ in 0..PER_PROCESS {
            let client = TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
            connections.push((client, listeners[0].accept().unwrap().0));
        }
    }
    std::io::stdout().write_all(b"!").unwrap();
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}
