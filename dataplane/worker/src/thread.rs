//! A worker's thread: pinned, known to DPDK, and never gone without a word.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::abort;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, Sender};
use sluice_engine::message::Event;
use sluice_rte::Eal;

use crate::assemble::{Outfit, Seat};
use crate::error::StartError;

/// Where a worker works, and whom it tells that it does.
pub(crate) struct Post {
    pub(crate) eal: Arc<Eal>,
    /// The CPU.
    pub(crate) core: usize,
    pub(crate) ready: Sender<Result<(), StartError>>,
}

/// Starts a worker's thread.
///
/// # Errors
/// The system has no thread to give.
pub(crate) fn start(seat: Seat, outfit: Outfit, post: Post) -> Result<JoinHandle<()>, StartError> {
    let worker = usize::from(seat.id().0);
    let body = move || {
        // A worker that dies takes its flows with it, and the packets of its queues. Better none than half a firewall: whoever
        // supervises the process starts it again. The panic's own message was printed before this one.
        if catch_unwind(AssertUnwindSafe(|| work(seat, outfit, &post))).is_err() {
            tracing::error!(worker, "a worker panicked: aborting");
            abort();
        }
    };
    let spawned = Builder::new().name(format!("worker-{worker}")).spawn(body);
    spawned.map_err(|error| StartError::Worker { worker, reason: format!("no thread for it: {error}") })
}

/// Waits for one worker more to poll.
///
/// # Errors
/// Why it could not.
pub(crate) fn wait_until_polling(ready: &Receiver<Result<(), StartError>>) -> Result<(), StartError> {
    let gone = StartError::Config("a worker ended before it polled".to_owned());
    ready.recv().unwrap_or(Err(gone))
}

fn work(seat: Seat, outfit: Outfit, post: &Post) {
    let id = seat.id();
    let failed = |reason: String| StartError::Worker { worker: usize::from(id.0), reason };
    if !core_affinity::set_for_current(CoreId { id: post.core }) {
        let _ = post.ready.send(Err(failed(format!("cannot be pinned to core {}", post.core))));
        return;
    }
    // Dropped last, after everything that holds packets.
    let _registration = match post.eal.register_thread() {
        Ok(registration) => registration,
        Err(error) => {
            let _ = post.ready.send(Err(failed(error.to_string())));
            return;
        }
    };
    let events = outfit.events.clone();
    let mut worker = seat.take(outfit);
    worker.run(|| {
        let _ = post.ready.send(Ok(()));
    });
    drop(worker);
    // If nobody listens any more, nobody needs to know.
    let _ = events.try_send(Event::Stopped(id));
}
