//! What a rule asks of a packet, one property at a time.
//!
//! Each question has three answers: yes, no, and *has no such field* (ports of ICMP, a flow's mark of an UNTRACKED
//! packet, an IPv6 source asked for an IPv4 prefix). Without the field a match does not hold, and neither does its
//! negation, as in nft, whose expressions end the rule there.
//!
//! Source: nft(8); observed on Linux 6.18.

use std::sync::Arc;

use sluice_wire::{Family, Fragment, Packet, Protocol, TcpFlags, Transport};

use crate::conntrack::{ConnLimit, CtInfo, CtState, Direction, Status};
use crate::helper::Helper;
use crate::ids::InterfaceId;
use crate::limit::Limit;
use crate::ruleset::guard::state_of;
use crate::ruleset::view::{Reads, View};
use crate::ruleset::{AddressMatch, PortMatch, Ruleset};
use crate::world::AddressKind;

/// A match, or the negation of one.
#[derive(Clone, Debug)]
pub struct Test {
    /// What is asked.
    pub what: Match,
    /// Whether the answer must be no.
    pub negated: bool,
}

/// A property of a packet; a list holds if any of its values does.
#[derive(Clone, Debug)]
pub enum Match {
    /// In by one of these.
    Ingress(Box<[InterfaceId]>),
    /// Out by one of these.
    Egress(Box<[InterfaceId]>),
    /// Kind of the destination address.
    To(Box<[AddressKind]>),
    /// Kind of the source address.
    Origin(Box<[AddressKind]>),
    /// Address family.
    Family(Box<[Family]>),
    /// Protocol, in IPv6 that behind all extension headers.
    Protocol(Box<[Protocol]>),
    /// Source address.
    Source(AddressMatch),
    /// Destination address.
    Destination(AddressMatch),
    /// Source port.
    SourcePort(PortMatch),
    /// Destination port.
    DestinationPort(PortMatch),
    /// Of the flags in `mask`, exactly those in `set`.
    TcpFlags {
        /// Flags that must be on.
        set: TcpFlags,
        /// Flags that are looked at.
        mask: TcpFlags,
    },
    /// ICMP over IPv4.
    Icmp(Box<[IcmpMatch]>),
    /// ICMP over IPv6.
    Icmpv6(Box<[IcmpMatch]>),
    /// One of the states, or any bit of the flow's status.
    Ct {
        /// States.
        states: StateSet,
        /// Of `snat` and `dnat`, which nft counts as states.
        status: Status,
    },
    /// Direction in the flow.
    Direction(Box<[Direction]>),
    /// Any bit of the flow's status.
    Status(Status),
    /// The helper that announced the flow.
    Helper(Box<[Helper]>),
    /// The flow's mark.
    CtMark(Box<[MarkMatch]>),
    /// The packet's mark.
    Mark(Box<[MarkMatch]>),
    /// The flow's first packet, before translation.
    Original(Box<OriginalMatch>),
    /// Whether it is a fragment other than the first.
    Fragment(bool),
    /// Length of the IP datagram in bytes.
    Length(NumberRanges),
    /// TTL or hop limit.
    Ttl(NumberRanges),
    /// Differentiated services code point.
    Dscp(NumberRanges),
    /// While more flows are live than that. Counts the packet's flow, so it is asked behind all that says whether it is to be counted.
    Connections(ConnLimit),
    /// While within a rate. Takes a token, so it is asked last.
    Limit(Arc<Limit>),
    /// A property that no packet has: neither this nor its negation holds.
    Absent,
}

/// Some of the ct states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StateSet(u8);

impl StateSet {
    /// With one more.
    #[must_use]
    pub const fn with(self, state: CtState) -> StateSet {
        StateSet(self.0 | 1 << state as u8)
    }

    /// Whether a state is in it.
    #[inline]
    pub const fn contains(self, state: CtState) -> bool {
        self.0 >> (state as u8) & 1 != 0
    }
}

/// An ICMP type, and a code if it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpMatch {
    /// The type.
    pub kind: u8,
    /// The code; None: any.
    pub code: Option<u8>,
}

/// A mark under a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkMatch {
    /// What the masked mark must be.
    pub value: u32,
    /// The bits that are looked at.
    pub mask: u32,
}

/// Of a flow's first packet; all that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct OriginalMatch {
    /// Source address.
    pub src: Option<AddressMatch>,
    /// Destination address.
    pub dst: Option<AddressMatch>,
    /// Source port.
    pub sport: Option<PortMatch>,
    /// Destination port.
    pub dport: Option<PortMatch>,
}

/// Numbers, as ranges with both ends included.
#[derive(Clone, Debug, Default)]
pub struct NumberRanges(pub Box<[(u16, u16)]>);

impl NumberRanges {
    #[inline]
    fn contains(&self, number: u16) -> bool {
        self.0.iter().any(|&(first, last)| first <= number && number <= last)
    }
}

impl Test {
    /// A match that must hold.
    pub fn is(what: Match) -> Test {
        Test { what, negated: false }
    }

    /// A match that must not hold, of a packet that has the field.
    pub fn not(what: Match) -> Test {
        Test { what, negated: true }
    }

    /// Whether it holds; notes in `reads` what it looked at.
    #[inline]
    pub(super) fn holds(&self, ruleset: &Ruleset, view: &View<'_>, reads: &mut Reads) -> bool {
        *reads = reads.union(self.what.reads());
        self.what.answer(ruleset, view).is_some_and(|yes| yes != self.negated)
    }
}

impl Match {
    /// What of it differs from packet to packet of a flow.
    #[inline]
    pub(super) fn reads(&self) -> Reads {
        match self {
            Match::TcpFlags { .. } => Reads::TCP_FLAGS,
            Match::Icmp(_) | Match::Icmpv6(_) => Reads::ICMP,
            Match::Length(_) => Reads::LENGTH,
            Match::Ttl(_) => Reads::TTL,
            Match::Dscp(_) => Reads::DSCP,
            Match::Limit(_) | Match::Connections(_) => Reads::LIMIT,
            Match::CtMark(_) => Reads::CT_MARK,
            Match::Status(status) if any_status(*status, CHANGING) => Reads::CT_STATUS,
            _ => Reads::NONE,
        }
    }

    /// Whether fragments of one datagram may give other answers than the whole of it.
    pub(super) fn asks_for_whole(&self) -> bool {
        matches!(
            self,
            Match::SourcePort(_)
                | Match::DestinationPort(_)
                | Match::TcpFlags { .. }
                | Match::Icmp(_)
                | Match::Icmpv6(_)
                | Match::Fragment(_)
                | Match::Length(_)
                | Match::Ttl(_)
                | Match::Dscp(_)
                | Match::Limit(_)
        )
    }

    /// Order of asking: what holds for a whole flow first, so that an answer depends on as little as it can; of
    /// those the cheap ones first; limits last, since asking takes a token.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Match::Absent => 0,
            Match::Family(_) | Match::Protocol(_) | Match::Ingress(_) | Match::Egress(_) => 1,
            Match::Ct { .. }
            | Match::Direction(_)
            | Match::Helper(_)
            | Match::Mark(_)
            | Match::Fragment(_) => 2,
            Match::SourcePort(_) | Match::DestinationPort(_) => 3,
            Match::Source(_) | Match::Destination(_) => 4,
            Match::To(_) | Match::Origin(_) | Match::Original(_) => 5,
            Match::Limit(_) => 9,
            Match::Connections(_) => 8,
            Match::Status(_) => 6,
            _ => 7,
        }
    }

    /// Yes, no, or no such field.
    pub(super) fn answer(&self, ruleset: &Ruleset, view: &View<'_>) -> Option<bool> {
        let packet = view.packet;
        match self {
            Match::Ingress(list) => Some(view.ingress.is_some_and(|id| list.contains(&id))),
            Match::Egress(list) => Some(view.egress.is_some_and(|id| list.contains(&id))),
            Match::To(kinds) => Some(kinds.contains(&view.interfaces.kind(packet.addrs.dst()))),
            Match::Origin(kinds) => Some(kinds.contains(&view.interfaces.kind(packet.addrs.src()))),
            Match::Family(list) => Some(list.contains(&packet.family())),
            Match::Protocol(list) => Some(list.contains(&packet.protocol)),
            Match::Source(addresses) => addresses.contains(ruleset, packet.addrs.src()),
            Match::Destination(addresses) => addresses.contains(ruleset, packet.addrs.dst()),
            Match::SourcePort(ports) => packet.ports().map(|(sport, _)| ports.contains(ruleset, sport)),
            Match::DestinationPort(ports) => packet.ports().map(|(_, dport)| ports.contains(ruleset, dport)),
            Match::Ct { states, status } => Some(
                states.contains(state_of(view)) || flow(view).is_some_and(|f| any_status(f.status, *status)),
            ),
            Match::Direction(list) => flow(view).map(|flow| list.contains(&flow.direction)),
            Match::Status(status) => flow(view).map(|flow| any_status(flow.status, *status)),
            // As nft has it: a flow that was not announced has no such field.
            Match::Helper(list) => Some(list.contains(&flow(view)?.helper?)),
            Match::CtMark(list) => flow(view).map(|flow| any_mark(list, flow.mark)),
            Match::Mark(list) => Some(any_mark(list, view.mark)),
            Match::Original(original) => original.answer(ruleset, view),
            Match::Limit(limit) => Some(view.takes_token(limit)),
            Match::Connections(limit) => Some(view.exceeds(limit)),
            Match::Absent => None,
            _ => self.answer_of_headers(packet),
        }
    }

    /// Of what differs from packet to packet.
    fn answer_of_headers(&self, packet: &Packet) -> Option<bool> {
        match (self, packet.transport) {
            (Match::TcpFlags { set, mask }, Transport::Tcp { flags, .. }) => {
                Some(flags.bits() & mask.bits() == set.bits())
            }
            (Match::Icmp(list), Transport::Icmp { kind, code, .. })
            | (Match::Icmpv6(list), Transport::Icmpv6 { kind, code, .. }) => {
                Some(list.iter().any(|m| m.kind == kind && m.code.is_none_or(|wanted| wanted == code)))
            }
            (Match::Fragment(wanted), _) => {
                Some(matches!(packet.fragment, Fragment::Later { .. }) == *wanted)
            }
            (Match::Length(ranges), _) => Some(ranges.contains(packet.length())),
            (Match::Ttl(ranges), _) => Some(ranges.contains(u16::from(packet.ttl))),
            (Match::Dscp(ranges), _) => Some(ranges.contains(u16::from(packet.tos >> 2))),
            _ => None,
        }
    }
}

/// Status bits that a flow gets or loses while its packets stay in one ct state.
const CHANGING: Status = Status::ASSURED.with(Status::SEEN_REPLY).with(Status::CONFIRMED);

/// The flow that the packet is of, or about.
#[inline]
fn flow<'a>(view: &'a View<'_>) -> Option<&'a CtInfo> {
    view.ct.as_ref().filter(|ct| ct.has_flow())
}

const fn any_status(status: Status, bits: Status) -> bool {
    status.0 & bits.0 != 0
}

fn any_mark(list: &[MarkMatch], mark: u32) -> bool {
    list.iter().any(|m| mark & m.mask == m.value)
}

impl OriginalMatch {
    /// No if any field that is there differs; else nothing if a field is lacking.
    fn answer(&self, ruleset: &Ruleset, view: &View<'_>) -> Option<bool> {
        let original = flow(view)?.original;
        let address = |wanted: &Option<AddressMatch>, address| match wanted {
            Some(wanted) => wanted.contains(ruleset, address),
            None => Some(true),
        };
        let port = |wanted: &Option<PortMatch>, port| match wanted {
            Some(wanted) => wanted.contains(ruleset, port),
            None => true,
        };
        let addresses = address(&self.src, original.src)? && address(&self.dst, original.dst)?;
        Some(addresses && port(&self.sport, original.sport) && port(&self.dport, original.dport))
    }
}
