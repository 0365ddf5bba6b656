//! The packet that an ICMP error quotes, as far as it is there: which flow does the error belong to?
//!
//! As little suffices as netfilter is content with: four bytes of a header with ports, eight of an ICMP header. The
//! quote's version, lengths, checksums and sequence numbers are not looked at, not even whether the header's length is one;
//! a later fragment names no flow.
//! Source: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4; observed on Linux 6.18 (recordings `icmp-error/`).

use crate::bytes::Header;
use crate::packet::{Fragment, Malformed, Packet, Transport};
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

impl Quoted {
    /// The packet as its sender sent it, as far as headers tell: its TTL is what was left of it, its length what its
    /// header says. Its bytes are not all there, so [`Packet::end`] may lie behind the frame's.
    pub fn packet(&self, frame: &[u8]) -> Packet {
        let header = frame.get(usize::from(self.l3)..usize::from(self.l4)).unwrap_or_default();
        let (tos, ttl, length) = match self.addrs {
            Addrs::V4 { .. } => Header::<{ ipv4::HEADER }>::at(header, 0).map_or((0, 0, 0), |header| {
                (
                    header.byte::<{ ipv4::TOS }>(),
                    header.byte::<{ ipv4::TTL }>(),
                    header.be16::<{ ipv4::TOTAL_LENGTH }>(),
                )
            }),
            Addrs::V6 { .. } => Header::<{ ipv6::HEADER }>::at(header, 0).map_or((0, 0, 0), |header| {
                let class = (header.be16::<0>() >> 4) as u8;
                let length = header.be16::<{ ipv6::PAYLOAD_LENGTH }>().saturating_add(ipv6::HEADER as u16);
                (class, header.byte::<{ ipv6::HOP_LIMIT }>(), length)
            }),
        };
        Packet {
            l3: self.l3,
            l4: self.l4,
            end: self.l3.saturating_add(length),
            addrs: self.addrs,
            protocol: self.protocol,
            ttl,
            tos,
            transport: self.transport,
            ..Packet::NONE
        }
    }
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
    (!later).then_some((ipv4::addresses(header), protocol, length))
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
        _ => match transport::parse(segment, family, protocol, Fragment::Whole) {
            (Transport::Malformed(_), _) | (_, Some(Malformed::GrePptp)) => return None,
            (transport, _) => transport,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{packet, v4, v6};

    const IP4: &str = "4500001d000100003f1167c90a0100020a020002";

    fn of_v4(inner: &str) -> Option<Quoted> {
        let frame = v4(1, &format!("0301000000000000 {inner}"));
        quoted(&packet(&frame), &frame)
    }

    fn of_v6(next: u8, inner: &str) -> Option<Quoted> {
        let addresses = "fd000001000000000000000000000002 fd000002000000000000000000000002";
        let frame = v6(58, &format!("0100000000000000 600000000000{next:02x}3f {addresses} {inner}"));
        quoted(&packet(&frame), &frame)
    }

    #[test]
    fn as_little_as_the_kernel_accepts() {
        let udp = Some(Transport::Udp { sport: 5000, dport: 53 });
        let tcp = |flags| Some(Transport::Tcp { sport: 5000, dport: 53, flags });
        let header = |protocol: &str| IP4.replace("3f11", &format!("3f{protocol}"));
        for (name, quote, expected) in [
            ("udp whole", format!("{IP4} 13880035000a000071"), udp),
            ("udp, four bytes", format!("{IP4} 13880035"), udp),
            ("udp, three bytes", format!("{IP4} 138800"), None),
            ("no whole header", IP4[..38].to_owned(), None),
            ("tcp, eight bytes", format!("{} 1388003500000001", header("06")), tcp(TcpFlags::NONE)),
            (
                "tcp, 14 bytes",
                format!("{} 13880035 00000001 00000000 5002", header("06")),
                tcp(TcpFlags::SYN),
            ),
            ("with options", format!("{} 01010101 13880035", IP4.replace("4500", "4600")), udp),
            (
                "header length eight: what follows is of the header",
                format!("{} 13880035", IP4.replace("4500", "4200")),
                Some(Transport::Udp { sport: 0x3f11, dport: 0x67c9 }),
            ),
            ("another version", format!("{} 13880035", IP4.replace("4500", "6500")), udp),
            ("bad header checksum", format!("{} 13880035", IP4.replace("67c9", "0000")), udp),
            ("first fragment", format!("{} 13880035", IP4.replace("00010000", "00012000")), udp),
            ("later fragment", format!("{} 13880035", IP4.replace("00010000", "00010001")), None),
            (
                "echo, eight bytes",
                format!("{} 0800000000070001", header("01")),
                Some(Transport::Icmp { kind: 8, code: 0, id: 7 }),
            ),
            ("echo, seven bytes", format!("{} 08000000000700", header("01")), None),
            (
                "gre, two bytes",
                format!("{} 2000", header("2f")),
                Some(Transport::Gre { version: 0, call_id: 0 }),
            ),
            ("gre version 1 without ppp", format!("{} 3001080000040007", header("2f")), None),
            ("unknown, nothing", header("fd"), Some(Transport::Other)),
        ] {
            assert_eq!(of_v4(&quote).map(|quoted| quoted.transport), expected, "{name}");
        }
    }

    #[test]
    fn places() {
        let quoted = of_v4(&format!("{} 01010101 13880035", IP4.replace("4500", "4600"))).unwrap();
        assert_eq!((quoted.l3, quoted.l4, quoted.end), (42, 66, 70));
        assert_eq!(quoted.addrs, crate::samples::between("10.1.0.2", "10.2.0.2").addrs);
    }

    #[test]
    fn ipv6_quotes() {
        let udp = Some(Transport::Udp { sport: 5000, dport: 53 });
        for (name, next, quote, expected) in [
            ("udp", 17, "13880035", udp),
            ("destination options", 60, "1100010400000000 13880035", udp),
            ("first fragment", 44, "1100000100000005 13880035", udp),
            ("later fragment", 44, "1100000900000005 13880035", None),
            ("chain cut short", 60, "110001040000", None),
            ("no next header", 59, "", None),
            ("echo", 58, "8000000000070001", Some(Transport::Icmpv6 { kind: 128, code: 0, id: 7 })),
        ] {
            assert_eq!(of_v6(next, quote).map(|quoted| quoted.transport), expected, "{name}");
        }
    }

    #[test]
    fn only_errors_quote() {
        for (kind, expected) in
            [(0, false), (3, true), (4, true), (5, true), (8, false), (11, true), (12, true), (13, false)]
        {
            let frame = v4(1, &format!("{kind:02x}00000000000000 {IP4} 13880035"));
            assert_eq!(quoted(&packet(&frame), &frame).is_some(), expected, "type {kind}");
        }
    }
}
