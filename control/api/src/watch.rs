//! Events of flows, as `conntrack -E` has them.

use serde::{Deserialize, Serialize};

use crate::flows::{Flow, FlowFilter};

/// What happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It entered the table.
    New,
    /// It was answered or became ASSURED, or its state or mark changed.
    Update,
    /// It ended.
    Destroy,
}

/// `POST /v1/conntrack/watch`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchRequest {
    /// Events of which flows.
    pub filter: FlowFilter,
    /// Which events; none named: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventKind>,
}

/// An event. Events of one worker come in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEvent {
    /// What happened.
    pub event: EventKind,
    /// Whether someone asked for it, by `delete`, `flush` or `update`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_user: bool,
    /// When, in microseconds since 1970.
    pub time: u64,
    /// The flow as it was then; of an update, its state only if that changed.
    pub flow: Flow,
}

/// Events that did not fit into what lies between workers and watcher, since the line before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// How many.
    pub lost: u64,
}

/// A line of events: each is told from the other by its fields. Empty lines only show that the daemon is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WatchLine {
    /// An event.
    Event(Box<FlowEvent>),
    /// Events are missing here.
    Lost(Lost),
}
