//! ICMP errors of the other family, with the packet that they quote: its sender knows no other.
//!
//! Extensions behind the quote (RFC 4884) are left out. The checksum is computed anew, so it is looked at first.
//! Source: RFC 7915 sections 4.2, 4.3, 5.2 and 5.3; RFC 1191 section 7.1 (plateaus).

use super::{Cut, LinkHeader, Placed, Refusal, counterpart, message, protocol, retransport};
use crate::bytes::{Header, HeaderMut};
use crate::checksum::{Checksum, verify};
use crate::packet::{Packet, Transport};
use crate::quoted::{Quoted, quoted};
use crate::rewrite::seal_icmp;
use crate::{Addrs, Family, Pref64, Protocol, icmp, ipv4, ipv6};

/// An IPv6 error is no longer than the smallest MTU (RFC 4443 section 2.4 c), and no sender is told to send less.
const SMALLEST_V6: usize = 1280;

/// What the two headers differ by, in bytes.
const DIFFERENCE: u32 = (ipv6::HEADER - ipv4::HEADER) as u32;

/// MTUs that links have, for routers that name none. Source: RFC 1191 section 7.1.
const PLATEAUS: [u16; 10] = [32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// What an error says: type, code, and the four bytes behind the checksum.
type Told = (u8, u8, u32);

/// As [`super::translate`], of an error whose addresses and protocol are found already.
pub(super) fn translate(
    buffer: &mut [u8],
    start: u16,
    packet: &mut Packet,
    outer: (Addrs, Protocol),
    prefix: &Pref64,
) -> Result<u16, Refusal> {
    let (first, to) = (usize::from(start), outer.0.family());
    let frame = buffer.get(first..first + usize::from(packet.end)).ok_or(Refusal::Incomplete)?;
    if verify(packet, frame) == Checksum::Bad {
        return Err(Refusal::Checksum);
    }
    let inner = quoted(packet, frame).ok_or(Refusal::Incomplete)?;
    let old = told(packet, frame).ok_or(Refusal::Incomplete)?;
    let sent = inner.packet(frame);
    let told = match to {
        Family::V6 => of_v4(old, sent.length()),
        Family::V4 => of_v6(old),
    }
    .ok_or(Refusal::Message)?;

    let addrs = counterpart(&inner.addrs, prefix)?;
    let inner_protocol = protocol(inner.protocol, to).ok_or(Refusal::Protocol)?;
    let transport = message(&inner.transport)?;
    let l4 = first + usize::from(inner.l4);
    let payload = usize::from(sent.end.saturating_sub(inner.l4));
    let quote = Placed::before(l4, payload, &sent, (addrs, inner_protocol), Cut::NONE)?;
    let at = quote.l3.checked_sub(icmp::HEADER).ok_or(Refusal::NoRoom)?;
    let end = first + quote_end(packet, &inner, old);
    let end = match to {
        Family::V4 => end,
        Family::V6 => end.min(at.saturating_sub(ipv6::HEADER) + SMALLEST_V6),
    };
    let header = Placed::before(at, end.saturating_sub(at), packet, outer, Cut::NONE)?;
    let link = LinkHeader::of(buffer, start, packet, &header)?;

    let segment = buffer.get_mut(l4..end).unwrap_or_default();
    retransport(segment, (inner.transport, transport), (&inner.addrs, &addrs), payload);
    quote.write(buffer);
    write(buffer, at, told);
    header.write(buffer);
    link.write(buffer, &header);
    header.tell(packet, shown(to, told));
    let start = header.l3 - usize::from(packet.l3);
    seal_icmp(buffer.get_mut(start..).unwrap_or_default(), packet);
    Ok(start as u16)
}

fn told(packet: &Packet, frame: &[u8]) -> Option<Told> {
    let header = Header::<{ icmp::HEADER }>::at(packet.segment(frame), 0)?;
    Some((header.byte::<{ icmp::TYPE }>(), header.byte::<{ icmp::CODE }>(), header.be32::<{ icmp::REST }>()))
}

fn write(buffer: &mut [u8], at: usize, (kind, code, rest): Told) {
    if let Some(mut header) = HeaderMut::<{ icmp::HEADER }>::at(buffer, at) {
        header.set_byte::<{ icmp::TYPE }>(kind);
        header.set_byte::<{ icmp::CODE }>(code);
        header.set_be32::<{ icmp::REST }>(rest);
    }
}

/// What parsing it would show.
fn shown(family: Family, (kind, code, rest): Told) -> Transport {
    let id = (rest >> 16) as u16;
    match family {
        Family::V4 => Transport::Icmp { kind, code, id },
        Family::V6 => Transport::Icmpv6 { kind, code, id },
    }
}

/// Where the quote ends in the frame: before extensions, if a length says that there are any. Source: RFC 4884 section 4.
fn quote_end(packet: &Packet, inner: &Quoted, (kind, _, rest): Told) -> usize {
    let [first, second, ..] = rest.to_be_bytes();
    let length = match (packet.family(), kind) {
        (Family::V4, _) => usize::from(second) * 4,
        (Family::V6, icmp::v6::UNREACHABLE | icmp::v6::TIME_EXCEEDED) => usize::from(first) * 8,
        (Family::V6, _) => 0,
    };
    let end = usize::from(packet.end);
    match length {
        0 => end,
        length => end.min(usize::from(inner.l3) + length.max(usize::from(inner.l4 - inner.l3))),
    }
}

/// What IPv6 says for an error of IPv4, about a packet of `length` bytes. Source: RFC 7915 section 4.2.
fn of_v4((kind, code, rest): Told, length: u16) -> Option<Told> {
    use icmp::v4::*;
    use icmp::v6;
    let unreachable = |code| Some((v6::UNREACHABLE, code, 0));
    match (kind, code) {
        // Networks and hosts: unreachable, unknown, isolated, or not for this type of service; a source route.
        (UNREACHABLE, NET_UNREACHABLE | HOST_UNREACHABLE | SOURCE_ROUTE_FAILED | 6..=8 | 11 | 12) => {
            unreachable(v6::NO_ROUTE)
        }
        (UNREACHABLE, PROTOCOL_UNREACHABLE) => {
            Some((v6::PARAMETER_PROBLEM, v6::UNKNOWN_NEXT_HEADER, ipv6::NEXT_HEADER as u32))
        }
        (UNREACHABLE, PORT_UNREACHABLE) => unreachable(v6::PORT_UNREACHABLE),
        (UNREACHABLE, FRAGMENTATION_NEEDED) => {
            let mtu = match rest as u16 {
                0 => PLATEAUS.into_iter().find(|plateau| *plateau < length).unwrap_or_default(),
                mtu => mtu,
            };
            Some((v6::PACKET_TOO_BIG, 0, (u32::from(mtu) + DIFFERENCE).max(SMALLEST_V6 as u32)))
        }
        // Prohibited: a network, a host, by a filter, by precedence.
        (UNREACHABLE, NET_PROHIBITED | HOST_PROHIBITED | ADMIN_PROHIBITED | 15) => {
            unreachable(v6::ADMIN_PROHIBITED)
        }
        (TIME_EXCEEDED, code) => Some((v6::TIME_EXCEEDED, code, 0)),
        (PARAMETER_PROBLEM, 0 | 2) => {
            let pointer = match rest >> 24 {
                same @ (0 | 1) => same,
                2 | 3 => ipv6::PAYLOAD_LENGTH as u32,
                8 => ipv6::HOP_LIMIT as u32,
                9 => ipv6::NEXT_HEADER as u32,
                12..=15 => ipv6::SOURCE as u32,
                16..=19 => ipv6::DESTINATION as u32,
                _ => return None,
            };
            Some((v6::PARAMETER_PROBLEM, v6::ERRONEOUS_FIELD, pointer))
        }
        _ => None,
    }
}

/// What IPv4 says for an error of IPv6. Source: RFC 7915 section 5.2.
fn of_v6((kind, code, rest): Told) -> Option<Told> {
    use icmp::v4;
    use icmp::v6::*;
    let unreachable = |code| Some((v4::UNREACHABLE, code, 0));
    match (kind, code) {
        (UNREACHABLE, NO_ROUTE | BEYOND_SCOPE | ADDRESS_UNREACHABLE) => unreachable(v4::HOST_UNREACHABLE),
        (UNREACHABLE, ADMIN_PROHIBITED) => unreachable(v4::HOST_PROHIBITED),
        (UNREACHABLE, PORT_UNREACHABLE) => unreachable(v4::PORT_UNREACHABLE),
        (PACKET_TOO_BIG, _) => {
            let mtu = rest.saturating_sub(DIFFERENCE).min(u32::from(u16::MAX));
            Some((v4::UNREACHABLE, v4::FRAGMENTATION_NEEDED, mtu))
        }
        (TIME_EXCEEDED, code) => Some((v4::TIME_EXCEEDED, code, 0)),
        (PARAMETER_PROBLEM, ERRONEOUS_FIELD) => {
            let pointer = match rest {
                same @ (0 | 1) => same,
                4 | 5 => ipv4::TOTAL_LENGTH as u32,
                6 => ipv4::PROTOCOL as u32,
                7 => ipv4::TTL as u32,
                8..=23 => ipv4::SOURCE as u32,
                24..=39 => ipv4::DESTINATION as u32,
                _ => return None,
            };
            Some((v4::PARAMETER_PROBLEM, 0, pointer << 24))
        }
        (PARAMETER_PROBLEM, UNKNOWN_NEXT_HEADER) => unreachable(v4::PROTOCOL_UNREACHABLE),
        _ => None,
    }
}
