//! What control and a worker say to each other, as plain values; the channels belong to whoever connects them.
//!
//! Nothing here may make a worker wait or walk a whole table: commands on flows work through the shard in
//! batches and come back with a cursor.

use std::sync::Arc;

use crate::conntrack::{FlowFilter, FlowId, FlowRecord, FlowUpdate};
use crate::ids::{Generation, InterfaceId, WorkerId};
use crate::world::{NeighbourKey, World};

/// Names a request so that its answer finds the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A place in a worker's flow table, to go on from. Starts at `Cursor::default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cursor(pub u64);

/// From control to a worker.
#[derive(Debug)]
pub enum Command {
    /// Use this from the next burst on; answered by [`Event::Adopted`] with the old one, so that control frees it.
    Adopt(Arc<World>),
    /// Send a frame that control made (ARP, neighbour discovery). Bytes from the Ethernet destination; the VLAN
    /// tag is put in by the worker. IPv6 passes the output hooks as netfilter has it, ARP does not.
    Originate(InterfaceId, Box<[u8]>),
    /// Fill `batch` up to its capacity with flows that match, from `cursor` on.
    List {
        /// Names the request.
        request: RequestId,
        /// Where to go on.
        cursor: Cursor,
        /// Which flows.
        filter: Arc<FlowFilter>,
        /// Flows, as many as its capacity.
        batch: Vec<FlowRecord>,
    },
    /// Delete flows that match, from `cursor` on, a bounded number at a time.
    Delete {
        /// Names the request.
        request: RequestId,
        /// Where to go on.
        cursor: Cursor,
        /// Which flows.
        filter: Arc<FlowFilter>,
    },
    /// Delete or change one flow by its id.
    Update {
        /// Names the request.
        request: RequestId,
        /// The flow.
        flow: FlowId,
        /// What to do with it.
        update: FlowUpdate,
    },
    /// Leave the poll loop.
    Stop,
}

/// From a worker to control.
#[derive(Debug)]
pub enum Event {
    /// The worker runs on `generation`; `old` is for control to free.
    Adopted {
        /// The worker that answers.
        worker: WorkerId,
        /// What it runs on now.
        generation: Generation,
        /// What it ran on before.
        old: Arc<World>,
    },
    /// Answer to [`Command::List`]; `next` is None at the end of the shard.
    Listed {
        /// Names the request.
        request: RequestId,
        /// The worker that answers.
        worker: WorkerId,
        /// Where to go on; None at the end of the shard.
        next: Option<Cursor>,
        /// Flows, as many as its capacity.
        batch: Vec<FlowRecord>,
    },
    /// Answer to [`Command::Delete`]; `deleted` in this step.
    Deleted {
        /// Names the request.
        request: RequestId,
        /// The worker that answers.
        worker: WorkerId,
        /// Where to go on; None at the end of the shard.
        next: Option<Cursor>,
        /// Flows deleted in this step.
        deleted: u64,
    },
    /// Answer to [`Command::Update`]; false if there is no such flow.
    Updated {
        /// Names the request.
        request: RequestId,
        /// The worker that answers.
        worker: WorkerId,
        /// False if there is no such flow.
        done: bool,
    },
    /// ARP or neighbour discovery received on `interface`.
    Punted {
        /// Where it was received.
        interface: InterfaceId,
        /// Its bytes.
        frame: PuntedFrame,
    },
    /// A next hop is wanted whose address is not known.
    Resolve(NeighbourKey),
    /// A `log` rule matched.
    Log(LogRecord),
    /// The worker left its loop.
    Stopped(WorkerId),
}

/// The first bytes of a frame by value, so that punting allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct PuntedFrame {
    len: u8,
    bytes: [u8; PuntedFrame::MAX],
}

impl PuntedFrame {
    /// Enough for an ARP message, and for neighbour discovery with two link-layer address options.
    pub const MAX: usize = 160;

    /// Copies a frame; None if it is longer than [`PuntedFrame::MAX`].
    pub fn new(frame: &[u8]) -> Option<PuntedFrame> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..frame.len())?.copy_from_slice(frame);
        Some(PuntedFrame { len: u8::try_from(frame.len()).ok()?, bytes })
    }

    /// Copies as much of a frame as there is room for.
    pub fn truncated(frame: &[u8]) -> PuntedFrame {
        let kept = frame.get(..Self::MAX).unwrap_or(frame);
        Self::new(kept).unwrap_or(PuntedFrame { len: 0, bytes: [0; Self::MAX] })
    }

    /// The frame, from the Ethernet destination.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// What a `log` rule saw, by value: enough to print the line that the kernel's LOG target prints.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// The rule, by its index in [`crate::ruleset::Ruleset::rules`] of `generation`.
    pub rule: crate::ruleset::RuleId,
    /// The policy that the rule index is of.
    pub generation: Generation,
    /// Ingress interface, none for the box's own packets.
    pub ingress: Option<InterfaceId>,
    /// Egress interface where it is known already.
    pub egress: Option<InterfaceId>,
    /// IP datagram's total length in bytes.
    pub length: u16,
    /// The first bytes of the frame from the Ethernet header.
    pub header: PuntedFrame,
}
