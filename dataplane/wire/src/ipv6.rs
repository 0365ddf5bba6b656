//! The IPv6 header and its extension headers: offsets and parsing.
//!
//! The chain is followed as the kernel's tracker does: hop-by-hop options, routing, fragment, authentication and
//! destination options in any order and number (up to [`MAX_EXTENSIONS`]), anything else ends it. A chain that runs
//! out of the packet is no parse error but INVALID; so is a last header that does, unless no tracker wants to read what
//! would follow it. The hop-by-hop header alone must be whole.
//! Source: RFC 8200 sections 3 and 4, RFC 4302 section 2.2.

use std::net::Ipv6Addr;

use crate::bytes::Header;
use crate::ethernet::Link;
use crate::packet::{Fragment, Malformed, Packet, ParseError, Transport};
use crate::parse::Kind;
use crate::transport;
use crate::{Addrs, Family, Protocol};

/// Length of the fixed header in bytes.
pub(crate) const HEADER: usize = 40;
pub(crate) const VERSION_CLASS_FLOW: usize = 0;
pub(crate) const PAYLOAD_LENGTH: usize = 4;
pub(crate) const NEXT_HEADER: usize = 6;
pub(crate) const HOP_LIMIT: usize = 7;
pub(crate) const SOURCE: usize = 8;
pub(crate) const DESTINATION: usize = 24;

/// Length of the fragment header in bytes; every extension header has at least as many.
pub(crate) const EXTENSION: usize = 8;
/// Enough of an extension header to find the next one.
pub(crate) const EXTENSION_START: usize = 2;
/// In every extension header.
pub(crate) const EXTENSION_NEXT: usize = 0;
pub(crate) const EXTENSION_LENGTH: usize = 1;
/// In a routing header.
const SEGMENTS_LEFT: usize = 3;
/// In a fragment header.
pub(crate) const FRAGMENT_WORD: usize = 2;
pub(crate) const FRAGMENT_ID: usize = 4;

pub(crate) const FRAGMENT_OFFSET: u16 = 0xfff8;
pub(crate) const MORE_FRAGMENTS: u16 = 0x0001;

/// How many extension headers are followed, so that a chain of them costs a bounded time. Real packets have
/// one or two.
pub(crate) const MAX_EXTENSIONS: usize = 16;

/// Parses the header at `link.l3`, its extension headers, and the transport header behind them.
#[inline(always)]
pub(crate) fn parse(frame: &[u8], link: Link, packet: &mut Packet) -> Result<Kind, ParseError> {
    let l3 = link.l3;
    let header = Header::<HEADER>::at(frame, l3).ok_or(ParseError::Ipv6Short)?;
    let first = header.be32::<VERSION_CLASS_FLOW>();
    if first >> 28 != 6 {
        return Err(ParseError::Ipv6Version);
    }
    let payload_length = usize::from(header.be16::<PAYLOAD_LENGTH>());
    let next = Protocol(header.byte::<NEXT_HEADER>());
    let l4 = l3 + HEADER;
    let end = l4 + payload_length;
    let payload = frame.get(l4..end).ok_or(ParseError::Ipv6LengthBeyond)?;
    if next == Protocol::HOP_BY_HOP {
        check_hop_by_hop(payload)?;
    }

    let chain = if is_extension(next) { follow(payload, next) } else { Chain::none(next) };
    let (transport, malformed) = match chain.malformed {
        Some(why) => (Transport::Malformed(why), Some(why)),
        None => {
            let segment = payload.get(chain.length..).unwrap_or_default();
            transport::parse(segment, Family::V6, chain.protocol, chain.fragment)
        }
    };
    *packet = Packet {
        vlan: link.vlan,
        cast: link.cast,
        l3: l3 as u16,
        l4: (l4 + chain.length) as u16,
        end: end as u16,
        addrs: addresses(header),
        protocol: chain.protocol,
        ttl: header.byte::<HOP_LIMIT>(),
        tos: (first >> 20) as u8,
        dont_fragment: true,
        options: chain.length != 0,
        fragment: chain.fragment,
        transport,
        malformed,
    };
    Ok(Kind::Ip)
}

/// Source and destination of a header.
#[inline(always)]
pub(crate) fn addresses(header: Header<'_, HEADER>) -> Addrs {
    Addrs::V6 {
        src: Ipv6Addr::from_octets(header.bytes::<SOURCE, 16>()),
        dst: Ipv6Addr::from_octets(header.bytes::<DESTINATION, 16>()),
    }
}

/// What a chain of extension headers led to.
#[derive(Clone, Copy)]
pub(crate) struct Chain {
    /// The first header that is no extension header.
    pub(crate) protocol: Protocol,
    /// Bytes of extension headers in front of it.
    pub(crate) length: usize,
    pub(crate) fragment: Fragment,
    /// Where the fragment header begins in the payload, if there is one.
    pub(crate) fragment_at: Option<usize>,
    pub(crate) malformed: Option<Malformed>,
}

impl Chain {
    #[inline(always)]
    const fn none(protocol: Protocol) -> Self {
        Self { protocol, length: 0, fragment: Fragment::Whole, fragment_at: None, malformed: None }
    }

    fn malformed(self, why: Malformed) -> Self {
        Self { malformed: Some(why), ..self }
    }
}

/// Whether a next header leads on, or to nothing at all.
#[inline(always)]
pub(crate) const fn is_extension(next: Protocol) -> bool {
    matches!(
        next,
        Protocol::HOP_BY_HOP
            | Protocol::ROUTING
            | Protocol::FRAGMENT
            | Protocol::AH
            | Protocol::DESTINATION
            | Protocol::NO_NEXT_HEADER
    )
}

/// Follows the extension headers in `payload`, the first of which is a `next`. Behind a later fragment's header
/// there is only payload, so it ends the chain.
#[cold]
pub(crate) fn follow(payload: &[u8], next: Protocol) -> Chain {
    let mut chain = Chain::none(next);
    let mut overrun = false;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(chain.protocol) {
            return chain;
        }
        // What a second fragment header says concerns the datagram inside of the first one's.
        let is_fragment = chain.protocol == Protocol::FRAGMENT && chain.fragment_at.is_none();
        if is_fragment && !overrun && !payload.is_empty() && payload.len() - chain.length < EXTENSION {
            return chain.malformed(Malformed::FragmentShort);
        }
        if chain.protocol == Protocol::NO_NEXT_HEADER {
            return chain.malformed(Malformed::NoNextHeader);
        }
        let Some(header) = Header::<EXTENSION_START>::at(payload, chain.length) else {
            return chain.malformed(Malformed::ExtensionOverrun);
        };
        let length = extension_length(chain.protocol, header);
        if is_fragment {
            let Some(header) = Header::<EXTENSION>::at(payload, chain.length) else {
                return chain.malformed(Malformed::ExtensionOverrun);
            };
            chain.fragment = fragment_of(header);
            chain.fragment_at = Some(chain.length);
        }
        overrun |= chain.length + length > payload.len();
        chain.length = (chain.length + length).min(payload.len());
        chain.protocol = Protocol(header.byte::<EXTENSION_NEXT>());
        if matches!(chain.fragment, Fragment::Later { .. }) {
            return chain;
        }
    }
    if is_extension(chain.protocol) { chain.malformed(Malformed::ExtensionCount) } else { chain }
}

/// Routers that a datagram's routing headers name and that it has not passed yet; 0 without such a header.
/// Source: RFC 8200 section 4.4.
#[cold]
pub(crate) fn segments_left(datagram: &[u8]) -> u8 {
    let Some(header) = Header::<HEADER>::at(datagram, 0) else { return 0 };
    let (mut kind, mut at) = (Protocol(header.byte::<NEXT_HEADER>()), HEADER);
    for _ in 0..MAX_EXTENSIONS {
        let start = Header::<EXTENSION_START>::at(datagram, at).filter(|_| is_extension(kind));
        let Some(start) = start else { return 0 };
        let left = Header::<EXTENSION>::at(datagram, at).map_or(0, |header| header.byte::<SEGMENTS_LEFT>());
        if kind == Protocol::ROUTING && left != 0 {
            return left;
        }
        at += extension_length(kind, start);
        kind = Protocol(start.byte::<EXTENSION_NEXT>());
    }
    0
}

/// What a fragment header says.
fn fragment_of(header: Header<'_, EXTENSION>) -> Fragment {
    let word = header.be16::<FRAGMENT_WORD>();
    let (offset, more, id) =
        (word & FRAGMENT_OFFSET, word & MORE_FRAGMENTS != 0, header.be32::<FRAGMENT_ID>());
    match (offset, more) {
        (0, false) => Fragment::Atomic { id },
        (0, true) => Fragment::First { id },
        (offset, more) => Fragment::Later { offset, more, id },
    }
}

/// Length in bytes of an extension header of that kind.
pub(crate) fn extension_length(kind: Protocol, header: Header<'_, EXTENSION_START>) -> usize {
    match kind {
        Protocol::FRAGMENT => EXTENSION,
        Protocol::AH => (usize::from(header.byte::<EXTENSION_LENGTH>()) + 2) * 4,
        _ => options_length(header),
    }
}

/// Length in bytes of an options or routing header.
fn options_length(header: Header<'_, EXTENSION_START>) -> usize {
    (usize::from(header.byte::<EXTENSION_LENGTH>()) + 1) * 8
}

#[cold]
fn check_hop_by_hop(payload: &[u8]) -> Result<(), ParseError> {
    if payload.is_empty() {
        return Err(ParseError::Ipv6Jumbo);
    }
    let header = Header::<EXTENSION_START>::at(payload, 0).ok_or(ParseError::Ipv6HopByHopBeyond)?;
    if options_length(header) > payload.len() {
        return Err(ParseError::Ipv6HopByHopBeyond);
    }
    Ok(())
}
