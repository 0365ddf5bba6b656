//! Small UDP, TCP and ICMP packets with true checksums, of either family: for what makes packets of its own, such as
//! a policy's tests and a tool that asks what would happen, and for tests.

use std::net::{IpAddr, Ipv4Addr};

use super::{BuildError, DEFAULT_TTL, Link, Network, error};
use crate::bytes::{HeaderMut, copy};
use crate::tcp::{self, TcpFlags};
use crate::transport::{DESTINATION_PORT, SOURCE_PORT, UDP_CHECKSUM, UDP_HEADER, UDP_LENGTH};
use crate::{Addrs, Family, MacAddr, Protocol, checksum, icmp};

/// What all these packets have in common. The default is from `02:00:00:00:00:01` to `02:00:00:00:00:02` without a
/// tag, between unspecified IPv4 addresses, with a TTL of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Ethernet header.
    pub link: Link,
    /// Addresses, which choose the family.
    pub addrs: Addrs,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
}

impl Default for Datagram {
    fn default() -> Self {
        let link = Link {
            destination: MacAddr([2, 0, 0, 0, 0, 2]),
            source: MacAddr([2, 0, 0, 0, 0, 1]),
            vlan: None,
        };
        let addrs = Addrs::V4 { src: Ipv4Addr::UNSPECIFIED, dst: Ipv4Addr::UNSPECIFIED };
        Self { link, addrs, ttl: DEFAULT_TTL, tos: 0 }
    }
}

impl Datagram {
    /// The default with other addresses; `None` if they are of two families.
    pub fn between(src: IpAddr, dst: IpAddr) -> Option<Self> {
        let addrs = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => Addrs::V4 { src, dst },
            (IpAddr::V6(src), IpAddr::V6(dst)) => Addrs::V6 { src, dst },
            _ => return None,
        };
        Some(Self { addrs, ..Self::default() })
    }

    const fn network(&self, protocol: Protocol, payload: usize) -> Network {
        let Self { link, addrs, ttl, tos } = *self;
        Network { link, addrs, protocol, ttl, tos, payload }
    }
}

/// What a TCP segment says beside its ports. The default is a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// Flags.
    pub flags: TcpFlags,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window.
    pub window: u16,
}

impl Default for Tcp {
    fn default() -> Self {
        Self { flags: TcpFlags::SYN, seq: 0, ack: 0, window: u16::MAX }
    }
}

/// Writes a UDP packet; ports are source and destination.
///
/// # Errors
/// It is longer than an IP packet can be, or than the buffer.
pub fn udp(
    out: &mut [u8],
    datagram: &Datagram,
    (sport, dport): (u16, u16),
    payload: &[u8],
) -> Result<usize, BuildError> {
    let network = datagram.network(Protocol::UDP, UDP_HEADER + payload.len());
    let (length, segment) = network.emit(out)?;
    if let Some(mut header) = HeaderMut::<UDP_HEADER>::at(segment, 0) {
        header.set_be16::<SOURCE_PORT>(sport);
        header.set_be16::<DESTINATION_PORT>(dport);
        header.set_be16::<UDP_LENGTH>(network.payload as u16);
    }
    copy(segment, UDP_HEADER, payload);
    let sum = checksum::never_zero(checksum::transport(&datagram.addrs, Protocol::UDP, segment));
    if let Some(mut header) = HeaderMut::<UDP_HEADER>::at(segment, 0) {
        header.set_bytes::<UDP_CHECKSUM, 2>(&sum);
    }
    Ok(length)
}

/// Writes a TCP segment without options; ports are source and destination.
///
/// # Errors
/// It is longer than an IP packet can be, or than the buffer.
pub fn tcp(
    out: &mut [u8],
    datagram: &Datagram,
    (sport, dport): (u16, u16),
    tcp: Tcp,
    payload: &[u8],
) -> Result<usize, BuildError> {
    let (length, segment) = datagram.network(Protocol::TCP, tcp::HEADER + payload.len()).emit(out)?;
    if let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(segment, 0) {
        header.set_be16::<SOURCE_PORT>(sport);
        header.set_be16::<DESTINATION_PORT>(dport);
        header.set_be32::<{ tcp::SEQUENCE }>(tcp.seq);
        header.set_be32::<{ tcp::ACKNOWLEDGEMENT }>(tcp.ack);
        header.set_byte::<{ tcp::DATA_OFFSET }>(tcp::PLAIN);
        header.set_byte::<{ tcp::FLAGS }>(tcp.flags.bits());
        header.set_be16::<{ tcp::WINDOW }>(tcp.window);
    }
    copy(segment, tcp::HEADER, payload);
    let sum = checksum::transport(&datagram.addrs, Protocol::TCP, segment);
    if let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(segment, 0) {
        header.set_bytes::<{ tcp::CHECKSUM }, 2>(&sum);
    }
    Ok(length)
}

/// Writes an ICMP or ICMPv6 message of any type and code whose extra four bytes are an identifier and a sequence
/// number: an echo and its like.
///
/// # Errors
/// It is longer than an IP packet can be, or than the buffer.
pub fn icmp_echo(
    out: &mut [u8],
    datagram: &Datagram,
    (kind, code): (u8, u8),
    (id, sequence): (u16, u16),
    payload: &[u8],
) -> Result<usize, BuildError> {
    let protocol = match datagram.addrs.family() {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    };
    let (length, message) = datagram.network(protocol, icmp::HEADER + payload.len()).emit(out)?;
    if let Some(mut header) = HeaderMut::<{ icmp::HEADER }>::at(message, 0) {
        header.set_byte::<{ icmp::TYPE }>(kind);
        header.set_byte::<{ icmp::CODE }>(code);
        header.set_be32::<{ icmp::REST }>(u32::from(id) << 16 | u32::from(sequence));
    }
    copy(message, icmp::HEADER, payload);
    error::seal(message, &datagram.addrs, protocol);
    Ok(length)
}

/// Writes a packet of any protocol, whose header and payload are given.
///
/// # Errors
/// It is longer than an IP packet can be, or than the buffer.
pub fn other(
    out: &mut [u8],
    datagram: &Datagram,
    protocol: Protocol,
    bytes: &[u8],
) -> Result<usize, BuildError> {
    let (length, to) = datagram.network(protocol, bytes.len()).emit(out)?;
    copy(to, 0, bytes);
    Ok(length)
}
