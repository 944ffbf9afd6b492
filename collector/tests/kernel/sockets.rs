//! The two ends of connections, and how to wait for what the kernel makes of them.

use std::{
    fs,
    io::{Read, Write, stderr},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lbstatd::kernel::{Kernel, KernelError, Listener};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// Loads the programs, or says loudly that this test tests nothing.
pub(crate) fn kernel() -> Option<Kernel> {
    static SAID: AtomicBool = AtomicBool::new(false);
    match Kernel::load() {
        Ok(kernel) => Some(kernel),
        Err(
            error @ (KernelError::Object(_)
            | KernelError::Unsupported { .. }
            | KernelError::Sample { .. }
            | KernelError::Fields(_)),
        ) => panic!("{error}"),
        Err(refused) => {
            if !SAID.swap(true, Ordering::Relaxed) {
                // Past the test harness, which hides what passing tests print.
                stderr().write_all(format!("\nSKIPPED kernel tests: {refused}\n\n").as_bytes()).unwrap();
            }
            None
        }
    }
}

/// Accepted, open, bytes received, bytes acknowledged.
pub(crate) fn numbers(listener: &Listener) -> (u64, u64, u64, u64) {
    (listener.accepted, listener.open, listener.bytes_received, listener.bytes_acked)
}

pub(crate) fn entry(kernel: &mut Kernel, address: SocketAddr) -> Listener {
    let listeners = kernel.sample(&[]).unwrap().listeners;
    assert!(listeners.is_sorted_by_key(|listener| (listener.namespace, listener.address)));
    listeners
        .into_iter()
        .find(|listener| listener.namespace == 0 && listener.address == address)
        .unwrap_or_else(|| panic!("{address} is not listed"))
}

/// How long to wait for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn wait_for(kernel: &mut Kernel, address: SocketAddr, condition: impl Fn(&Listener) -> bool) -> Listener {
    let started = Instant::now();
    loop {
        let now = entry(kernel, address);
        if condition(&now) {
            return now;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain, last: {now:?}");
        thread::yield_now();
    }
}

pub(crate) fn wait_until(mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain");
        thread::yield_now();
    }
}

pub(crate) fn listen_on(ip: impl Into<IpAddr>) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((ip.into(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) fn listen_with_backlog(backlog: i32) -> (TcpListener, SocketAddr) {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    listen(&socket, backlog).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(crate) fn reuseport_listener(port: u16) -> TcpListener {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseport(&socket, true).unwrap();
    bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    listen(&socket, 128).unwrap();
    TcpListener::from(socket)
}

/// Sends a SYN and does not wait.
pub(crate) fn start_to_connect(address: SocketAddr) -> TcpStream {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    assert_eq!(rustix::net::connect(&socket, &address).unwrap_err(), rustix::io::Errno::INPROGRESS);
    TcpStream::from(socket)
}

pub(crate) fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
    pair_to(listener, listener.local_addr().unwrap())
}

pub(crate) fn pair_to(listener: &TcpListener, address: SocketAddr) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(address).unwrap();
    (client, listener.accept().unwrap().0)
}

/// One connection over which the client sends so many bytes.
pub(crate) fn exchange(listener: &TcpListener, length: usize) {
    let (mut client, mut server) = pair(listener);
    client.write_all(&vec![0; length]).unwrap();
    drop(client);
    assert_eq!(server.read_to_end(&mut Vec::new()).unwrap(), length);
}

/// Takes one connection, reads it to its end and sends half as much. Returns how much.
pub(crate) fn serve(listener: &TcpListener) -> usize {
    let (mut stream, _) = listener.accept().unwrap();
    let length = stream.read_to_end(&mut Vec::new()).unwrap() / 2;
    stream.write_all(&vec![0; length]).unwrap();
    length
}

/// One connection of a client that waits for the answer's end. Returns how much it sent.
pub(crate) fn request(address: SocketAddr, length: usize) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&vec![0; length]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), length / 2);
    length
}

/// Closes with a reset.
pub(crate) fn reset(stream: TcpStream) {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Lets one test at a time make queues overflow: the kernel counts overflows for the whole namespace.
pub(crate) fn overflowing() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `ListenDrops` of this network namespace.
pub(crate) fn listen_drops() -> u64 {
    let text = fs::read_to_string("/proc/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let (_, value) = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "ListenDrops").unwrap();
    value.parse().unwrap()
}

pub(crate) const FIN_WAIT2: u8 = 5;

/// The state of an IPv4 connection in /proc/net/tcp, where addresses are hexadecimal words in host order.
pub(crate) fn state_of(local: SocketAddr, remote: SocketAddr) -> u8 {
    let hex = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port()),
        IpAddr::V6(_) => panic!("IPv4 only"),
    };
    let text = fs::read_to_string("/proc/net/tcp").unwrap();
    let wanted = [hex(local), hex(remote)];
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.get(1..3).is_some_and(|pair| pair == wanted))
        .map_or(0, |words| u8::from_str_radix(words[3], 16).unwrap())
}
