//! What translations use.

use serde::{Deserialize, Serialize};

/// `GET /v1/nat`: what live flows are translated to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// Sources that flows were given, most ports first.
    pub sources: Vec<NatSource>,
    /// Destinations that were changed, most flows first.
    pub destinations: Vec<NatDestination>,
    /// Translated flows beyond the addresses that these lists have room for.
    pub left_out: u64,
    /// Packets dropped because no port was free for their flow, since the start.
    pub exhausted: u64,
    /// The same of the running policy's rules that give sources: those that had no free port.
    #[serde(default)]
    pub exhausted_pools: Vec<NatExhausted>,
    /// Packets dropped because there was no address to give them, since the start.
    pub no_address: u64,
}

/// A rule that had no free port for some flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatExhausted {
    /// The rule's name, else its chain and place.
    pub pool: String,
    /// Packets dropped for that.
    pub packets: u64,
}

/// A source that flows were given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatSource {
    /// The address.
    pub address: String,
    /// The protocol's name, or its number.
    pub protocol: String,
    /// Flows that leave with it.
    pub flows: u64,
    /// Different ports (or ICMP identifiers) of these. One port serves flows to any number of destinations. 0 for protocols
    /// without.
    pub ports: u32,
}

/// A destination that was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatDestination {
    /// What clients ask for: an address, and a port where there are ports.
    pub asked: String,
    /// The protocol's name, or its number.
    pub protocol: String,
    /// What they get.
    pub given: String,
    /// Flows.
    pub flows: u64,
}

/// `GET /v1/nat/owner/ADDRESS/PORT`: who has a port of an outer address, for each rule that deals it out in blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortOwner {
    /// The rule's name, else its place.
    pub rule: String,
    /// Whose it is.
    pub subscriber: String,
    /// The first port of his block.
    pub first: u16,
    /// The last one.
    pub last: u16,
}
