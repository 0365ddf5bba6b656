//! What rules look at, and what they did: the seam between the packet path and the policy.

use sluice_wire::Packet;

use crate::conntrack::{ConnLimit, CtInfo, Tally, Template};
use crate::ids::{InterfaceId, Now, WorkerId};
use crate::limit::Limit;
use crate::ruleset::{CounterId, RuleId};
use crate::world::Interfaces;

/// A packet at a hook.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// Its headers.
    pub packet: &'a Packet,
    /// The interface it came in by; None for the box's own.
    pub ingress: Option<InterfaceId>,
    /// The interface it leaves by; None where that is not known yet, and for packets to the box.
    pub egress: Option<InterfaceId>,
    /// What the tracker says; None in `raw`, which is before it.
    pub ct: Option<CtInfo>,
    /// Its mark, 0 at first; changed by rules.
    pub mark: u32,
    /// The box's addresses, for `to` and `origin`.
    pub interfaces: &'a Interfaces,
    /// The time of the burst, for `limit`.
    pub now: Now,
    /// Who evaluates, and counts what [`Effects::counted`] has no room for.
    pub worker: WorkerId,
    /// What `connlimit` counts; None before the tracker.
    pub tally: Option<&'a Tally<'a>>,
    /// The packet is not there, see [`crate::ruleset::Rehearsal`]: nothing is counted, no token taken.
    pub rehearsed: bool,
}

impl View<'_> {
    /// Whether the packet is within a limit, of which it uses up a token.
    pub(super) fn takes_token(&self, limit: &Limit) -> bool {
        let addrs = &self.packet.addrs;
        self.rehearsed || limit.take(self.now.nanos, addrs.src(), addrs.dst())
    }

    /// Whether there are more live flows than a limit has it; the packet's is counted from now on.
    pub(super) fn exceeds(&self, limit: &ConnLimit) -> bool {
        let addrs = &self.packet.addrs;
        self.tally.is_some_and(|tally| tally.exceeds(limit, addrs.src(), addrs.dst()))
    }
}

/// What becomes of a packet at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Accept,
    /// Its flow is translated as this rule says, see [`crate::ruleset::Ruleset::translation`].
    Translate(RuleId),
    /// It is gone.
    Drop,
    /// It is gone, and its sender is told.
    Reject(Rejection),
}

/// How a sender is told; of the packet's own family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// A TCP reset; the packet is TCP.
    TcpReset,
    /// ICMPv4 destination unreachable with this code.
    Icmp(u8),
    /// ICMPv6 destination unreachable with this code.
    Icmpv6(u8),
}

/// What the rules that a packet met did, summed over the hooks it passes: hand the same value to each.
#[derive(Clone, Debug, Default)]
pub struct Effects {
    /// A `notrack` rule matched.
    pub notrack: bool,
    /// One that says that ICMP errors about the packet are RELATED.
    pub relates: bool,
    /// What rules asked of the tracker.
    pub template: Template,
    /// The flow's new mark.
    pub ct_mark: Option<u32>,
    /// Rules and policies to count this packet for, and every later one that the same answer is used for.
    pub counted: Counted,
    /// `log` rules that matched and were within their limit.
    pub logs: Logs,
    /// What was read that differs from packet to packet of a flow.
    pub reads: Reads,
    /// The rule that decided at the last hook; None: its policy did, or it let the packet pass.
    pub rule: Option<RuleId>,
}

impl Effects {
    /// Notes a counter; None if there is no room left.
    pub(super) fn note(&mut self, id: CounterId) -> Option<()> {
        self.counted.push(id).then_some(())
    }

    /// Whether nothing is to be done about the packet beside counting it for [`Effects::counted`].
    pub(crate) fn is_countable(&self) -> bool {
        self.logs.is_empty() && !self.counted.overflowed && self.ct_mark.is_none()
    }

    /// Whether the same answer holds for every packet of the flow with the same direction, ingress interface, ct
    /// state and generation. Fragments must never be given a stored answer: `fragment`, ports and the like are
    /// taken to be the same in all packets.
    pub fn is_storable(&self) -> bool {
        self.reads.is_empty() && self.logs.is_empty() && !self.counted.overflowed && !self.notrack
    }
}

/// Counters in the order they were met. Those beyond [`Counted::ROOM`] are counted at once, and the answer is not
/// storable.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    ids: [CounterId; Counted::ROOM],
    len: u8,
    overflowed: bool,
}

impl Counted {
    /// As many as jump into each other, and some that do not decide.
    pub const ROOM: usize = 16;

    /// The counters.
    #[inline]
    pub fn ids(&self) -> &[CounterId] {
        self.ids.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// False if there is no room left.
    #[inline]
    pub(super) fn push(&mut self, id: CounterId) -> bool {
        let slot = self.ids.get_mut(usize::from(self.len));
        match slot {
            Some(slot) => {
                *slot = id;
                self.len += 1;
            }
            None => self.overflowed = true,
        }
        !self.overflowed
    }
}

/// `log` rules that matched, at most [`Logs::ROOM`] for a packet; more are not logged.
#[derive(Clone, Debug, Default)]
pub struct Logs {
    ids: [RuleId; Logs::ROOM],
    len: u8,
}

impl Logs {
    /// Lines that one packet can cause.
    pub const ROOM: usize = 8;

    /// The rules.
    #[inline]
    pub fn ids(&self) -> &[RuleId] {
        self.ids.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Empties it, once the lines are written.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    pub(super) fn push(&mut self, rule: RuleId) {
        if let Some(slot) = self.ids.get_mut(usize::from(self.len)) {
            *slot = rule;
            self.len += 1;
        }
    }
}

/// Properties that differ from packet to packet of a flow, as a set: an answer that looked at one is not stored.
///
/// Not among them: a packet's mark, which rules alone set; `fragment`, since fragments have no stored answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Reads(u16);

impl Reads {
    /// Nothing.
    pub const NONE: Reads = Reads(0);
    /// TCP flags.
    pub const TCP_FLAGS: Reads = Reads(1);
    /// The length of the datagram.
    pub const LENGTH: Reads = Reads(1 << 1);
    /// TTL or hop limit.
    pub const TTL: Reads = Reads(1 << 2);
    /// Differentiated services code point.
    pub const DSCP: Reads = Reads(1 << 3);
    /// ICMP type or code.
    pub const ICMP: Reads = Reads(1 << 4);
    /// A rate, or how many flows are live.
    pub const LIMIT: Reads = Reads(1 << 5);
    /// The flow's mark, which rules and `conntrack -U` change.
    pub const CT_MARK: Reads = Reads(1 << 6);
    /// Status bits that change during a flow's life.
    pub const CT_STATUS: Reads = Reads(1 << 7);

    /// Whether nothing was read.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of `other` was read.
    #[inline]
    pub const fn intersects(self, other: Reads) -> bool {
        self.0 & other.0 != 0
    }

    /// Both.
    #[inline]
    pub const fn union(self, other: Reads) -> Reads {
        Reads(self.0 | other.0)
    }
}
