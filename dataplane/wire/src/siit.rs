//! An IPv4 packet made of an IPv6 one, and the other way round, in its place: the stateless translation of headers
//! (SIIT) that NAT64 stands on. Addresses are those of one prefix ([`Pref64`]); whether a packet is to be translated,
//! and as whose, is for who calls.
//!
//! The transport header and what follows it stay where they are; the IP header is written right before them, and the
//! Ethernet header before that. So an IPv4 packet needs up to [`ROOM`] bytes before its frame.
//! TCP's and UDP's checksums are kept up incrementally: one that was bad stays bad. UDP without a checksum, which IPv6
//! does not allow, gets one. Extension headers and IPv4 options end here. Traffic class and hop limit are kept; to count
//! the hop is the router's affair, as for any packet.
//!
//! Whole datagrams only: fragments are put together before. TCP, UDP, echo and errors; nothing else of ICMP.
//! Source: RFC 7915.

mod error;

use crate::bytes::{HeaderMut, copy};
use crate::checksum::{self, Delta};
use crate::ip::{self, IpHeader};
use crate::packet::{Fragment, Packet, Transport};
use crate::transport::{UDP_CHECKSUM, UDP_HEADER, UDP_LENGTH};
use crate::{Addrs, Family, Pref64, Protocol, ethernet, icmp, ipv4, ipv6, options, tcp};

/// Bytes that are needed before the frame of an IPv4 packet: for its header, and that of a packet which an error quotes.
pub const ROOM: usize = 2 * (ipv6::HEADER - ipv4::HEADER);

/// Bytes of the header that an IPv4 packet gets.
pub const IPV4_HEADER: u16 = ipv4::HEADER as u16;

/// The longest IPv4 packet that is made without Don't Fragment, in bytes: senders of shorter ones would be told to send
/// less than the smallest MTU of IPv6. Source: RFC 7915 section 5.1.
const LONGEST_WITHOUT_DF: usize = 1260;

/// Why a packet has no counterpart in the other family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is of the family that it was to become.
    #[error("it is of that family already")]
    Family,
    /// An address of it, or of what it quotes, stands for no IPv4 address.
    #[error("an address stands for no ipv4 address")]
    Address,
    /// It is a fragment, or its headers do not fit.
    #[error("no whole datagram")]
    Incomplete,
    /// A protocol other than TCP, UDP and ICMP.
    #[error("a protocol that is not translated")]
    Protocol,
    /// A message of ICMP that the other family does not have.
    #[error("an icmp message without counterpart")]
    Message,
    /// An error whose checksum is wrong: it would get a good one.
    #[error("an error with a bad checksum")]
    Checksum,
    /// It names routers that it is to pass, or has options that do not parse.
    #[error("a source route, or bad options")]
    Options,
    /// It would be longer than 65535 bytes.
    #[error("longer than 65535 bytes")]
    TooLong,
    /// There is too little room before its frame.
    #[error("no room before the frame")]
    NoRoom,
}

/// How an IPv4 packet that is made may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Its identification, if others may cut it.
    pub id: u16,
    /// Whether it leaves in fragments, which others may cut further.
    pub in_fragments: bool,
}

impl Cut {
    /// Of what is not cut.
    const NONE: Self = Self { id: 0, in_fragments: false };
}

/// Makes an IPv6 packet of the IPv4 one whose frame begins at `start` in `buffer`, and returns where it begins now; it ends
/// at [`Packet::end`]. `packet` says of it what parsing it again would, but that [`Packet::dont_fragment`] stays IPv4's.
///
/// # Errors
/// Any [`Refusal`] but [`Refusal::Address`]. Then nothing was changed.
pub fn to_ipv6(buffer: &mut [u8], start: u16, packet: &mut Packet, prefix: &Pref64) -> Result<u16, Refusal> {
    let dont_fragment = packet.dont_fragment;
    let start = translate(buffer, start, packet, Family::V6, prefix, Cut::NONE)?;
    packet.dont_fragment = dont_fragment;
    Ok(start)
}

/// What an IPv4 packet would be as one of IPv6, as far as a flow knows it: addresses, protocol and ports. None for errors, and for
/// what has no counterpart.
pub fn seen_as_ipv6(packet: &Packet, prefix: &Pref64) -> Option<Packet> {
    let Addrs::V4 { .. } = packet.addrs else { return None };
    let addrs = counterpart(&packet.addrs, prefix).ok()?;
    let protocol = protocol(packet.protocol, Family::V6)?;
    let transport = message(&packet.transport).ok()?;
    Some(Packet { addrs, protocol, transport, ..*packet })
}

/// Makes an IPv4 packet of the IPv6 one whose frame begins at `start` in `buffer`, as [`to_ipv6`].
///
/// # Errors
/// Any [`Refusal`] but [`Refusal::NoRoom`]. Then nothing was changed.
pub fn to_ipv4(
    buffer: &mut [u8],
    start: u16,
    packet: &mut Packet,
    prefix: &Pref64,
    cut: Cut,
) -> Result<u16, Refusal> {
    translate(buffer, start, packet, Family::V4, prefix, cut)
}

fn translate(
    buffer: &mut [u8],
    start: u16,
    packet: &mut Packet,
    to: Family,
    prefix: &Pref64,
    cut: Cut,
) -> Result<u16, Refusal> {
    let first = usize::from(start);
    let frame = buffer.get(first..first + usize::from(packet.end)).ok_or(Refusal::Incomplete)?;
    if packet.family() == to {
        return Err(Refusal::Family);
    }
    if packet.fragment.is_part() || packet.malformed.is_some() {
        return Err(Refusal::Incomplete);
    }
    if packet.options && is_source_routed(packet, frame) {
        return Err(Refusal::Options);
    }
    let addrs = counterpart(&packet.addrs, prefix)?;
    let protocol = protocol(packet.protocol, to).ok_or(Refusal::Protocol)?;
    if icmp::is_error(packet) {
        return error::translate(buffer, start, packet, (addrs, protocol), prefix);
    }
    let transport = message(&packet.transport)?;
    let l4 = first + usize::from(packet.l4);
    let payload = usize::from(packet.end.saturating_sub(packet.l4));
    let header = Placed::before(l4, payload, packet, (addrs, protocol), cut)?;
    let link = LinkHeader::of(buffer, start, packet, &header)?;
    let segment = buffer.get_mut(l4..l4 + payload).unwrap_or_default();
    retransport(segment, (packet.transport, transport), (&packet.addrs, &addrs), payload);
    if let Transport::Udp { .. } = transport {
        give_checksum(segment, &addrs);
    }
    header.write(buffer);
    link.write(buffer, &header);
    header.tell(packet, transport);
    Ok((header.l3 - usize::from(packet.l3)) as u16)
}

/// The same addresses in the other family.
fn counterpart(addrs: &Addrs, prefix: &Pref64) -> Result<Addrs, Refusal> {
    Ok(match *addrs {
        Addrs::V4 { src, dst } => Addrs::V6 { src: prefix.embed(src), dst: prefix.embed(dst) },
        Addrs::V6 { src, dst } => Addrs::V4 {
            src: prefix.extract(src).ok_or(Refusal::Address)?,
            dst: prefix.extract(dst).ok_or(Refusal::Address)?,
        },
    })
}

/// What a protocol is in a family; None for those that are not translated.
const fn protocol(protocol: Protocol, to: Family) -> Option<Protocol> {
    match (protocol, to) {
        (Protocol::TCP | Protocol::UDP, _) => Some(protocol),
        (Protocol::ICMP, Family::V6) => Some(Protocol::ICMPV6),
        (Protocol::ICMPV6, Family::V4) => Some(Protocol::ICMP),
        _ => None,
    }
}

/// What a transport header that is no error's becomes.
fn message(transport: &Transport) -> Result<Transport, Refusal> {
    Ok(match *transport {
        Transport::Tcp { .. } | Transport::Udp { .. } => *transport,
        Transport::Icmp { kind: icmp::v4::ECHO_REQUEST, code, id } => {
            Transport::Icmpv6 { kind: icmp::v6::ECHO_REQUEST, code, id }
        }
        Transport::Icmp { kind: icmp::v4::ECHO_REPLY, code, id } => {
            Transport::Icmpv6 { kind: icmp::v6::ECHO_REPLY, code, id }
        }
        Transport::Icmpv6 { kind: icmp::v6::ECHO_REQUEST, code, id } => {
            Transport::Icmp { kind: icmp::v4::ECHO_REQUEST, code, id }
        }
        Transport::Icmpv6 { kind: icmp::v6::ECHO_REPLY, code, id } => {
            Transport::Icmp { kind: icmp::v4::ECHO_REPLY, code, id }
        }
        Transport::Icmp { .. } | Transport::Icmpv6 { .. } => return Err(Refusal::Message),
        _ => return Err(Refusal::Protocol),
    })
}

/// Whether a packet names routers that it is still to pass. Source: RFC 7915 sections 4.1 and 5.1.
fn is_source_routed(packet: &Packet, frame: &[u8]) -> bool {
    match packet.family() {
        Family::V4 => !options::check_ipv4(packet, frame).is_ok_and(|asked| !asked.source_route),
        Family::V6 => ipv6::segments_left(packet.datagram(frame)) != 0,
    }
}

/// Changes a transport header, as far as it is there: ICMP's type, and the checksum for other addresses. `length` is what the
/// pseudo-header of ICMPv6 says.
fn retransport(
    segment: &mut [u8],
    (old, new): (Transport, Transport),
    (from, to): (&Addrs, &Addrs),
    length: usize,
) {
    match new {
        Transport::Tcp { .. } => {
            if let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(segment, 0) {
                let sum = Delta::NONE.addresses(from, to).apply(header.view().be16::<{ tcp::CHECKSUM }>());
                header.set_be16::<{ tcp::CHECKSUM }>(sum);
            }
        }
        Transport::Udp { .. } => {
            if let Some(mut header) = HeaderMut::<UDP_HEADER>::at(segment, 0) {
                let sum = Delta::NONE.addresses(from, to).apply_udp(header.view().be16::<UDP_CHECKSUM>());
                header.set_be16::<UDP_CHECKSUM>(sum);
            }
        }
        Transport::Icmp { kind, code, .. } | Transport::Icmpv6 { kind, code, .. } => {
            let Some(mut header) = HeaderMut::<{ icmp::HEADER }>::at(segment, 0) else { return };
            let pseudo = |addrs: &Addrs| match addrs {
                Addrs::V4 { .. } => 0,
                Addrs::V6 { .. } => checksum::pseudo_header(addrs, Protocol::ICMPV6, length),
            };
            let word = |transport: Transport| match transport {
                Transport::Icmp { kind, code, .. } | Transport::Icmpv6 { kind, code, .. } => {
                    u16::from_be_bytes([kind, code])
                }
                _ => 0,
            };
            let delta = Delta::NONE.word(word(old), word(new)).sum(pseudo(from), pseudo(to));
            let sum = delta.apply(header.view().be16::<{ icmp::CHECKSUM }>());
            header.set_byte::<{ icmp::TYPE }>(kind);
            header.set_byte::<{ icmp::CODE }>(code);
            header.set_be16::<{ icmp::CHECKSUM }>(sum);
        }
        _ => {}
    }
}

/// Computes the checksum of a UDP datagram that has none, which IPv6 does not allow. Source: RFC 7915 section 4.5.
fn give_checksum(segment: &mut [u8], addrs: &Addrs) {
    let Some(header) = HeaderMut::<UDP_HEADER>::at(segment, 0) else { return };
    let header = header.view();
    if header.be16::<UDP_CHECKSUM>() != 0 || addrs.family() == Family::V4 {
        return;
    }
    let length = usize::from(header.be16::<UDP_LENGTH>());
    let datagram = segment.get(..length).unwrap_or_default();
    let sum = checksum::never_zero(checksum::transport(addrs, Protocol::UDP, datagram));
    if let Some(mut header) = HeaderMut::<UDP_HEADER>::at(segment, 0) {
        header.set_bytes::<UDP_CHECKSUM, 2>(&sum);
    }
}

/// An IP header that is made, and where in the buffer it comes to stand.
#[derive(Clone, Copy)]
struct Placed {
    l3: usize,
    header: IpHeader,
}

impl Placed {
    /// That of `packet` in the other family, right before `payload` bytes that begin at `l4`.
    fn before(
        l4: usize,
        payload: usize,
        packet: &Packet,
        (addrs, protocol): (Addrs, Protocol),
        cut: Cut,
    ) -> Result<Placed, Refusal> {
        let length = ip::length(addrs.family()) + payload;
        if length + ethernet::HEADER + ethernet::TAG > usize::from(u16::MAX) {
            return Err(Refusal::TooLong);
        }
        let l3 = l4.checked_sub(ip::length(addrs.family())).ok_or(Refusal::NoRoom)?;
        let dont_fragment = !cut.in_fragments && length > LONGEST_WITHOUT_DF;
        let id = if dont_fragment { 0 } else { cut.id };
        let (tos, ttl) = (packet.tos, packet.ttl);
        Ok(Placed { l3, header: IpHeader { addrs, protocol, tos, ttl, payload, id, dont_fragment } })
    }

    fn write(&self, buffer: &mut [u8]) {
        self.header.emit(buffer, self.l3);
    }

    /// What it makes of the packet.
    fn tell(&self, packet: &mut Packet, transport: Transport) {
        let IpHeader { addrs, protocol, payload, dont_fragment, .. } = self.header;
        let l4 = packet.l3 + self.header.length() as u16;
        *packet = Packet {
            l4,
            end: l4 + payload as u16,
            addrs,
            protocol,
            dont_fragment: dont_fragment || addrs.family() == Family::V6,
            options: false,
            fragment: Fragment::Whole,
            transport,
            ..*packet
        };
    }
}

/// The Ethernet header, kept while another IP header takes its place. Before a datagram that was put together it stands
/// too, although it is no part of the frame.
struct LinkHeader {
    bytes: [u8; ethernet::HEADER + ethernet::TAG],
    length: usize,
}

impl LinkHeader {
    fn of(buffer: &[u8], start: u16, packet: &Packet, to: &Placed) -> Result<LinkHeader, Refusal> {
        let length = usize::from(packet.l3).max(ethernet::HEADER);
        let l3 = usize::from(start) + usize::from(packet.l3);
        let from = l3.checked_sub(length).ok_or(Refusal::NoRoom)?;
        let mut bytes = [0; ethernet::HEADER + ethernet::TAG];
        let kept = buffer.get(from..l3).filter(|kept| kept.len() <= bytes.len()).ok_or(Refusal::NoRoom)?;
        copy(&mut bytes, 0, kept);
        if to.l3 < length { Err(Refusal::NoRoom) } else { Ok(LinkHeader { bytes, length }) }
    }

    fn write(&self, buffer: &mut [u8], before: &Placed) {
        let kind = before.header.ethertype().0.to_be_bytes();
        copy(buffer, before.l3 - self.length, self.bytes.get(..self.length).unwrap_or_default());
        copy(buffer, before.l3 - kind.len(), &kind);
    }
}

#[cfg(test)]
mod tests;
