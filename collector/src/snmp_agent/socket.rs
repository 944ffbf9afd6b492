//! A UDP socket of the agent, whose answers leave from the address that was asked.
//!
//! A socket bound to one address does that by itself. One bound to all addresses learns with each datagram where it
//! went to (IP_PKTINFO, RFC 3542's IPV6_PKTINFO) and says so with the answer: else the kernel takes the address of the
//! route back, and managers drop an answer from a host they did not ask.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, UdpSocket};
use std::num::NonZeroUsize;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockRef, Type};

/// Requests that wait while their worker is busy; the kernel may grant less (net.core.rmem_max).
const RECEIVE_BUFFER: usize = 1 << 20;
/// Room for one control message with an address.
const CONTROL: usize = 64;

/// One socket.
#[derive(Debug)]
pub(super) struct Socket(UdpSocket);

/// Where a datagram came from, and for a socket that is bound to all addresses, where it went to.
pub(super) struct Peer {
    address: SocketAddr,
    asked: Option<ControlMessageOwned>,
}

impl Peer {
    /// Where it came from.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Socket {
    /// So many sockets on one address; they share its datagrams.
    pub(super) fn bind(address: SocketAddr, count: NonZeroUsize) -> io::Result<Vec<Self>> {
        let mut address = address;
        let mut sockets = Vec::new();
        for _ in 0..count.get() {
            let socket = Self::bind_one(address, count.get() > 1)?;
            // A port that the kernel chose is the port of all of them.
            address = socket.local_address()?;
            sockets.push(socket);
        }
        Ok(sockets)
    }

    fn bind_one(address: SocketAddr, shared: bool) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        let wildcard = address.ip().is_unspecified();
        if address.is_ipv6() {
            // IPv4 has sockets of its own.
            socket.set_only_v6(true)?;
        }
        if shared {
            socket.set_reuse_port(true)?;
        }
        match (wildcard, address.is_ipv6()) {
            (true, false) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            (true, true) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            (false, _) => {}
        }
        // Less of it only means that a burst is lost sooner.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.bind(&address.into())?;
        Ok(Self(socket.into()))
    }

    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Waits for a datagram; its length, and who sent it. A socket that was woken has neither.
    pub(super) fn receive(&self, datagram: &mut [u8]) -> io::Result<(usize, Peer)> {
        let (mut parts, mut control) = ([IoSliceMut::new(datagram)], [0; CONTROL]);
        let (socket, flags) = (self.0.as_raw_fd(), MsgFlags::empty());
        // The standard library's recv_from panics where there is no sender.
        let received = recvmsg::<SockaddrStorage>(socket, &mut parts, Some(&mut control), flags)?;
        let asked = received.cmsgs()?.next();
        let address = received.address.as_ref().and_then(address_of).unwrap_or_else(nobody);
        Ok((received.bytes, Peer { address, asked }))
    }

    /// Sends an answer to who asked, from the address that was asked.
    pub(super) fn send(&self, octets: &[u8], peer: &Peer) -> io::Result<()> {
        let send = |control: &[ControlMessage<'_>]| {
            let to = SockaddrStorage::from(peer.address);
            sendmsg(self.0.as_raw_fd(), &[IoSlice::new(octets)], control, MsgFlags::empty(), Some(&to))
        };
        match &peer.asked {
            // The interface is left to the routes: the way back need not be the way in.
            Some(ControlMessageOwned::Ipv4PacketInfo(info)) => {
                let mut info = *info;
                info.ipi_ifindex = 0;
                send(&[ControlMessage::Ipv4PacketInfo(&info)])?;
            }
            Some(ControlMessageOwned::Ipv6PacketInfo(info)) => {
                let mut info = *info;
                info.ipi6_ifindex = 0;
                send(&[ControlMessage::Ipv6PacketInfo(&info)])?;
            }
            _ => {
                self.0.send_to(octets, peer.address)?;
            }
        }
        Ok(())
    }

    /// Ends the wait for a datagram, of this call and all later ones.
    pub(super) fn wake(&self) {
        // Linux says that there is no connection to shut down, and wakes who waits all the same.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Read);
    }
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::from((address.ip(), address.port())));
    v4.or_else(|| {
        let address = address.as_sockaddr_in6()?;
        Some(SocketAddrV6::new(address.ip(), address.port(), address.flowinfo(), address.scope_id()).into())
    })
}

fn nobody() -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, 0).into()
}
