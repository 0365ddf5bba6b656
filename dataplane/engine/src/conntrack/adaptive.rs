//! Timeouts that shrink as the table fills, as pf's `adaptive.start` and `adaptive.end` have it: a flow's timeout is
//! multiplied by (end − entries) / (end − start). Off by default, which is netfilter's meaning.
//!
//! pf reckons a flow's end anew whenever it looks at it. Here the factor is applied when a packet gives a flow its next
//! deadline; flows that have no packet are looked at by a sweep while the factor is below one ([`super::evict`]).
//!
//! Source: OpenBSD pf.conf(5), `set timeout`; what it does, not how.

use super::flow::{Flow, Track};
use super::sctp::SctpState;
use super::settings::Timeouts;
use super::tcp::TcpState;
use super::tuple::Address;
use crate::ids::Millis;

/// Between which numbers of flows timeouts shrink from whole to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// Flows in the table up to which timeouts are whole.
    pub start: u64,
    /// Flows at which nothing is left of them; more than `start`.
    pub end: u64,
}

impl Adaptive {
    /// The factor while the table holds so many flows.
    pub fn factor(self, entries: u64) -> Factor {
        if entries <= self.start {
            return Factor::WHOLE;
        }
        let left = u128::from(self.end.saturating_sub(entries));
        let range = u128::from(self.end.saturating_sub(self.start).max(1));
        let part = left * u128::from(Factor::WHOLE.0) / range;
        Factor(u32::try_from(part).unwrap_or(Factor::WHOLE.0).min(Factor::WHOLE.0))
    }
}

/// A part of a timeout, in 65,536ths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor(pub u32);

impl Factor {
    /// Timeouts are as they are set.
    pub const WHOLE: Factor = Factor(1 << 16);

    /// What a timeout shrinks to. A second is left, unless it was less, so that an answer still finds its flow.
    #[inline(always)]
    pub(super) fn of(self, timeout: Millis) -> Millis {
        if self == Factor::WHOLE { timeout } else { self.part_of(timeout) }
    }

    #[cold]
    fn part_of(self, timeout: Millis) -> Millis {
        let part = (u64::from(timeout.0) * u64::from(self.0)) >> 16;
        let part = u32::try_from(part).unwrap_or(timeout.0);
        Millis(part.max(1000.min(timeout.0)))
    }
}

impl Default for Factor {
    fn default() -> Factor {
        Factor::WHOLE
    }
}

impl<A: Address> Flow<A> {
    /// The timeout that a packet would give it now, if it changed nothing else.
    pub(super) fn whole_timeout(&self, timeouts: &Timeouts) -> Millis {
        use super::info::Status;
        let replied = self.status.contains(Status::SEEN_REPLY);
        match self.track {
            Track::Tcp(_) => TcpState::from_number(self.state).timeout(&timeouts.tcp),
            Track::Udp { .. } if self.status.contains(Status::ASSURED) => timeouts.udp_stream,
            Track::Udp { .. } => timeouts.udp,
            Track::Sctp(_) => SctpState::from_number(self.state).timeout(&timeouts.sctp),
            Track::Gre if replied => timeouts.gre_stream,
            Track::Gre => timeouts.gre,
            Track::Icmp => timeouts.icmp,
            Track::Icmpv6 => timeouts.icmpv6,
            Track::Generic => timeouts.generic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_that_of_pf() {
        // Between 6,000 and 12,000 flows, as `set timeout { adaptive.start 6000, adaptive.end 12000 }` in pf.conf(5).
        let adaptive = Adaptive { start: 6000, end: 12_000 };
        for (entries, seconds) in [
            (0, 600),
            (6000, 600),
            (6001, 599),
            (7500, 450),
            (9000, 300),
            (11_999, 1),
            (12_000, 1),
            (20_000, 1),
        ] {
            let timeout = adaptive.factor(entries).of(Millis::from_secs(600));
            assert_eq!(timeout.0 / 1000, seconds, "{entries} entries");
        }
    }

    #[test]
    fn no_timeout_grows_and_none_is_nothing() {
        let none = Adaptive { start: 0, end: 1 }.factor(9);
        assert_eq!(
            (none.of(Millis(30_000)), none.of(Millis(10)), none.of(Millis(0))),
            (Millis(1000), Millis(10), Millis(0))
        );
        assert_eq!(Factor::WHOLE.of(Millis::MAX), Millis::MAX);
        assert_eq!(Adaptive { start: 9, end: 9 }.factor(10), Factor(0));
    }
}
