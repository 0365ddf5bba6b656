//! What control and a worker say to each other, as plain values; the channels belong to whoever connects them.
//!
//! Nothing here may make a worker wait or walk a whole table: commands on flows work through the shard in
//! batches and come back with a cursor.

use std::sync::Arc;

use crate::capture::{CaptureId, Order};
use crate::conntrack::{
    ExpectationFilter, ExpectationRecord, FlowChange, FlowFilter, FlowId, FlowRecord, Watch,
};
use crate::ids::{Generation, InterfaceId, WorkerId};
use crate::trace::TraceOrder;
use crate::world::{NeighbourKey, World};

/// Names a request so that its answer finds the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A place in a worker's flow table, to go on from. Starts at `Cursor::default()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cursor(pub u64);

impl Cursor {
    /// Leaves out the next `places` of the table of one address family; places without a flow count.
    #[must_use]
    pub fn skip(self, places: u32) -> Cursor {
        Cursor(self.0 & !u64::from(u32::MAX) | u64::from((self.0 as u32).saturating_add(places)))
    }
}

/// Flows that a worker removes for one [`Command::Delete`]: each takes some five lines of memory that no cache holds.
pub const DELETE_STEP: usize = 128;

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
    /// Delete flows that match, from `cursor` on, a bounded number at a time: as many as `batch` has room for, to be
    /// told which, or without that if it has none.
    Delete {
        /// Names the request.
        request: RequestId,
        /// Where to go on.
        cursor: Cursor,
        /// Which flows.
        filter: Arc<FlowFilter>,
        /// Flows, as many as its capacity.
        batch: Vec<FlowRecord>,
    },
    /// Delete these flows by their ids, as many as one batch of a listing has; answered by [`Event::Deleted`].
    DeleteListed {
        /// Names the request.
        request: RequestId,
        /// The flows.
        flows: Vec<FlowId>,
    },
    /// Change flows that match, from `cursor` on, as many as `batch` has room for.
    Update {
        /// Names the request.
        request: RequestId,
        /// Where to go on.
        cursor: Cursor,
        /// Which flows.
        filter: Arc<FlowFilter>,
        /// What to change.
        change: FlowChange,
        /// Flows, as many as its capacity.
        batch: Vec<FlowRecord>,
    },
    /// Fill `batch` up to its capacity with expectations of helpers that match, from `cursor` on.
    Expectations {
        /// Names the request.
        request: RequestId,
        /// Where to go on.
        cursor: Cursor,
        /// Which.
        filter: Arc<ExpectationFilter>,
        /// Whether they are deleted.
        delete: bool,
        /// Expectations, as many as its capacity.
        batch: Vec<ExpectationRecord>,
    },
    /// Tell what happens to flows from now on, or nothing any more.
    Watch(Option<Watch>),
    /// Copy packets from now on.
    Capture(Box<Order>),
    /// No more.
    EndCapture(CaptureId),
    /// Follow packets from now on, or none any more.
    Trace(Option<Box<TraceOrder>>),
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
        /// These flows, if there was room for them.
        batch: Vec<FlowRecord>,
    },
    /// Answer to [`Command::Update`].
    Updated {
        /// Names the request.
        request: RequestId,
        /// The worker that answers.
        worker: WorkerId,
        /// Where to go on; None at the end of the shard.
        next: Option<Cursor>,
        /// Flows as they are now; those that were so already are not among them.
        batch: Vec<FlowRecord>,
    },
    /// Answer to [`Command::Expectations`].
    Expectations {
        /// Names the request.
        request: RequestId,
        /// The worker that answers.
        worker: WorkerId,
        /// Where to go on; None at the end of the shard.
        next: Option<Cursor>,
        /// Expectations, as many as its capacity.
        batch: Vec<ExpectationRecord>,
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
    /// A `log` rule matched, or a packet is INVALID and such are logged.
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

/// Why a line is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogCause {
    /// A `log` rule matched, by its index in [`crate::ruleset::Ruleset::rules`] of the record's generation.
    Rule(crate::ruleset::RuleId),
    /// The tracker calls the packet INVALID, and `log_invalid` wants to know of such.
    Invalid {
        /// The packet's.
        protocol: sluice_wire::Protocol,
        /// Why.
        reason: InvalidReason,
    },
    /// The first flow of a subscriber out of his block of ports, since the policy was applied.
    Block {
        /// His address.
        subscriber: std::net::IpAddr,
        /// What he has.
        block: crate::conntrack::Block,
    },
}

/// Why a packet is INVALID, as far as can be told afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidReason {
    /// Its headers do not fit.
    Malformed,
    /// Its transport checksum is wrong.
    Checksum,
    /// It is an ICMP error, and quotes no packet of a flow that it may speak of.
    Error,
    /// It belongs to no flow, and cannot begin one.
    NoFlow,
    /// It does not fit its flow, which is in this state, if its protocol has states.
    OfFlow(Option<&'static str>),
}

impl std::fmt::Display for InvalidReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InvalidReason::Malformed => f.write_str("malformed packet"),
            InvalidReason::Checksum => f.write_str("bad checksum"),
            InvalidReason::Error => f.write_str("error about no packet of a flow"),
            InvalidReason::NoFlow => f.write_str("packet of no flow"),
            InvalidReason::OfFlow(None) => f.write_str("packet does not fit its flow"),
            InvalidReason::OfFlow(Some(state)) => write!(f, "packet does not fit its flow, state {state}"),
        }
    }
}

/// A packet that is logged, by value: enough to print the line that the kernel's LOG target prints.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// Why.
    pub cause: LogCause,
    /// The policy that a rule's index is of.
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
