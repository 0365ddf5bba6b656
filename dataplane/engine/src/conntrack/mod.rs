//! Connection tracking: one worker's shard of flows, with netfilter's meaning of every state.
//!
//! The pipeline makes a [`Key`] of each packet of a burst, asks for the memory of all their flows
//! ([`Conntrack::prefetch`], [`Conntrack::candidate`], [`Conntrack::prefetch_flow`]), and has each judged in order by
//! [`Conntrack::track`] (the kernel's `nf_conntrack_in`). A flow begins as [`Pending`] and enters the table at
//! [`Conntrack::confirm`], when no rule dropped its first packet.
//!
//! | file | what |
//! |---|---|
//! | `tuple` | a packet's identity and its hash |
//! | `table`, `index`, `wheel`, `flow` | memory: flows, where they are, when they run out |
//! | `shared` | what both families' tables share |
//! | `track` | what is common to all protocols: find, begin, refresh |
//! | `tcp`, `udp`, `icmp`, `sctp`, `gre` | one protocol each |
//! | `icmp_error` | errors about packets of a flow |
//! | `nat` | the other tuple of flows that are translated |
//! | `template`, `aside` | zones and timeouts that rules give, and where they are kept |
//! | `help`, `shift` | what is kept of flows that have a helper, and of streams that one made longer |
//! | `expect` | connections that helpers announced |
//! | `budget`, `evict` | `conntrack.max` over all workers, and what gives way when it is reached |
//! | `quota`, `adaptive` | most flows of a source; timeouts that shrink as the table fills |
//! | `connections`, `cells` | flows that rules with a `connlimit` count; counts by key that all workers share |
//! | `record`, `filter`, `walk` | listing, deleting, changing |
//! | `events` | what happens to flows, for who watches |
//! | `class` | gauges by protocol and state |
//!
//! Source: Linux `net/netfilter/nf_conntrack_core.c`, as observed.

mod adaptive;
mod aside;
mod budget;
mod cells;
mod class;
mod connections;
mod events;
mod evict;
mod expect;
mod express;
mod filter;
mod flow;
mod gre;
mod help;
mod icmp;
mod icmp_error;
mod index;
mod info;
mod nat;
mod pending;
mod quota;
mod record;
mod sctp;
mod settings;
mod shared;
mod shift;
mod table;
mod tcp;
mod template;
mod track;
mod tuple;
mod udp;
mod walk;
mod wheel;

use std::ops::Range;
use std::sync::Arc;

use sluice_wire::{Family, Packet, Protocol, Transport};

use self::budget::Lease;
use self::events::Events;
use self::evict::Sweep;
use self::expect::Expectations;
use self::gre::Calls;
use self::nat::{Answers, PortDraw};
use self::pending::PendingFlow;
use self::shared::Shared;
use self::table::Table;
use self::track::{Context, Followed, judge_in};
use self::tuple::{FamilyKeys, Seeds};
use crate::engine::EngineConfig;
use crate::frame::RxChecksum;
use crate::ids::Now;
use crate::verdict::DropReason;

pub use self::adaptive::{Adaptive, Factor};
pub use self::budget::FlowBudget;
pub use self::class::CLASSES;
pub use self::connections::{Charges, ConnLimit, Tally};
pub use self::events::{EventKind, EventKinds, EventSink, FlowEvent, Watch};
pub(crate) use self::expect::{Ask, Follow, Refused};
pub use self::expect::{ExpectationEvent, ExpectationFilter, ExpectationRecord};
pub(crate) use self::express::{Gist, Shard, Times, may_be_steady};
pub use self::filter::{FlowChange, FlowFilter, Prefix, TupleFilter};
pub(crate) use self::help::Help;
pub use self::info::{
    ActionId, CtInfo, CtState, Direction, Ends, FlowHandle, Found, OriginalTuple, Status, Stored, TrackHook,
    Tracked,
};
pub use self::nat::{Block, Manip, Mapping, Nat64, NatRange, PortBlocks, Reservations};
pub use self::pending::Pending;
pub use self::quota::SourceQuota;
pub use self::record::{
    Accounting, FlowId, FlowRecord, LineOptions, TupleRecord, TupleTransport, protocol_name,
};
pub use self::settings::{LogInvalid, SctpTimeouts, Settings, TcpTimeouts, Timeouts};
pub use self::template::{Template, TimeoutsId, Zone, ZoneId};
pub use self::tuple::Key;

/// One worker's shard.
pub struct Conntrack {
    v4: Table<u32>,
    v6: Table<u128>,
    shared: Shared,
    seeds: Seeds,
    sweep: Sweep,
}

impl Conntrack {
    /// An empty table with room for `config.flow_capacity` flows of each family; memory is touched as it is used.
    pub fn new(config: &EngineConfig) -> Conntrack {
        let seeds = Seeds::new(config.seed);
        let capacity = config.flow_capacity.max(1);
        config.counters.conntrack.timeout_factor.set(u64::from(Factor::WHOLE.0));
        Conntrack {
            v4: Table::new(capacity, seeds),
            v6: Table::new(capacity, seeds),
            shared: Shared {
                worker: config.worker,
                budget: Arc::clone(&config.budget),
                lease: Lease::default(),
                counters: Arc::clone(&config.counters),
                ports: PortDraw::new(config.seed ^ u64::from(config.worker.0)),
                events: Events::default(),
                factor: Factor::WHOLE,
                may_use_reserve: false,
                answers: Answers::new(config),
                endpoints: Reservations::endpoints_of(config),
                expectations: Expectations::new(),
                calls: Calls::new(),
            },
            seeds,
            sweep: Sweep::default(),
        }
    }

    /// The addresses that a first `flows` flows of each family take up. Memory is given by the kernel when it is touched for the
    /// first time, which takes longer than a poll may: whoever runs the worker can see to it beforehand.
    pub fn memory(&self, flows: u32) -> impl Iterator<Item = Range<usize>> + use<> {
        self.v4.memory(flows).into_iter().chain(self.v6.memory(flows))
    }

    /// What to look `packet` up by in a zone. None: it belongs to no flow by its own tuple (ICMP errors, malformed
    /// packets, fragments); [`Conntrack::track`] judges it all the same.
    #[inline]
    pub fn key(&self, packet: &Packet, zone: Zone) -> Option<Key> {
        let key = Key::of_packet(packet, &self.seeds)?;
        let key = if packet.protocol == Protocol::GRE { self.with_call(key) } else { key };
        Some(key.in_zone(zone))
    }

    /// Asks for the memory that [`Conntrack::find`] reads first.
    #[inline]
    pub fn prefetch(&self, key: &Key) {
        match &key.0 {
            FamilyKeys::V4(key) => self.v4.prefetch(key.hash),
            FamilyKeys::V6(key) => self.v6.prefetch(key.hash),
        }
    }

    /// The flow that is most likely the packet's, by the index alone: no flow is looked at, so that its memory can be
    /// asked for before it is needed. [`Conntrack::track`] looks whether it is, and whether it still is.
    #[inline]
    pub fn candidate(&self, key: &Key) -> Option<FlowHandle> {
        let (family, index) = match &key.0 {
            FamilyKeys::V4(key) => (Family::V4, self.v4.candidate(key.hash)?),
            FamilyKeys::V6(key) => (Family::V6, self.v6.candidate(key.hash)?),
        };
        Some(FlowHandle { family, index })
    }

    /// The live flow of a packet.
    #[inline]
    pub fn find(&self, now: Now, key: &Key) -> Option<Found> {
        let (family, (index, direction)) = match &key.0 {
            FamilyKeys::V4(key) => (Family::V4, self.v4.find(now.tick, key)?),
            FamilyKeys::V6(key) => (Family::V6, self.v6.find(now.tick, key)?),
        };
        Some(Found { flow: FlowHandle { family, index }, direction })
    }

    /// Asks for the memory of a flow.
    #[inline]
    pub fn prefetch_flow(&self, flow: FlowHandle) {
        match flow.family {
            Family::V4 => self.v4.prefetch_flow(flow.index),
            Family::V6 => self.v6.prefetch_flow(flow.index),
        }
    }

    /// Judges a packet that is to be tracked, and changes its flow. `frame` is the frame that `packet` was parsed
    /// from; `template` is what `raw` asked for it, and `key` was made for the same zone; `hint` is what
    /// [`Conntrack::candidate`] said, or None.
    #[inline]
    #[allow(clippy::too_many_arguments)] // the seam to the pipeline: each is from another place
    pub fn track(
        &mut self,
        now: Now,
        settings: &Settings,
        packet: &Packet,
        frame: &[u8],
        hook: TrackHook,
        checksum: RxChecksum,
        template: Template,
        key: Option<&Key>,
        hint: Option<FlowHandle>,
    ) -> Tracked {
        let (direction, timeouts) = (Direction::Original, &settings.timeouts);
        let mut cx = Context {
            now,
            settings,
            packet,
            frame,
            hook,
            checksum,
            template,
            direction,
            timeouts,
            shift: None,
        };
        self.events_from(now);
        if let Transport::Icmp { .. } | Transport::Icmpv6 { .. } = packet.transport
            && let Some(tracked) = icmp_error::judge(self, &cx)
        {
            return tracked;
        }
        // A packet before this one may have told its call's other id.
        let key = key.copied().filter(|_| packet.protocol != Protocol::GRE);
        let Some(key) = key.or_else(|| self.key(packet, template.zone)) else {
            self.shared.counters.conntrack.invalid.add(1);
            return Tracked::Invalid;
        };
        let place = hint.map(|flow| flow.index);
        let pending = match key.0 {
            FamilyKeys::V4(key) => {
                match judge_in(&mut self.v4, &mut self.v6, &mut self.shared, &key, place, &mut cx) {
                    Followed::Known(known) => return known.into(),
                    Followed::Begins(flow) => PendingFlow::V4(flow),
                }
            }
            FamilyKeys::V6(key) => {
                match judge_in(&mut self.v6, &mut self.v4, &mut self.shared, &key, place, &mut cx) {
                    Followed::Known(known) => return known.into(),
                    Followed::Begins(flow) => PendingFlow::V6(flow),
                }
            }
        };
        Tracked::New(Pending(pending))
    }

    /// Enters a flow into the table: its first packet was not dropped.
    ///
    /// # Errors
    /// The packet is to be dropped: [`DropReason::ConntrackClash`] if a flow of the same tuple came meanwhile,
    /// [`DropReason::NatExhausted`] if no port was free for its translation.
    pub fn confirm(
        &mut self,
        now: Now,
        settings: &Settings,
        pending: Pending,
    ) -> Result<FlowHandle, DropReason> {
        let clash = match pending.is_exhausted() {
            true => DropReason::NatExhausted,
            false => DropReason::ConntrackClash,
        };
        let endpoint = pending.endpoint();
        let (family, index) = match pending.0 {
            PendingFlow::V4(new) => (Family::V4, self.v4.confirm(&mut self.shared, now, settings, new)),
            PendingFlow::V6(new) => (Family::V6, self.v6.confirm(&mut self.shared, now, settings, new)),
        };
        if index.is_none() {
            self.give_back(endpoint);
        }
        let index = index.ok_or(clash)?;
        Ok(FlowHandle { family, index })
    }

    /// Gives up a flow: its first packet was dropped.
    pub fn abandon(&mut self, pending: Pending) {
        self.give_back(pending.endpoint());
        match pending.0 {
            PendingFlow::V4(new) => {
                self.v4.give_up(&mut self.shared, new.place, new.charges);
                self.v4.spare.take_back(new);
            }
            PendingFlow::V6(new) => {
                self.v6.give_up(&mut self.shared, new.place, new.charges);
                self.v6.spare.take_back(new);
            }
        }
    }

    /// What rules look at; None for a handle that never was one. Of a flow that its last packet removed, what it was.
    #[inline]
    pub fn info(&self, flow: FlowHandle, direction: Direction, state: CtState) -> Option<CtInfo> {
        let info = match flow.family {
            Family::V4 => self.v4.flow(flow.index).map(|flow| flow.info(direction, state)),
            Family::V6 => self.v6.flow(flow.index).map(|flow| flow.info(direction, state)),
        }?;
        if !info.status.contains(Status::EXPECTED) {
            return Some(info);
        }
        Some(CtInfo { helper: self.help(flow).and_then(|help| help.announced_by), ..info })
    }

    /// The name of a flow's state, of protocols that have states.
    pub fn state_name(&self, flow: FlowHandle) -> Option<&'static str> {
        match flow.family {
            Family::V4 => self.v4.flow(flow.index)?.state_name(),
            Family::V6 => self.v6.flow(flow.index)?.state_name(),
        }
    }

    /// What [`Conntrack::store`] kept; None if nothing is.
    #[inline]
    pub fn stored(&self, flow: FlowHandle, direction: Direction) -> Option<Stored> {
        let stored = match flow.family {
            Family::V4 => self.v4.flow(flow.index)?.stored(direction),
            Family::V6 => self.v6.flow(flow.index)?.stored(direction),
        };
        stored.is_something().then_some(stored)
    }

    /// Keeps a compiled action for one direction of a flow.
    pub fn store(&mut self, flow: FlowHandle, direction: Direction, stored: Stored) {
        match flow.family {
            Family::V4 => self.v4.flow_mut(flow.index).map(|flow| flow.store(direction, stored)),
            Family::V6 => self.v6.flow_mut(flow.index).map(|flow| flow.store(direction, stored)),
        };
    }

    /// The router answers a segment of this flow with a reset of its own (`reject` with tcp-reset): the flow is in
    /// CLOSE from now on. The reset itself is RELATED, and is not to be tracked again (the kernel attaches it to the
    /// flow of the packet that it answers, `nf_ct_attach`), even where that flow is only pending.
    pub fn close(&mut self, now: Now, settings: &Settings, flow: FlowHandle) {
        match flow.family {
            Family::V4 => self.v4.close(&mut self.shared, now.tick, settings, flow.index),
            Family::V6 => self.v6.close(&mut self.shared, now.tick, settings, flow.index),
        }
    }

    /// Judges again a packet to the router itself for which there was no room: it may have one of the places that are
    /// kept for such ([`FlowBudget::set_reserve`]). Parameters are those of [`Conntrack::track`].
    #[cold]
    #[allow(clippy::too_many_arguments)] // those of `track`
    pub fn track_for_router(
        &mut self,
        now: Now,
        settings: &Settings,
        packet: &Packet,
        frame: &[u8],
        checksum: RxChecksum,
        template: Template,
        key: Option<&Key>,
    ) -> Tracked {
        let hook = TrackHook::Prerouting;
        self.shared.may_use_reserve = true;
        let tracked = self.track(now, settings, packet, frame, hook, checksum, template, key, None);
        self.shared.may_use_reserve = false;
        // It was counted as dropped before.
        self.shared.counters.conntrack.drop.take_back(1);
        tracked
    }

    /// Removes flows that ran out, looking at `budget` of each family at most; returns how many went. Call it once a poll:
    /// it also keeps `conntrack.max` exact, clears a table that is full, and has timeouts shrink as the table fills.
    pub fn expire(&mut self, now: Now, settings: &Settings, budget: usize) -> usize {
        self.events_from(now);
        let shared = &mut self.shared;
        let expired = self.v4.expire(shared, now.tick, budget) + self.v6.expire(shared, now.tick, budget);
        shared.lease.settle(&shared.budget);
        shared.adapt(settings);
        if self.sweep.is_due(shared) {
            self.sweep_on(now.tick, settings);
        }
        self.expire_expectations(now.tick);
        self.end_tunnels();
        expired
    }

    /// Flows in the shard, those included that are pending, or ran out and were not removed yet.
    pub fn len(&self) -> u32 {
        self.v4.used().saturating_add(self.v6.used())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod parity;

#[cfg(test)]
mod replay;

#[cfg(test)]
mod tests;
