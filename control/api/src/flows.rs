//! The connection tracking table: filters, flows as they are listed, statistics.

use serde::{Deserialize, Serialize};

/// Which flows a request is about: all that is given must hold. Options of `conntrack -L` and `-D`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowFilter {
    /// `ipv4` or `ipv6` (`-f`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Protocol by name or number (`-p`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<String>,
    /// Source of the original direction, address or prefix (`-s`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src: Option<String>,
    /// Destination of the original direction, address or prefix (`-d`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dst: Option<String>,
    /// Source port of the original direction (`--sport`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// Destination port of the original direction (`--dport`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// Source of the reply direction, address or prefix (`-r`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_src: Option<String>,
    /// Destination of the reply direction, address or prefix (`-q`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_dst: Option<String>,
    /// Protocol state by its name in the listing, such as `ESTABLISHED` (`--state`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Mark and the bits of it that count (`-m MARK[/MASK]`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<(u32, u32)>,
    /// Zone of both directions (`-w`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
    /// Zone of the original direction alone (`--orig-zone`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orig_zone: Option<u16>,
    /// Zone of the reply direction alone (`--reply-zone`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_zone: Option<u16>,
    /// `assured`, `seen-reply`, `unset` (no reply seen), `confirmed`, ... (`-u`); all must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
    /// One flow by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Source port of the reply direction (`--reply-port-src`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_sport: Option<u16>,
    /// Destination port of the reply direction (`--reply-port-dst`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_dport: Option<u16>,
    /// ICMP type of the original direction (`--icmp-type`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// ICMP code of the original direction (`--icmp-code`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    /// ICMP identifier (`--icmp-id`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_id: Option<u16>,
    /// GRE key of the original direction's source (`--srckey`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srckey: Option<u16>,
    /// GRE key of the original direction's destination (`--dstkey`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dstkey: Option<u16>,
    /// GRE key of the reply direction's source (`--reply-key-src`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_srckey: Option<u16>,
    /// GRE key of the reply direction's destination (`--reply-key-dst`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_dstkey: Option<u16>,
    /// Whether source or destination must be translated (`-j`); one of them by its status.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub any_nat: bool,
}

/// What is to be changed of flows; at least one of these. Options of `conntrack -U`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowChange {
    /// Mark and mask (`-m MARK[/MASK]`): the mask's bits are cleared, then those of the mark flipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<(u32, u32)>,
    /// Seconds until the flow runs out unless a packet comes (`-t`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// `assured`, `seen-reply`, `fixed-timeout` (`-u`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<String>,
}

/// `POST /v1/conntrack/update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateRequest {
    /// Which flows.
    #[serde(default)]
    pub filter: FlowFilter,
    /// What of them.
    pub change: FlowChange,
}

/// One direction of a flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTuple {
    /// Source address.
    pub src: String,
    /// Destination address.
    pub dst: String,
    /// Source port, of protocols that have ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sport: Option<u16>,
    /// Destination port, of protocols that have ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dport: Option<u16>,
    /// ICMP type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// ICMP code.
    #[serde(default, rename = "code", skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    /// ICMP identifier.
    #[serde(default, rename = "id", skip_serializing_if = "Option::is_none")]
    pub icmp_id: Option<u16>,
    /// GRE key of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srckey: Option<u16>,
    /// GRE key of the destination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dstkey: Option<u16>,
    /// Its zone, of a flow whose directions are in different ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
    /// Packets seen in this direction, where accounting is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Bytes of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// A flow as it is listed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// Unique while the daemon runs.
    pub id: u64,
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Protocol's name as `conntrack -L` prints it: `tcp`, `udp`, `icmp`, `unknown`, ...
    pub proto: String,
    /// Protocol's number.
    pub protonum: u8,
    /// State by its name, of protocols that have states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Seconds until it runs out.
    pub timeout: u32,
    /// As the first packet had it.
    pub original: FlowTuple,
    /// As answers have it.
    pub reply: FlowTuple,
    /// `expected`, `seen-reply`, `assured`, `confirmed`, `snat`, `dnat`, `fixed-timeout`.
    #[serde(default)]
    pub status: Vec<String>,
    /// Its mark.
    pub mark: u32,
    /// Its zone, where it is in one other than 0 for both directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
    /// Its helper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<String>,
    /// Seconds since it was made, where timestamps are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
    /// The worker that owns it.
    pub worker: u8,
}

/// The last line of a listing, and of what was deleted or changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEnd {
    /// Flows in it.
    pub flows: u64,
}

/// A line of a listing: each is told from the other by its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ListLine {
    /// A flow.
    Flow(Box<Flow>),
    /// The end.
    End(ListEnd),
}

/// `GET /v1/conntrack/count`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowCount {
    /// Flows in the table.
    pub count: u64,
    /// `conntrack.max`; 0: no limit.
    pub max: u64,
}

/// Answer of flushing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// Flows deleted.
    pub deleted: u64,
}

/// One worker's statistics: the names of `conntrack -S`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConntrackStats {
    /// The worker.
    pub worker: u8,
    /// The core that it is pinned to.
    pub core: usize,
    /// Look-ups that found an entry.
    pub found: u64,
    /// Packets that could not be tracked.
    pub invalid: u64,
    /// Entries made.
    pub insert: u64,
    /// Entries that could not be put in.
    pub insert_failed: u64,
    /// Packets dropped because no entry could be made.
    pub drop: u64,
    /// Entries evicted to make room.
    pub early_drop: u64,
    /// Packets with errors in ICMP.
    pub error: u64,
    /// Look-ups begun again; always 0.
    pub search_restart: u64,
    /// Entries in the shard.
    pub entries: u64,
}
