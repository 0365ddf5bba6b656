//! What a rule can ask of a packet: the match half of a rule, every value typed.

use super::action::Helper;
use crate::addr::{IpPrefix, IpRange};
use crate::decode::number;
use crate::diagnostics::ValueError;
use crate::rate::Rate;
use crate::source::Spanned;
use sluice_wire::{Family, Protocol};

/// The matches of a rule. A field that is `None` asks nothing; a list holds if any of its values does, and is never empty.
///
/// A field that names a layer implies it: `icmp` holds only for ICMP over IPv4, `tcp_flags` only for TCP, `sport` and
/// `dport` only for protocols with ports, `src` and `dst` only for their family.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matches {
    /// `in`: interface that the packet came in by.
    pub in_interface: Option<Vec<Spanned<InterfaceMatch>>>,
    /// `out`: interface that the packet leaves by.
    pub out_interface: Option<Vec<Spanned<InterfaceMatch>>>,
    /// `to`: kind of the destination address.
    pub to: Option<Vec<AddrKind>>,
    /// `origin`: kind of the source address.
    pub origin: Option<Vec<AddrKind>>,
    /// `family`.
    pub family: Option<Vec<Family>>,
    /// `proto`: layer 4 protocol.
    pub proto: Option<Vec<Protocol>>,
    /// `src`: source address.
    pub src: Option<Vec<Spanned<AddrMatch>>>,
    /// `dst`: destination address.
    pub dst: Option<Vec<Spanned<AddrMatch>>>,
    /// `sport`: source port.
    pub sport: Option<Vec<Spanned<PortMatch>>>,
    /// `dport`: destination port.
    pub dport: Option<Vec<Spanned<PortMatch>>>,
    /// `tcp_flags`.
    pub tcp_flags: Option<TcpFlagsMatch>,
    /// `icmp`: ICMPv4 type and code.
    pub icmp: Option<Vec<IcmpMatch>>,
    /// `icmpv6`: ICMPv6 type and code.
    pub icmpv6: Option<Vec<IcmpMatch>>,
    /// `ct`: what connection tracking says of the packet.
    pub ct: Option<Vec<CtState>>,
    /// `ct_dir`: direction within the flow.
    pub ct_dir: Option<Vec<CtDir>>,
    /// `ct_helper`: the helper whose expectation made the flow.
    pub ct_helper: Option<Vec<Helper>>,
    /// `ct_mark`: mark of the flow.
    pub ct_mark: Option<Vec<MarkMatch>>,
    /// `mark`: mark of the packet.
    pub mark: Option<Vec<MarkMatch>>,
    /// `ct_orig`: the flow's original tuple.
    pub ct_orig: Option<CtOrig>,
    /// `ct_status`: bits of the flow's status.
    pub ct_status: Option<Vec<CtStatus>>,
    /// `fragment`: true for a fragment that is not the first (offset above 0).
    pub fragment: Option<bool>,
    /// `length`: of the IP packet in bytes, header included.
    pub length: Option<Vec<NumberRange>>,
    /// `ttl`: TTL or hop limit, 0 to 255.
    pub ttl: Option<Vec<NumberRange>>,
    /// `dscp`: differentiated services code point, 0 to 63.
    pub dscp: Option<Vec<NumberRange>>,
    /// `limit`: holds while within the rate.
    pub limit: Option<Limit>,
    /// `connlimit`: holds while there are more flows than that.
    pub connlimit: Option<ConnLimit>,
}

impl Matches {
    /// Those that ask nothing.
    pub const NONE: Self = Self {
        in_interface: None,
        out_interface: None,
        to: None,
        origin: None,
        family: None,
        proto: None,
        src: None,
        dst: None,
        sport: None,
        dport: None,
        tcp_flags: None,
        icmp: None,
        icmpv6: None,
        ct: None,
        ct_dir: None,
        ct_helper: None,
        ct_mark: None,
        mark: None,
        ct_orig: None,
        ct_status: None,
        fragment: None,
        length: None,
        ttl: None,
        dscp: None,
        limit: None,
        connlimit: None,
    };

    /// True if nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }
}

/// What `in` and `out` name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum InterfaceMatch {
    /// An interface of the system file.
    Interface(String),
    /// A zone of this policy.
    Zone(String),
}

impl InterfaceMatch {
    /// The name as written.
    pub fn name(&self) -> &str {
        match self {
            Self::Interface(name) | Self::Zone(name) => name,
        }
    }
}

/// Kind of address, by the routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddrKind {
    /// One of the router's own.
    Local,
    /// A broadcast address of one of its networks, or 255.255.255.255.
    Broadcast,
    /// A multicast address.
    Multicast,
    /// None of these.
    Routed,
}

/// One value of `src` or `dst`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AddrMatch {
    /// Address or prefix; host bits are clear.
    Prefix(IpPrefix),
    /// `first-last`.
    Range(IpRange),
    /// `@set`: name of a set of type `net`.
    Set(String),
}

/// Ports from `first` to `last`, both included; `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, included.
    pub last: u16,
}

impl std::str::FromStr for PortRange {
    type Err = ValueError;

    /// Reads `80` or `6881-6889`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| number(text.trim()).and_then(|n| u16::try_from(n).ok());
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            (Some(_), Some(_)) => Err(ValueError::new(format!("range `{text}` runs backwards"))),
            _ => Err(ValueError::new(format!("`{text}` is no port (0 to 65535) and no range of ports"))),
        }
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// One value of `sport` or `dport`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PortMatch {
    /// A port or a range.
    Range(PortRange),
    /// `@set`: name of a set of type `port`.
    Set(String),
}

/// Numbers from `first` to `last`, both included; `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumberRange {
    /// First number.
    pub first: u16,
    /// Last number, included.
    pub last: u16,
}

/// `tcp_flags`: of the flags in `mask`, exactly those in `set` are on. Bits as in the TCP header's flag byte
/// (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128). Source: RFC 9293 section 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpFlagsMatch {
    /// Flags that must be on; a part of `mask`.
    pub set: u8,
    /// Flags that are looked at.
    pub mask: u8,
}

/// A type and, if given, a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcmpMatch {
    /// The ICMP type.
    pub kind: u8,
    /// The code; `None` for any.
    pub code: Option<u8>,
}

/// One value of `ct`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtState {
    /// First packet of a flow, or more of it before an answer.
    New,
    /// Of a flow that was answered.
    Established,
    /// An expected flow's first packet, or an ICMP error about a flow.
    Related,
    /// Cannot belong to a flow.
    Invalid,
    /// Marked NOTRACK.
    Untracked,
    /// Of a flow whose source is translated.
    Snat,
    /// Of a flow whose destination is translated.
    Dnat,
}

/// Direction within a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtDir {
    /// As the flow's first packet.
    Original,
    /// The answers.
    Reply,
}

/// One value of `ct_status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtStatus {
    /// Not evicted when the table is full.
    Assured,
    /// An answer was seen.
    SeenReply,
    /// Made by an expectation.
    Expected,
    /// In the table.
    Confirmed,
    /// The source is translated.
    Snat,
    /// The destination is translated.
    Dnat,
}

/// Value and mask of a mark: holds if `mark & mask == value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkMatch {
    /// What the masked mark must be.
    pub value: u32,
    /// The bits that are looked at; all unless given.
    pub mask: u32,
}

/// `ct_orig`: the flow's first packet before NAT. All given fields must hold; at least one is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CtOrig {
    /// Its source address.
    pub src: Option<Vec<Spanned<AddrMatch>>>,
    /// Its destination address.
    pub dst: Option<Vec<Spanned<AddrMatch>>>,
    /// Its source port.
    pub sport: Option<Vec<Spanned<PortMatch>>>,
    /// Its destination port.
    pub dport: Option<Vec<Spanned<PortMatch>>>,
}

/// What a limit is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitPer {
    /// Each source address.
    Src,
    /// Each destination address.
    Dst,
}

/// `limit`: a token bucket that holds while there are tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Tokens that come in.
    pub rate: Rate,
    /// Depth of the bucket, 5 unless given (as in iptables and nft).
    pub burst: u32,
    /// A bucket for each of these; `None`: one for the rule.
    pub per: Option<LimitPer>,
}

/// `connlimit`: holds if there are more than `above` live flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnLimit {
    /// The number of flows that is still within the limit.
    pub above: u32,
    /// Counted for each of these; `None`: all flows that the rule matched.
    pub per: Option<LimitPer>,
}
