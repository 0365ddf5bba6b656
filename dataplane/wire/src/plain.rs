//! Frames without anything unusual, which are nearly all: an untagged Ethernet header, an IP header without options or
//! extensions, no fragment, and a well-formed header of TCP or UDP behind it. All offsets are constants then, so one
//! look tells, and what it tells fits a few registers.
//!
//! [`parse`](fn@crate::parse) says the same of such a frame, and more, in four times the instructions; of any other
//! frame nothing is said here, and nothing follows from that.
//! Source: RFC 791, 8200, 768, 9293.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::bytes::{Header, HeaderMut};
use crate::checksum::{self, Checksum, Delta};
use crate::packet::{Fragment, Packet, Transport};
use crate::tcp::{self, Segment, TcpFlags};
use crate::transport::{DESTINATION_PORT, SOURCE_PORT, UDP_CHECKSUM, UDP_HEADER, UDP_LENGTH};
use crate::{Addrs, EtherType, LinkCast, Protocol, ipv4, ipv6};

const ETHERNET: usize = 14;
const ETHERTYPE: usize = 12;
/// Both Ethernet addresses.
const ADDRESSES: usize = 12;

/// Where IPv4's transport header begins.
const L4_V4: usize = ETHERNET + ipv4::HEADER;
/// All that is read of a UDP frame's headers.
const HEAD_V4: usize = L4_V4 + UDP_HEADER;

const L4_V6: usize = ETHERNET + ipv6::HEADER;
const HEAD_V6: usize = L4_V6 + UDP_HEADER;

/// An address as a number: `u32` for IPv4, `u128` for IPv6, in host order.
pub trait PlainAddress: Copy {
    /// Where the transport header begins in a frame, in bytes.
    const L4: usize;

    /// Whether a frame, of 65,535 bytes at most, holds a plain datagram of this family; if `verify`, also whether its transport checksum is right, or
    /// absent. A function of its own, which has all registers to itself: of what it reads nothing is kept, since reading
    /// it again ([`Plain::read`]) takes less.
    fn is_plain(frame: &[u8], verify: bool) -> bool;

    /// What [`Plain::read`] says, in a frame that is long enough for the headers of UDP.
    fn read(frame: &[u8]) -> Option<Plain<Self>>;

    /// Source and destination.
    fn addrs(src: Self, dst: Self) -> Addrs;

    /// Whether it is an ordinary host's, as far as its first byte tells: neither loopback, unspecified, a group or a
    /// broadcast, nor of link scope. What else there is may be looked at more closely.
    fn is_ordinary(self) -> bool;

    /// The byte that a [`Packet`] calls type of service, and whether the datagram must not be fragmented.
    fn service(frame: &[u8]) -> (u8, bool);

    /// Writes both Ethernet addresses, destination first, and decrements time to live or hop limit, with the checksum.
    fn forward(frame: &mut [u8], addresses: &[u8; ADDRESSES]);

    /// Gives a datagram of a protocol other addresses and ports, source first, with its checksums kept up as
    /// [`crate::rewrite::Translation::apply`] does.
    fn readdress(frame: &mut [u8], protocol: Protocol, addresses: (Self, Self), ports: (u16, u16));
}

impl PlainAddress for u32 {
    const L4: usize = L4_V4;

    #[inline(never)]
    fn is_plain(frame: &[u8], verify: bool) -> bool {
        /// EtherType, version and header length, as they lie behind each other; the type of service behind them may be any.
        const KIND: u32 = u32::from_be_bytes([0x08, 0x00, ipv4::PLAIN, 0]);
        let Some(head) = Header::<HEAD_V4>::at(frame, 0) else { return false };
        let is_whole = head.be16::<{ ETHERNET + ipv4::FRAGMENT }>() & !ipv4::DONT_FRAGMENT == 0;
        if head.be32::<ETHERTYPE>() & 0xffff_ff00 != KIND || !is_whole {
            return false;
        }
        let header = head.bytes::<ETHERNET, { ipv4::HEADER }>();
        if !checksum::is_whole(checksum::sum_header(&header)) {
            return false;
        }
        let length = head.be16::<{ ETHERNET + ipv4::TOTAL_LENGTH }>();
        let protocol = Protocol(head.byte::<{ ETHERNET + ipv4::PROTOCOL }>());
        is_well_formed::<u32>(frame, ETHERNET + usize::from(length), protocol, verify)
    }

    #[inline(always)]
    fn read(frame: &[u8]) -> Option<Plain<u32>> {
        let head = Header::<HEAD_V4>::at(frame, 0)?;
        let protocol = Protocol(head.byte::<{ ETHERNET + ipv4::PROTOCOL }>());
        Some(Plain {
            src: head.be32::<{ ETHERNET + ipv4::SOURCE }>(),
            dst: head.be32::<{ ETHERNET + ipv4::DESTINATION }>(),
            sport: head.be16::<{ L4_V4 + SOURCE_PORT }>(),
            dport: head.be16::<{ L4_V4 + DESTINATION_PORT }>(),
            protocol,
            flags: flags::<u32>(frame, protocol),
            ttl: head.byte::<{ ETHERNET + ipv4::TTL }>(),
            length: head.be16::<{ ETHERNET + ipv4::TOTAL_LENGTH }>(),
        })
    }

    #[inline(always)]
    fn addrs(src: u32, dst: u32) -> Addrs {
        Addrs::V4 { src: Ipv4Addr::from_bits(src), dst: Ipv4Addr::from_bits(dst) }
    }

    #[inline(always)]
    fn is_ordinary(self) -> bool {
        // 127 and 0, then 224 and above, where groups and broadcasts are.
        let first = self >> 24;
        (first.wrapping_sub(1) < 126) | (first.wrapping_sub(128) < 96)
    }

    #[inline(always)]
    fn service(frame: &[u8]) -> (u8, bool) {
        Header::<{ ipv4::HEADER }>::at(frame, ETHERNET).map_or((0, false), |header| {
            let fragment = header.be16::<{ ipv4::FRAGMENT }>();
            (header.byte::<{ ipv4::TOS }>(), fragment & ipv4::DONT_FRAGMENT != 0)
        })
    }

    #[inline(always)]
    fn forward(frame: &mut [u8], addresses: &[u8; ADDRESSES]) {
        /// By how much a TTL that is one less changes its word of the header, whatever else is in that.
        const ONE_LESS: Delta = Delta::NONE.word(0x0100, 0);
        const TTL: usize = ETHERNET + ipv4::TTL;
        const CHECKSUM: usize = ETHERNET + ipv4::CHECKSUM;
        let Some(mut head) = HeaderMut::<L4_V4>::at(frame, 0) else { return };
        let ttl = head.view().byte::<TTL>();
        let sum = ONE_LESS.apply(head.view().be16::<CHECKSUM>());
        head.set_bytes::<0, ADDRESSES>(addresses);
        head.set_byte::<TTL>(ttl.wrapping_sub(1));
        head.set_be16::<CHECKSUM>(sum);
    }

    #[inline(always)]
    fn readdress(frame: &mut [u8], protocol: Protocol, (src, dst): (u32, u32), (sport, dport): (u16, u16)) {
        const SOURCE: usize = ETHERNET + ipv4::SOURCE;
        const CHECKSUM: usize = ETHERNET + ipv4::CHECKSUM;
        let Some(mut head) = HeaderMut::<HEAD_V4>::at(frame, 0) else { return };
        let sum = |addresses: [u8; 8]| checksum::sum(&addresses);
        let new = (u64::from(src) << 32 | u64::from(dst)).to_be_bytes();
        let of_addresses = Delta::NONE.sum(sum(head.view().bytes::<SOURCE, 8>()), sum(new));
        head.set_bytes::<SOURCE, 8>(&new);
        let old = head.view().be32::<L4_V4>();
        let new = u32::from(sport) << 16 | u32::from(dport);
        head.set_be32::<L4_V4>(new);
        let whole = of_addresses.apply(head.view().be16::<CHECKSUM>());
        head.set_be16::<CHECKSUM>(whole);
        keep_up::<u32>(frame, protocol, of_addresses.double_word(old, new));
    }
}

impl PlainAddress for u128 {
    const L4: usize = L4_V6;

    #[inline(never)]
    fn is_plain(frame: &[u8], verify: bool) -> bool {
        let Some(head) = Header::<HEAD_V6>::at(frame, 0) else { return false };
        if head.be16::<ETHERTYPE>() != EtherType::IPV6.0 || head.byte::<ETHERNET>() >> 4 != 6 {
            return false;
        }
        let payload = head.be16::<{ ETHERNET + ipv6::PAYLOAD_LENGTH }>();
        let protocol = Protocol(head.byte::<{ ETHERNET + ipv6::NEXT_HEADER }>());
        is_well_formed::<u128>(frame, L4_V6 + usize::from(payload), protocol, verify)
    }

    #[inline(always)]
    fn read(frame: &[u8]) -> Option<Plain<u128>> {
        let head = Header::<HEAD_V6>::at(frame, 0)?;
        let protocol = Protocol(head.byte::<{ ETHERNET + ipv6::NEXT_HEADER }>());
        let payload = head.be16::<{ ETHERNET + ipv6::PAYLOAD_LENGTH }>();
        Some(Plain {
            src: u128::from_be_bytes(head.bytes::<{ ETHERNET + ipv6::SOURCE }, 16>()),
            dst: u128::from_be_bytes(head.bytes::<{ ETHERNET + ipv6::DESTINATION }, 16>()),
            sport: head.be16::<{ L4_V6 + SOURCE_PORT }>(),
            dport: head.be16::<{ L4_V6 + DESTINATION_PORT }>(),
            protocol,
            flags: flags::<u128>(frame, protocol),
            ttl: head.byte::<{ ETHERNET + ipv6::HOP_LIMIT }>(),
            length: payload.wrapping_add(ipv6::HEADER as u16),
        })
    }

    #[inline(always)]
    fn addrs(src: u128, dst: u128) -> Addrs {
        Addrs::V6 { src: Ipv6Addr::from_bits(src), dst: Ipv6Addr::from_bits(dst) }
    }

    #[inline(always)]
    fn is_ordinary(self) -> bool {
        // 2000::/3, all that is assigned of the global addresses (RFC 4291 section 2.4), and fc00::/7.
        let first = (self >> 120) as u8;
        (first >> 5 == 1) | (first >> 1 == 0x7e)
    }

    #[inline(always)]
    fn service(frame: &[u8]) -> (u8, bool) {
        let word = Header::<{ ipv6::HEADER }>::at(frame, ETHERNET)
            .map_or(0, |header| header.be32::<{ ipv6::VERSION_CLASS_FLOW }>());
        ((word >> 20) as u8, true)
    }

    #[inline(always)]
    fn forward(frame: &mut [u8], addresses: &[u8; ADDRESSES]) {
        const HOP_LIMIT: usize = ETHERNET + ipv6::HOP_LIMIT;
        let Some(mut head) = HeaderMut::<L4_V6>::at(frame, 0) else { return };
        let limit = head.view().byte::<HOP_LIMIT>();
        head.set_bytes::<0, ADDRESSES>(addresses);
        head.set_byte::<HOP_LIMIT>(limit.wrapping_sub(1));
    }

    #[inline(always)]
    fn readdress(frame: &mut [u8], protocol: Protocol, (src, dst): (u128, u128), (sport, dport): (u16, u16)) {
        const SOURCE: usize = ETHERNET + ipv6::SOURCE;
        const DESTINATION: usize = ETHERNET + ipv6::DESTINATION;
        let Some(mut head) = HeaderMut::<HEAD_V6>::at(frame, 0) else { return };
        let old = checksum::sum(&head.view().bytes::<SOURCE, 32>());
        head.set_bytes::<SOURCE, 16>(&src.to_be_bytes());
        head.set_bytes::<DESTINATION, 16>(&dst.to_be_bytes());
        let of_addresses = Delta::NONE.sum(old, checksum::sum(&head.view().bytes::<SOURCE, 32>()));
        let old = head.view().be32::<L4_V6>();
        let new = u32::from(sport) << 16 | u32::from(dport);
        head.set_be32::<L4_V6>(new);
        keep_up::<u128>(frame, protocol, of_addresses.double_word(old, new));
    }
}

/// A datagram of TCP or UDP in such a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port, in host order.
    pub sport: u16,
    /// Destination port, in host order.
    pub dport: u16,
    /// [`Protocol::TCP`] or [`Protocol::UDP`].
    pub protocol: Protocol,
    /// Of TCP; [`TcpFlags::NONE`] for UDP.
    pub flags: TcpFlags,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Length of the datagram in bytes, headers included. With the 14 bytes of Ethernet in front no more than the frame's.
    pub length: u16,
}

/// Whether the datagram that ends at `end` holds a whole segment of TCP or UDP with a well-formed header; if `verify`, also
/// whether its checksum is right, or absent.
#[inline(always)]
fn is_well_formed<A: PlainAddress>(frame: &[u8], end: usize, protocol: Protocol, verify: bool) -> bool {
    // With the addresses in front, which the checksum covers too.
    let Some(bytes) = frame.get(A::L4 - 2 * size_of::<A>()..end) else { return false };
    let Some(segment) = bytes.get(2 * size_of::<A>()..) else { return false };
    let absent = match protocol {
        Protocol::UDP => {
            let Some(header) = Header::<UDP_HEADER>::at(segment, 0) else { return false };
            let length = usize::from(header.be16::<UDP_LENGTH>());
            if length < UDP_HEADER || length > segment.len() {
                return false;
            }
            header.be16::<UDP_CHECKSUM>() == 0
        }
        Protocol::TCP => {
            let Some(header) = Header::<{ tcp::HEADER }>::at(segment, 0) else { return false };
            let flags = TcpFlags::from_bits(header.byte::<{ tcp::FLAGS }>());
            let offset = tcp::header_length(header.byte::<{ tcp::DATA_OFFSET }>());
            if offset < tcp::HEADER || offset > segment.len() || !flags.is_valid() {
                return false;
            }
            false
        }
        _ => return false,
    };
    !verify || absent || is_right(bytes, segment.len(), protocol)
}

/// Whether the checksum of a segment is right; `bytes` are its addresses and itself.
#[inline(always)]
fn is_right(bytes: &[u8], length: usize, protocol: Protocol) -> bool {
    let pseudo = u64::from((length as u16).to_be()) + u64::from(u16::from(protocol.0).to_be());
    checksum::is_whole(checksum::sum(bytes) + pseudo)
}

/// Keeps up the checksum of a segment of which something changed.
#[inline(always)]
fn keep_up<A: PlainAddress>(frame: &mut [u8], protocol: Protocol, change: Delta) {
    if protocol == Protocol::UDP {
        if let Some(mut header) = HeaderMut::<UDP_HEADER>::at(frame, A::L4) {
            let sum = change.apply_udp(header.view().be16::<UDP_CHECKSUM>());
            header.set_be16::<UDP_CHECKSUM>(sum);
        }
    } else if let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(frame, A::L4) {
        let sum = change.apply(header.view().be16::<{ tcp::CHECKSUM }>());
        header.set_be16::<{ tcp::CHECKSUM }>(sum);
    }
}

/// The flags of TCP; none of UDP.
#[inline(always)]
fn flags<A: PlainAddress>(frame: &[u8], protocol: Protocol) -> TcpFlags {
    match protocol {
        Protocol::TCP => {
            frame.get(A::L4 + tcp::FLAGS).map_or(TcpFlags::NONE, |flags| TcpFlags::from_bits(*flags))
        }
        _ => TcpFlags::NONE,
    }
}

impl<A: PlainAddress> Plain<A> {
    /// The datagram in a frame that [is plain](PlainAddress::is_plain); of others it says what their bytes would mean if they
    /// were, or None.
    #[inline(always)]
    pub fn read(frame: &[u8]) -> Option<Plain<A>> {
        A::read(frame)
    }

    /// Source and destination.
    #[inline(always)]
    pub fn addrs(&self) -> Addrs {
        A::addrs(self.src, self.dst)
    }

    /// All that the parser would say, of the frame that this was read from, which is for the router's own station.
    #[inline]
    pub fn packet(&self, frame: &[u8]) -> Packet {
        let &Plain { sport, dport, protocol, flags, ttl, .. } = self;
        let (tos, dont_fragment) = A::service(frame);
        Packet {
            vlan: None,
            cast: LinkCast::Unicast,
            l3: ETHERNET as u16,
            l4: A::L4 as u16,
            end: self.end(),
            addrs: self.addrs(),
            protocol,
            ttl,
            tos,
            dont_fragment,
            options: false,
            fragment: Fragment::Whole,
            transport: match protocol {
                Protocol::TCP => Transport::Tcp { sport, dport, flags },
                _ => Transport::Udp { sport, dport },
            },
            malformed: None,
        }
    }

    /// Behind the datagram's last byte in the frame.
    #[inline(always)]
    pub fn end(&self) -> u16 {
        self.length.wrapping_add(ETHERNET as u16)
    }

    /// Verifies the transport checksum, of the frame that this was read from. Addresses stand right in front of the
    /// segment, so they are summed up with it.
    #[inline(always)]
    pub fn verify(&self, frame: &[u8]) -> Checksum {
        let bytes = frame.get(A::L4 - 2 * size_of::<A>()..usize::from(self.end())).unwrap_or_default();
        let segment = bytes.get(2 * size_of::<A>()..).unwrap_or_default();
        if self.protocol == Protocol::UDP {
            let header = Header::<UDP_HEADER>::at(segment, 0);
            if header.is_none_or(|header| header.be16::<UDP_CHECKSUM>() == 0) {
                return Checksum::Absent;
            }
        }
        match is_right(bytes, segment.len(), self.protocol) {
            true => Checksum::Good,
            false => Checksum::Bad,
        }
    }

    /// The TCP segment in the frame that this was read from.
    #[inline(always)]
    pub fn segment<'a>(&self, frame: &'a [u8]) -> Option<Segment<'a>> {
        Segment::read(frame.get(A::L4..usize::from(self.end()))?, self.flags)
    }
}

#[cfg(test)]
mod tests;
