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

const CONNECTIONS: u32 = 20_000;
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
    println!("accepted only, {CONNECTIONS} connections of one request each:");
    churn(&mut kernel, &[]);
    println!("accepted and outgoing, {CONNECTIONS} connections of one request each:");
    churn(&mut kernel, &[std::process::id().into()]);
    time_samples(&mut kernel, "as it is");
    let listeners = hold_in_children("listeners", 1);
    time_samples(&mut kernel, "1,000 listeners");
    let connections = hold_in_children("connections", 3);
    time_samples(&mut kernel, "1,000 listeners and 51,000 sockets");
    println!("{:#?}", kernel.runs());
    for mut child in listeners.into_iter().chain(connections) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    fs::write(STATS, before.trim()).unwrap();
}

fn churn(kernel: &mut Kernel, pids: &[Process]) {
    kernel.sample(pids).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for _ in 0..CONNECTIONS {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 100]).unwrap();
            stream.write_all(&[0; 1000]).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
    });
    let before = kernel.runs();
    let start = Instant::now();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(&[0; 100]).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    }
    server.join().unwrap();
    let took = start.elapsed();
    let mut all = Duration::ZERO;
    for (ProgramRuns { name, runs, time, .. }, before) in kernel.runs().into_iter().zip(before) {
        let (runs, time) = (runs - before.runs, time - before.time);
        if runs > 0 {
            all += time;
            println!(
                "  {name:<24} {:>5.2} runs of {:>4} ns each: {:>5} ns per connection",
                f64::from(u32::try_from(runs).unwrap()) / f64::from(CONNECTIONS),
                time.as_nanos() / u128::from(runs),
                (time / CONNECTIONS).as_nanos()
            );
        }
    }
    let per_connection = (all / CONNECTIONS).as_nanos();
    println!("  all together             {per_connection} ns of {} ns per connection", (took / CONNECTIONS).as_nanos());
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
    println!("a sample, {what}: median {:?}, worst of {} {:?}", times[10], times.len(), times[20]);
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
