//! A packet as a test describes it. What it leaves open is what the first packet of a flow would have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_config::policy::TestPacket;
use sluice_wire::{Addrs, Family, Fragment, LinkCast, Packet, Protocol, TcpFlags, Transport};

const ETHERNET: u16 = 14;
const TTL: u8 = 64;
/// A client's port, of the dynamic range.
const CLIENT_PORT: u16 = 49152;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
/// For experiments (RFC 3692): stands for "no protocol in particular".
const SOME_PROTOCOL: Protocol = Protocol(253);

pub(crate) fn build(test: &TestPacket) -> Packet {
    let family = family(test);
    let protocol = protocol(test, family);
    let header = if family == Family::V4 { 20 } else { 40 };
    let later = test.fragment == Some(true);
    let fragment = if later { Fragment::Later { offset: 1480, more: false, id: 1 } } else { Fragment::Whole };
    let length = test.length.unwrap_or(header + 20).max(header + 1);
    Packet {
        vlan: None,
        cast: LinkCast::Unicast,
        l3: ETHERNET,
        l4: ETHERNET + header,
        end: ETHERNET.saturating_add(length),
        addrs: addrs(test, family),
        protocol,
        ttl: test.ttl.unwrap_or(TTL),
        tos: test.dscp.unwrap_or(0) << 2,
        dont_fragment: family == Family::V6,
        options: false,
        fragment,
        transport: if later { Transport::Fragment } else { transport(test, protocol) },
        malformed: None,
    }
}

fn family(test: &TestPacket) -> Family {
    let of = |address: IpAddr| if address.is_ipv4() { Family::V4 } else { Family::V6 };
    let by_protocol = match test.proto {
        Some(Protocol::ICMPV6) => Some(Family::V6),
        _ => test.icmpv6.map(|_| Family::V6),
    };
    test.dst.or(test.src).map(of).or(test.family).or(by_protocol).unwrap_or(Family::V4)
}

fn addrs(test: &TestPacket, family: Family) -> Addrs {
    match family {
        Family::V4 => {
            let v4 = |address| match address {
                Some(IpAddr::V4(v4)) => v4,
                _ => Ipv4Addr::UNSPECIFIED,
            };
            Addrs::V4 { src: v4(test.src), dst: v4(test.dst) }
        }
        Family::V6 => {
            let v6 = |address| match address {
                Some(IpAddr::V6(v6)) => v6,
                _ => Ipv6Addr::UNSPECIFIED,
            };
            Addrs::V6 { src: v6(test.src), dst: v6(test.dst) }
        }
    }
}

fn protocol(test: &TestPacket, family: Family) -> Protocol {
    let ports = test.sport.is_some() || test.dport.is_some() || test.tcp_flags.is_some();
    let implied = match family {
        _ if ports => Protocol::TCP,
        Family::V4 if test.icmp.is_some() => Protocol::ICMP,
        Family::V6 if test.icmpv6.is_some() => Protocol::ICMPV6,
        _ => SOME_PROTOCOL,
    };
    test.proto.unwrap_or(implied)
}

fn transport(test: &TestPacket, protocol: Protocol) -> Transport {
    let (sport, dport) = (test.sport.unwrap_or(CLIENT_PORT), test.dport.unwrap_or(0));
    match protocol {
        Protocol::TCP => {
            let flags = test.tcp_flags.map_or(TcpFlags::SYN, TcpFlags::from_bits);
            Transport::Tcp { sport, dport, flags }
        }
        Protocol::UDP => Transport::Udp { sport, dport },
        Protocol::UDPLITE => Transport::UdpLite { sport, dport },
        Protocol::SCTP => Transport::Sctp { sport, dport },
        Protocol::DCCP => Transport::Dccp { sport, dport },
        Protocol::ICMP => {
            let (kind, code) = test.icmp.map_or((ECHO_REQUEST, None), |icmp| (icmp.kind, icmp.code));
            Transport::Icmp { kind, code: code.unwrap_or(0), id: 1 }
        }
        Protocol::ICMPV6 => {
            let (kind, code) = test.icmpv6.map_or((ECHO_REQUEST_V6, None), |icmp| (icmp.kind, icmp.code));
            Transport::Icmpv6 { kind, code: code.unwrap_or(0), id: 1 }
        }
        _ => Transport::Other,
    }
}
