//! The Ethernet header, with or without one 802.1Q tag. Source: IEEE 802.3, IEEE 802.1Q.

use crate::MacAddr;
use crate::bytes::{Header, HeaderMut};
use crate::packet::ParseError;

/// Length of the header in bytes.
pub(crate) const HEADER: usize = 14;
/// Length of a VLAN tag in bytes.
pub(crate) const TAG: usize = 4;

const DESTINATION: usize = 0;
const SOURCE: usize = 6;
const TYPE: usize = 12;

/// Offsets in what follows a VLAN EtherType.
const TAG_CONTROL: usize = 0;
const TAG_TYPE: usize = 2;

const VLAN_ID: u16 = 0x0fff;
const VLAN_RESERVED: u16 = 0x0fff;

/// An EtherType, in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// Internet Protocol version 4.
    pub const IPV4: Self = Self(0x0800);
    /// Address Resolution Protocol.
    pub const ARP: Self = Self(0x0806);
    /// An 802.1Q tag.
    pub const VLAN: Self = Self(0x8100);
    /// Internet Protocol version 6.
    pub const IPV6: Self = Self(0x86dd);
}

/// To whom an Ethernet destination speaks. Whether a unicast destination is ours is for the caller to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkCast {
    /// One station.
    Unicast,
    /// A group.
    Multicast,
    /// Everyone.
    Broadcast,
}

impl LinkCast {
    /// The kind of an Ethernet destination.
    #[inline]
    pub fn of(destination: MacAddr) -> Self {
        if !destination.is_multicast() {
            Self::Unicast
        } else if destination == MacAddr::BROADCAST {
            Self::Broadcast
        } else {
            Self::Multicast
        }
    }
}

/// The Ethernet destination of a frame that was parsed; zero of one that is too short.
#[inline]
pub fn destination(frame: &[u8]) -> MacAddr {
    Header::<HEADER>::at(frame, 0).map_or(MacAddr::ZERO, |header| MacAddr(header.bytes::<DESTINATION, 6>()))
}

/// The Ethernet source of a frame that was parsed; zero of one that is too short.
#[inline]
pub fn source(frame: &[u8]) -> MacAddr {
    Header::<HEADER>::at(frame, 0).map_or(MacAddr::ZERO, |header| MacAddr(header.bytes::<SOURCE, 6>()))
}

/// Writes both Ethernet addresses of a frame on its way to the next hop. A frame that is too short stays.
#[inline]
pub fn set_addresses(frame: &mut [u8], destination: MacAddr, source: MacAddr) {
    if let Some(mut header) = HeaderMut::<HEADER>::at(frame, 0) {
        header.set_bytes::<DESTINATION, 6>(&destination.0);
        header.set_bytes::<SOURCE, 6>(&source.0);
    }
}

/// What the link layer says about a frame.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) cast: LinkCast,
    pub(crate) vlan: Option<u16>,
    /// Where the network header begins.
    pub(crate) l3: usize,
}

/// Reads the Ethernet header as if there were no VLAN tag.
#[inline(always)]
pub(crate) fn parse(frame: &[u8]) -> Option<(Link, EtherType)> {
    let header = Header::<HEADER>::at(frame, 0)?;
    let cast = LinkCast::of(MacAddr(header.bytes::<DESTINATION, 6>()));
    Some((Link { cast, vlan: None, l3: HEADER }, EtherType(header.be16::<TYPE>())))
}

/// Reads an Ethernet header and the VLAN tag behind it.
pub(crate) fn parse_tagged(frame: &[u8]) -> Result<(Link, EtherType), ParseError> {
    let (link, _) = parse(frame).ok_or(ParseError::EthernetShort)?;
    let tag = Header::<TAG>::at(frame, HEADER).ok_or(ParseError::VlanShort)?;
    let vlan = match tag.be16::<TAG_CONTROL>() & VLAN_ID {
        VLAN_RESERVED => return Err(ParseError::VlanReserved),
        0 => None,
        id => Some(id),
    };
    Ok((Link { vlan, l3: HEADER + TAG, ..link }, EtherType(tag.be16::<TAG_TYPE>())))
}

/// The id in a frame's VLAN tag, 1 to 4094; None without a tag, or where that bears a priority alone.
#[inline]
pub fn vlan_id(frame: &[u8]) -> Option<u16> {
    let header = Header::<{ HEADER + TAG }>::at(frame, 0)?;
    let id = header.be16::<{ HEADER + TAG_CONTROL }>() & VLAN_ID;
    (header.be16::<TYPE>() == EtherType::VLAN.0 && id != 0 && id != VLAN_RESERVED).then_some(id)
}

/// Writes an Ethernet header, with a tag if `vlan` is given, and returns its length; `None` if it does not fit.
pub(crate) fn emit(
    out: &mut [u8],
    (destination, source): (MacAddr, MacAddr),
    vlan: Option<u16>,
    ethertype: EtherType,
) -> Option<usize> {
    let mut header = HeaderMut::<HEADER>::at(out, 0)?;
    header.set_bytes::<DESTINATION, 6>(&destination.0);
    header.set_bytes::<SOURCE, 6>(&source.0);
    let Some(id) = vlan else {
        header.set_be16::<TYPE>(ethertype.0);
        return Some(HEADER);
    };
    header.set_be16::<TYPE>(EtherType::VLAN.0);
    let mut tag = HeaderMut::<TAG>::at(out, HEADER)?;
    tag.set_be16::<TAG_CONTROL>(id & VLAN_ID);
    tag.set_be16::<TAG_TYPE>(ethertype.0);
    Some(HEADER + TAG)
}
