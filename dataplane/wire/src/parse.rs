//! The first stage of the path: what is this frame? It decides only what `ip_rcv` and `ipv6_rcv` decide, and
//! reads nothing twice. Addresses that cannot be true are for [`martian`](crate::martian), bad options for
//! [`options`](crate::options), bad transport checksums for [`verify`](crate::verify).

use std::net::Ipv4Addr;

use crate::bytes::{Header, HeaderMut};
use crate::ethernet::{self, Link};
use crate::packet::{Arp, ArpOperation, ParseError, Parsed};
use crate::{EtherType, MacAddr, ipv4, ipv6};

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

/// Parses an Ethernet frame without its check sequence.
///
/// # Errors
/// What the kernel drops before any hook, each with its own reason.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Parsed, ParseError> {
    if frame.len() > usize::from(u16::MAX) {
        return Err(ParseError::FrameTooLong);
    }
    let link = ethernet::parse(frame)?;
    match link.ethertype {
        EtherType::IPV4 => ipv4::parse(frame, link).map(Parsed::Ip),
        EtherType::IPV6 => ipv6::parse(frame, link).map(Parsed::Ip),
        EtherType::ARP => arp(frame, link).map(Parsed::Arp),
        other => Ok(Parsed::Other(other)),
    }
}

#[cold]
fn arp(frame: &[u8], link: Link) -> Result<Arp, ParseError> {
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
