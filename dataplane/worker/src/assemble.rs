//! Deals queues out to workers, and joins workers by rings.
//!
//! Worker w has queue w of every port. Where a device has fewer queues, the workers without a receive queue get their
//! packets handed over, and those without a transmit queue send by way of one that has it.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use sluice_engine::Outlet;
use sluice_engine::counters::WorkerCounters;
use sluice_engine::engine::{Engine, EngineConfig};
use sluice_engine::ids::{InterfaceId, Now, PortId, Tick, WorkerId};
use sluice_engine::message::{Command, Event};
use sluice_engine::world::Interfaces;
use sluice_rte::{Burst, Eal, Error, Mempool, RingConsumer, RxQueue, TxQueue, spsc_ring};

use crate::account::Account;
use crate::capture::Captures;
use crate::clock::Clock;
use crate::config::{Idle, StartConfig};
use crate::exit::{Exit, Way};
use crate::hold::Hold;
use crate::idle::Idler;
use crate::latency::Sampler;
use crate::memory;
use crate::notice::Notices;
use crate::poll::{Input, Worker};
use crate::shell::{Peer, Relay, Shell};
use crate::source::Source;

/// The queues of a device, to be dealt out.
pub(crate) struct Queues {
    pub(crate) outlet: Outlet,
    pub(crate) source: Source,
    pub(crate) rx: Vec<RxQueue>,
    pub(crate) tx: Vec<TxQueue>,
    /// See [`Input::longest`].
    pub(crate) longest: usize,
}

/// One worker's share, able to go to its thread; the engine is made there, so that its memory is near.
pub(crate) struct Seat {
    id: WorkerId,
    inputs: Vec<Input>,
    ports: Vec<Exit>,
    taps: Vec<Option<Exit>>,
    peers: Vec<Option<Peer>>,
    relays: Vec<Relay>,
    rings: Vec<RingConsumer>,
}

/// What all seats are made with.
pub(crate) struct Plan<'a> {
    pub(crate) eal: &'a Eal,
    pub(crate) workers: usize,
    pub(crate) interfaces: &'a Interfaces,
    /// Packets a ring between two workers holds.
    pub(crate) ring_capacity: u32,
    pub(crate) instance: u32,
}

/// What a worker is made with beside its seat.
pub(crate) struct Outfit {
    pub(crate) start: StartConfig,
    pub(crate) workers: u8,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) pool: Mempool,
    pub(crate) hold_capacity: u32,
    pub(crate) commands: Receiver<Command>,
    pub(crate) events: Sender<Event>,
    pub(crate) clock: Clock,
    pub(crate) idle: Idle,
}

impl Plan<'_> {
    /// Deals out all queues, ports first and in their order.
    ///
    /// # Errors
    /// A ring could not be made.
    pub(crate) fn seats(&self, devices: Vec<Queues>) -> Result<Vec<Seat>, Error> {
        let mut seats: Vec<Seat> = (0..self.workers).map(|at| self.empty_seat(at)).collect();
        self.join(&mut seats)?;
        for (number, device) in devices.into_iter().enumerate() {
            self.deal(&mut seats, number, device)?;
        }
        Ok(seats)
    }

    fn empty_seat(&self, at: usize) -> Seat {
        Seat {
            id: WorkerId(u8::try_from(at).unwrap_or(u8::MAX)),
            inputs: Vec::new(),
            ports: Vec::new(),
            taps: self.interfaces.iter().map(|_| None).collect(),
            peers: Vec::new(),
            relays: Vec::new(),
            rings: Vec::new(),
        }
    }

    /// A ring from each worker to each other.
    fn join(&self, seats: &mut [Seat]) -> Result<(), Error> {
        for from in 0..seats.len() {
            for to in 0..seats.len() {
                let peer = if from == to {
                    None
                } else {
                    let name = format!("hand{}_{from}_{to}", self.instance);
                    let (producer, consumer) = spsc_ring(self.eal, &name, self.ring_capacity)?;
                    if let Some(seat) = seats.get_mut(to) {
                        seat.rings.push(consumer);
                    }
                    Some(Peer::new(producer))
                };
                if let Some(seat) = seats.get_mut(from) {
                    seat.peers.push(peer);
                }
            }
        }
        Ok(())
    }

    fn deal(&self, seats: &mut [Seat], number: usize, device: Queues) -> Result<(), Error> {
        let Queues { outlet, source, rx, tx, longest } = device;
        for (at, queue) in rx.into_iter().enumerate() {
            if let Some(seat) = seats.get_mut(at % self.workers) {
                seat.inputs.push(Input { queue, source, longest });
            }
        }
        let queues = tx.len().max(1);
        let mut ways: Vec<Way> = tx.into_iter().take(self.workers).map(Way::Queue).collect();
        for at in ways.len()..self.workers {
            let by = at % queues;
            let name = format!("send{}_{number}_{at}", self.instance);
            let (producer, ring) = spsc_ring(self.eal, &name, self.ring_capacity)?;
            if let Some(seat) = seats.get_mut(by) {
                seat.relays.push(Relay { outlet, ring });
            }
            ways.push(Way::Ring(producer));
        }
        for (seat, way) in seats.iter_mut().zip(ways) {
            seat.take_exit(outlet, Exit::new(way, outlet));
        }
        Ok(())
    }
}

impl Seat {
    /// The worker that sits here.
    pub(crate) fn id(&self) -> WorkerId {
        self.id
    }

    /// Makes the worker, in its own thread.
    pub(crate) fn take(self, outfit: Outfit) -> Worker {
        let world = Arc::clone(&outfit.start.world);
        let engine = EngineConfig {
            worker: self.id,
            workers: outfit.workers,
            flow_capacity: outfit.start.flow_capacity,
            seed: outfit.start.seed,
            budget: outfit.start.budget,
            counters: Arc::clone(&outfit.counters),
            reservations: Some(outfit.start.reservations),
        };
        let mut engine = Engine::new(engine, Arc::clone(&world));
        memory::settle(engine.conntrack().memory(outfit.start.resident_flows));
        let account = Account::new(outfit.counters, &world.interfaces, self.ports.len());
        let interface_ports: Box<[PortId]> =
            world.interfaces.iter().map(|(_, interface)| interface.port).collect();
        Worker {
            id: self.id,
            engine,
            shell: Shell {
                now: Now::default(),
                ports: self.ports,
                taps: self.taps,
                peers: self.peers,
                relays: self.relays,
                hold: Hold::new(outfit.hold_capacity),
                pool: outfit.pool,
                notices: Notices::new(outfit.events),
                account,
                captures: Captures::new(Arc::clone(&world.interfaces)),
            },
            inputs: self.inputs,
            rings: self.rings,
            commands: outfit.commands,
            clock: outfit.clock,
            idler: Idler::new(outfit.idle),
            interface_ports,
            burst: Burst::new(),
            sampler: Sampler::default(),
            unsettled: false,
            swept: Tick(0),
        }
    }

    fn take_exit(&mut self, outlet: Outlet, exit: Exit) {
        match outlet {
            Outlet::Tap(InterfaceId(at)) => {
                if let Some(slot) = self.taps.get_mut(usize::from(at)) {
                    *slot = Some(exit);
                }
            }
            // Dealt out in the order of their numbers.
            Outlet::Wire(_) | Outlet::Hold(_) | Outlet::Worker { .. } => self.ports.push(exit),
        }
    }
}
