//! Connection tracking: one worker's shard of flows, with netfilter's meaning of every state.
//!
//! The pipeline makes a [`Key`] of each packet of a burst, looks all of them up ([`Conntrack::find`]), and has each
//! judged in order by [`Conntrack::track`] (the kernel's `nf_conntrack_in`). A flow begins as [`Pending`] and enters
//! the table at [`Conntrack::confirm`], when no rule dropped its first packet.
//!
//! | file | what |
//! |---|---|
//! | `tuple` | a packet's identity and its hash |
//! | `table`, `index`, `wheel`, `flow` | memory: flows, where they are, when they run out |
//! | `track` | what is common to all protocols: find, begin, refresh |
//! | `tcp`, `udp`, `icmp`, `sctp`, `gre`, `generic` | one protocol each |
//! | `icmp_error` | errors about packets of a flow |
//! | `budget`, `evict` | `conntrack.max` over all workers, and what gives way when it is reached |
//! | `record`, `filter` | listing |
//!
//! What it does not do yet: NAT (the reply tuple is the inverse of the original one), expectations, zones.
//! Source: Linux `net/netfilter/nf_conntrack_core.c`, as observed.

mod budget;
mod filter;
mod info;
mod record;
mod settings;

use sluice_wire::Packet;

use crate::engine::EngineConfig;
use crate::frame::RxChecksum;
use crate::ids::Now;
use crate::message::Cursor;
use crate::verdict::DropReason;

pub use budget::FlowBudget;
pub use filter::{FlowFilter, FlowUpdate, Prefix, TupleFilter};
pub use info::{
    ActionId, CtInfo, CtState, Direction, FlowHandle, Found, OriginalTuple, Status, Stored, TrackHook,
    Tracked,
};
pub use record::{Accounting, FlowId, FlowRecord, LineOptions, TupleRecord, TupleTransport};
pub use settings::{SctpTimeouts, Settings, TcpTimeouts, Timeouts};

/// What a packet is looked up by: its tuple, and a hash that both directions of a flow share.
#[derive(Clone, Copy, Debug)]
pub struct Key(());

/// A flow that begins. A place is reserved for it until [`Conntrack::confirm`] or [`Conntrack::abandon`]: to drop it
/// elsewhere would lose the place.
#[derive(Debug)]
#[must_use]
pub struct Pending(CtInfo);

impl Pending {
    /// What rules look at.
    pub fn info(&self) -> CtInfo {
        self.0
    }

    /// Sets the flow's mark.
    pub fn set_mark(&mut self, mark: u32) {
        self.0.mark = mark;
    }
}

/// One worker's shard.
pub struct Conntrack {}

impl Conntrack {
    /// An empty table with room for `config.flow_capacity` flows of each family; memory is touched as it is used.
    pub fn new(config: &EngineConfig) -> Conntrack {
        let _ = config;
        Conntrack {}
    }

    /// What to look `packet` up by. None: it belongs to no flow by its own tuple (ICMP errors, malformed packets,
    /// fragments); [`Conntrack::track`] judges it all the same.
    #[inline]
    pub fn key(&self, packet: &Packet) -> Option<Key> {
        let _ = packet;
        None
    }

    /// Asks for the memory that [`Conntrack::find`] reads first.
    #[inline]
    pub fn prefetch(&self, key: &Key) {
        let _ = key;
    }

    /// The live flow of a packet.
    #[inline]
    pub fn find(&self, now: Now, key: &Key) -> Option<Found> {
        let _ = (now, key);
        None
    }

    /// Asks for the memory of a flow.
    #[inline]
    pub fn prefetch_flow(&self, flow: FlowHandle) {
        let _ = flow;
    }

    /// Judges a packet that is to be tracked, and changes its flow. `frame` is the frame that `packet` was parsed
    /// from; `found` may come from before earlier packets of the burst changed the table.
    #[allow(clippy::too_many_arguments)] // the seam to the pipeline: each is from another place
    pub fn track(
        &mut self,
        now: Now,
        settings: &Settings,
        packet: &Packet,
        frame: &[u8],
        hook: TrackHook,
        checksum: RxChecksum,
        key: Option<&Key>,
        found: Option<Found>,
    ) -> Tracked {
        let _ = (now, settings, packet, frame, hook, checksum, key, found);
        Tracked::Untracked
    }

    /// Enters a flow into the table: its first packet was not dropped.
    ///
    /// # Errors
    /// [`DropReason::ConntrackClash`] if a flow of the same tuple came meanwhile: the packet is to be dropped.
    pub fn confirm(
        &mut self,
        now: Now,
        settings: &Settings,
        pending: Pending,
    ) -> Result<FlowHandle, DropReason> {
        let _ = (now, settings, pending);
        Err(DropReason::ConntrackClash)
    }

    /// Gives up a flow: its first packet was dropped.
    pub fn abandon(&mut self, pending: Pending) {
        let _ = pending;
    }

    /// What rules look at; None for a handle that never was one.
    pub fn info(&self, flow: FlowHandle, direction: Direction, state: CtState) -> Option<CtInfo> {
        let _ = (flow, direction, state);
        None
    }

    /// Sets a flow's mark.
    pub fn set_mark(&mut self, flow: FlowHandle, mark: u32) {
        let _ = (flow, mark);
    }

    /// What [`Conntrack::store`] kept; None if nothing is.
    #[inline]
    pub fn stored(&self, flow: FlowHandle, direction: Direction) -> Option<Stored> {
        let _ = (flow, direction);
        None
    }

    /// Keeps a compiled action for one direction of a flow.
    pub fn store(&mut self, flow: FlowHandle, direction: Direction, stored: Stored) {
        let _ = (flow, direction, stored);
    }

    /// The router answers a segment of this flow with a reset of its own (`reject` with tcp-reset): the flow is in
    /// CLOSE from now on. The reset itself is RELATED, and is not to be tracked again (the kernel attaches it to the
    /// flow of the packet that it answers, `nf_ct_attach`), even where that flow is only pending.
    pub fn close(&mut self, now: Now, settings: &Settings, flow: FlowHandle) {
        let _ = (now, settings, flow);
    }

    /// Removes flows that ran out, at most `budget` of them; returns how many. Call it once a poll.
    pub fn expire(&mut self, now: Now, budget: usize) -> usize {
        let _ = (now, budget);
        0
    }

    /// Fills `batch` up to its capacity with flows that match, from `cursor` on; None at the end. Looks at a bounded
    /// number of flows, so a batch may come back empty with more to follow.
    pub fn list(
        &self,
        now: Now,
        cursor: Cursor,
        filter: &FlowFilter,
        batch: &mut Vec<FlowRecord>,
    ) -> Option<Cursor> {
        let _ = (now, cursor, filter, batch);
        None
    }

    /// Deletes flows that match, from `cursor` on, at most `budget` of them and looking at a bounded number. Returns
    /// how many, and where to go on.
    pub fn delete(
        &mut self,
        now: Now,
        cursor: Cursor,
        filter: &FlowFilter,
        budget: usize,
    ) -> (u64, Option<Cursor>) {
        let _ = (now, cursor, filter, budget);
        (0, None)
    }

    /// Deletes or changes one flow; false if there is no such flow.
    pub fn update(&mut self, now: Now, flow: FlowId, update: FlowUpdate) -> bool {
        let _ = (now, flow, update);
        false
    }

    /// Flows in the shard, those included that are pending, or ran out and were not removed yet.
    pub fn len(&self) -> u32 {
        0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
