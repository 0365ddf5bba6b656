//! Numbers of ICMP and ICMPv6. Source: RFC 792, RFC 950, RFC 1256, RFC 1812; RFC 4443, RFC 4861, RFC 2710.

use crate::packet::{Packet, Transport};

/// Length of the fixed header in bytes.
pub(crate) const HEADER: usize = 8;
pub(crate) const TYPE: usize = 0;
pub(crate) const CODE: usize = 1;
pub(crate) const CHECKSUM: usize = 2;
/// Of an echo and its like.
pub(crate) const IDENTIFIER: usize = 4;
/// Of an error: unused, or a gateway, pointer or MTU.
pub(crate) const REST: usize = 4;

/// Types and codes of ICMP.
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench.
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Timestamp request.
    pub const TIMESTAMP_REQUEST: u8 = 13;
    /// Timestamp reply.
    pub const TIMESTAMP_REPLY: u8 = 14;
    /// Information request.
    pub const INFORMATION_REQUEST: u8 = 15;
    /// Information reply.
    pub const INFORMATION_REPLY: u8 = 16;
    /// Address mask request.
    pub const ADDRESS_REQUEST: u8 = 17;
    /// Address mask reply.
    pub const ADDRESS_REPLY: u8 = 18;
    /// The highest type that netfilter does not call INVALID.
    pub const HIGHEST_TYPE: u8 = 18;

    /// Unreachable: network.
    pub const NET_UNREACHABLE: u8 = 0;
    /// Unreachable: host.
    pub const HOST_UNREACHABLE: u8 = 1;
    /// Unreachable: protocol.
    pub const PROTOCOL_UNREACHABLE: u8 = 2;
    /// Unreachable: port.
    pub const PORT_UNREACHABLE: u8 = 3;
    /// Unreachable: fragmentation needed and DF set; the rest is the MTU (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Unreachable: source route failed.
    pub const SOURCE_ROUTE_FAILED: u8 = 5;
    /// Unreachable: network administratively prohibited.
    pub const NET_PROHIBITED: u8 = 9;
    /// Unreachable: host administratively prohibited.
    pub const HOST_PROHIBITED: u8 = 10;
    /// Unreachable: communication administratively prohibited.
    pub const ADMIN_PROHIBITED: u8 = 13;
    /// Time exceeded: in transit.
    pub const TTL_EXCEEDED: u8 = 0;
    /// Time exceeded: while reassembling.
    pub const REASSEMBLY_EXCEEDED: u8 = 1;
    /// Redirect: for the host.
    pub const REDIRECT_HOST: u8 = 1;
}

/// Types and codes of ICMPv6.
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big; the rest is the MTU.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem; the rest is a pointer.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Types from here on are no errors.
    pub const FIRST_INFORMATIONAL: u8 = 128;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query.
    pub const LISTENER_QUERY: u8 = 130;
    /// Multicast listener report.
    pub const LISTENER_REPORT: u8 = 131;
    /// Multicast listener done.
    pub const LISTENER_DONE: u8 = 132;
    /// Router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
    /// Node information query: RFC 4620.
    pub const NODE_QUERY: u8 = 139;
    /// Node information reply: RFC 4620.
    pub const NODE_REPLY: u8 = 140;
    /// Multicast listener report, version 2: RFC 3810.
    pub const LISTENER_REPORT_V2: u8 = 143;
    /// Multicast router advertisement: RFC 4286.
    pub const MULTICAST_ROUTER_ADVERTISEMENT: u8 = 151;
    /// Multicast router solicitation: RFC 4286.
    pub const MULTICAST_ROUTER_SOLICITATION: u8 = 152;

    /// Unreachable: no route.
    pub const NO_ROUTE: u8 = 0;
    /// Unreachable: administratively prohibited.
    pub const ADMIN_PROHIBITED: u8 = 1;
    /// Unreachable: beyond the scope of the source address.
    pub const BEYOND_SCOPE: u8 = 2;
    /// Unreachable: address.
    pub const ADDRESS_UNREACHABLE: u8 = 3;
    /// Unreachable: port.
    pub const PORT_UNREACHABLE: u8 = 4;
    /// Unreachable: source address failed ingress or egress policy.
    pub const POLICY_FAIL: u8 = 5;
    /// Unreachable: route to the destination rejects.
    pub const REJECT_ROUTE: u8 = 6;
    /// Time exceeded: in transit.
    pub const HOP_LIMIT_EXCEEDED: u8 = 0;
    /// Time exceeded: while reassembling.
    pub const REASSEMBLY_EXCEEDED: u8 = 1;
    /// Parameter problem: erroneous header field.
    pub const ERRONEOUS_FIELD: u8 = 0;
    /// Parameter problem: unknown next header.
    pub const UNKNOWN_NEXT_HEADER: u8 = 1;
    /// Parameter problem: unknown option.
    pub const UNKNOWN_OPTION: u8 = 2;
}

/// Whether this packet is an ICMP or ICMPv6 error, which quotes a packet and must never be answered with another.
/// Source: RFC 1122 section 3.2.2, RFC 4443 section 2.1; observed on Linux 6.18.
#[inline]
pub const fn is_error(packet: &Packet) -> bool {
    match packet.transport {
        Transport::Icmp { kind, .. } => matches!(
            kind,
            v4::UNREACHABLE | v4::SOURCE_QUENCH | v4::REDIRECT | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM
        ),
        Transport::Icmpv6 { kind, .. } => kind < v6::FIRST_INFORMATIONAL,
        _ => false,
    }
}
