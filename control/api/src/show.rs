//! The running state, as `sluice show` prints it.

use serde::{Deserialize, Serialize};

/// A rule with its counters. Behind the rules of a hook's chain comes its policy, with what no rule decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// `raw`, `mangle`, `nat` or `filter`; `chains` for user chains.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// Place in its chain, from 1.
    pub index: usize,
    /// Its `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its `comment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Matches and action in the policy's own words.
    pub text: String,
    /// Packets that it matched.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// The device under an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// As the system file has it: `kernel:eth0`.
    pub device: String,
    /// DPDK driver.
    pub driver: String,
    /// Whether the link is up.
    pub link_up: bool,
    /// Link speed in Mbit/s; 0 if the device does not say.
    pub speed: u32,
    /// Receive queues, one for each worker where the device can.
    pub rx_queues: u16,
    /// Transmit queues.
    pub tx_queues: u16,
    /// Whether packets arrive at the queue of the worker that owns their flow; where not, they are handed over.
    #[serde(default)]
    pub rss_queue: bool,
    /// Whether packets bring along the hash that names their owner.
    #[serde(default)]
    pub rss_hash: bool,
    /// Packets that the device lost because a receive queue was full.
    pub rx_missed: u64,
    /// Packets lost because no buffer was free.
    pub rx_nombuf: u64,
    /// Packets that the device received with errors.
    pub rx_errors: u64,
    /// Packets that the device failed to send.
    pub tx_errors: u64,
}

/// A logical interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the system file; also the kernel's name of the tap for local traffic.
    pub name: String,
    /// Its number.
    pub id: u16,
    /// The device under it; interfaces that differ in `vlan` share one.
    pub port: Port,
    /// 802.1Q tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// The router's MAC address on it.
    pub mac: String,
    /// Largest IP datagram in bytes.
    pub mtu: u16,
    /// Addresses with the length of their prefix, the derived link-local one included.
    pub addresses: Vec<String>,
    /// `off`, `loose` or `strict`.
    pub rp_filter: String,
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Received here and sent to a next hop.
    pub forwarded: u64,
    /// Received here and handed to the box.
    pub delivered: u64,
    /// Received here, dropped and answered with an error or a reset.
    pub answered: u64,
    /// Received here and used up: ARP, neighbour discovery.
    pub consumed: u64,
}

/// One way of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteHop {
    /// The next router; none where the destination is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// The interface.
    pub dev: String,
    /// Share among several.
    pub weight: u16,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination prefix.
    pub to: String,
    /// `unicast`, `unreachable`, `prohibit` or `blackhole`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Ways; empty for other types than unicast.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hops: Vec<RouteHop>,
    /// Of routes to one prefix, the lowest wins.
    pub metric: u32,
    /// `connected`, `static` (the system file's) or `kernel`.
    pub source: String,
}

/// A next hop on a link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address.
    pub address: String,
    /// The interface that it is on.
    pub dev: String,
    /// Its MAC address, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// `permanent`, `incomplete`, `reachable`, `stale`, `probe` or `failed`.
    pub state: String,
    /// Seconds since it last proved to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<u64>,
    /// Seconds since a packet was last sent to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
}

/// A worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub worker: u8,
    /// The core that it is pinned to.
    pub core: usize,
    /// The generation that it runs on.
    pub generation: u32,
    /// Packets that its polls returned.
    pub packets: u64,
    /// Packets that took the stored decision of their flow.
    pub fast_path: u64,
    /// Packets given to another worker.
    pub handed_over: u64,
    /// Packets from the wire whose hash the device brought along.
    #[serde(default)]
    pub device_hashed: u64,
    /// Packets that wait for a neighbour.
    pub held: u64,
    /// Flows in its shard.
    pub flows: u64,
    /// Polls that found packets.
    pub busy_polls: u64,
    /// Polls that found none.
    pub idle_polls: u64,
    /// Cycles spent in polls that found packets.
    pub busy_cycles: u64,
    /// Cycles spent in polls that found none.
    pub idle_cycles: u64,
}

/// A drop reason's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// The reason, as the metric has it.
    pub reason: String,
    /// Received packets dropped for it, by worker.
    pub received: Vec<u64>,
    /// Packets of the box itself dropped for it, by worker.
    pub local: Vec<u64>,
    /// What it means.
    #[serde(default)]
    pub meaning: String,
    /// What to do about it.
    #[serde(default)]
    pub advice: String,
}

/// A set of the running policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// `net` or `port`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many elements it has.
    #[serde(default)]
    pub count: usize,
    /// Its elements as text; the first thousand in the list of all sets.
    pub elements: Vec<String>,
    /// Whether they were changed since the policy that defines them was applied.
    #[serde(default)]
    pub changed: bool,
}

/// `POST /v1/sets`: change elements of a set, without a new policy. Kept over restarts until a policy defines the set
/// differently.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetChange {
    /// The set, without the `@`.
    pub name: String,
    /// What to do.
    pub action: SetAction,
    /// Elements as a policy has them.
    pub elements: Vec<String>,
}

/// What is done with elements of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetAction {
    /// They come to those that are there.
    #[default]
    Add,
    /// They go; each must be there, in whatever spelling.
    Del,
    /// They take the place of all that are there.
    Replace,
}

/// Answer of `POST /v1/sets`: all workers have the set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetReply {
    /// The generation that it holds from.
    pub generation: u32,
    /// Elements in it now.
    pub elements: usize,
    /// Elements that were not there before.
    pub added: usize,
    /// Elements that are there no more.
    pub removed: usize,
}

/// `GET /v1/config`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigView {
    /// Path of the system file.
    pub path: String,
    /// Its text as it is in force.
    pub text: String,
}
