//! What a worker does between rounds that found nothing.

use std::thread;
use std::time::Duration;

use crate::config::Idle;

/// Empty rounds before the CPU is offered to others.
const ROUNDS_BEFORE_YIELD: u32 = 32;
/// Empty rounds before the worker sleeps.
const ROUNDS_BEFORE_SLEEP: u32 = 96;
/// The kernel adds its timer slack of 50 µs: about 100 µs in all, which is what a command waits at the most.
const SLEEP: Duration = Duration::from_micros(50);

/// Counts empty rounds and waits accordingly.
pub(crate) struct Idler {
    idle: Idle,
    empty_rounds: u32,
}

impl Idler {
    pub(crate) fn new(idle: Idle) -> Idler {
        Idler { idle, empty_rounds: 0 }
    }

    /// The round did something.
    #[inline]
    pub(crate) fn busy(&mut self) {
        self.empty_rounds = 0;
    }

    /// The round did nothing.
    pub(crate) fn empty(&mut self) {
        self.empty_rounds = self.empty_rounds.saturating_add(1);
        match self.idle {
            Idle::Yield if self.empty_rounds > ROUNDS_BEFORE_SLEEP => thread::sleep(SLEEP),
            Idle::Yield if self.empty_rounds > ROUNDS_BEFORE_YIELD => thread::yield_now(),
            _ => std::hint::spin_loop(),
        }
    }
}
