//! The IPv4 header: offsets and parsing. Source: RFC 791 section 3.1, RFC 1812 section 5.2.2.

use std::net::Ipv4Addr;

use crate::bytes::Header;
use crate::checksum;
use crate::ethernet::Link;
use crate::packet::{Fragment, Packet, ParseError};
use crate::parse::Kind;
use crate::transport;
use crate::{Addrs, Family, Protocol};

/// Length of a header without options, in bytes.
pub(crate) const HEADER: usize = 20;
pub(crate) const VERSION_IHL: usize = 0;
pub(crate) const TOS: usize = 1;
pub(crate) const TOTAL_LENGTH: usize = 2;
pub(crate) const IDENTIFICATION: usize = 4;
pub(crate) const FRAGMENT: usize = 6;
pub(crate) const TTL: usize = 8;
pub(crate) const PROTOCOL: usize = 9;
pub(crate) const CHECKSUM: usize = 10;
pub(crate) const SOURCE: usize = 12;
pub(crate) const DESTINATION: usize = 16;

/// Flags and offset in the fragment word.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Version 4, five words of header: all but a few packets.
pub(crate) const PLAIN: u8 = 0x45;

/// Parses the header at `link.l3`, and the transport header behind it.
#[inline(always)]
pub(crate) fn parse(frame: &[u8], link: Link, packet: &mut Packet) -> Result<Kind, ParseError> {
    let l3 = link.l3;
    let header = Header::<HEADER>::at(frame, l3).ok_or(ParseError::Ipv4Short)?;
    let l4 = if header.byte::<VERSION_IHL>() == PLAIN {
        if checksum::fold(checksum::sum_header(header.as_bytes())) != 0xffff {
            return Err(ParseError::Ipv4Checksum);
        }
        l3 + HEADER
    } else {
        l3 + header_length_with_options(frame, l3, header.byte::<VERSION_IHL>())?
    };
    let end = l3 + usize::from(header.be16::<TOTAL_LENGTH>());
    if end < l4 {
        return Err(ParseError::Ipv4LengthBelowHeader);
    }
    let datagram = frame.get(l4..end).ok_or(ParseError::Ipv4LengthBeyond)?;

    let word = header.be16::<FRAGMENT>();
    let fragment = if word & (MORE_FRAGMENTS | FRAGMENT_OFFSET) == 0 {
        Fragment::Whole
    } else {
        part(word, header.be16::<IDENTIFICATION>())
    };
    let protocol = Protocol(header.byte::<PROTOCOL>());
    let (transport, malformed) = transport::parse(datagram, Family::V4, protocol, fragment);
    *packet = Packet {
        vlan: link.vlan,
        cast: link.cast,
        l3: l3 as u16,
        l4: l4 as u16,
        end: end as u16,
        addrs: addresses(header),
        protocol,
        ttl: header.byte::<TTL>(),
        tos: header.byte::<TOS>(),
        dont_fragment: word & DONT_FRAGMENT != 0,
        options: l4 != l3 + HEADER,
        fragment,
        transport,
        malformed,
    };
    Ok(Kind::Ip)
}

/// Source and destination of a header.
#[inline(always)]
pub(crate) fn addresses(header: Header<'_, HEADER>) -> Addrs {
    Addrs::V4 {
        src: Ipv4Addr::from_octets(header.bytes::<SOURCE, 4>()),
        dst: Ipv4Addr::from_octets(header.bytes::<DESTINATION, 4>()),
    }
}

/// Length in bytes that the first byte of a header tells.
#[inline(always)]
pub(crate) const fn header_length(version_ihl: u8) -> usize {
    (version_ihl & 0x0f) as usize * 4
}

/// What the fragment word of a fragment and its identification say.
#[cold]
fn part(word: u16, id: u16) -> Fragment {
    let (offset, more, id) = ((word & FRAGMENT_OFFSET) * 8, word & MORE_FRAGMENTS != 0, u32::from(id));
    match offset {
        0 => Fragment::First { id },
        offset => Fragment::Later { offset, more, id },
    }
}

/// Checks a first byte other than [`PLAIN`], and the checksum of a header with options.
#[cold]
fn header_length_with_options(frame: &[u8], l3: usize, version_ihl: u8) -> Result<usize, ParseError> {
    if version_ihl >> 4 != 4 {
        return Err(ParseError::Ipv4Version);
    }
    let length = header_length(version_ihl);
    if length < HEADER {
        return Err(ParseError::Ipv4HeaderLength);
    }
    let header = frame.get(l3..l3 + length).ok_or(ParseError::Ipv4HeaderBeyond)?;
    if checksum::fold(checksum::sum(header)) != 0xffff {
        return Err(ParseError::Ipv4Checksum);
    }
    Ok(length)
}
