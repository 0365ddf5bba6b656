//! What is remembered of the last segment, and of a SYN that was let through without being believed: a byte.

use crate::conntrack::info::Direction;

/// More of the last segment, and of an ignored SYN: eight bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last(u8);

impl Default for Last {
    fn default() -> Last {
        Last(Last::NO_SCALE)
    }
}

impl Last {
    /// In place of the window scale (0 to 14): the ignored SYN had none.
    const NO_SCALE: u8 = 0x0f;
    /// The ignored SYN permitted SACK.
    pub(super) const SACK: u8 = 0x10;
    /// A SYN was let through in LAST_ACK: the answer may be a challenge ACK.
    pub(super) const CHALLENGE: u8 = 0x20;
    /// Both sides sent a SYN.
    pub(super) const SIMULTANEOUS: u8 = 0x40;
    /// The last segment went in the reply direction.
    pub(super) const REPLY: u8 = 0x80;

    /// Whether a bit is set.
    pub(super) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// Sets a bit, or clears it.
    pub(super) fn set(&mut self, bit: u8, on: bool) {
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }

    /// Which way the last segment went.
    #[inline(always)]
    pub(super) fn direction(self) -> Direction {
        if self.has(Last::REPLY) { Direction::Reply } else { Direction::Original }
    }

    /// The window scale that an ignored SYN offered.
    pub(super) fn scale(self) -> Option<u8> {
        (self.0 & Last::NO_SCALE != Last::NO_SCALE).then_some(self.0 & Last::NO_SCALE)
    }

    /// Notes the window scale that an ignored SYN offers.
    pub(super) fn set_scale(&mut self, scale: Option<u8>) {
        self.0 = self.0 & !Last::NO_SCALE | scale.unwrap_or(Last::NO_SCALE) & Last::NO_SCALE;
    }

    /// Forgets all but which way the last segment went.
    pub(super) fn forget(&mut self) {
        self.0 = self.0 & Last::REPLY | Last::NO_SCALE;
    }
}
