//! What a packet is to the tracker, and what rules see of its flow (kernel: `ip_conntrack_info`, `ip_conntrack_status`).

use std::net::{IpAddr, Ipv4Addr};

use sluice_wire::Family;

use super::pending::Pending;
use crate::helper::Helper;
use crate::ids::{Generation, InterfaceId};
use crate::verdict::DropReason;

/// How a packet relates to a flow: what `ct` matches in rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtState {
    /// Begins a flow, or repeats its beginning before any answer.
    New,
    /// Belongs to a flow that was answered.
    Established,
    /// Begins a flow that another one announced, or is an ICMP error about a flow.
    Related,
    /// Belongs to no flow and can begin none.
    Invalid,
    /// Was told not to be tracked, or is neighbour discovery.
    Untracked,
}

/// Which way a packet goes in its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// As the flow's first packet.
    Original,
    /// The other way.
    Reply,
}

impl Direction {
    /// The other way.
    #[inline]
    pub const fn opposite(self) -> Direction {
        match self {
            Direction::Original => Direction::Reply,
            Direction::Reply => Direction::Original,
        }
    }

    /// 0 for original, 1 for reply: the place in arrays by direction.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What became of a flow so far; bits, named as `conntrack -u` has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Status(pub u16);

impl Status {
    /// Began because another flow announced it.
    pub const EXPECTED: Status = Status(1 << 0);
    /// Was answered.
    pub const SEEN_REPLY: Status = Status(1 << 1);
    /// Goes both ways for good: not evicted from a full table.
    pub const ASSURED: Status = Status(1 << 2);
    /// Is in the table.
    pub const CONFIRMED: Status = Status(1 << 3);
    /// Its source is translated.
    pub const SNAT: Status = Status(1 << 4);
    /// Its destination is translated.
    pub const DNAT: Status = Status(1 << 5);
    /// A helper made its bytes longer or shorter, so that sequence numbers differ on its way.
    pub const SHIFTED: Status = Status(1 << 6);
    /// Is leaving the table.
    pub const DYING: Status = Status(1 << 9);
    /// Its timeout was set by hand, and packets leave it alone.
    pub const FIXED_TIMEOUT: Status = Status(1 << 10);
    /// Is in another zone than 0, which lies beside it.
    pub const ZONED: Status = Status(1 << 11);
    /// Has timeouts that a rule gave it, whose number lies beside it.
    pub const OWN_TIMEOUTS: Status = Status(1 << 12);
    /// Its packets and bytes are counted, since accounting was on when it began.
    pub const ACCOUNTED: Status = Status(1 << 13);
    /// Has a helper, which lies beside it.
    pub const HELPED: Status = Status(1 << 7);
    /// Of flows that are not told by their tuple alone.
    pub(super) const SPECIAL: Status = Status::SNAT.with(Status::DNAT).with(Status::ZONED);

    /// Is counted by rules with a `connlimit`.
    pub(super) const LIMITED: Status = Status(1 << 14);

    /// Is counted for its source's quota.
    pub(super) const COUNTED: Status = Status(1 << 15);

    /// Whether packets leave with another tuple than they came with.
    #[inline(always)]
    pub const fn is_translated(self) -> bool {
        self.0 & (Status::SNAT.0 | Status::DNAT.0) != 0
    }

    /// Whether all bits of `other` are set.
    #[inline]
    pub const fn contains(self, other: Status) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[inline]
    pub const fn intersects(self, other: Status) -> bool {
        self.0 & other.0 != 0
    }

    /// These bits but for those of `other`.
    #[inline]
    pub const fn without(self, other: Status) -> Status {
        Status(self.0 & !other.0)
    }

    /// These bits and those of `other`.
    #[inline]
    pub const fn with(self, other: Status) -> Status {
        Status(self.0 | other.0)
    }
}

/// A flow in this worker's table. Good until the next change of the table; every use of a stale one is safe, and
/// answered as if the flow were gone or were the one that took its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowHandle {
    pub(super) family: Family,
    pub(super) index: u32,
}

/// What a look-up found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The flow.
    pub flow: FlowHandle,
    /// Which way the packet goes in it.
    pub direction: Direction,
}

/// Where a packet meets the tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackHook {
    /// It came in: checksums are verified.
    Prerouting,
    /// The box or the router made it: they are not.
    Output,
}

/// What the tracker says of a packet.
#[derive(Debug)]
#[must_use]
#[allow(clippy::large_enum_variant)] // a flow that begins is moved by value: a box would be an allocation for each
pub enum Tracked {
    /// Of a flow in the table.
    Flow {
        /// The flow.
        flow: FlowHandle,
        /// Which way the packet goes in it.
        direction: Direction,
        /// NEW while the flow is unanswered, else ESTABLISHED.
        state: CtState,
    },
    /// Begins a flow, which enters the table at [`super::Conntrack::confirm`]. Must be given there or to
    /// [`super::Conntrack::abandon`].
    New(Pending),
    /// An ICMP error about a packet of a flow.
    Related {
        /// The flow.
        flow: FlowHandle,
        /// Which way the *error* goes: reply for an error about a packet of the original direction, as the kernel
        /// has it (`IP_CT_RELATED_REPLY`).
        direction: Direction,
    },
    /// An ICMP error about a packet that is not tracked and was let out: that packet. The tracker itself never says so.
    RelatedUntracked(OriginalTuple),
    /// Never tracked: neighbour and multicast listener discovery.
    Untracked,
    /// Fits no flow and can begin none.
    Invalid,
    /// Dropped by the tracker itself, before any rule.
    Drop(DropReason),
}

/// What rules look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CtInfo {
    /// How the packet relates to the flow.
    pub state: CtState,
    /// Which way it goes.
    pub direction: Direction,
    /// What became of the flow so far; a first answer already counts.
    pub status: Status,
    /// The flow's mark.
    pub mark: u32,
    /// The flow's first packet.
    pub original: OriginalTuple,
    /// The helper that announced the flow.
    pub helper: Option<Helper>,
}

/// The tuple of a flow's first packet, before NAT. Ports are 0 for protocols without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalTuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
}

/// Addresses and ports of one direction of a flow, as its packets come. Ports are 0 for protocols without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
}

impl Ends {
    /// Where its packets come from.
    pub const fn source(&self) -> (IpAddr, u16) {
        (self.src, self.sport)
    }

    /// Where they go.
    pub const fn destination(&self) -> (IpAddr, u16) {
        (self.dst, self.dport)
    }
}

/// A decision by its number in the pipeline's decision table; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ActionId(pub u32);

/// What the pipeline keeps in a flow for one direction: the compiled action, and what it holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// What it was decided under. Both directions of a flow share one: storing under another forgets the
    /// opposite direction's.
    pub generation: Generation,
    /// What it was decided for.
    pub ingress: InterfaceId,
    /// What it was decided for.
    pub state: CtState,
    /// The decision.
    pub action: ActionId,
}

impl Stored {
    /// Whether anything is stored.
    pub fn is_something(&self) -> bool {
        self.action != ActionId(0)
    }
}

impl CtInfo {
    /// A packet that no flow stands behind.
    pub const fn without_flow(state: CtState) -> CtInfo {
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let original = OriginalTuple { src: nobody, dst: nobody, sport: 0, dport: 0 };
        let direction = Direction::Original;
        CtInfo { state, direction, status: Status(0), mark: 0, original, helper: None }
    }

    /// An error about a packet that no flow stands behind: rules see that packet where they ask for the flow.
    pub const fn about_untracked(original: OriginalTuple) -> CtInfo {
        let (state, direction) = (CtState::Related, Direction::Reply);
        CtInfo { state, direction, status: Status(0), mark: 0, original, helper: None }
    }

    /// Whether the packet belongs to a flow, or is an error about one; if not, only `state` means anything.
    #[inline]
    pub const fn has_flow(&self) -> bool {
        !matches!(self.state, CtState::Invalid | CtState::Untracked)
    }
}
