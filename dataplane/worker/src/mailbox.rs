//! Commands from control, a few a round, and what follows from a new world: packets on hold are looked at again.

use std::sync::Arc;

use crossbeam_channel::TryRecvError;
use sluice_engine::Origin;
use sluice_engine::ids::{Millis, WorkerId};
use sluice_engine::message::{Command, DELETE_STEP, Event};
use sluice_engine::world::{NeighbourKey, NeighbourState, World};
use sluice_rte::Mbuf;

use crate::poll::{Worker, frame, port};
use crate::shell::{Fate, Keys};
use crate::source::{Source, Tag};

/// Commands taken in one round: the queues fill meanwhile.
const COMMANDS_A_ROUND: usize = 4;

/// Next hops whose packets on hold are settled in one round.
const NEIGHBOURS_A_ROUND: usize = 16;

/// How often packets on hold are looked at for their timeout.
const SWEEP_INTERVAL: Millis = Millis(100);

impl Worker {
    /// Takes some commands, but only one that works through flows, since that takes some ten microseconds; false after
    /// [`Command::Stop`], or when control is gone.
    pub(crate) fn mailbox(&mut self) -> bool {
        for _ in 0..COMMANDS_A_ROUND {
            // One answer may wait for room: until it is gone, nothing is taken that would make another.
            if !self.shell.notices.clear() {
                return true;
            }
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Ok(command) => {
                    let is_long = matches!(
                        command,
                        Command::List { .. }
                            | Command::Delete { .. }
                            | Command::Update { .. }
                            | Command::Expectations { .. }
                    );
                    self.obey(command);
                    if is_long {
                        return true;
                    }
                }
                Err(TryRecvError::Empty) => return true,
            }
        }
        true
    }

    fn obey(&mut self, command: Command) {
        let (worker, now) = (self.id, self.shell.now);
        match command {
            Command::Adopt(world) => self.adopt(worker, world),
            Command::Originate(interface, bytes) => {
                self.engine.originate(now, interface, &bytes, &mut self.shell);
            }
            Command::List { request, cursor, filter, mut batch } => {
                let next = self.engine.conntrack().list(now, cursor, &filter, &mut batch);
                self.shell.notices.answer(Event::Listed { request, worker, next, batch });
            }
            Command::Delete { request, cursor, filter, mut batch } => {
                let budget = if batch.capacity() > 0 { batch.capacity() } else { DELETE_STEP };
                let (deleted, next) =
                    self.engine.conntrack().delete(now, cursor, &filter, budget, &mut batch);
                self.shell.notices.answer(Event::Deleted { request, worker, next, deleted, batch });
            }
            Command::DeleteListed { request, flows } => {
                let deleted = self.engine.conntrack().delete_listed(now, &flows);
                let (next, batch) = (None, Vec::new());
                self.shell.notices.answer(Event::Deleted { request, worker, next, deleted, batch });
            }
            Command::Update { request, cursor, filter, change, mut batch } => {
                let next = self.engine.conntrack().change(now, cursor, &filter, &change, &mut batch);
                self.shell.notices.answer(Event::Updated { request, worker, next, batch });
            }
            Command::Expectations { request, cursor, filter, delete, mut batch } => {
                let conntrack = self.engine.conntrack();
                let next = conntrack.expectations(now, cursor, &filter, delete, &mut batch);
                self.shell.notices.answer(Event::Expectations { request, worker, next, batch });
            }
            Command::Watch(watch) => self.engine.conntrack().watch(watch),
            Command::Capture(order) => self.shell.captures.begin(*order),
            Command::Trace(order) => self.engine.trace(order.map(|order| *order)),
            Command::EndCapture(id) => self.shell.captures.end(id),
            Command::Stop => {}
        }
    }

    fn adopt(&mut self, worker: WorkerId, world: Arc<World>) {
        let (generation, epoch) = (world.generation, world.neighbours.epoch);
        let old = self.engine.adopt(world);
        self.unsettled |= old.neighbours.epoch != epoch;
        self.shell.notices.answer(Event::Adopted { worker, generation, old });
    }

    /// Looks after packets on hold: sends on, or gives up, those whose next hop is known better since the last change, and
    /// gives up those that waited for too long. A few next hops a round, for there may be a thousand.
    pub(crate) fn tend_hold(&mut self) {
        if self.shell.hold.len() == 0 {
            self.unsettled = false;
            return;
        }
        if self.unsettled {
            self.unsettled = self.settle_known();
        }
        let now = self.shell.now.tick;
        if now.since(self.swept) >= SWEEP_INTERVAL {
            self.swept = now;
            for _ in 0..NEIGHBOURS_A_ROUND {
                let Some((key, count)) = self.shell.hold.overdue(now) else { break };
                self.settle(key, count, false);
            }
        }
    }

    /// Settles some next hops that the world knows; true if there are more.
    fn settle_known(&mut self) -> bool {
        let world = Arc::clone(self.engine.world());
        for _ in 0..NEIGHBOURS_A_ROUND {
            let found = self.shell.hold.find(|key| world.neighbours.get(key).is_some());
            let Some((key, count)) = found else { return false };
            let state = world.neighbours.get(&key).map(|neighbour| neighbour.state);
            self.settle(key, count, matches!(state, Some(NeighbourState::Reachable(_))));
        }
        true
    }

    /// Has the engine finish the `count` packets on hold for a next hop.
    fn settle(&mut self, key: NeighbourKey, count: u32, reachable: bool) {
        for _ in 0..count {
            let Some(mut mbuf) = self.shell.hold.pop(&key) else { return };
            let (origin, ingress) = (origin_of_held(&mbuf, key), Tag::of(&mbuf).ingress());
            let port = port(Source::of(&mbuf), &self.interface_ports);
            let mut frame = frame(&mut mbuf, origin, port);
            frame.ingress = ingress;
            if reachable {
                self.engine.release(self.shell.now, &mut frame, key);
            } else {
                self.engine.unreachable(self.shell.now, &mut frame, key, &mut self.shell);
                if self.shell.captures.are_running() {
                    self.shell.captures.given_up(key.interface, &frame);
                }
            }
            let mut keys = Keys::new();
            let fate = Fate::of(&frame, &mut keys);
            self.shell.dispatch(mbuf, &fate, &keys);
        }
    }
}

/// Packets on hold were counted when they arrived.
fn origin_of_held(mbuf: &Mbuf, key: NeighbourKey) -> Origin {
    match Source::of(mbuf) {
        Source::Wire(_) => Origin::HandedOver,
        Source::Local(interface) => Origin::LocalHandedOver(interface),
        Source::Made => Origin::LocalHandedOver(key.interface),
    }
}
