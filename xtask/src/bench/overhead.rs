//! What the kernel programs cost HAProxy: the same load with and without them, in turns.
//!
//! The programs are loaded into the kernel for a turn and sampled once a second, as the daemon does it, and gone in the
//! next. HAProxy has one thread, and the clients are in a network namespace of their own. The programs run at their end of
//! each connection as well, if only to find out that it is none of HAProxy's: a load balancer, whose clients are
//! elsewhere, has about half of the runs. Throughput is what the clients count, CPU what the
//! scheduler counts for HAProxy and the clients together, the kernel's work for their connections included. CPU says
//! more than throughput on a machine that does other things as well.

use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use lbstatd::kernel::Kernel;
use lbstatd_tests::{Haproxy, HaproxyConfig, Netns, address};

use super::clients::{self, Pattern, Work};
use super::observe::cpu;

const CLIENTS: usize = 16;
const TURN: Duration = Duration::from_secs(2);
/// For the kernel's own measure.
const ROUND: Duration = Duration::from_millis(200);
const ROUNDS: usize = 40;

/// One load, with and without the programs, one after the other.
struct Pair {
    on: Turn,
    off: Turn,
}

#[derive(Clone, Copy)]
struct Turn {
    /// Requests a second.
    speed: f64,
    /// Nanoseconds on a processor for each request, HAProxy's and the clients'.
    cpu: f64,
}

pub(super) fn run(pairs: u16) -> Result<()> {
    let network = Netns::start().context("a network of our own (only root can have one)")?;
    let outside = |port| SocketAddr::from((network.outside(), port));
    let (direct, proxied) = (outside(8001), outside(8002));
    let haproxy = haproxy(direct, proxied)?;
    let loads = [
        ("connection per request", direct, Pattern::ConnectionPerRequest),
        ("connection per request, with a server", proxied, Pattern::ConnectionPerRequest),
        ("keep-alive", direct, Pattern::KeepAlive),
    ];
    println!(
        "{pairs} pairs of {} s with and without the programs; ratios are with / without, the median of pairs and of the best turns",
        TURN.as_secs()
    );
    println!(
        "{:36} {:>9} {:>9} {:>7} {:>15} {:>7}   {:>7} {:>7} {:>15} {:>7}",
        "", "without/s", "with/s", "ratio", "(quartiles)", "best", "CPU, µs", "ratio", "(quartiles)", "best"
    );
    for (name, address, pattern) in loads {
        // Warm: ports, caches, and what HAProxy allocates.
        let load = |duration| network.enter(|| clients::run(address, pattern, CLIENTS, duration))?;
        load(TURN)?;
        let pairs = (0..pairs).map(|number| pair(&haproxy, &load, number % 2 == 0));
        report(name, &pairs.collect::<Result<Vec<Pair>>>()?);
    }
    println!("\nRun time that the kernel measured (BPF_ENABLE_STATS), for each request:");
    for (name, address, pattern) in loads {
        cost(name, &|duration| network.enter(|| clients::run(address, pattern, CLIENTS, duration))?)?;
    }
    Ok(())
}

fn haproxy(direct: SocketAddr, proxied: SocketAddr) -> Result<Haproxy> {
    let answer = "http-request return status 200 content-type text/plain string ok";
    let server = address();
    let sections = format!(
        "defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend direct
    bind {direct}
    {answer}
frontend proxied
    bind {proxied}
    default_backend servers
backend servers
    http-reuse never
    option http-server-close
    server one {server}
frontend server
    bind {server}
    {answer}
"
    );
    Haproxy::start(HaproxyConfig { global: "    nbthread 1\n".to_owned(), sections, ..HaproxyConfig::default() })
}

/// Runs clients for so long.
type Load<'a> = dyn Fn(Duration) -> Result<Work> + 'a;

fn pair(haproxy: &Haproxy, load: &Load<'_>, on_first: bool) -> Result<Pair> {
    let on = || sampled(&mut Kernel::load()?, || turn(haproxy, load));
    let off = || turn(haproxy, load);
    if on_first {
        let on = on()?;
        return Ok(Pair { on, off: off()? });
    }
    let off = off()?;
    Ok(Pair { on: on()?, off })
}

fn turn(haproxy: &Haproxy, load: &Load<'_>) -> Result<Turn> {
    let before = [cpu(haproxy.id())?, own_cpu()];
    let work = load(TURN)?;
    let spent = cpu(haproxy.id())?.saturating_sub(before[0]) + own_cpu().saturating_sub(before[1]);
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 requests")]
    let requests = work.requests as f64;
    Ok(Turn { speed: requests / work.wall.as_secs_f64(), cpu: spent.as_secs_f64() * 1e9 / requests })
}

/// Does something while another thread takes a sample each second.
fn sampled<T>(kernel: &mut Kernel, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (stop, stopped) = channel::<()>();
    std::thread::scope(|scope| {
        let samples = scope.spawn(move || -> Result<()> {
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                kernel.sample(&[])?;
            }
            Ok(())
        });
        let done = work();
        drop(stop);
        samples.join().expect("a sample does not panic")?;
        done
    })
}

/// Time that this process has run on a processor, its ended threads included.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn report(name: &str, pairs: &[Pair]) {
    // Least, quartiles, most.
    let spread = |of: &dyn Fn(&Pair) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        [0, 1, 2, 3, 4].map(|quarter: usize| values[(values.len() - 1) * quarter / 4])
    };
    let (without, with) = (spread(&|pair| pair.off.speed), spread(&|pair| pair.on.speed));
    let speed = spread(&|pair| pair.on.speed / pair.off.speed);
    let (cpu_without, cpu_with) = (spread(&|pair| pair.off.cpu), spread(&|pair| pair.on.cpu));
    let cpu = spread(&|pair| pair.on.cpu / pair.off.cpu);
    println!(
        "{name:36} {:>9.0} {:>9.0} {:>7.4} ({:.4}-{:.4}) {:>7.4}   {:>7.2} {:>7.4} ({:.4}-{:.4}) {:>7.4}",
        without[2],
        with[2],
        speed[2],
        speed[1],
        speed[3],
        with[4] / without[4],
        cpu_without[2] / 1e3,
        cpu[2],
        cpu[1],
        cpu[3],
        cpu_with[0] / cpu_without[0],
    );
}

/// What each program takes of a request, as the kernel measures it, in rounds so short that some are undisturbed.
fn cost(name: &str, load: &Load<'_>) -> Result<()> {
    let mut kernel = Kernel::load()?;
    kernel.measure_runs()?;
    let mut rounds = Vec::new();
    let mut before = kernel.runs();
    for _ in 0..ROUNDS {
        let work = load(ROUND)?;
        let after = kernel.runs();
        #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 requests and nanoseconds")]
        let per_request = |number: u64| number as f64 / work.requests as f64;
        let programs = before.iter().zip(&after).filter(|(_, after)| !after.name.starts_with("iter_"));
        let round = programs.map(|(before, after)| {
            let time = u64::try_from((after.time - before.time).as_nanos()).unwrap_or(u64::MAX);
            (after.name.clone(), per_request(time), per_request(after.runs - before.runs))
        });
        rounds.push(round.collect::<Vec<_>>());
        before = after;
        kernel.sample(&[])?;
    }
    println!("{name}");
    for place in 0..rounds[0].len() {
        let (program, ..) = &rounds[0][place];
        let [least, median] = least_and_median(rounds.iter().map(|round| round[place].1));
        let [_, runs] = least_and_median(rounds.iter().map(|round| round[place].2));
        println!("  {program:24} {median:>8.1} ns, {least:>8.1} at least, in {runs:.3} runs");
    }
    let [least, median] = least_and_median(rounds.iter().map(|round| round.iter().map(|(_, time, _)| time).sum()));
    let [_, runs] = least_and_median(rounds.iter().map(|round| round.iter().map(|(.., runs)| runs).sum()));
    println!("  {:24} {median:>8.1} ns, {least:>8.1} at least, in {runs:.3} runs", "all of them");
    Ok(())
}

fn least_and_median(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2]]
}
