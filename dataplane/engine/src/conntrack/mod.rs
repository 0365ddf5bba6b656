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
//! | `track` | what is common to all protocols: find, begin, refresh |
//! | `tcp`, `udp`, `icmp`, `sctp`, `gre` | one protocol each |
//! | `icmp_error` | errors about packets of a flow |
//! | `nat` | the other tuple of flows that are translated |
//! | `template`, `aside` | zones and timeouts that rules give, and where they are kept |
//! | `budget`, `evict` | `conntrack.max` over all workers, and what gives way when it is reached |
//! | `record`, `filter`, `walk` | listing, deleting, changing |
//! | `events` | what happens to flows, for who watches |
//! | `class` | gauges by protocol and state |
//!
//! What it does not do yet: expectations.
//! Source: Linux `net/netfilter/nf_conntrack_core.c`, as observed.

mod aside;
mod budget;
mod class;
mod events;
mod evict;
mod filter;
mod flow;
mod gre;
mod icmp;
mod icmp_error;
mod index;
mod info;
mod nat;
mod pending;
mod record;
mod sctp;
mod settings;
mod table;
mod tcp;
mod template;
mod track;
mod tuple;
mod udp;
mod walk;
mod wheel;

use std::sync::Arc;

use sluice_wire::{Family, Packet, Transport};

use self::budget::Lease;
use self::events::Events;
use self::evict::Sweep;
use self::nat::PortDraw;
use self::pending::PendingFlow;
use self::table::{Shared, Table};
use self::track::{Context, Followed, judge_in};
use self::tuple::{FamilyKeys, Seeds};
use crate::engine::EngineConfig;
use crate::frame::RxChecksum;
use crate::ids::Now;
use crate::verdict::DropReason;

pub use self::budget::FlowBudget;
pub use self::class::CLASSES;
pub use self::events::{EventKind, EventKinds, EventSink, FlowEvent, Watch};
pub use self::filter::{FlowChange, FlowFilter, Prefix, TupleFilter};
pub use self::info::{
    ActionId, CtInfo, CtState, Direction, FlowHandle, Found, OriginalTuple, Status, Stored, TrackHook,
    Tracked,
};
pub use self::nat::{Manip, Mapping, NatRange};
pub use self::pending::Pending;
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
    sweep_v4: Sweep,
    sweep_v6: Sweep,
}

impl Conntrack {
    /// An empty table with room for `config.flow_capacity` flows of each family; memory is touched as it is used.
    pub fn new(config: &EngineConfig) -> Conntrack {
        let seeds = Seeds::new(config.seed);
        let capacity = config.flow_capacity.max(1);
        Conntrack {
            v4: Table::new(capacity, seeds),
            v6: Table::new(capacity, seeds),
            shared: Shared {
                worker: config.worker,
                budget: Arc::clone(&config.budget),
                lease: Lease::default(),
                counters: Arc::clone(&config.counters),
                ports: PortDraw::new(config.seed ^ u64::from(config.worker.0)),
                acct: false,
                events: Events::default(),
            },
            seeds,
            sweep_v4: Sweep::default(),
            sweep_v6: Sweep::default(),
        }
    }

    /// What to look `packet` up by in a zone. None: it belongs to no flow by its own tuple (ICMP errors, malformed
    /// packets, fragments); [`Conntrack::track`] judges it all the same.
    #[inline]
    pub fn key(&self, packet: &Packet, zone: Zone) -> Option<Key> {
        Key::of_packet(packet, &self.seeds).map(|key| key.in_zone(zone))
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
        let mut cx = Context { now, settings, packet, frame, hook, checksum, template, direction, timeouts };
        self.shared.acct = settings.acct;
        self.events_from(now);
        if let Transport::Icmp { .. } | Transport::Icmpv6 { .. } = packet.transport
            && let Some(tracked) = icmp_error::judge(self, &cx)
        {
            return tracked;
        }
        let Some(key) = key.copied().or_else(|| self.key(packet, template.zone)) else {
            self.shared.counters.conntrack.invalid.add(1);
            return Tracked::Invalid;
        };
        let place = hint.map(|flow| flow.index);
        let pending = match key.0 {
            FamilyKeys::V4(key) => {
                match judge_in(&mut self.v4, &mut self.v6, &mut self.shared, &key, place, &mut cx) {
                    Followed::Known(tracked) => return tracked,
                    Followed::Begins(flow) => PendingFlow::V4(flow),
                }
            }
            FamilyKeys::V6(key) => {
                match judge_in(&mut self.v6, &mut self.v4, &mut self.shared, &key, place, &mut cx) {
                    Followed::Known(tracked) => return tracked,
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
        let (family, index) = match pending.0 {
            PendingFlow::V4(new) => (Family::V4, self.v4.confirm(&mut self.shared, now, settings, new)),
            PendingFlow::V6(new) => (Family::V6, self.v6.confirm(&mut self.shared, now, settings, new)),
        };
        let index = index.ok_or(clash)?;
        Ok(FlowHandle { family, index })
    }

    /// Gives up a flow: its first packet was dropped.
    pub fn abandon(&mut self, pending: Pending) {
        match pending.0 {
            PendingFlow::V4(_) => self.v4.give_back(&mut self.shared),
            PendingFlow::V6(_) => self.v6.give_back(&mut self.shared),
        }
    }

    /// What rules look at; None for a handle that never was one. Of a flow that its last packet removed, what it was.
    #[inline]
    pub fn info(&self, flow: FlowHandle, direction: Direction, state: CtState) -> Option<CtInfo> {
        match flow.family {
            Family::V4 => self.v4.flow(flow.index).map(|flow| flow.info(direction, state)),
            Family::V6 => self.v6.flow(flow.index).map(|flow| flow.info(direction, state)),
        }
    }

    /// The name of a flow's state, of protocols that have states.
    pub fn state_name(&self, flow: FlowHandle) -> Option<&'static str> {
        match flow.family {
            Family::V4 => self.v4.flow(flow.index)?.state_name(),
            Family::V6 => self.v6.flow(flow.index)?.state_name(),
        }
    }

    /// Sets a flow's mark.
    pub fn set_mark(&mut self, flow: FlowHandle, mark: u32) {
        let before = match flow.family {
            Family::V4 => self.v4.flow_mut(flow.index).map(|flow| std::mem::replace(&mut flow.mark, mark)),
            Family::V6 => self.v6.flow_mut(flow.index).map(|flow| std::mem::replace(&mut flow.mark, mark)),
        };
        if before.is_some_and(|before| before != mark) {
            self.note_mark(flow);
        }
    }

    /// What [`Conntrack::store`] kept; None if nothing is.
    #[inline]
    pub fn stored(&self, flow: FlowHandle, direction: Direction) -> Option<Stored> {
        match flow.family {
            Family::V4 => self.v4.flow(flow.index)?.stored(direction),
            Family::V6 => self.v6.flow(flow.index)?.stored(direction),
        }
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

    /// Removes flows that ran out, at most `budget` of each family; returns how many. Call it once a poll: it also
    /// keeps `conntrack.max` exact, and clears a table that is nearly full.
    pub fn expire(&mut self, now: Now, budget: usize) -> usize {
        self.events_from(now);
        let shared = &mut self.shared;
        let expired = self.v4.expire(shared, now.tick, budget) + self.v6.expire(shared, now.tick, budget);
        if shared.budget.is_nearly_full() {
            self.v4.sweep(shared, now.tick, &mut self.sweep_v4);
            self.v6.sweep(shared, now.tick, &mut self.sweep_v6);
        }
        shared.lease.settle(&shared.budget);
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
