//! TCP segments as they are on the wire.

use std::net::SocketAddrV4;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IPV4_HEADER_LEN, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

/// A TCP segment over IPv4, without what this test bed does not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Who sends it.
    pub source: SocketAddrV4,
    /// Who gets it.
    pub destination: SocketAddrV4,
    /// SYN, FIN, RST or PSH.
    pub control: TcpControl,
    /// Its sequence number.
    pub sequence: u32,
    /// What it acknowledges.
    pub acknowledged: Option<u32>,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Of an Ethernet, as the interface has it.
const SEGMENT_SIZE: u16 = 1460;

impl<'a> Segment<'a> {
    /// Reads a packet; none if it is not TCP over IPv4, or not well formed. Checksums are not looked at.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        if ip.version() != 4 || ip.next_header() != IpProtocol::Tcp {
            return None;
        }
        let (source, destination) = (ip.src_addr(), ip.dst_addr());
        let header = usize::from(ip.header_len());
        let tcp = TcpPacket::new_checked(packet.get(header..usize::from(ip.total_len()))?).ok()?;
        let tcp = TcpRepr::parse(&tcp, &source.into(), &destination.into(), &ChecksumCapabilities::ignored()).ok()?;
        Some(Self {
            source: SocketAddrV4::new(source, tcp.src_port),
            destination: SocketAddrV4::new(destination, tcp.dst_port),
            control: tcp.control,
            sequence: tcp.seq_number.0.cast_unsigned(),
            acknowledged: tcp.ack_number.map(|number| number.0.cast_unsigned()),
            payload: tcp.payload,
        })
    }

    /// The packet that carries it. Its window is as large as it can be without scaling.
    pub fn packet(&self) -> Vec<u8> {
        let (source, destination) = (*self.source.ip(), *self.destination.ip());
        let tcp = TcpRepr {
            src_port: self.source.port(),
            dst_port: self.destination.port(),
            control: self.control,
            seq_number: TcpSeqNumber(self.sequence.cast_signed()),
            ack_number: self.acknowledged.map(|number| TcpSeqNumber(number.cast_signed())),
            window_len: u16::MAX,
            window_scale: None,
            max_seg_size: (self.control == TcpControl::Syn).then_some(SEGMENT_SIZE),
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: self.payload,
        };
        let ip = Ipv4Repr {
            src_addr: source,
            dst_addr: destination,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let mut packet = vec![0; IPV4_HEADER_LEN + tcp.buffer_len()];
        let checksums = ChecksumCapabilities::default();
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut packet), &checksums);
        let mut room = TcpPacket::new_unchecked(&mut packet[IPV4_HEADER_LEN..]);
        tcp.emit(&mut room, &source.into(), &destination.into(), &checksums);
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_as_it_was_written() {
        let segment = Segment {
            source: "198.19.0.2:1024".parse().unwrap(),
            destination: "198.19.0.1:80".parse().unwrap(),
            control: TcpControl::Psh,
            sequence: u32::MAX,
            acknowledged: Some(1 << 31),
            payload: b"GET",
        };
        let packet = segment.packet();
        assert_eq!(Segment::parse(&packet), Some(segment));
        assert_eq!(Segment::parse(&packet[..packet.len() - 1]), None);
    }
}
