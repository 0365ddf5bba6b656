//! The packet that an ICMP error quotes, as far as it is there: which flow does the error belong to?
//!
//! As little suffices as netfilter is content with: four bytes of a header with ports, eight of an ICMP header. The
//! quote's version, lengths, checksums and sequence numbers are not looked at; a later fragment names no flow.
//! Source: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4; observed on Linux 6.18 (recordings `icmp-error/`).

use crate::bytes::Header;
use crate::packet::{Fragment, Packet, Transport};
use crate::transport::{DESTINATION_PORT, PORTS, SOURCE_PORT};
use crate::{Addrs, Family, Protocol, TcpFlags, icmp, ipv4, ipv6, tcp, transport};

/// A packet inside an ICMP error. Offsets are in bytes from the first byte of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Where its IP header begins.
    pub l3: u16,
    /// Where its transport header begins.
    pub l4: u16,
    /// Behind its last byte, which is the frame's last byte of IP.
    pub end: u16,
    /// Its addresses, in the direction in which it was sent.
    pub addrs: Addrs,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its ports, or ICMP type, code and id. TCP's flags are none if the quote is too short for them.
    pub transport: Transport,
}

/// The quote in an ICMP or ICMPv6 error; `None` if `packet` is no error, or quotes too little to name a flow.
pub fn quoted(packet: &Packet, frame: &[u8]) -> Option<Quoted> {
    if !icmp::is_error(packet) || packet.fragment.is_part() || packet.malformed.is_some() {
        return None;
    }
    let inner = packet.segment(frame).get(icmp::HEADER..)?;
    let (addrs, protocol, offset) = match packet.family() {
        Family::V4 => network_v4(inner)?,
        Family::V6 => network_v6(inner)?,
    };
    let transport = transport_of(inner.get(offset..)?, packet.family(), protocol)?;
    let l3 = packet.l4 + icmp::HEADER as u16;
    Some(Quoted { l3, l4: l3 + offset as u16, end: packet.end, addrs, protocol, transport })
}

type Network = (Addrs, Protocol, usize);

fn network_v4(inner: &[u8]) -> Option<Network> {
    let header = Header::<{ ipv4::HEADER }>::at(inner, 0)?;
    let length = ipv4::header_length(header.byte::<{ ipv4::VERSION_IHL }>());
    let later = header.be16::<{ ipv4::FRAGMENT }>() & ipv4::FRAGMENT_OFFSET != 0;
    let protocol = Protocol(header.byte::<{ ipv4::PROTOCOL }>());
    (length >= ipv4::HEADER && !later).then_some((ipv4::addresses(header), protocol, length))
}

fn network_v6(inner: &[u8]) -> Option<Network> {
    let header = Header::<{ ipv6::HEADER }>::at(inner, 0)?;
    let next = Protocol(header.byte::<{ ipv6::NEXT_HEADER }>());
    let chain = ipv6::follow(inner.get(ipv6::HEADER..)?, next);
    let later = matches!(chain.fragment, Fragment::Later { .. });
    let usable = chain.malformed.is_none() && !later;
    usable.then_some((ipv6::addresses(header), chain.protocol, ipv6::HEADER + chain.length))
}

fn transport_of(segment: &[u8], family: Family, protocol: Protocol) -> Option<Transport> {
    let ports = || {
        let header = Header::<PORTS>::at(segment, 0)?;
        Some((header.be16::<SOURCE_PORT>(), header.be16::<DESTINATION_PORT>()))
    };
    Some(match protocol {
        Protocol::TCP => {
            let (sport, dport) = ports()?;
            let flags = segment.get(tcp::FLAGS).map_or(TcpFlags::NONE, |bits| TcpFlags::from_bits(*bits));
            Transport::Tcp { sport, dport, flags }
        }
        Protocol::UDP => ports().map(|(sport, dport)| Transport::Udp { sport, dport })?,
        Protocol::UDPLITE => ports().map(|(sport, dport)| Transport::UdpLite { sport, dport })?,
        Protocol::SCTP => ports().map(|(sport, dport)| Transport::Sctp { sport, dport })?,
        Protocol::DCCP => ports().map_or(Transport::Other, |(sport, dport)| Transport::Dccp { sport, dport }),
        _ => match transport::parse(segment, family, protocol, Fragment::Whole) {
            (Transport::Malformed(_), _) => return None,
            (transport, _) => transport,
        },
    })
}
