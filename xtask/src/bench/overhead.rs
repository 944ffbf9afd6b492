//! What the kernel programs cost HAProxy: the same load with and without them, in turns.
//!
//! The programs are loaded into the kernel for a turn and sampled once a second, as the daemon does it, and gone in the
//! next. HAProxy has one thread. Clients that make a connection for each request are outside, as a load balancer's are:
//! their ends are no sockets of this kernel, and the programs run for HAProxy's ends only. Throughput is what the clients
//! count, CPU what the scheduler counts for HAProxy and the clients together, the kernel's work for their connections
//! included. CPU says more than throughput on a machine that does other things as well.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use lbstatd::kernel::Kernel;
use lbstatd_tests::{Haproxy, HaproxyConfig, Netns, address};

use super::clients::{self, Work};
use super::observe::cpu;
use super::outside::Outside;

const CLIENTS: usize = 16;
/// Clients outside.
const OUTSIDE: usize = 64;
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
    let mut outside = Outside::start().context("a way to clients outside (only root can make one)")?;
    let network = Netns::start().context("a network of our own (only root can have one)")?;
    let direct = SocketAddrV4::new(outside.address(), 8001);
    let proxied = SocketAddrV4::new(outside.address(), 8002);
    let kept = SocketAddr::from((network.outside(), 8003));
    let haproxy = haproxy(direct, proxied, kept)?;
    println!(
        "{pairs} pairs of {} s with and without the programs; ratios are with / without, the median of pairs and of the best turns",
        TURN.as_secs()
    );
    println!(
        "{:36} {:>9} {:>9} {:>7} {:>15} {:>7}   {:>7} {:>7} {:>15} {:>7}",
        "", "without/s", "with/s", "ratio", "(quartiles)", "best", "CPU, µs", "ratio", "(quartiles)", "best"
    );
    let measure = |name, load: &mut Load<'_>| {
        // Warm: ports, caches, and what HAProxy allocates.
        load(TURN)?;
        let pairs = (0..pairs).map(|number| pair(&haproxy, load, number % 2 == 0));
        report(name, &pairs.collect::<Result<Vec<Pair>>>()?);
        cost(haproxy.id(), load)
    };
    measure("connection per request", &mut |duration| outside.run(direct, OUTSIDE, duration))?;
    measure("connection per request, with a server", &mut |duration| outside.run(proxied, OUTSIDE, duration))?;
    measure("keep-alive", &mut |duration| network.enter(|| clients::run(kept, CLIENTS, duration))?)?;
    if outside.given_up() > 0 {
        println!("{} connections lost packets and were given up", outside.given_up());
    }
    Ok(())
}

fn haproxy(direct: SocketAddrV4, proxied: SocketAddrV4, kept: SocketAddr) -> Result<Haproxy> {
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
    bind {kept}
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
type Load<'a> = dyn FnMut(Duration) -> Result<Work> + 'a;

fn pair(haproxy: &Haproxy, load: &mut Load<'_>, on_first: bool) -> Result<Pair> {
    let off_first = if on_first { None } else { Some(turn(haproxy, load)?) };
    let mut kernel = Kernel::load()?;
    let on = sampled(&mut kernel, haproxy.id(), || turn(haproxy, load))?;
    drop(kernel);
    let off = off_first.map_or_else(|| turn(haproxy, load), Ok)?;
    Ok(Pair { on, off })
}

fn turn(haproxy: &Haproxy, load: &mut Load<'_>) -> Result<Turn> {
    let before = [cpu(haproxy.id())?, own_cpu()];
    let work = load(TURN)?;
    let spent = cpu(haproxy.id())?.saturating_sub(before[0]) + own_cpu().saturating_sub(before[1]);
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 requests")]
    let requests = work.requests as f64;
    Ok(Turn { speed: requests / work.wall.as_secs_f64(), cpu: spent.as_secs_f64() * 1e9 / requests })
}

/// Does something while another thread takes a sample each second.
fn sampled<T>(kernel: &mut Kernel, haproxy: u32, work: impl FnOnce() -> Result<T>) -> Result<T> {
    kernel.sample(&[haproxy.into()])?;
    let (stop, stopped) = channel::<()>();
    std::thread::scope(|scope| {
        let samples = scope.spawn(move || -> Result<()> {
            while stopped.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                kernel.sample_sparingly(&[haproxy.into()])?;
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
fn cost(haproxy: u32, load: &mut Load<'_>) -> Result<()> {
    let mut kernel = Kernel::load()?;
    kernel.measure_runs()?;
    kernel.run_nothing()?;
    kernel.sample(&[haproxy.into()])?;
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
        kernel.sample(&[haproxy.into()])?;
    }
    println!("  run time for each request that the kernel measured (BPF_ENABLE_STATS):");
    let mut all = Vec::new();
    for place in 0..rounds[0].len() {
        let (program, ..) = &rounds[0][place];
        let [least, median] = least_and_median(rounds.iter().map(|round| round[place].1));
        let [_, runs] = least_and_median(rounds.iter().map(|round| round[place].2));
        println!("  {program:24} {median:>8.1} ns, {least:>8.1} at least, in {runs:.3} runs");
    }
    for round in &rounds {
        let (nothing, programs): (Vec<_>, Vec<_>) = round.iter().partition(|(name, ..)| name == "nothing");
        let each = nothing.iter().map(|(_, time, runs)| time / runs).sum::<f64>();
        let (time, runs) =
            programs.iter().fold((0.0, 0.0), |(time, runs), program| (time + program.1, runs + program.2));
        all.push((time, time - each * runs, runs));
    }
    let [least, median] = least_and_median(all.iter().map(|(time, ..)| *time));
    let [net_least, net_median] = least_and_median(all.iter().map(|(_, net, _)| *net));
    let [_, runs] = least_and_median(all.iter().map(|(.., runs)| *runs));
    println!("  {:24} {median:>8.1} ns, {least:>8.1} at least, in {runs:.3} runs", "all but nothing");
    println!("  {:24} {net_median:>8.1} ns, {net_least:>8.1} at least", "less what nothing takes");
    Ok(())
}

fn least_and_median(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [values[0], values[values.len() / 2]]
}
