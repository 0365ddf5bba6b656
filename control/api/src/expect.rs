//! Expectations of helpers, as `conntrack -L`, `-E` and `-D expect` have them.

use serde::{Deserialize, Serialize};

use crate::flows::FlowTuple;

/// Which expectations a request is about: all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExpectationFilter {
    /// `ipv4` or `ipv6` (`-f`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Protocol by name or number (`-p`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
    /// Source of what is expected, address or prefix (`--tuple-src`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// Destination of what is expected, address or prefix (`--tuple-dst`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<String>,
    /// Destination port of what is expected (`--tuple-port-dst`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// Source of the master, address or prefix (`-s`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_src: Option<String>,
    /// Destination of the master, address or prefix (`-d`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_dst: Option<String>,
    /// The helper by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
    /// One expectation by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
}

/// An expectation as it is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// Unique while the daemon runs.
    pub id: u64,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Protocol's name.
    pub proto: String,
    /// Protocol's number.
    pub protonum: u8,
    /// Seconds until it runs out.
    pub timeout: u32,
    /// The packet that is expected: of source and source port, 0 where anything fits.
    pub tuple: FlowTuple,
    /// The bits of that which count.
    pub mask: FlowTuple,
    /// The first packet of the flow that announced it.
    pub master: FlowTuple,
    /// That flow's id.
    pub master_id: u64,
    /// Its zone, where that is not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
    /// Its kind, of helpers that expect several.
    pub class: u8,
    /// The helper.
    pub helper: String,
    /// Whether the flow will be translated as its master is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub translated: bool,
    /// The worker that has the master.
    pub worker: u8,
}

/// The last line of a listing, and of what was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectationsEnd {
    /// Expectations in it.
    pub expectations: u64,
}

/// What happened to an expectation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectationEvent {
    /// `new`, or `destroy`: used up, run out or deleted.
    pub event: crate::watch::EventKind,
    /// Whether someone asked for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_user: bool,
    /// When, in microseconds since 1970.
    pub time: u64,
    /// The expectation as it was then.
    pub expectation: Expectation,
}

/// A line of events: each is told from the other by its fields. Empty lines only show that the daemon is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExpectationWatchLine {
    /// An event.
    Event(Box<ExpectationEvent>),
    /// Events are missing here.
    Lost(crate::watch::Lost),
}
