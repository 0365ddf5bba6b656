//! Transport headers, as far as rules and tuples need them, and what makes netfilter's tracker refuse them.
//!
//! Lengths are judged in whole datagrams only: what a first fragment says about them concerns bytes that are not there.
//! Source: RFC 9293, 768, 3828, 792, 4443, 9260, 4340, 2784, 2637; observed on Linux 6.18 (`nf_conntrack_proto_*.c`).

use crate::bytes::Header;
use crate::packet::{Fragment, Malformed, Transport};
use crate::tcp::{self, TcpFlags};
use crate::{Family, Protocol, icmp};

/// The same place in TCP, UDP, UDP-Lite, SCTP and DCCP.
pub(crate) const SOURCE_PORT: usize = 0;
pub(crate) const DESTINATION_PORT: usize = 2;
/// Both ports.
pub(crate) const PORTS: usize = 4;

pub(crate) const UDP_HEADER: usize = 8;
/// Length in UDP, checksum coverage in UDP-Lite; both include the header.
pub(crate) const UDP_LENGTH: usize = 4;
pub(crate) const UDP_CHECKSUM: usize = 6;

pub(crate) const SCTP_HEADER: usize = 12;
pub(crate) const SCTP_CHECKSUM: usize = 8;

const GRE_HEADER: usize = 4;
const GRE_FLAGS_VERSION: usize = 0;
const GRE_VERSION: u16 = 0x0007;
const PPTP_HEADER: usize = 8;
const PPTP_PROTOCOL: usize = 2;
const PPTP_CALL_ID: usize = 6;
const PPTP_PPP: u16 = 0x880b;

type Read = (Transport, Option<Malformed>);

/// Reads the header at the beginning of `segment`, which ends where the datagram ends.
#[inline(always)]
pub(crate) fn parse(segment: &[u8], family: Family, protocol: Protocol, fragment: Fragment) -> Read {
    match fragment {
        Fragment::Whole | Fragment::Atomic { .. } => whole(segment, family, protocol),
        Fragment::First { .. } => first(segment, family, protocol),
        Fragment::Later { .. } => (Transport::Fragment, None),
    }
}

#[inline(always)]
fn whole(segment: &[u8], family: Family, protocol: Protocol) -> Read {
    match protocol {
        Protocol::TCP => tcp_header(segment),
        Protocol::UDP => udp(segment),
        _ => less_common(segment, family, protocol),
    }
}

/// A first fragment shows its ports if they are in it, and is not judged.
#[cold]
fn first(segment: &[u8], family: Family, protocol: Protocol) -> Read {
    match whole(segment, family, protocol) {
        (_, Some(why)) if why.is_short() => (Transport::Fragment, None),
        (transport, _) => (transport, None),
    }
}

#[inline(always)]
fn tcp_header(segment: &[u8]) -> Read {
    let Some(header) = Header::<{ tcp::HEADER }>::at(segment, 0) else {
        let flags = segment.get(tcp::FLAGS).map_or(TcpFlags::NONE, |bits| TcpFlags::from_bits(*bits));
        let ports = |(sport, dport)| Transport::Tcp { sport, dport, flags };
        return short(segment, Malformed::TcpShort, ports);
    };
    let flags = TcpFlags::from_bits(header.byte::<{ tcp::FLAGS }>());
    let transport = Transport::Tcp {
        sport: header.be16::<SOURCE_PORT>(),
        dport: header.be16::<DESTINATION_PORT>(),
        flags,
    };
    let offset = tcp::header_length(header.byte::<{ tcp::DATA_OFFSET }>());
    let malformed = if offset < tcp::HEADER || offset > segment.len() {
        Some(Malformed::TcpDataOffset)
    } else if !flags.is_valid() {
        Some(Malformed::TcpFlags)
    } else {
        None
    };
    (transport, malformed)
}

#[inline(always)]
fn udp(segment: &[u8]) -> Read {
    let Some(header) = Header::<UDP_HEADER>::at(segment, 0) else {
        return short(segment, Malformed::UdpShort, |(sport, dport)| Transport::Udp { sport, dport });
    };
    let length = usize::from(header.be16::<UDP_LENGTH>());
    let lies = length < UDP_HEADER || length > segment.len();
    let transport =
        Transport::Udp { sport: header.be16::<SOURCE_PORT>(), dport: header.be16::<DESTINATION_PORT>() };
    (transport, lies.then_some(Malformed::UdpLength))
}

fn less_common(segment: &[u8], family: Family, protocol: Protocol) -> Read {
    match (protocol, family) {
        (Protocol::ICMP, Family::V4) => icmp_v4(segment),
        (Protocol::ICMPV6, Family::V6) => icmp_v6(segment),
        (Protocol::ICMP | Protocol::ICMPV6, _) => (Transport::Other, Some(Malformed::IcmpFamily)),
        (Protocol::UDPLITE, _) => udp_lite(segment),
        (Protocol::SCTP, _) => sctp(segment),
        (Protocol::DCCP, _) => dccp(segment),
        (Protocol::GRE, _) => gre(segment),
        _ => (Transport::Other, None),
    }
}

fn icmp_v4(segment: &[u8]) -> Read {
    let Some(header) = Header::<{ icmp::HEADER }>::at(segment, 0) else {
        return unreadable(Malformed::IcmpShort);
    };
    let kind = header.byte::<{ icmp::TYPE }>();
    let transport = Transport::Icmp {
        kind,
        code: header.byte::<{ icmp::CODE }>(),
        id: header.be16::<{ icmp::IDENTIFIER }>(),
    };
    (transport, (kind > icmp::v4::HIGHEST_TYPE).then_some(Malformed::IcmpType))
}

fn icmp_v6(segment: &[u8]) -> Read {
    let Some(header) = Header::<{ icmp::HEADER }>::at(segment, 0) else {
        return unreadable(Malformed::IcmpShort);
    };
    let transport = Transport::Icmpv6 {
        kind: header.byte::<{ icmp::TYPE }>(),
        code: header.byte::<{ icmp::CODE }>(),
        id: header.be16::<{ icmp::IDENTIFIER }>(),
    };
    (transport, None)
}

fn udp_lite(segment: &[u8]) -> Read {
    let Some(header) = Header::<UDP_HEADER>::at(segment, 0) else {
        return short(segment, Malformed::UdpLiteShort, |(sport, dport)| Transport::UdpLite { sport, dport });
    };
    let coverage = usize::from(header.be16::<UDP_LENGTH>());
    let malformed = if coverage != 0 && (coverage < UDP_HEADER || coverage > segment.len()) {
        Some(Malformed::UdpLiteCoverage)
    } else if header.be16::<UDP_CHECKSUM>() == 0 {
        Some(Malformed::UdpLiteNoChecksum)
    } else {
        None
    };
    let (sport, dport) = (header.be16::<SOURCE_PORT>(), header.be16::<DESTINATION_PORT>());
    (Transport::UdpLite { sport, dport }, malformed)
}

fn sctp(segment: &[u8]) -> Read {
    let Some(header) = Header::<SCTP_HEADER>::at(segment, 0) else {
        return short(segment, Malformed::SctpShort, |(sport, dport)| Transport::Sctp { sport, dport });
    };
    let (sport, dport) = (header.be16::<SOURCE_PORT>(), header.be16::<DESTINATION_PORT>());
    (Transport::Sctp { sport, dport }, None)
}

/// DCCP is one of the unknown protocols to the tracker, so one that is too short is not INVALID.
fn dccp(segment: &[u8]) -> Read {
    let transport = Header::<PORTS>::at(segment, 0).map_or(Transport::Other, |header| Transport::Dccp {
        sport: header.be16::<SOURCE_PORT>(),
        dport: header.be16::<DESTINATION_PORT>(),
    });
    (transport, None)
}

/// GRE that is too short for its header is tracked like any unknown protocol; version 1 must be PPTP's.
fn gre(segment: &[u8]) -> Read {
    let flags_version = Header::<GRE_HEADER>::at(segment, 0).map_or(0, |gre| gre.be16::<GRE_FLAGS_VERSION>());
    let version = (flags_version & GRE_VERSION) as u8;
    if version != 1 {
        return (Transport::Gre { version, call_id: 0 }, None);
    }
    match Header::<PPTP_HEADER>::at(segment, 0) {
        Some(pptp) if pptp.be16::<PPTP_PROTOCOL>() == PPTP_PPP => {
            (Transport::Gre { version, call_id: pptp.be16::<PPTP_CALL_ID>() }, None)
        }
        Some(_) => (Transport::Gre { version, call_id: 0 }, Some(Malformed::GrePptp)),
        None => (Transport::Gre { version, call_id: 0 }, None),
    }
}

/// A header that is cut short: the tracker refuses it, and rules see its ports if they are there.
#[cold]
fn short(segment: &[u8], why: Malformed, ports: impl FnOnce((u16, u16)) -> Transport) -> Read {
    let header = Header::<PORTS>::at(segment, 0);
    let transport = header.map_or(Transport::Malformed(why), |header| {
        ports((header.be16::<SOURCE_PORT>(), header.be16::<DESTINATION_PORT>()))
    });
    (transport, Some(why))
}

#[cold]
fn unreadable(why: Malformed) -> Read {
    (Transport::Malformed(why), Some(why))
}
