//! A trace under way: who is told of packets that workers follow, and how that gets there.
//!
//! One at a time: a worker follows each packet once. Each worker has a short queue; what finds no room is counted, and said.
//! The trace ends when it is dropped, as with its client's connection.

mod describe;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use sluice_api as api;
use sluice_engine::message::Command;
use sluice_engine::trace::{Trace, TraceOrder, TraceSink};
use tokio::time::{Instant, sleep};

use crate::capture::{FilterError, take_filter};
use crate::control::{Control, unix_time};
use crate::workers::WorkerError;

/// Traces that a worker may leave between two visits.
const QUEUE: usize = 256;

/// How often queues are visited.
const VISIT: Duration = Duration::from_millis(10);

/// A reader hears something at least so often, so that a connection over which nothing moves is a dead one.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// Packets a second, where the request does not say, and at the most.
const RATE: u32 = 100;
const FASTEST: u32 = 10_000;

/// Why a trace does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// Another one runs.
    #[error("a trace is under way already, and there may be one at a time")]
    Another,
    /// Its filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A worker cannot be told.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// One worker's queue.
#[derive(Debug)]
struct Queue {
    sender: Sender<Trace>,
    receiver: Receiver<Trace>,
    lost: AtomicU64,
    limited: AtomicBool,
}

impl Queue {
    fn new() -> Queue {
        let (sender, receiver) = bounded(QUEUE);
        Queue { sender, receiver, lost: AtomicU64::new(0), limited: AtomicBool::new(false) }
    }
}

// The receiver is never waited on, so there is nobody to wake.
impl TraceSink for Queue {
    fn take(&self, trace: &Trace) {
        if self.sender.try_send(trace.clone()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn limited(&self) {
        self.limited.store(true, Ordering::Relaxed);
    }
}

/// A trace under way, until dropped.
pub(crate) struct Tracing {
    control: Arc<Control>,
    queues: Vec<Arc<Queue>>,
    /// When a line is due, be it an empty one.
    next_sign: Instant,
}

impl Tracing {
    /// Begins one.
    ///
    /// # Errors
    /// One runs already, the filter is refused, a worker is gone.
    pub(crate) async fn begin(
        control: &Arc<Control>,
        request: &api::TraceRequest,
    ) -> Result<Tracing, TraceError> {
        let (filter, interface) = take_filter(&request.filter, &control.publisher.world().interfaces)?;
        let workers = &control.workers;
        if control.tracing.swap(true, Ordering::Relaxed) {
            return Err(TraceError::Another);
        }
        let queues: Vec<Arc<Queue>> = workers.ids().map(|_| Arc::new(Queue::new())).collect();
        let tracing = Tracing { control: Arc::clone(control), queues, next_sign: Instant::now() };
        let rate = if request.rate == 0 { RATE } else { request.rate.min(FASTEST) };
        let share = rate.div_ceil(u32::try_from(tracing.queues.len()).unwrap_or(1).max(1));
        for (worker, queue) in workers.ids().zip(&tracing.queues) {
            let sink = Arc::clone(queue) as Arc<dyn TraceSink>;
            let order = TraceOrder { filter: filter.clone(), interface, rate: share, sink };
            workers.send(worker, Command::Trace(Some(Box::new(order)))).await?;
        }
        Ok(tracing)
    }

    /// The next lines; none where there were none for long.
    pub(crate) async fn next(&mut self) -> Vec<api::TraceLine> {
        loop {
            let lines = self.collect();
            if !lines.is_empty() || Instant::now() >= self.next_sign {
                self.next_sign = Instant::now() + SIGN_OF_LIFE;
                return lines;
            }
            sleep(VISIT).await;
        }
    }

    fn collect(&self) -> Vec<api::TraceLine> {
        let mut traces: Vec<Trace> =
            self.queues.iter().flat_map(|queue| queue.receiver.try_iter().take(QUEUE)).collect();
        // Of one time, that of the worker that handed over comes first.
        traces.sort_by_key(|trace| (trace.at, describe::is_handed_over(trace)));
        let now = (self.control.devices.nanos(), unix_time());
        let told = |trace: &Trace| {
            let ago = now.0.saturating_sub(trace.at) as f64 / 1e9;
            let time = ((now.1 - ago) * 1e6) as u64;
            api::TraceLine::Trace(Box::new(describe::describe(&self.control, trace, time)))
        };
        let mut lines: Vec<api::TraceLine> = traces.iter().map(told).collect();
        let missing = api::TraceMissing {
            lost: self.queues.iter().map(|queue| queue.lost.swap(0, Ordering::Relaxed)).sum(),
            limited: self.queues.iter().any(|queue| queue.limited.swap(false, Ordering::Relaxed)),
        };
        if missing != api::TraceMissing::default() {
            lines.push(api::TraceLine::Missing(missing));
        }
        lines
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let control = Arc::clone(&self.control);
        // Traces are dropped by the runtime's own tasks; when it ends, so do the workers.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                for worker in control.workers.ids() {
                    // A worker that is gone follows nothing.
                    let _ = control.workers.send(worker, Command::Trace(None)).await;
                }
                control.tracing.store(false, Ordering::Relaxed);
            });
        }
    }
}
