//! Who watches flows, and how events get from the workers to them.
//!
//! Each worker has a queue of its own to leave events in, bounded and made when somebody watches for the first time; a
//! task visits the queues and passes on what it finds to all watchers at once. What finds no room, in a queue or with a
//! watcher that reads too slowly, is lost, counted, and the watcher is told so: no packet ever waits for one. While
//! nobody watches, workers are told so, and no task runs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use sluice_engine::conntrack::{EventKinds, EventSink, ExpectationEvent, FlowEvent, Watch};
use sluice_engine::ids::WorkerId;
use sluice_engine::message::Command;
use tokio::sync::broadcast;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{MissedTickBehavior, interval};

use crate::control::unix_time;
use crate::lock::locked;
use crate::workers::{WorkerError, Workers};

/// Events that a worker may leave between two visits: some 2 MB.
const QUEUE: usize = 8192;

/// Events that a watcher may be behind; as much again for all of them together.
const BACKLOG: usize = 8192;

/// How often queues are visited.
const VISIT: Duration = Duration::from_millis(5);

/// Events that are carried from one queue before others have their turn.
const CARRIED: usize = 256;

/// What watchers are given.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::large_enum_variant)] // nearly all are events, and each is copied into a ring
pub(crate) enum Item {
    /// Something happened at this worker, at this time in microseconds since 1970.
    Event(WorkerId, u64, Told),
    /// Events were lost here.
    Lost(u64),
}

/// What happened.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::large_enum_variant)] // of nearly the same size, and copied into a ring
pub(crate) enum Told {
    /// To a flow.
    Flow(FlowEvent),
    /// To an expectation of a helper.
    Expectation(ExpectationEvent),
}

impl Told {
    /// When, in nanoseconds of the workers' clock.
    fn at(&self) -> u64 {
        match self {
            Told::Flow(event) => event.at,
            Told::Expectation(event) => event.at,
        }
    }
}

/// A worker's queue.
#[derive(Debug)]
struct Queue {
    sender: Sender<Told>,
    receiver: Receiver<Told>,
    lost: AtomicU64,
}

impl Queue {
    fn new() -> Queue {
        let (sender, receiver) = bounded(QUEUE);
        Queue { sender, receiver, lost: AtomicU64::new(0) }
    }

    fn put(&self, told: Told) {
        if self.sender.try_send(told).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Forgets what is left of an earlier watch.
    fn clear(&self) {
        self.receiver.try_iter().for_each(drop);
        self.lost.store(0, Ordering::Relaxed);
    }
}

impl EventSink for Queue {
    // The receiver is never waited on, so there is nobody to wake.
    fn take(&self, event: &FlowEvent) {
        self.put(Told::Flow(*event));
    }

    fn take_expectation(&self, event: &ExpectationEvent) {
        self.put(Told::Expectation(*event));
    }
}

/// All who watch.
pub(crate) struct Watchers {
    workers: Arc<Workers>,
    all: Mutex<All>,
    /// Held while workers are told, so that they hear of the last change last.
    telling: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct All {
    wanted: HashMap<u64, EventKinds>,
    next: u64,
    queues: Vec<Arc<Queue>>,
    feed: Option<Feed>,
}

/// What runs while somebody watches.
struct Feed {
    sender: broadcast::Sender<Item>,
    carrying: JoinHandle<()>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

/// One who watches, until dropped.
pub(crate) struct Watcher {
    id: u64,
    events: broadcast::Receiver<Item>,
    watchers: Arc<Watchers>,
}

impl Watchers {
    /// Nobody.
    pub(crate) fn new(workers: Arc<Workers>) -> Arc<Watchers> {
        Arc::new(Watchers { workers, all: Mutex::default(), telling: tokio::sync::Mutex::default() })
    }

    /// One more, for events of these kinds.
    ///
    /// # Errors
    /// A worker cannot be told.
    pub(crate) async fn join(self: &Arc<Self>, kinds: EventKinds) -> Result<Watcher, WorkerError> {
        let watcher = self.enter(kinds);
        self.tell().await?;
        Ok(watcher)
    }

    fn enter(self: &Arc<Self>, kinds: EventKinds) -> Watcher {
        let mut all = locked(&self.all);
        if all.queues.is_empty() {
            all.queues = self.workers.ids().map(|_| Arc::new(Queue::new())).collect();
        }
        let All { queues, feed, .. } = &mut *all;
        let events = feed.get_or_insert_with(|| Feed::start(queues)).sender.subscribe();
        let id = all.next;
        all.next += 1;
        all.wanted.insert(id, kinds);
        Watcher { id, events, watchers: Arc::clone(self) }
    }

    /// Tells the workers what is wanted now.
    async fn tell(&self) -> Result<(), WorkerError> {
        let _telling = self.telling.lock().await;
        let (kinds, queues) = {
            let all = locked(&self.all);
            let kinds = all.wanted.values().copied().reduce(EventKinds::union);
            (kinds, all.queues.clone())
        };
        for (worker, queue) in self.workers.ids().zip(queues) {
            let watch = kinds.map(|kinds| Watch { kinds, sink: queue });
            self.workers.send(worker, Command::Watch(watch)).await?;
        }
        Ok(())
    }
}

impl Watcher {
    /// The next events, or how many are missing; None when there will be no more.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        match self.events.recv().await {
            Ok(item) => Some(item),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(Item::Lost(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// What is there already.
    pub(crate) fn ready(&mut self) -> Option<Item> {
        match self.events.try_recv() {
            Ok(item) => Some(item),
            Err(broadcast::error::TryRecvError::Lagged(lost)) => Some(Item::Lost(lost)),
            Err(_) => None,
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut all = locked(&self.watchers.all);
        all.wanted.remove(&self.id);
        if all.wanted.is_empty() {
            all.feed = None;
        }
        drop(all);
        let watchers = Arc::clone(&self.watchers);
        // Watchers are dropped by the runtime's own tasks; when it ends, so do the workers.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { watchers.tell().await });
        }
    }
}

impl Feed {
    fn start(queues: &[Arc<Queue>]) -> Feed {
        queues.iter().for_each(|queue| queue.clear());
        let (sender, _) = broadcast::channel(BACKLOG);
        let carrying = tokio::spawn(carry(queues.to_vec(), sender.clone()));
        Feed { sender, carrying }
    }
}

/// Visits the queues for ever.
async fn carry(queues: Vec<Arc<Queue>>, watchers: broadcast::Sender<Item>) {
    let mut visit = interval(VISIT);
    visit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut found = Vec::with_capacity(CARRIED * queues.len());
    loop {
        visit.tick().await;
        // A flood of events leaves others on this thread their turn.
        while carry_some(&queues, &mut found, &watchers) {
            yield_now().await;
        }
    }
}

/// Carries some events from each queue, oldest first; whether there may be more.
fn carry_some(
    queues: &[Arc<Queue>],
    found: &mut Vec<(WorkerId, Told)>,
    watchers: &broadcast::Sender<Item>,
) -> bool {
    found.clear();
    let (mut lost, mut more) = (0, false);
    for (worker, queue) in (0..).map(WorkerId).zip(queues) {
        let before = found.len();
        found.extend(queue.receiver.try_iter().take(CARRIED).map(|event| (worker, event)));
        more |= found.len() - before == CARRIED;
        lost += queue.lost.swap(0, Ordering::Relaxed);
    }
    found.sort_by_key(|(_, event)| event.at());
    // The newest happened just now, the others so much earlier as their own clock says.
    let newest = found.last().map_or(0, |(_, event)| event.at());
    let now = (unix_time() * 1e6) as u64;
    for (worker, event) in found.drain(..) {
        let time = now - (newest - event.at()) / 1000;
        // That nobody listens any more is no error.
        let _ = watchers.send(Item::Event(worker, time, event));
    }
    if lost > 0 {
        let _ = watchers.send(Item::Lost(lost));
    }
    more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn workers_are_told_what_all_watchers_want_together() {
        let (mailbox, commands) = bounded(16);
        let watchers = Watchers::new(Arc::new(Workers::new(vec![mailbox])));
        let wanted = || match commands.try_recv() {
            Ok(Command::Watch(watch)) => watch.map(|watch| watch.kinds),
            other => panic!("{other:?}"),
        };
        use sluice_engine::conntrack::EventKind::{Destroy, New};
        let (new, destroy) = (EventKinds::default().with(New), EventKinds::default().with(Destroy));
        let first = watchers.join(new).await.unwrap();
        assert_eq!(wanted(), Some(new));
        let second = watchers.join(destroy).await.unwrap();
        assert_eq!(wanted(), Some(new.with(Destroy)));
        drop(first);
        yield_now().await;
        assert_eq!(wanted(), Some(destroy));
        drop(second);
        yield_now().await;
        assert_eq!(wanted(), None);
        assert!(locked(&watchers.all).feed.is_none());
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_told() {
        use crate::control::tests::flow;
        let event = |at| FlowEvent {
            kind: sluice_engine::conntrack::EventKind::New,
            flow: flow(1),
            by_user: false,
            at,
        };
        let (mailbox, _commands) = bounded(16);
        let watchers = Watchers::new(Arc::new(Workers::new(vec![mailbox])));
        let mut watcher = watchers.join(EventKinds::ALL).await.unwrap();
        let queue = Arc::clone(&locked(&watchers.all).queues[0]);
        for at in 0..QUEUE as u64 + 7 {
            queue.take(&event(at));
        }
        let (mut seen, mut lost) = (0, 0);
        while lost == 0 {
            match watcher.next().await {
                Some(Item::Event(..)) => seen += 1,
                Some(Item::Lost(n)) => lost = n,
                None => panic!("it goes on"),
            }
        }
        assert!(lost == 7 && seen > 0, "{seen} seen, {lost} lost");
    }
}
