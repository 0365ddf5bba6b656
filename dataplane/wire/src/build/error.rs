//! ICMP and ICMPv6 errors that the router answers with, and whether it may.
//! Source: RFC 792, RFC 1812 section 4.3.2; RFC 4443 sections 2.4 and 3.

use std::net::IpAddr;

use super::{BuildError, DEFAULT_TTL, Link, Network};
use crate::bytes::{HeaderMut, copy};
use crate::ethernet::LinkCast;
use crate::packet::{Fragment, Packet, Transport};
use crate::{Addrs, Family, Malformed, Protocol, addr, checksum, icmp};

/// An IPv4 error is no longer than this, IP header included: RFC 1812 section 4.3.2.3.
const LONGEST_V4: usize = 576;
/// An IPv6 error is no longer than the smallest MTU: RFC 4443 section 2.4 (c).
const LONGEST_V6: usize = 1280;
/// Precedence "internetwork control": RFC 1812 section 4.3.2.5.
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// The type of service without precedence and ECN, which the answer takes over.
const TYPE_OF_SERVICE: u8 = 0x1e;

/// An error, in the numbers of the family that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The four bytes behind the checksum, in host order: unused, a gateway, a pointer or an MTU.
    pub rest: u32,
}

impl IcmpError {
    /// An error whose four extra bytes are unused.
    pub const fn new(kind: u8, code: u8) -> Self {
        Self { kind, code, rest: 0 }
    }

    /// The last hop: time exceeded in transit.
    pub const fn ttl_exceeded(family: Family) -> Self {
        match family {
            Family::V4 => Self::new(icmp::v4::TIME_EXCEEDED, icmp::v4::TTL_EXCEEDED),
            Family::V6 => Self::new(icmp::v6::TIME_EXCEEDED, icmp::v6::HOP_LIMIT_EXCEEDED),
        }
    }

    /// Longer than the MTU of the next link, and not to be fragmented. Source: RFC 1191 section 4, RFC 8201.
    pub const fn too_big(family: Family, mtu: u16) -> Self {
        let rest = mtu as u32;
        match family {
            Family::V4 => Self { kind: icmp::v4::UNREACHABLE, code: icmp::v4::FRAGMENTATION_NEEDED, rest },
            Family::V6 => Self { kind: icmp::v6::PACKET_TOO_BIG, code: 0, rest },
        }
    }

    /// No route: network unreachable.
    pub const fn no_route(family: Family) -> Self {
        match family {
            Family::V4 => Self::new(icmp::v4::UNREACHABLE, icmp::v4::NET_UNREACHABLE),
            Family::V6 => Self::new(icmp::v6::UNREACHABLE, icmp::v6::NO_ROUTE),
        }
    }

    /// Nobody answers for the next hop's address: host unreachable.
    pub const fn host_unreachable(family: Family) -> Self {
        match family {
            Family::V4 => Self::new(icmp::v4::UNREACHABLE, icmp::v4::HOST_UNREACHABLE),
            Family::V6 => Self::new(icmp::v6::UNREACHABLE, icmp::v6::ADDRESS_UNREACHABLE),
        }
    }

    /// Port unreachable, the plain `reject`.
    pub const fn port_unreachable(family: Family) -> Self {
        match family {
            Family::V4 => Self::new(icmp::v4::UNREACHABLE, icmp::v4::PORT_UNREACHABLE),
            Family::V6 => Self::new(icmp::v6::UNREACHABLE, icmp::v6::PORT_UNREACHABLE),
        }
    }

    /// Communication administratively prohibited.
    pub const fn admin_prohibited(family: Family) -> Self {
        match family {
            Family::V4 => Self::new(icmp::v4::UNREACHABLE, icmp::v4::ADMIN_PROHIBITED),
            Family::V6 => Self::new(icmp::v6::UNREACHABLE, icmp::v6::ADMIN_PROHIBITED),
        }
    }

    /// A header that cannot be processed, at `pointer` bytes from the beginning of the IP header. The codes of IPv6 are
    /// in [`icmp::v6`]; IPv4 has one, 0.
    pub const fn parameter_problem(family: Family, code: u8, pointer: u16) -> Self {
        let rest = pointer as u32;
        match family {
            Family::V4 => Self { kind: icmp::v4::PARAMETER_PROBLEM, code, rest: rest << 24 },
            Family::V6 => Self { kind: icmp::v6::PARAMETER_PROBLEM, code, rest },
        }
    }
}

/// Whether this packet may be answered with an error: not an error itself, nor what may be one; not from nobody or to
/// many; of IPv4 not a later fragment. A subnet's broadcast address is known to the router's tables alone; ask there too.
///
/// IPv6 lets two errors answer multicast: packet too big, and an unknown option that says so (whether it did is in
/// [`options::HopByHop`](crate::options::HopByHop)).
///
/// Source: RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e); observed on Linux 6.18.
pub fn may_answer(packet: &Packet, error: IcmpError) -> bool {
    let src = packet.addrs.src();
    if icmp::is_error(packet) || !addr::is_unicast(src) {
        return false;
    }
    let to_one = packet.cast == LinkCast::Unicast && addr::is_unicast(packet.addrs.dst());
    let unreadable = matches!(packet.malformed, Some(Malformed::IcmpType | Malformed::IcmpShort));
    match packet.family() {
        Family::V4 => {
            // Types that nobody uses may be errors; advertisements of routers, and requests for them, have no one to
            // tell.
            let silent = matches!(packet.transport, Transport::Icmp { kind: 1 | 2 | 6 | 7 | 9 | 10, .. });
            to_one && !unreadable && !silent && !matches!(packet.fragment, Fragment::Later { .. })
        }
        Family::V6 => {
            let redirect = matches!(packet.transport, Transport::Icmpv6 { kind: icmp::v6::REDIRECT, .. });
            let unknown_option =
                (error.kind, error.code) == (icmp::v6::PARAMETER_PROBLEM, icmp::v6::UNKNOWN_OPTION);
            let even_to_many = error.kind == icmp::v6::PACKET_TOO_BIG || unknown_option;
            !unreadable && !redirect && (to_one || even_to_many)
        }
    }
}

/// Writes an error from `source`, an address of the router, to the sender of `packet`, quoting as much of it as
/// the family allows. Whether it may be sent is for [`may_answer`] and the rate limit.
///
/// # Errors
/// `source` is of the other family, or the buffer is too small: 14 + 4 + 1280 bytes suffice for any.
pub fn icmp_error(
    out: &mut [u8],
    link: Link,
    source: IpAddr,
    error: IcmpError,
    (packet, frame): (&Packet, &[u8]),
) -> Result<usize, BuildError> {
    let (addrs, protocol, tos, longest) = match (packet.addrs, source) {
        (Addrs::V4 { src, .. }, IpAddr::V4(source)) => {
            let tos = packet.tos & TYPE_OF_SERVICE | INTERNETWORK_CONTROL;
            (Addrs::V4 { src: source, dst: src }, Protocol::ICMP, tos, LONGEST_V4)
        }
        (Addrs::V6 { src, .. }, IpAddr::V6(source)) => {
            (Addrs::V6 { src: source, dst: src }, Protocol::ICMPV6, 0, LONGEST_V6)
        }
        _ => return Err(BuildError::Family),
    };
    let mut network = Network { link, addrs, protocol, ttl: DEFAULT_TTL, tos, payload: 0 };
    let datagram = packet.datagram(frame);
    let most = longest - network.header().length() - icmp::HEADER;
    let quote = datagram.get(..most).unwrap_or(datagram);
    network.payload = icmp::HEADER + quote.len();

    let (length, message) = network.emit(out)?;
    if let Some(mut header) = HeaderMut::<{ icmp::HEADER }>::at(message, 0) {
        header.set_byte::<{ icmp::TYPE }>(error.kind);
        header.set_byte::<{ icmp::CODE }>(error.code);
        header.set_be32::<{ icmp::REST }>(error.rest);
    }
    copy(message, icmp::HEADER, quote);
    seal(message, &addrs, protocol);
    Ok(length)
}

/// Computes the checksum of an ICMP or ICMPv6 message whose checksum field is zero.
pub(crate) fn seal(message: &mut [u8], addrs: &Addrs, protocol: Protocol) {
    let sum = match addrs.family() {
        Family::V4 => checksum::plain(message),
        Family::V6 => checksum::transport(addrs, protocol, message),
    };
    if let Some(mut header) = HeaderMut::<{ icmp::HEADER }>::at(message, 0) {
        header.set_bytes::<{ icmp::CHECKSUM }, 2>(&sum);
    }
}
