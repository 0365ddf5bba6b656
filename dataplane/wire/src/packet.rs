//! What a frame turned out to be. A [`Packet`] exists only if its Ethernet and IP headers fit into the frame
//! and are what they say; it borrows nothing, so a burst of them can be kept in an array next to the frames.

use std::net::Ipv4Addr;

use crate::{Addrs, EtherType, Family, LinkCast, MacAddr, Protocol, TcpFlags};

/// A frame, parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// IPv4 or IPv6.
    Ip(Packet),
    /// Address resolution for IPv4 on Ethernet.
    Arp(Arp),
    /// Any other EtherType, also a second VLAN tag.
    Other(EtherType),
}

/// An IPv4 or IPv6 datagram, or a fragment of one.
///
/// All offsets are in bytes from the first byte of the frame, the Ethernet destination, and hold for the frame
/// that was parsed: `l3 < l4 <= end <= frame length`. Of a datagram that was put together from fragments they are from
/// the first byte of its IP header, see [`parse_datagram`](crate::parse_datagram).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// VLAN id, 1 to 4094. None without a tag, and for a tag that bears a priority alone (id 0); whether a tag
    /// is there is told by [`Self::l3`].
    pub vlan: Option<u16>,
    /// To whom the Ethernet destination speaks.
    pub cast: LinkCast,
    /// Where the IP header begins: 14, or 18 behind a VLAN tag; 0 in a datagram without an Ethernet header.
    pub l3: u16,
    /// Where the transport header begins, behind IPv4 options or IPv6 extension headers; in a later fragment,
    /// where its payload begins.
    pub l4: u16,
    /// Behind the last byte of the datagram. Ethernet padding lies beyond.
    pub end: u16,
    /// Source and destination.
    pub addrs: Addrs,
    /// What follows at [`Self::l4`]. In IPv6 the next header behind all extension headers.
    pub protocol: Protocol,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Type of service, or traffic class: DSCP in the upper six bits, ECN in the lower two.
    pub tos: u8,
    /// IPv4's Don't Fragment flag. Always true for IPv6, which a router never fragments, but for what was made of an
    /// IPv4 packet without it ([`siit`](crate::siit)).
    pub dont_fragment: bool,
    /// Whether IPv4 options or IPv6 extension headers are there: a slower path looks at them.
    pub options: bool,
    /// Which part of a datagram this is.
    pub fragment: Fragment,
    /// Ports and the like, as the filter sees them. Of a first fragment too, if they are in it.
    pub transport: Transport,
    /// Why the tracker calls it INVALID, judged by its bytes alone; the checksum is not looked at
    /// ([`verify`](crate::verify) does that). The filter still sees [`Self::transport`].
    pub malformed: Option<Malformed>,
}

impl Packet {
    /// No packet: what an array is filled with before [`parse_into`](crate::parse_into).
    pub const NONE: Self = Self {
        vlan: None,
        cast: LinkCast::Unicast,
        l3: 0,
        l4: 0,
        end: 0,
        addrs: Addrs::V4 { src: Ipv4Addr::UNSPECIFIED, dst: Ipv4Addr::UNSPECIFIED },
        protocol: Protocol(0),
        ttl: 0,
        tos: 0,
        dont_fragment: false,
        options: false,
        fragment: Fragment::Whole,
        transport: Transport::Other,
        malformed: None,
    };

    /// The address family.
    #[inline]
    pub const fn family(&self) -> Family {
        self.addrs.family()
    }

    /// Length of the IP datagram or fragment in bytes, headers included: what is compared with an MTU, and
    /// what `length` matches.
    #[inline]
    pub const fn length(&self) -> u16 {
        self.end.saturating_sub(self.l3)
    }

    /// Source and destination port, if this packet shows any.
    #[inline]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        self.transport.ports()
    }

    /// The datagram's bytes from the IP header on.
    #[inline]
    pub fn datagram<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(usize::from(self.l3)..usize::from(self.end)).unwrap_or_default()
    }

    /// The bytes from the transport header on.
    #[inline]
    pub fn segment<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        frame.get(usize::from(self.l4)..usize::from(self.end)).unwrap_or_default()
    }
}

/// Which part of a datagram a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// All of it behind an IPv6 fragment header that says so (offset 0, no more to come): RFC 6946.
    Atomic {
        /// Identification.
        id: u32,
    },
    /// The first of several.
    First {
        /// Identification: 16 bits in IPv4, 32 in IPv6.
        id: u32,
    },
    /// One that is not the first: it has no transport header.
    Later {
        /// Where its payload belongs in the datagram's, in bytes; a multiple of eight.
        offset: u16,
        /// Whether more follow.
        more: bool,
        /// Identification: 16 bits in IPv4, 32 in IPv6.
        id: u32,
    },
}

impl Fragment {
    /// Whether it is only part of a datagram.
    #[inline]
    pub const fn is_part(self) -> bool {
        matches!(self, Self::First { .. } | Self::Later { .. })
    }

    /// Whether it came as a fragment, be it the only one: what a tracker puts together first.
    #[inline]
    pub const fn is_fragment(self) -> bool {
        !matches!(self, Self::Whole)
    }
}

/// What a transport header says. Ports, ids and flags are in host order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
        /// All eight flags.
        flags: TcpFlags,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// A UDP-Lite datagram.
    UdpLite {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// ICMP, in IPv4 only.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The identifier of an echo and its like; of other types the two bytes where it would be.
        id: u16,
    },
    /// ICMP for IPv6, in IPv6 only.
    Icmpv6 {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The identifier of an echo and its like; of other types the two bytes where it would be.
        id: u16,
    },
    /// SCTP.
    Sctp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// DCCP. Linux 6.18 no longer tracks its ports (it is a generic protocol there); rules still match them.
    Dccp {
        /// Source port.
        sport: u16,
        /// Destination port.
        dport: u16,
    },
    /// GRE.
    Gre {
        /// 0, or 1 for PPTP (RFC 2637).
        version: u8,
        /// The call id of version 1; otherwise 0. The key of version 0 plays no part in tracking.
        call_id: u16,
    },
    /// A protocol whose header is not looked at.
    Other,
    /// A fragment that shows no transport header: a later one, or a first one too short for it.
    Fragment,
    /// A transport header that cannot be read. [`Packet::malformed`] is the same reason.
    Malformed(Malformed),
}

impl Transport {
    /// Source and destination port, if it has any.
    #[inline]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match *self {
            Self::Tcp { sport, dport, .. }
            | Self::Udp { sport, dport }
            | Self::UdpLite { sport, dport }
            | Self::Sctp { sport, dport }
            | Self::Dccp { sport, dport } => Some((sport, dport)),
            _ => None,
        }
    }
}

/// Why netfilter's tracker calls a packet INVALID by its bytes alone.
/// Source: observed on Linux 6.18 (`nf_conntrack_proto_*.c`, `ipv6_get_l4proto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Fewer than 20 bytes of TCP.
    #[error("tcp header cut short")]
    TcpShort,
    /// TCP's data offset is below 5, or beyond the segment.
    #[error("tcp data offset lies")]
    TcpDataOffset,
    /// A combination of TCP flags that no connection has, such as none, or SYN with FIN.
    #[error("tcp flags make no sense together")]
    TcpFlags,
    /// Fewer than 8 bytes of UDP.
    #[error("udp header cut short")]
    UdpShort,
    /// UDP's length is below 8, or beyond the datagram.
    #[error("udp length lies")]
    UdpLength,
    /// Fewer than 8 bytes of UDP-Lite.
    #[error("udp-lite header cut short")]
    UdpLiteShort,
    /// UDP-Lite's checksum coverage is 1 to 7, or beyond the datagram.
    #[error("udp-lite coverage lies")]
    UdpLiteCoverage,
    /// UDP-Lite without a checksum, which it must have: RFC 3828 section 3.1.
    #[error("udp-lite without a checksum")]
    UdpLiteNoChecksum,
    /// Fewer than 8 bytes of ICMP.
    #[error("icmp header cut short")]
    IcmpShort,
    /// An ICMP type above 18.
    #[error("icmp type above 18")]
    IcmpType,
    /// ICMP in IPv6, or ICMPv6 in IPv4.
    #[error("icmp of the other address family")]
    IcmpFamily,
    /// Fewer than 12 bytes of SCTP.
    #[error("sctp header cut short")]
    SctpShort,
    /// GRE version 1 that is not PPTP's: no 8 bytes, or another payload than PPP.
    #[error("gre version 1 that is not pptp")]
    GrePptp,
    /// IPv6: no next header (59), so that there is nothing to track.
    #[error("ipv6 without a next header")]
    NoNextHeader,
    /// IPv6: an extension header ends beyond the datagram.
    #[error("ipv6 extension header beyond the packet")]
    ExtensionOverrun,
    /// IPv6: fewer than 8 bytes of a fragment header, so that nobody can tell what it is a part of.
    #[error("ipv6 fragment header cut short")]
    FragmentShort,
    /// IPv6: more extension headers than are followed, which is 16.
    #[error("more than 16 ipv6 extension headers")]
    ExtensionCount,
}

impl Malformed {
    /// Whether there are fewer bytes than the transport's header has.
    pub(crate) const fn is_short(self) -> bool {
        matches!(
            self,
            Self::TcpShort | Self::UdpShort | Self::UdpLiteShort | Self::IcmpShort | Self::SctpShort
        )
    }
}

/// An ARP packet for IPv4 on Ethernet. Source: RFC 826.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// VLAN id, as in [`Packet::vlan`].
    pub vlan: Option<u16>,
    /// To whom the Ethernet destination speaks.
    pub cast: LinkCast,
    /// What is asked or said.
    pub operation: ArpOperation,
    /// Hardware address of who speaks.
    pub sender_mac: MacAddr,
    /// Protocol address of who speaks; 0.0.0.0 in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// Hardware address of who is spoken to; meaningless in a request.
    pub target_mac: MacAddr,
    /// The address that is asked for, or who is answered.
    pub target: Ipv4Addr,
}

/// ARP's operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpOperation {
    /// Who has the target address? (1)
    Request,
    /// The sender has. (2)
    Reply,
}

/// Why a frame is dropped before any rule sees it. Each is one reason, never "malformed".
/// Source: RFC 1812 section 5.2.2; RFC 8200; observed on Linux (`ip_rcv_core`, `ip6_rcv_core`, `arp_rcv`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ParseError {
    /// Fewer than 14 bytes.
    #[error("frame shorter than an ethernet header")]
    EthernetShort,
    /// More than 65535 bytes in a frame: nothing that a wire brings.
    #[error("frame longer than 65535 bytes")]
    FrameTooLong,
    /// Fewer than four bytes behind a VLAN EtherType.
    #[error("vlan tag cut short")]
    VlanShort,
    /// VLAN id 4095, which is reserved.
    #[error("reserved vlan id 4095")]
    VlanReserved,
    /// Fewer than 20 bytes of IPv4.
    #[error("ipv4 header cut short")]
    Ipv4Short,
    /// The version in an IPv4 header is not 4.
    #[error("ipv4 version is not 4")]
    Ipv4Version,
    /// IPv4's header length is below 5 words.
    #[error("ipv4 header length below 20")]
    Ipv4HeaderLength,
    /// IPv4's header ends beyond the frame.
    #[error("ipv4 header beyond the frame")]
    Ipv4HeaderBeyond,
    /// IPv4's total length is below its header length.
    #[error("ipv4 total length below its header length")]
    Ipv4LengthBelowHeader,
    /// IPv4's total length is beyond the frame.
    #[error("ipv4 total length beyond the frame")]
    Ipv4LengthBeyond,
    /// IPv4's header checksum is wrong.
    #[error("ipv4 header checksum")]
    Ipv4Checksum,
    /// Fewer than 40 bytes of IPv6.
    #[error("ipv6 header cut short")]
    Ipv6Short,
    /// The version in an IPv6 header is not 6.
    #[error("ipv6 version is not 6")]
    Ipv6Version,
    /// IPv6's payload length is beyond the frame.
    #[error("ipv6 payload length beyond the frame")]
    Ipv6LengthBeyond,
    /// IPv6 payload length 0 with a hop-by-hop header: a jumbogram (RFC 2675), which is refused.
    #[error("ipv6 jumbogram")]
    Ipv6Jumbo,
    /// The hop-by-hop header, which every router must read, does not fit.
    #[error("ipv6 hop-by-hop header beyond the packet")]
    Ipv6HopByHopBeyond,
    /// Fewer than 28 bytes of ARP.
    #[error("arp packet cut short")]
    ArpShort,
    /// ARP for other hardware or protocols than Ethernet and IPv4.
    #[error("arp for other than ethernet and ipv4")]
    ArpKind,
    /// An ARP operation other than request and reply.
    #[error("arp operation neither request nor reply")]
    ArpOperation,
}
