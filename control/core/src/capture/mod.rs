//! Captures under way: the pages between them and the workers, and the pcapng that is made of what comes.
//!
//! A capture has pages for each worker, made when it begins and no more. It takes full ones when its client has taken
//! what was there before; if the client reads slowly, pages stay full, and workers count what they lose. It ends when it
//! is dropped, as with its client's connection.

mod pcapng;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};
use sluice_api as api;
use sluice_engine::bpf::{BpfError, Instruction, Program};
use sluice_engine::capture::{CaptureId, Copied, LONGEST, Order, PAGE, Pages};
use sluice_engine::ids::InterfaceId;
use sluice_engine::message::Command;
use sluice_engine::world::Interfaces;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::control::Control;
use crate::lock::locked;
use crate::workers::{WorkerError, Workers};

/// Captures at once.
const MOST: usize = 4;

/// Pages of each worker and capture: 2 MB.
const PAGES: usize = 32;

/// How often full pages are looked for.
const VISIT: Duration = Duration::from_millis(5);

/// How often a capture tells how many packets there were, and were lost.
const STATISTICS: Duration = Duration::from_millis(250);

/// Bytes of pcapng that are handed on at once.
const CHUNK: usize = 256 << 10;

/// Why a capture does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaptureError {
    /// Others run.
    #[error("{MOST} captures are under way, and there may be no more")]
    TooMany,
    /// Its filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A worker cannot be told.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}

/// Why a filter is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// The program.
    #[error(transparent)]
    Program(#[from] BpfError),
    /// The interface.
    #[error("there is no interface {0:?}")]
    Interface(String),
}

/// The captures under way.
#[derive(Debug, Default)]
pub(crate) struct Captures(Mutex<BTreeSet<u32>>);

/// Takes a filter in: verifies its program, finds its interface.
///
/// # Errors
/// There is no such interface, or the program is refused.
pub(crate) fn take_filter(
    filter: &api::PacketFilter,
    interfaces: &Interfaces,
) -> Result<(Option<Arc<Program>>, Option<InterfaceId>), FilterError> {
    let instruction = |i: &api::BpfInstruction| Instruction { code: i.0, jt: i.1, jf: i.2, k: i.3 };
    let program: Vec<Instruction> = filter.program.iter().map(instruction).collect();
    let program = if program.is_empty() { None } else { Some(Arc::new(Program::new(&program)?)) };
    let find = |name: &String| {
        let found = interfaces.iter().find(|(_, interface)| interface.name == *name);
        found.map(|(id, _)| id).ok_or_else(|| FilterError::Interface(name.clone()))
    };
    Ok((program, filter.interface.as_ref().map(find).transpose()?))
}

/// One worker's pages of one capture.
#[derive(Debug)]
struct Queue {
    empty: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    full: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    matched: AtomicU64,
    lost: AtomicU64,
}

impl Queue {
    fn new() -> Queue {
        let queue = Queue {
            empty: bounded(PAGES),
            full: bounded(PAGES),
            matched: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        };
        for _ in 0..PAGES {
            queue.give_back(Vec::with_capacity(PAGE));
        }
        queue
    }

    fn give_back(&self, mut page: Vec<u8>) {
        page.clear();
        // There is room for all that there are.
        let _ = self.empty.0.try_send(page);
    }
}

// The receivers are never waited on, so there is nobody to wake.
impl Pages for Queue {
    fn empty(&self) -> Option<Vec<u8>> {
        self.empty.1.try_recv().ok()
    }

    fn filled(&self, page: Vec<u8>) {
        let _ = self.full.0.try_send(page);
    }

    fn count(&self, lost: bool) {
        // One writer: a load and a store.
        let add = |counter: &AtomicU64| counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        add(&self.matched);
        if lost {
            add(&self.lost);
        }
    }
}

/// A capture under way, until dropped.
pub(crate) struct Capture {
    id: CaptureId,
    control: Arc<Control>,
    queues: Vec<Arc<Queue>>,
    visits: tokio::time::Interval,
    /// What its file begins with, until that is handed on.
    head: Option<Vec<u8>>,
    interfaces: u32,
    statistics_due: Instant,
    begun: u64,
}

impl Capture {
    /// Begins one.
    ///
    /// # Errors
    /// Too many run, the filter is refused, a worker is gone.
    pub(crate) async fn begin(
        control: &Arc<Control>,
        request: &api::CaptureRequest,
    ) -> Result<Capture, CaptureError> {
        let world = control.publisher.world();
        let (filter, interface) = take_filter(&request.filter, &world.interfaces)?;
        let snaplen = if request.snaplen == 0 { LONGEST } else { request.snaplen.min(LONGEST) };
        let workers = &control.workers;
        let queues: Vec<Arc<Queue>> = workers.ids().map(|_| Arc::new(Queue::new())).collect();
        let capture = Capture {
            id: control.captures.enter().ok_or(CaptureError::TooMany)?,
            control: Arc::clone(control),
            queues,
            visits: visits(),
            head: Some(pcapng::head(&world.interfaces, &request.filter.expression, snaplen)),
            interfaces: u32::try_from(world.interfaces.iter().count()).unwrap_or(u32::MAX),
            statistics_due: Instant::now() + STATISTICS,
            begun: unix_nanos(),
        };
        for (worker, queue) in workers.ids().zip(&capture.queues) {
            let order = Order {
                id: capture.id,
                filter: filter.clone(),
                interface,
                drops: request.drops,
                snaplen,
                pages: Arc::clone(queue) as Arc<dyn Pages>,
            };
            workers.send(worker, Command::Capture(Box::new(order))).await?;
        }
        Ok(capture)
    }

    /// The next blocks of the file, once there are any.
    pub(crate) async fn next(&mut self) -> Vec<u8> {
        if let Some(head) = self.head.take() {
            return head;
        }
        let mut out = Vec::new();
        loop {
            // The first is there at once, so what was left over from before goes on without a pause.
            self.collect(&mut out);
            if Instant::now() >= self.statistics_due {
                self.statistics_due = Instant::now() + STATISTICS;
                self.tell_statistics(&mut out);
            }
            if !out.is_empty() {
                return out;
            }
            self.visits.tick().await;
        }
    }

    /// Adds what workers left, oldest first as far as it is there.
    fn collect(&self, out: &mut Vec<u8>) {
        let mut pages = Vec::new();
        let mut room = CHUNK;
        while room > 0 {
            let before = pages.len();
            for queue in &self.queues {
                if let Ok(page) = queue.full.1.try_recv() {
                    room = room.saturating_sub(page.len());
                    pages.push((queue, page));
                }
            }
            if pages.len() == before {
                break;
            }
        }
        let mut copies = Vec::new();
        for (_, page) in &pages {
            let mut rest = page.as_slice();
            while let Some(copy) = Copied::read(&mut rest) {
                copies.push(copy);
            }
        }
        copies.sort_by_key(|(copied, _)| copied.at);
        // Both clocks are read as near to each other as can be: the workers' drifts from that of the day.
        let ahead = unix_nanos().wrapping_sub(self.control.devices.nanos());
        for (copied, bytes) in copies {
            pcapng::packet(out, &copied, copied.at.wrapping_add(ahead), bytes);
        }
        for (queue, page) in pages {
            queue.give_back(page);
        }
    }

    fn tell_statistics(&self, out: &mut Vec<u8>) {
        let sum = |field: fn(&Queue) -> &AtomicU64| {
            self.queues.iter().map(|queue| field(queue).load(Ordering::Relaxed)).sum()
        };
        let statistics = pcapng::Statistics {
            begun: self.begun,
            now: unix_nanos(),
            matched: sum(|queue| &queue.matched),
            lost: sum(|queue| &queue.lost),
        };
        pcapng::statistics(out, self.interfaces, &statistics);
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let (control, id) = (Arc::clone(&self.control), self.id);
        // Captures are dropped by the runtime's own tasks; when it ends, so do the workers.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                end(&control.workers, id).await;
                // Only now: workers have room for as many as there are.
                control.captures.leave(id);
            });
        }
    }
}

async fn end(workers: &Workers, id: CaptureId) {
    for worker in workers.ids() {
        // A worker that is gone captures nothing.
        let _ = workers.send(worker, Command::EndCapture(id)).await;
    }
}

impl Captures {
    /// A number for one more; None if there are too many.
    fn enter(&self) -> Option<CaptureId> {
        let mut running = locked(&self.0);
        let free = (0..MOST as u32).find(|id| !running.contains(id))?;
        running.insert(free);
        Some(CaptureId(free))
    }

    fn leave(&self, id: CaptureId) {
        locked(&self.0).remove(&id.0);
    }
}

fn visits() -> tokio::time::Interval {
    let mut visits = interval(VISIT);
    visits.set_missed_tick_behavior(MissedTickBehavior::Delay);
    visits
}

/// Nanoseconds since 1970.
fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
