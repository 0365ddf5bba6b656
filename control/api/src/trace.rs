//! Traces: what becomes of live packets, stage by stage.

use serde::{Deserialize, Serialize};

use crate::{Flow, PacketFilter};

/// What to trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceRequest {
    /// Which packets. With an interface, those that come in by it.
    pub filter: PacketFilter,
    /// Packets a second, over all workers; 0: 100.
    pub rate: u32,
}

/// A line of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TraceLine {
    /// A packet's way at a worker.
    Trace(Box<Trace>),
    /// Not all packets are told.
    Missing(TraceMissing),
}

/// Why some packets are not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceMissing {
    /// Packets that were followed, and found no room on their way to the reader.
    pub lost: u64,
    /// More packets than the rate came.
    pub limited: bool,
}

/// A packet's way at a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// A number made of its bytes: the same at the worker that hands it over and at the one that gets it.
    pub id: u32,
    /// When it came, in microseconds since 1970.
    pub time: u64,
    /// Where it was followed.
    pub worker: u8,
    /// Where it came in; none: the box sent it.
    pub ingress: Option<String>,
    /// Another worker handed it over.
    pub handed_over: bool,
    /// Bytes of its frame.
    pub bytes: u16,
    /// What it is: protocol, addresses, ports.
    pub packet: String,
    /// What happened, in order.
    pub steps: Vec<TraceStep>,
    /// Its flow, as it was then.
    pub flow: Option<Flow>,
    /// What became of it.
    pub verdict: String,
    /// Why it was dropped, as the metric has it.
    pub reason: Option<String>,
    /// Steps or rules were left out, for there were too many.
    pub more: bool,
}

/// A step on a packet's way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceStep {
    /// A chain of the policy (`filter.forward`), or else `tracked`, `stored`, `stateless`, `route`, `nat`, `confirmed`, `answer`.
    pub stage: String,
    /// What was decided there, or is known from there on.
    pub text: String,
    /// Rules that matched, in order.
    pub rules: Vec<TraceRule>,
}

/// A rule that matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRule {
    /// Its chain.
    pub chain: String,
    /// Its place in the chain, from 1; 0: the chain's policy.
    pub index: u32,
    /// Its name.
    pub name: Option<String>,
    /// Its line in the policy file.
    pub line: u32,
    /// Matches and action.
    pub text: String,
}
