//! Frames that the router makes itself, written into a buffer that it is handed: ARP, ICMP errors, TCP resets; and
//! small datagrams, for what generates traffic and for tests. Neighbour discovery is in [`nd`](crate::nd).
//!
//! Every builder returns the length of the frame, which is not padded to Ethernet's minimum.

use std::net::Ipv4Addr;

use crate::bytes::HeaderMut;
use crate::checksum;
use crate::packet::{Arp, ArpOperation, Packet};
use crate::{Addrs, EtherType, MacAddr, Protocol, ethernet, ipv4, ipv6};

mod datagram;
mod error;
mod reset;

pub use datagram::{Datagram, Tcp, icmp_echo, other, tcp, udp};
pub use error::{IcmpError, icmp_error, may_answer};
pub use reset::tcp_reset;

#[cfg(test)]
mod tests;

/// What a router gives packets of its own. Source: RFC 1700, and the kernel's default.
pub(crate) const DEFAULT_TTL: u8 = 64;

/// Why a frame was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The buffer is too small.
    #[error("a frame of {need} bytes does not fit into {room}")]
    NoRoom {
        /// Bytes of the frame.
        need: usize,
        /// Bytes of the buffer.
        room: usize,
    },
    /// An IPv4 address was given for IPv6, or the other way round.
    #[error("address families differ")]
    Family,
    /// A reset answers only whole TCP segments with a true header.
    #[error("no tcp segment to answer")]
    NoSegment,
    /// A reset must not answer a reset: RFC 9293 section 3.5.2.
    #[error("a reset must not be answered")]
    AnswersReset,
    /// Longer than an IP header can tell.
    #[error("a datagram of {length} bytes is longer than 65535")]
    TooLong {
        /// Bytes of the datagram.
        length: usize,
    },
}

/// The Ethernet header of a frame to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// To whom.
    pub destination: MacAddr,
    /// From whom.
    pub source: MacAddr,
    /// VLAN id of the tag, or no tag.
    pub vlan: Option<u16>,
}

impl Link {
    /// Back to where `frame` came from.
    pub fn answering(packet: &Packet, frame: &[u8]) -> Self {
        Self { destination: ethernet::source(frame), source: ethernet::destination(frame), vlan: packet.vlan }
    }

    const fn length(&self) -> usize {
        ethernet::HEADER + if self.vlan.is_some() { ethernet::TAG } else { 0 }
    }
}

/// Asks who has `target`, from an interface that has `sender`. To everyone, or to the station that had it when a
/// known neighbour is checked.
///
/// # Errors
/// The buffer is too small.
pub fn arp_request(
    out: &mut [u8],
    link: Link,
    sender: Ipv4Addr,
    target: Ipv4Addr,
) -> Result<usize, BuildError> {
    let arp = Arp {
        vlan: link.vlan,
        cast: ethernet::LinkCast::of(link.destination),
        operation: ArpOperation::Request,
        sender_mac: link.source,
        sender,
        target_mac: MacAddr::ZERO,
        target,
    };
    emit_arp(out, link, &arp)
}

/// Answers a request for an address that the interface with `mac` has.
///
/// # Errors
/// The buffer is too small.
pub fn arp_reply(out: &mut [u8], mac: MacAddr, request: &Arp) -> Result<usize, BuildError> {
    let link = Link { destination: request.sender_mac, source: mac, vlan: request.vlan };
    let arp = Arp {
        vlan: request.vlan,
        cast: ethernet::LinkCast::of(link.destination),
        operation: ArpOperation::Reply,
        sender_mac: mac,
        sender: request.target,
        target_mac: request.sender_mac,
        target: request.sender,
    };
    emit_arp(out, link, &arp)
}

/// Writes an Ethernet header and an ARP packet as they are given: for announcements and probes.
///
/// # Errors
/// The buffer is too small.
pub fn emit_arp(out: &mut [u8], link: Link, arp: &Arp) -> Result<usize, BuildError> {
    let need = link.length() + crate::parse::ARP;
    let out = room(out, need)?;
    ethernet::emit(out, (link.destination, link.source), link.vlan, EtherType::ARP);
    crate::parse::emit_arp(out, link.length(), arp);
    Ok(need)
}

/// The first `need` bytes of a buffer.
pub(crate) fn room(out: &mut [u8], need: usize) -> Result<&mut [u8], BuildError> {
    let room = out.len();
    out.get_mut(..need).ok_or(BuildError::NoRoom { need, room })
}

/// What an IP header of our own says.
#[derive(Clone, Copy)]
pub(crate) struct Network {
    pub(crate) link: Link,
    pub(crate) addrs: Addrs,
    pub(crate) protocol: Protocol,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// Bytes behind the IP header.
    pub(crate) payload: usize,
}

impl Network {
    pub(crate) const fn header(&self) -> usize {
        match self.addrs {
            Addrs::V4 { .. } => ipv4::HEADER,
            Addrs::V6 { .. } => ipv6::HEADER,
        }
    }

    /// Writes Ethernet and IP header into a buffer that has room for the whole frame, and returns its length and
    /// what is behind the IP header, zeroed where nothing is written yet.
    pub(crate) fn emit<'a>(&self, out: &'a mut [u8]) -> Result<(usize, &'a mut [u8]), BuildError> {
        let l3 = self.link.length();
        let length = self.header() + self.payload;
        if length > usize::from(u16::MAX) {
            return Err(BuildError::TooLong { length });
        }
        let need = l3 + length;
        let out = room(out, need)?;
        let ethertype = match self.addrs {
            Addrs::V4 { .. } => EtherType::IPV4,
            Addrs::V6 { .. } => EtherType::IPV6,
        };
        ethernet::emit(out, (self.link.destination, self.link.source), self.link.vlan, ethertype);
        let datagram = out.get_mut(l3..).unwrap_or_default();
        datagram.fill(0);
        match self.addrs {
            Addrs::V4 { .. } => self.emit_v4(datagram),
            Addrs::V6 { .. } => self.emit_v6(datagram),
        }
        Ok((need, datagram.get_mut(self.header()..).unwrap_or_default()))
    }

    /// With Don't Fragment set, so that the identification may be zero: RFC 6864 section 4.
    fn emit_v4(&self, datagram: &mut [u8]) {
        let Addrs::V4 { src, dst } = self.addrs else { return };
        let Some(mut header) = HeaderMut::<{ ipv4::HEADER }>::at(datagram, 0) else { return };
        header.set_byte::<{ ipv4::VERSION_IHL }>(ipv4::PLAIN);
        header.set_byte::<{ ipv4::TOS }>(self.tos);
        header.set_be16::<{ ipv4::TOTAL_LENGTH }>((ipv4::HEADER + self.payload) as u16);
        header.set_be16::<{ ipv4::FRAGMENT }>(ipv4::DONT_FRAGMENT);
        header.set_byte::<{ ipv4::TTL }>(self.ttl);
        header.set_byte::<{ ipv4::PROTOCOL }>(self.protocol.0);
        header.set_bytes::<{ ipv4::SOURCE }, 4>(&src.octets());
        header.set_bytes::<{ ipv4::DESTINATION }, 4>(&dst.octets());
        let sum = checksum::finish(checksum::sum_header(header.view().as_bytes()));
        header.set_bytes::<{ ipv4::CHECKSUM }, 2>(&sum);
    }

    fn emit_v6(&self, datagram: &mut [u8]) {
        let Addrs::V6 { src, dst } = self.addrs else { return };
        let Some(mut header) = HeaderMut::<{ ipv6::HEADER }>::at(datagram, 0) else { return };
        header.set_be32::<{ ipv6::VERSION_CLASS_FLOW }>(6 << 28 | u32::from(self.tos) << 20);
        header.set_be16::<{ ipv6::PAYLOAD_LENGTH }>(self.payload as u16);
        header.set_byte::<{ ipv6::NEXT_HEADER }>(self.protocol.0);
        header.set_byte::<{ ipv6::HOP_LIMIT }>(self.ttl);
        header.set_bytes::<{ ipv6::SOURCE }, 16>(&src.octets());
        header.set_bytes::<{ ipv6::DESTINATION }, 16>(&dst.octets());
    }
}
