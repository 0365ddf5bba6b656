//! Policies that wait to be confirmed, and the way back to earlier ones.
//!
//! A policy applied with `--confirm` runs until its time is over. If `sluice confirm` does not come, the one before is
//! applied once more, by this thread or, after a crash, by the next start ([`crate::boot`]). While one waits, no other is
//! applied: there would be two to go back from.

use std::sync::Arc;
use std::time::Duration;

use sluice_api as api;
use sluice_config::PolicySource;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use crate::actor::Actor;
use crate::apply::{ApplyError, Keep};
use crate::boot::{self, Ready};
use crate::control::Control;
use crate::history::Applied;
use crate::lock::locked;

/// Between attempts to go back, where workers do not answer.
const RETRY: Duration = Duration::from_secs(5);

/// Longest time to confirm, in seconds: a day.
const LONGEST: u64 = 86_400;

/// A policy that waits to be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Its number in the history.
    pub(crate) number: u64,
    /// When it goes.
    pub(crate) deadline: Instant,
}

impl Waiting {
    /// One that goes in so many seconds.
    pub(crate) fn new(number: u64, seconds: u64) -> Waiting {
        Waiting { number, deadline: Instant::now() + Duration::from_secs(seconds) }
    }

    /// Seconds that are left, rounded up.
    pub(crate) fn left(&self) -> u64 {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.as_secs() + u64::from(left.subsec_nanos() > 0)
    }
}

impl Control {
    /// The policy that waits to be confirmed is to stay.
    ///
    /// # Errors
    /// None waits, or it could not be noted on disk; then it still waits.
    pub async fn confirm(&self) -> Result<api::ConfirmReply, ApplyError> {
        let _changing = self.changing.lock().await;
        let waiting = (*locked(&self.waiting)).ok_or(ApplyError::NothingWaits)?;
        locked(&self.history).confirm().map_err(ApplyError::State)?;
        self.set_waiting(None);
        locked(&self.sets).keep();
        let digest = locked(&self.policy).digest.clone();
        tracing::info!(digest = digest.get(..12), "policy confirmed");
        Ok(api::ConfirmReply { digest, left: waiting.left() })
    }

    /// Applies a policy of the history once more; goes back from one that waits to be confirmed.
    ///
    /// # Errors
    /// There is no such policy, or as for [`Control::apply`].
    pub async fn rollback(
        &self,
        request: api::RollbackRequest,
        by: &Actor,
    ) -> Result<api::ApplyReply, ApplyError> {
        let confirm = checked(request.confirm)?;
        let _changing = self.changing.lock().await;
        let waits = locked(&self.waiting).is_some();
        let found = {
            let history = locked(&self.history);
            match request.index {
                _ if waits => history.before_unconfirmed().cloned(),
                Some(index) => history.iter().nth(index).cloned(),
                None => {
                    let running = locked(&self.policy).digest.clone();
                    let other =
                        |applied: &&Applied| applied.confirm_by.is_none() && applied.digest != running;
                    history.iter().find(other).cloned()
                }
            }
        };
        let found = found.ok_or(request.index.map_or(ApplyError::NothingBefore, ApplyError::NotInHistory))?;
        let result = async {
            let ready = self.compile_again(found.source).await?;
            if waits {
                return self.leave_unconfirmed(ready, by).await;
            }
            self.in_force(ready, confirm, request.flows, by).await
        };
        self.note(result.await)
    }

    /// Whether another policy may be applied.
    pub(crate) fn nothing_waits(&self) -> Result<(), ApplyError> {
        match *locked(&self.waiting) {
            Some(waiting) => Err(ApplyError::Waiting(waiting.left())),
            None => Ok(()),
        }
    }

    pub(crate) fn set_waiting(&self, waiting: Option<Waiting>) {
        *locked(&self.waiting) = waiting;
        self.waiting_changed.notify_one();
    }

    /// Goes back from policies whose time is over; ends with the runtime.
    pub(crate) async fn watch_waiting(self: Arc<Self>) {
        loop {
            let waiting = *locked(&self.waiting);
            match waiting {
                None => self.waiting_changed.notified().await,
                Some(waiting) => tokio::select! {
                    () = sleep_until(waiting.deadline) => self.time_is_over(waiting).await,
                    () = self.waiting_changed.notified() => {}
                },
            }
        }
    }

    async fn time_is_over(&self, waiting: Waiting) {
        let _changing = self.changing.lock().await;
        // Confirmed, or gone back from, while the lock was waited for.
        if *locked(&self.waiting) != Some(waiting) {
            return;
        }
        let before = locked(&self.history).before_unconfirmed().cloned();
        let Some(before) = before else {
            tracing::error!("the policy was not confirmed, and there is none to go back to: it stays");
            self.set_waiting(None);
            return;
        };
        let by = Actor::Daemon("not confirmed in time");
        let result = async { self.leave_unconfirmed(self.compile_again(before.source).await?, &by).await };
        match self.note(result.await) {
            Ok(_) => tracing::warn!("the policy was not confirmed in time: back to the one before"),
            Err(error) => {
                tracing::error!(%error, "the policy was not confirmed, and going back failed; tried again soon");
                sleep(RETRY).await;
            }
        }
    }

    /// Puts the policy in force that ran before the one that waits. A disk that takes nothing is no reason to stay: what
    /// is there makes the next start go back as well.
    async fn leave_unconfirmed(&self, ready: Ready, by: &Actor) -> Result<api::ApplyReply, ApplyError> {
        let mut reply = self.put_in_force(ready, Keep::IfPossible, by).await?;
        self.set_waiting(None);
        reply.flows_kept = self.flow_count();
        Ok(reply)
    }

    /// Compiles a policy that ran before.
    async fn compile_again(&self, source: PolicySource) -> Result<Ready, ApplyError> {
        let system = locked(&self.system).model.clone();
        let changes = locked(&self.sets).changes();
        let work = spawn_blocking(move || {
            let mut ready = boot::compile_again(&system, &source)?;
            changes.settle(&mut ready);
            Ok(ready)
        });
        let result = work.await.map_err(|_| ApplyError::Unsupported("the compiler failed on this policy"))?;
        result.map_err(ApplyError::Refused)
    }
}

/// The seconds that a policy is given to be confirmed.
pub(crate) fn checked(confirm: Option<u64>) -> Result<Option<u64>, ApplyError> {
    match confirm {
        Some(seconds) if seconds == 0 || seconds > LONGEST => Err(ApplyError::ConfirmTime(seconds)),
        other => Ok(other),
    }
}
