//! Frames that the router makes itself, written into a buffer that it is handed: ARP, ICMP errors, TCP resets; and
//! small datagrams, for what generates traffic and for tests. Neighbour discovery is in [`nd`](crate::nd).
//!
//! Every builder returns the length of the frame, which is not padded to Ethernet's minimum.

use std::net::Ipv4Addr;

use crate::ip::IpHeader;
use crate::packet::{Arp, ArpOperation, Packet};
use crate::{Addrs, EtherType, MacAddr, Protocol, ethernet};

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
    /// Its IP header. With Don't Fragment set, so that the identification may be zero.
    pub(crate) const fn header(&self) -> IpHeader {
        let Self { addrs, protocol, ttl, tos, payload, .. } = *self;
        IpHeader { addrs, protocol, tos, ttl, payload, id: 0, dont_fragment: true }
    }

    /// Writes Ethernet and IP header into a buffer that has room for the whole frame, and returns its length and
    /// what is behind the IP header, zeroed where nothing is written yet.
    pub(crate) fn emit<'a>(&self, out: &'a mut [u8]) -> Result<(usize, &'a mut [u8]), BuildError> {
        let (l3, header) = (self.link.length(), self.header());
        let length = header.length() + self.payload;
        if length > usize::from(u16::MAX) {
            return Err(BuildError::TooLong { length });
        }
        let need = l3 + length;
        let out = room(out, need)?;
        let Link { destination, source, vlan } = self.link;
        ethernet::emit(out, (destination, source), vlan, header.ethertype());
        header.emit(out, l3);
        let payload = out.get_mut(l3 + header.length()..).unwrap_or_default();
        payload.fill(0);
        Ok((need, payload))
    }
}
