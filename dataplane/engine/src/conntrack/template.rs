//! What `raw` asks of the tracker for a packet, before it is looked up: the zone that it is in, and timeouts and helper
//! of a flow that it begins (the kernel's template, as `ct zone set` and `-j CT` attach it).
//!
//! All are the rules' alone to give: a packet that no rule gave any is in zone 0, and its flow has the timeouts of the
//! system file and no helper.
//!
//! Source: Linux `include/net/netfilter/nf_conntrack_zones.h`, nft(8) "ct zone"; observed on Linux 6.18.

use super::info::Direction;
use crate::helper::Assigned;

/// The number of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct ZoneId(pub u16);

/// A zone: a part of the table of its own, for each direction. The same tuple in two zones is two flows. 0 is the zone
/// of all that no rule put into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Zone {
    original: ZoneId,
    reply: ZoneId,
}

/// Timeouts that a rule gives to flows, by their number in [`super::Settings::own_timeouts`], from 1; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct TimeoutsId(pub u16);

/// What rules asked of the tracker. The default asks nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Template {
    /// The zone that the packet is looked up in, and its flow begins in.
    pub zone: Zone,
    /// The timeouts of a flow that it begins.
    pub timeouts: TimeoutsId,
    /// The helper of a flow that it begins.
    pub helper: Option<Assigned>,
}

impl Template {
    /// Whether nothing was asked.
    #[inline]
    pub fn is_none(&self) -> bool {
        *self == Template::default()
    }
}

impl Zone {
    /// Of packets of both directions.
    pub const fn both(id: ZoneId) -> Zone {
        Zone { original: id, reply: id }
    }

    /// Of the original direction alone: answers are in zone 0.
    pub const fn original(id: ZoneId) -> Zone {
        Zone { original: id, reply: ZoneId(0) }
    }

    /// Of the reply direction alone: requests are in zone 0.
    pub const fn reply(id: ZoneId) -> Zone {
        Zone { original: ZoneId(0), reply: id }
    }

    /// That of a direction.
    #[inline]
    pub const fn of(self, direction: Direction) -> ZoneId {
        match direction {
            Direction::Original => self.original,
            Direction::Reply => self.reply,
        }
    }

    /// The one zone of both directions; None where they differ.
    pub const fn whole(self) -> Option<ZoneId> {
        if self.is_directional() { None } else { Some(self.original) }
    }

    /// Whether it is zone 0 both ways.
    #[inline(always)]
    pub const fn is_default(self) -> bool {
        self.original.0 | self.reply.0 == 0
    }

    /// Whether the directions differ, so that a flow is in two zones.
    #[inline(always)]
    pub(super) const fn is_directional(self) -> bool {
        self.original.0 != self.reply.0
    }

    /// As it is kept beside a flow.
    pub(super) const fn to_words(self) -> [u16; 2] {
        [self.original.0, self.reply.0]
    }

    /// What [`Zone::to_words`] made.
    pub(super) const fn from_words([original, reply]: [u16; 2]) -> Zone {
        Zone { original: ZoneId(original), reply: ZoneId(reply) }
    }
}

impl ZoneId {
    /// What the zone adds to a tuple's hash by exclusive or: nothing for zone 0.
    #[inline(always)]
    pub(super) const fn spread(self) -> u64 {
        (self.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
