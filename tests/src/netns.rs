//! A network of one's own: a network namespace, and a cable to it.
//!
//! Nothing of the host's network changes but for the host's end of the cable, with an address of 198.18.0.0/16
//! (RFC 2544: for tests of networks, routed nowhere). Needs root and iproute2.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::run;
use crate::unpacked::Program;

/// A network namespace; gone with this value, and with it what is in it: interfaces, filters, sockets.
#[derive(Debug)]
pub struct Netns {
    name: String,
    inside: Ipv4Addr,
    outside: Ipv4Addr,
}

/// Interfaces' names have room for 15 octets.
const PREFIX: &str = "lbt";
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Netns {
    /// A namespace and a cable between it and this process's.
    ///
    /// # Errors
    /// Without the right to make them, and what `ip` says.
    pub fn start() -> Result<Self> {
        forget_those_of_the_dead();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        let name = format!("{PREFIX}{process}-{number}");
        // Four addresses for each: network, outside, inside, broadcast.
        let place = (process.wrapping_mul(32).wrapping_add(number) % (1 << 14)) * 4;
        let address = |last| Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + place + last);
        ip(&["netns", "add", &name])?;
        // From here on it is removed when something fails.
        let netns = Self { name, inside: address(2), outside: address(1) };
        let (here, there) = (format!("{}h", netns.name), format!("{}n", netns.name));
        ip(&["link", "add", &here, "type", "veth", "peer", "name", &there, "netns", &netns.name])?;
        ip(&["address", "add", &format!("{}/30", netns.outside), "dev", &here])?;
        ip(&["link", "set", &here, "up"])?;
        ip(&["-n", &netns.name, "address", "add", &format!("{}/30", netns.inside), "dev", &there])?;
        ip(&["-n", &netns.name, "link", "set", &there, "up"])?;
        ip(&["-n", &netns.name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Its name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address, reached from this process's namespace.
    pub fn inside(&self) -> Ipv4Addr {
        self.inside
    }

    /// The address of this process's namespace, reached from inside.
    pub fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// A program to be started in it, with the files and process ids of this process's namespaces.
    pub fn program(&self, name: &str) -> Program {
        Program::behind("ip", &["netns", "exec", &self.name, name])
    }

    /// Does something in it, in a thread of its own: the sockets made there stay in it wherever they are passed to.
    ///
    /// # Errors
    /// Without the right to enter it.
    ///
    /// # Panics
    /// When `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = format!("/run/netns/{}", self.name);
        let namespace = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                anyhow::Ok(work())
            });
            match thread.join() {
                Ok(done) => done.with_context(|| format!("cannot enter {path}")),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        // Its end of the cable goes with it, and the other end with that one; not before its last process and socket,
        // so the cable is cut as well.
        let _ = ip(&["link", "delete", &format!("{}h", self.name)]);
        let _ = ip(&["netns", "delete", &self.name]);
    }
}

/// What a test that was killed could not remove.
fn forget_those_of_the_dead() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(process, _)| process);
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = ip(&["netns", "delete", name]);
        }
    }
}

pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    let output = run("ip", |command| command.args(arguments))?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), output.stderr.trim());
    }
    Ok(())
}
