//! Each change carries when it was asked for and a random number: late ones and second ones are refused.
//!
//! TLS keeps others from repeating what they overheard. This keeps the asker's own side from it: a relay or a script that
//! tries again what did get through, a request that lay in a queue while the policy moved on. What is remembered is
//! bounded; a stamp is forgotten when its time alone would refuse it. Nothing is remembered from before the start, so
//! what was asked for before it is refused too.

use std::collections::{HashSet, VecDeque};

use super::Refused;

/// How far a change's time may be from now, either way, in seconds: clocks differ, and large policies take a while.
pub(crate) const WINDOW: u64 = 300;

/// Changes that are remembered: 13 a second over the whole window.
const REMEMBERED: usize = 8192;

/// When a change was asked for, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Seconds since 1970, by the asker's clock.
    pub(crate) time: u64,
    /// Random.
    pub(crate) number: u128,
}

/// The changes of the last minutes.
pub(crate) struct Stamps {
    /// In the order of arrival; each with the second from which its time alone refuses it.
    order: VecDeque<(u64, u128)>,
    seen: HashSet<u128>,
    started: u64,
}

impl Stamps {
    /// None yet, at `now`, seconds since 1970.
    pub(crate) fn new(now: u64) -> Stamps {
        Stamps { order: VecDeque::new(), seen: HashSet::new(), started: now }
    }

    /// Admits a change, once.
    ///
    /// # Errors
    /// It is too old or of the future, was seen before, or there are more than can be remembered.
    pub(crate) fn admit(&mut self, now: u64, stamp: Stamp) -> Result<(), Refused> {
        if stamp.time.abs_diff(now) > WINDOW || stamp.time < self.started {
            return Err(Refused::Stale);
        }
        if self.seen.contains(&stamp.number) {
            return Err(Refused::Replay);
        }
        // Those behind one that lasts longer wait for it: at most for twice the window.
        while self.order.front().is_some_and(|(end, _)| *end < now) {
            if let Some((_, number)) = self.order.pop_front() {
                self.seen.remove(&number);
            }
        }
        if self.order.len() >= REMEMBERED {
            return Err(Refused::Changes);
        }
        self.order.push_back((stamp.time + WINDOW, stamp.number));
        self.seen.insert(stamp.number);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn stamp(time: u64, number: u128) -> Stamp {
        Stamp { time, number }
    }

    #[test]
    fn late_and_second_changes_are_refused() {
        let mut stamps = Stamps::new(NOW - 1000);
        let cases = [
            (NOW, stamp(NOW, 1), Ok(())),
            (NOW, stamp(NOW, 1), Err(Refused::Replay)),
            (NOW, stamp(NOW + 1, 1), Err(Refused::Replay)),
            (NOW, stamp(NOW - WINDOW, 2), Ok(())),
            (NOW, stamp(NOW - WINDOW - 1, 3), Err(Refused::Stale)),
            (NOW, stamp(NOW + WINDOW, 4), Ok(())),
            (NOW, stamp(NOW + WINDOW + 1, 5), Err(Refused::Stale)),
            // Remembered as long as its time would let it in.
            (NOW + WINDOW, stamp(NOW + WINDOW, 4), Err(Refused::Replay)),
            (NOW + 2 * WINDOW, stamp(NOW + WINDOW, 4), Err(Refused::Replay)),
            (NOW + 2 * WINDOW + 1, stamp(NOW + WINDOW, 4), Err(Refused::Stale)),
            (NOW + 2 * WINDOW + 1, stamp(NOW + 2 * WINDOW, 6), Ok(())),
        ];
        for (now, stamp, expected) in cases {
            assert_eq!(stamps.admit(now, stamp), expected, "{stamp:?} at {now}");
        }
        assert_eq!(stamps.seen.len(), 1, "the rest is forgotten");
    }

    #[test]
    fn what_was_asked_for_before_the_start_is_refused() {
        let mut stamps = Stamps::new(NOW);
        assert_eq!(stamps.admit(NOW + 5, stamp(NOW - 1, 1)), Err(Refused::Stale));
        assert_eq!(stamps.admit(NOW + 5, stamp(NOW, 1)), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut stamps = Stamps::new(NOW);
        for number in 0..REMEMBERED as u128 {
            assert_eq!(stamps.admit(NOW, stamp(NOW, number)), Ok(()));
        }
        assert_eq!(stamps.admit(NOW, stamp(NOW, u128::MAX)), Err(Refused::Changes));
        assert_eq!(stamps.admit(NOW + WINDOW + 1, stamp(NOW + WINDOW, u128::MAX)), Ok(()));
        assert_eq!((stamps.order.len(), stamps.seen.len()), (1, 1));
    }
}
