//! The first stage of the path: what is this frame? It decides only what `ip_rcv` and `ipv6_rcv` decide, and
//! reads nothing twice. Addresses that cannot be true are for [`martian`](crate::martian), bad options for
//! [`options`](crate::options), bad transport checksums for [`verify`](crate::verify).

use std::net::Ipv4Addr;

use crate::bytes::{Header, HeaderMut};
use crate::ethernet;
use crate::packet::{Arp, ArpOperation, Packet, ParseError, Parsed};
use crate::{EtherType, Family, LinkCast, MacAddr, ipv4, ipv6};

/// ARP for IPv4 on Ethernet, in bytes.
pub(crate) const ARP: usize = 28;
const ARP_HARDWARE: usize = 0;
const ARP_PROTOCOL: usize = 2;
const ARP_HARDWARE_LENGTH: usize = 4;
const ARP_PROTOCOL_LENGTH: usize = 5;
const ARP_OPERATION: usize = 6;
const ARP_SENDER_MAC: usize = 8;
const ARP_SENDER: usize = 14;
const ARP_TARGET_MAC: usize = 18;
const ARP_TARGET: usize = 24;

const ETHERNET: u16 = 1;

/// What a frame is, with its [`Packet`] elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 or IPv6: the packet was written.
    Ip,
    /// ARP for IPv4 on Ethernet, to be read by [`parse`].
    Arp,
    /// Any other EtherType, also a second VLAN tag.
    Other(EtherType),
}

/// Parses an Ethernet frame without its check sequence.
///
/// # Errors
/// What the kernel drops before any hook, each with its own reason.
pub fn parse(frame: &[u8]) -> Result<Parsed, ParseError> {
    let mut packet = Packet::NONE;
    match parse_into(frame, &mut packet)? {
        Kind::Ip => Ok(Parsed::Ip(packet)),
        Kind::Arp => arp(frame).map(Parsed::Arp),
        Kind::Other(ethertype) => Ok(Parsed::Other(ethertype)),
    }
}

/// As [`parse`], for bursts: the packet is written where it is to stay. A packet that is returned is copied out of
/// memory that was written field by field just before, which stalls for as long as all the rest takes.
///
/// # Errors
/// As [`parse`]; then, and for what is not IP, `packet` means nothing.
#[inline]
pub fn parse_into(frame: &[u8], packet: &mut Packet) -> Result<Kind, ParseError> {
    if frame.len() > usize::from(u16::MAX) {
        return Err(ParseError::FrameTooLong);
    }
    let (link, ethertype) = ethernet::parse(frame).ok_or(ParseError::EthernetShort)?;
    match ethertype {
        EtherType::IPV4 => ipv4::parse(frame, link, packet),
        EtherType::IPV6 => ipv6::parse(frame, link, packet),
        EtherType::VLAN => tagged(frame, packet),
        EtherType::ARP => Ok(Kind::Arp),
        other => Ok(Kind::Other(other)),
    }
}

/// As [`parse_into`], of a datagram without an Ethernet header, whose offsets then count from its IP header: that way the
/// longest one's fit 16 bits. `vlan` and `cast` are those of the frame that brought it.
///
/// # Errors
/// As [`parse`].
pub fn parse_datagram(
    datagram: &[u8],
    family: Family,
    (vlan, cast): (Option<u16>, LinkCast),
    packet: &mut Packet,
) -> Result<(), ParseError> {
    if datagram.len() > usize::from(u16::MAX) {
        return Err(ParseError::FrameTooLong);
    }
    let link = ethernet::Link { l3: 0, vlan, cast };
    match family {
        Family::V4 => ipv4::parse(datagram, link, packet)?,
        Family::V6 => ipv6::parse(datagram, link, packet)?,
    };
    Ok(())
}

/// A second copy of the parser, so that in the first one all offsets are constants.
#[inline(never)]
fn tagged(frame: &[u8], packet: &mut Packet) -> Result<Kind, ParseError> {
    let (link, ethertype) = ethernet::parse_tagged(frame)?;
    match ethertype {
        EtherType::IPV4 => ipv4::parse(frame, link, packet),
        EtherType::IPV6 => ipv6::parse(frame, link, packet),
        EtherType::ARP => Ok(Kind::Arp),
        other => Ok(Kind::Other(other)),
    }
}

fn arp(frame: &[u8]) -> Result<Arp, ParseError> {
    let (mut link, ethertype) = ethernet::parse(frame).ok_or(ParseError::EthernetShort)?;
    if ethertype == EtherType::VLAN {
        (link, _) = ethernet::parse_tagged(frame)?;
    }
    let arp = Header::<ARP>::at(frame, link.l3).ok_or(ParseError::ArpShort)?;
    let lengths = (arp.byte::<ARP_HARDWARE_LENGTH>(), arp.byte::<ARP_PROTOCOL_LENGTH>());
    let ethernet_ipv4 = arp.be16::<ARP_HARDWARE>() == ETHERNET
        && arp.be16::<ARP_PROTOCOL>() == EtherType::IPV4.0
        && lengths == (6, 4);
    if !ethernet_ipv4 {
        return Err(ParseError::ArpKind);
    }
    let operation = match arp.be16::<ARP_OPERATION>() {
        1 => ArpOperation::Request,
        2 => ArpOperation::Reply,
        _ => return Err(ParseError::ArpOperation),
    };
    Ok(Arp {
        vlan: link.vlan,
        cast: link.cast,
        operation,
        sender_mac: MacAddr(arp.bytes::<ARP_SENDER_MAC, 6>()),
        sender: Ipv4Addr::from_octets(arp.bytes::<ARP_SENDER, 4>()),
        target_mac: MacAddr(arp.bytes::<ARP_TARGET_MAC, 6>()),
        target: Ipv4Addr::from_octets(arp.bytes::<ARP_TARGET, 4>()),
    })
}

/// Writes an ARP packet at `l3`; nothing if it does not fit.
pub(crate) fn emit_arp(out: &mut [u8], l3: usize, arp: &Arp) {
    let Some(mut header) = HeaderMut::<ARP>::at(out, l3) else { return };
    header.set_be16::<ARP_HARDWARE>(ETHERNET);
    header.set_be16::<ARP_PROTOCOL>(EtherType::IPV4.0);
    header.set_byte::<ARP_HARDWARE_LENGTH>(6);
    header.set_byte::<ARP_PROTOCOL_LENGTH>(4);
    header.set_be16::<ARP_OPERATION>(match arp.operation {
        ArpOperation::Request => 1,
        ArpOperation::Reply => 2,
    });
    header.set_bytes::<ARP_SENDER_MAC, 6>(&arp.sender_mac.0);
    header.set_bytes::<ARP_SENDER, 4>(&arp.sender.octets());
    header.set_bytes::<ARP_TARGET_MAC, 6>(&arp.target_mac.0);
    header.set_bytes::<ARP_TARGET, 4>(&arp.target.octets());
}

#[cfg(test)]
mod tests;
