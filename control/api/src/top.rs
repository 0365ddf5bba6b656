//! Who fills the table.

use serde::{Deserialize, Serialize};

use crate::flows::FlowFilter;

/// What flows are counted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TopKey {
    /// Source address of the original direction, or its prefix.
    #[default]
    Src,
    /// Destination address of the original direction, or its prefix.
    Dst,
    /// Protocol and destination port of the original direction.
    Dport,
    /// Protocol.
    Proto,
    /// Protocol and state.
    State,
}

/// `POST /v1/conntrack/top`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopRequest {
    /// What flows are counted by.
    pub by: TopKey,
    /// Rows wanted, at most 1000.
    pub n: usize,
    /// Leading bits of an IPv4 address that count.
    pub prefix4: u8,
    /// Leading bits of an IPv6 address that count.
    pub prefix6: u8,
    /// Which flows.
    pub filter: FlowFilter,
    /// About how many flows to look at, spread over the table; all if not given. A look at a million takes a worker
    /// some 300 ms in all, in steps of 20 µs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<u64>,
}

impl Default for TopRequest {
    fn default() -> TopRequest {
        let filter = FlowFilter::default();
        TopRequest { by: TopKey::Src, n: 10, prefix4: 32, prefix6: 128, filter, sample: None }
    }
}

/// Answer of `POST /v1/conntrack/top`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top {
    /// Flows in the table.
    pub total: u64,
    /// Flows that were looked at and matched: of a sample, fewer than there are.
    pub counted: u64,
    /// Whether it was a sample.
    pub sampled: bool,
    /// Most flows first.
    pub rows: Vec<TopRow>,
}

/// Flows that have something in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopRow {
    /// Address, prefix, `tcp 443`, `tcp ESTABLISHED`.
    pub key: String,
    /// Flows, of those counted.
    pub flows: u64,
    /// How much too high that may be, where there are more keys than are counted at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub error: u64,
    /// Of them, not answered.
    pub unreplied: u64,
    /// Of them, ASSURED.
    pub assured: u64,
    /// Packets of both directions, where accounting is on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub packets: u64,
    /// Bytes of both directions, where accounting is on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes: u64,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}
