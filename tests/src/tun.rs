//! A network whose far side is this process: a TUN interface.
//!
//! What the kernel sends there is read here, packet by packet, and what is written here arrives as if from outside; none
//! of the far side's addresses is the kernel's, so it has no socket and no answer of its own for them. Each interface has
//! 256 addresses of 198.19.0.0/16 (RFC 2544; those of [`Netns`] are beside them). Needs root and iproute2.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use smoltcp::phy::{Device, Medium, RxToken, TunTapInterface, TxToken, wait};
use smoltcp::time::Instant;

use crate::netns::{Netns, ip};

/// A TUN interface; gone with this value. It stays in the thread that opened it.
#[derive(Debug)]
pub struct Tun {
    name: String,
    place: u8,
    device: TunTapInterface,
}

/// Packets that the kernel keeps until they are read; it drops what does not fit.
const QUEUE: &str = "10000";

impl Tun {
    /// How many addresses there are on this side.
    pub const FAR: u32 = 253;

    /// An interface of this process's namespace.
    ///
    /// # Errors
    /// Without the right to make one, and what `ip` says.
    pub fn open() -> Result<Self> {
        let tun = Self::free()?;
        tun.set_up(&[])?;
        Ok(tun)
    }

    /// An interface of this namespace.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in(netns: &Netns) -> Result<Self> {
        let tun = Self::free()?;
        ip(&["link", "set", &tun.name, "netns", netns.name()])?;
        tun.set_up(&["-n", netns.name()])?;
        Ok(tun)
    }

    /// The next whose name, and with it whose addresses, nobody has. What listens there may live longer than the
    /// interface, so this process goes on to others before it takes one again.
    fn free() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..=u8::MAX {
            let number = std::process::id().wrapping_mul(8).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let [.., place] = number.to_be_bytes();
            let name = format!("lbtun{place}");
            match TunTapInterface::new(&name, Medium::Ip) {
                Ok(device) => return Ok(Self { name, place, device }),
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
                Err(error) => return Err(error).context("cannot make a TUN interface with /dev/net/tun"),
            }
        }
        bail!("256 TUN interfaces are in use")
    }

    fn set_up(&self, namespace: &[&str]) -> Result<()> {
        let address = format!("{}/24", self.near());
        ip(&[namespace, &["address", "add", &address, "dev", &self.name]].concat())?;
        ip(&[namespace, &["link", "set", &self.name, "txqueuelen", QUEUE, "up"]].concat())
    }

    /// The kernel's address.
    pub fn near(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, self.place, 1)
    }

    /// One of the addresses on this side, which come again after [`Self::FAR`].
    pub fn far(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.near().to_bits() + 1 + number % Self::FAR)
    }

    /// What the kernel has sent, if anything.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let (token, _) = self.device.receive(Instant::ZERO)?;
        Some(token.consume(<[u8]>::to_vec))
    }

    /// Sends the kernel a packet.
    pub fn send(&mut self, packet: &[u8]) {
        let token = self.device.transmit(Instant::ZERO).expect("TUN takes packets at any time");
        token.consume(packet.len(), |room| room.copy_from_slice(packet));
    }

    /// Waits until there is something to receive, or so long.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self, time: Duration) -> Result<()> {
        wait(self.device.as_raw_fd(), Some(time.into())).with_context(|| format!("cannot wait for {}", self.name))
    }
}
