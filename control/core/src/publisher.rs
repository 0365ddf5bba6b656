//! The one place that changes what workers run on: a new [`World`], its generation, and the wait until all have it.
//!
//! Changes are made one at a time, each from the latest world, so none is lost. Neighbours are published without a new
//! generation and without waiting: they change far more often, and nothing depends on when exactly.

use std::sync::{Arc, Mutex};

use sluice_engine::conntrack::Reservations;
use sluice_engine::ids::{Generation, WorkerId};
use sluice_engine::message::Command;
use sluice_engine::world::{Neighbour, NeighbourKey, Neighbours, World};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::lock::locked;
use crate::workers::{PATIENCE, WorkerError, Workers};

/// What all workers run on, or are about to.
pub struct Publisher {
    workers: Arc<Workers>,
    current: Mutex<Arc<World>>,
    /// Made when the first policy translates, before any worker runs on it.
    reservations: Arc<Reservations>,
    /// Held while worlds are sent, so that all workers get them in one order.
    sending: tokio::sync::Mutex<()>,
    /// How many worlds each worker was sent, and how many it adopted: it adopts them in order.
    sent: Mutex<Vec<u64>>,
    adopted: watch::Sender<Vec<Adopted>>,
}

/// What a worker said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Worlds that it adopted.
    pub count: u64,
    /// The generation that it runs on.
    pub generation: Generation,
}

impl Publisher {
    /// Starts from the world that the workers were started with.
    pub fn new(workers: Arc<Workers>, world: Arc<World>, reservations: Arc<Reservations>) -> Publisher {
        let count = workers.ids().count();
        let adopted = Adopted { count: 0, generation: world.generation };
        Publisher {
            workers,
            current: Mutex::new(world),
            reservations,
            sending: tokio::sync::Mutex::default(),
            sent: Mutex::new(vec![0; count]),
            adopted: watch::Sender::new(vec![adopted; count]),
        }
    }

    /// The latest world; workers may be a moment behind.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&locked(&self.current))
    }

    /// Whose answers are whose, where flows are translated on several workers.
    pub(crate) fn reservations(&self) -> &Arc<Reservations> {
        &self.reservations
    }

    /// Changes the world under a new generation; returns when every worker runs on it, with what was before.
    ///
    /// # Errors
    /// A worker does not take it. The change is in force all the same for those that do: there is no way back that
    /// would not need the same worker.
    pub async fn publish(
        &self,
        change: impl FnOnce(&mut World),
    ) -> Result<(Generation, Arc<World>), WorkerError> {
        let sending = self.sending.lock().await;
        let old = self.world();
        let mut world = World::clone(&old);
        world.generation = Generation(old.generation.0.wrapping_add(1));
        change(&mut world);
        if world.ruleset.moves_flows() && self.workers.ids().count() > 1 {
            self.reservations.prepare();
        }
        if world.ruleset.lends_endpoints() {
            self.reservations.prepare_endpoints();
        }
        let generation = world.generation;
        let sent = self.send(Arc::new(world)).await;
        drop(sending);
        sent?;
        self.all_adopted().await?;
        Ok((generation, old))
    }

    /// Publishes the table of neighbours under a new epoch.
    ///
    /// # Errors
    /// A worker does not take it.
    pub async fn publish_neighbours(&self, list: Vec<(NeighbourKey, Neighbour)>) -> Result<(), WorkerError> {
        let _sending = self.sending.lock().await;
        let old = self.world();
        let epoch = old.neighbours.epoch.wrapping_add(1);
        let mut world = World::clone(&old);
        world.neighbours = Arc::new(Neighbours::new(epoch, list));
        self.send(Arc::new(world)).await
    }

    /// A worker adopted the next of the worlds that it was sent.
    pub fn adopted(&self, worker: WorkerId, generation: Generation) {
        self.adopted.send_modify(|adopted| {
            if let Some(adopted) = adopted.get_mut(usize::from(worker.0)) {
                *adopted = Adopted { count: adopted.count + 1, generation };
            }
        });
    }

    /// What each worker runs on.
    pub fn progress(&self) -> Vec<Adopted> {
        self.adopted.borrow().clone()
    }

    async fn send(&self, world: Arc<World>) -> Result<(), WorkerError> {
        *locked(&self.current) = Arc::clone(&world);
        let mut result = Ok(());
        for worker in self.workers.ids() {
            match self.workers.send(worker, Command::Adopt(Arc::clone(&world))).await {
                Ok(()) => {
                    if let Some(sent) = locked(&self.sent).get_mut(usize::from(worker.0)) {
                        *sent += 1;
                    }
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    async fn all_adopted(&self) -> Result<(), WorkerError> {
        let goal = locked(&self.sent).clone();
        let mut adopted = self.adopted.subscribe();
        let arrived =
            |adopted: &Vec<Adopted>| adopted.iter().zip(&goal).all(|(adopted, goal)| adopted.count >= *goal);
        let waiting = timeout(PATIENCE, adopted.wait_for(arrived)).await;
        if waiting.is_ok() {
            return Ok(());
        }
        let behind = self.progress().iter().zip(&goal).position(|(adopted, goal)| adopted.count < *goal);
        let worker = behind.and_then(|worker| u8::try_from(worker).ok()).unwrap_or(u8::MAX);
        Err(WorkerError::Silent(worker))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use crossbeam_channel::{Receiver, bounded};

    use super::*;

    /// Workers that adopt what they are sent, as real ones do.
    fn a_publisher(workers: usize) -> (Arc<Publisher>, Vec<Receiver<Command>>) {
        let (senders, receivers) = (0..workers).map(|_| bounded(2)).unzip();
        let world = World {
            generation: Generation(1),
            interfaces: Arc::default(),
            fib: Arc::default(),
            neighbours: Arc::default(),
            ruleset: Arc::default(),
            settings: Arc::default(),
        };
        let workers = Arc::new(Workers::new(senders));
        let reservations = Arc::new(Reservations::new(16));
        (Arc::new(Publisher::new(workers, Arc::new(world), reservations)), receivers)
    }

    fn run(publisher: &Arc<Publisher>, receivers: Vec<Receiver<Command>>) {
        for (worker, receiver) in receivers.into_iter().enumerate() {
            let publisher = Arc::clone(publisher);
            thread::spawn(move || {
                for command in receiver {
                    let Command::Adopt(world) = command else { continue };
                    publisher.adopted(WorkerId(worker as u8), world.generation);
                }
            });
        }
    }

    #[tokio::test]
    async fn a_change_is_published_when_every_worker_has_it() {
        let (publisher, receivers) = a_publisher(3);
        run(&publisher, receivers);
        for epoch in 0..20 {
            publisher.publish_neighbours(Vec::new()).await.unwrap();
            let (generation, old) = publisher.publish(|_| {}).await.unwrap();
            assert_eq!((generation.0, old.neighbours.epoch), (2 + epoch, 1 + epoch));
            assert!(publisher.progress().iter().all(|adopted| adopted.generation == generation));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_does_not_answer_is_named() {
        let (publisher, receivers) = a_publisher(1);
        assert_eq!(publisher.publish(|_| {}).await.err(), Some(WorkerError::Silent(0)));
        drop(receivers);
        assert_eq!(publisher.publish(|_| {}).await.err(), Some(WorkerError::Gone(0)));
    }
}
