//! The line to the workers: commands in, answers matched to who asked.
//!
//! Mailboxes are bounded. A full one is waited for, a little at a time, on the control thread's runtime: a worker that
//! is behind never blocks anything but the request that is for it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};
use sluice_engine::ids::WorkerId;
use sluice_engine::message::{Command, Event, RequestId};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::lock::locked;

/// How long a full mailbox is left alone.
const RETRY: Duration = Duration::from_millis(1);

/// A worker polls its mailbox some thousand times a second even when it sleeps in between.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Why a worker did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// Its thread ended.
    #[error("worker {0} is gone")]
    Gone(u8),
    /// It does not answer.
    #[error("worker {0} did not answer within 5 seconds")]
    Silent(u8),
}

/// All workers' mailboxes.
pub struct Workers {
    mailboxes: Vec<Sender<Command>>,
    requests: Mutex<HashMap<RequestId, oneshot::Sender<Event>>>,
    next: AtomicU64,
}

impl Workers {
    /// Talks to the workers behind `mailboxes`, numbered by their place.
    pub fn new(mailboxes: Vec<Sender<Command>>) -> Workers {
        Workers { mailboxes, requests: Mutex::default(), next: AtomicU64::new(0) }
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = WorkerId> + use<> {
        let count = u8::try_from(self.mailboxes.len()).unwrap_or(u8::MAX);
        (0..count).map(WorkerId)
    }

    /// Puts a command into a worker's mailbox, waiting for room.
    ///
    /// # Errors
    /// The worker is gone, or its mailbox stays full.
    pub async fn send(&self, worker: WorkerId, command: Command) -> Result<(), WorkerError> {
        let gone = WorkerError::Gone(worker.0);
        let mailbox = self.mailboxes.get(usize::from(worker.0)).ok_or(gone)?;
        let mut command = command;
        let sending = async {
            loop {
                match mailbox.try_send(command) {
                    Ok(()) => return Ok(()),
                    Err(TrySendError::Disconnected(_)) => return Err(gone),
                    Err(TrySendError::Full(back)) => command = back,
                }
                sleep(RETRY).await;
            }
        };
        timeout(PATIENCE, sending).await.unwrap_or(Err(WorkerError::Silent(worker.0)))
    }

    /// Puts a command into a worker's mailbox if there is room; else it is lost.
    pub fn try_send(&self, worker: WorkerId, command: Command) {
        if let Some(mailbox) = self.mailboxes.get(usize::from(worker.0)) {
            let _ = mailbox.try_send(command);
        }
    }

    /// Sends a command that is answered, and waits for the answer.
    ///
    /// # Errors
    /// As [`Workers::send`]; and no answer came.
    pub async fn ask(
        &self,
        worker: WorkerId,
        command: impl FnOnce(RequestId) -> Command,
    ) -> Result<Event, WorkerError> {
        let request = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let (sender, answer) = oneshot::channel();
        locked(&self.requests).insert(request, sender);
        let answered = async {
            self.send(worker, command(request)).await?;
            answer.await.map_err(|_| WorkerError::Gone(worker.0))
        };
        let result = timeout(PATIENCE, answered).await.unwrap_or(Err(WorkerError::Silent(worker.0)));
        locked(&self.requests).remove(&request);
        result
    }

    /// Gives an answer to who asked for it; an event that is no answer comes back.
    pub fn deliver(&self, event: Event) -> Option<Event> {
        let request = match &event {
            Event::Listed { request, .. }
            | Event::Deleted { request, .. }
            | Event::Updated { request, .. }
            | Event::Expectations { request, .. } => *request,
            _ => return Some(event),
        };
        if let Some(asker) = locked(&self.requests).remove(&request) {
            // Who asked may have gone away meanwhile.
            let _ = asker.send(event);
        }
        None
    }
}
