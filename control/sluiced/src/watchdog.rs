//! Tells systemd's watchdog that the router lives: every worker has polled since it was last told, and control answers.
//!
//! A worker that hangs, in a driver or in a bug, forwards nothing while the process looks healthy; so systemd, which the
//! watchdog then is not told, ends the process with a core dump and starts it anew (`WatchdogSec=` in the unit).

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use sluice_control::Control;
use tokio::time::{MissedTickBehavior, interval};

/// Looks this often in the time that systemd waits, so that one look that comes late is no reason to be ended.
const LOOKS: u32 = 4;

/// Runs until the runtime ends; returns at once where no watchdog is asked for.
pub(crate) async fn feed(control: Arc<Control>) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut tick = interval((patience / LOOKS).max(Duration::from_millis(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = Looks::new(control.polls());
    loop {
        tick.tick().await;
        let stuck = looks.stuck(control.polls());
        if stuck.is_empty() {
            crate::run::notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!(workers = ?stuck, "do not poll: systemd's watchdog is not told that the router lives");
        }
    }
}

/// What each worker had polled when it was last looked at.
struct Looks(Vec<u64>);

impl Looks {
    fn new(polls: Vec<u64>) -> Looks {
        // The first look is at once: nobody is stuck at it.
        Looks(polls.into_iter().map(|polls| polls.wrapping_sub(1)).collect())
    }

    /// The workers that have not polled since the last look.
    fn stuck(&mut self, polls: Vec<u64>) -> Vec<usize> {
        let before = std::mem::replace(&mut self.0, polls);
        let alike = before.iter().zip(&self.0).enumerate().filter(|(_, (before, now))| before == now);
        alike.map(|(worker, _)| worker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_has_not_polled_since_the_last_look_is_stuck() {
        let mut looks = Looks::new(vec![10, 10, 0]);
        for (polls, stuck) in [
            (vec![10, 11, 0], vec![]),
            (vec![11, 12, 1], vec![]),
            (vec![11, 13, 1], vec![0, 2]),
            (vec![12, 13, 2], vec![1]),
        ] {
            assert_eq!(looks.stuck(polls.clone()), stuck, "{polls:?}");
        }
    }
}
