//! What a rule does with a packet that it matches.

use std::net::IpAddr;
use std::sync::Arc;

use sluice_wire::{Family, Packet};

use crate::conntrack::{Nat64, NatRange, PortBlocks, Zone};
use crate::helper::Assigned;
use crate::limit::Limit;
use crate::ruleset::{ChainId, Decision, Rejection};

/// What becomes of a packet that no rule of a hook's chain decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// It goes on.
    #[default]
    Accept,
    /// It is dropped.
    Drop,
}

/// The action of a rule.
#[derive(Clone, Debug)]
pub enum Action {
    /// Passes this hook.
    Accept,
    /// Is dropped.
    Drop,
    /// Is dropped, and its sender told.
    Reject(Reject),
    /// Gets another address or port, and so do all packets of its flow. In `nat` alone.
    Translate(Translate),
    /// Goes through a user chain, then on with the next rule.
    Jump(ChainId),
    /// Goes through a user chain, then on behind the rule that called this one.
    Goto(ChainId),
    /// Leaves this chain; at a hook's chain, its policy decides.
    Return,
    /// Is UNTRACKED; goes on with the next rule.
    Notrack {
        /// Whether ICMP errors about it are RELATED.
        related: bool,
    },
    /// Is tracked in this zone, if no rule gave it one before; goes on.
    Zone(Zone),
    /// The flow that it begins has these timeouts, by their place in the policy; goes on.
    CtTimeout(u16),
    /// The flow that it begins has this helper, if it understands such flows and no rule gave it one before; goes on.
    Helper(Assigned),
    /// Sets the packet's mark; goes on.
    Mark(MarkSet),
    /// Sets the flow's mark; goes on.
    CtMark(MarkSet),
    /// Takes these bits of the packet's mark over into the flow's; goes on.
    SaveMark(u32),
    /// Takes these bits of the flow's mark over into the packet's; goes on.
    RestoreMark(u32),
    /// Writes a line to the log while within the limit; goes on.
    Log(Option<Arc<Limit>>),
    /// Only counts; goes on.
    Count,
}

/// How a flow is translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Translate {
    /// Its source becomes one of these.
    Snat(NatRange),
    /// Its source becomes the address of the interface that it leaves by; all else is as the range says, which has no
    /// addresses.
    Masquerade(NatRange),
    /// Its source becomes what the sender has of these.
    Blocks(PortBlocks),
    /// It goes to the IPv4 host that its destination stands for, and its source becomes one of these. In `prerouting` alone.
    Nat64(Nat64),
    /// Its destination becomes one of these.
    Dnat(NatRange),
    /// Its destination becomes the address of the interface that it came in by, with one of these ports if any are
    /// given.
    Redirect(Option<(u16, u16)>),
}

impl Translate {
    /// Ports that it gives.
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self {
            Translate::Snat(range) | Translate::Masquerade(range) | Translate::Dnat(range) => range.ports,
            Translate::Redirect(ports) => *ports,
            // A block is of all protocols: the others get its address alone. NAT64 has protocols of its own.
            Translate::Blocks(_) | Translate::Nat64(_) => None,
        }
    }

    /// Addresses that it gives.
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match self {
            Translate::Snat(range) | Translate::Dnat(range) => range.addresses,
            Translate::Blocks(blocks) => Some(blocks.addresses()),
            Translate::Nat64(nat64) => Some(nat64.addresses()),
            Translate::Masquerade(_) | Translate::Redirect(_) => None,
        }
    }

    /// Whether an inner endpoint keeps its outer one towards every destination.
    pub const fn is_endpoint_independent(&self) -> bool {
        match self {
            Translate::Snat(range) | Translate::Masquerade(range) => range.endpoint_independent,
            Translate::Blocks(blocks) => blocks.is_endpoint_independent(),
            Translate::Nat64(_) => true,
            Translate::Dnat(_) | Translate::Redirect(_) => false,
        }
    }
}

/// How `reject` tells the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// A TCP reset. The builder makes the rule match TCP alone.
    TcpReset,
    /// Destination unreachable. The builder makes the rule match only families that have a code.
    Unreachable {
        /// Code for IPv4 (RFC 792, RFC 1812 section 5.2.7.1).
        icmp: Option<u8>,
        /// Code for IPv6 (RFC 4443 section 3.1).
        icmpv6: Option<u8>,
    },
}

impl Reject {
    /// The answer in the packet's own family.
    pub(super) fn decide(self, packet: &Packet) -> Decision {
        let rejection = match (self, packet.family()) {
            (Reject::TcpReset, _) => Some(Rejection::TcpReset),
            (Reject::Unreachable { icmp, .. }, Family::V4) => icmp.map(Rejection::Icmp),
            (Reject::Unreachable { icmpv6, .. }, Family::V6) => icmpv6.map(Rejection::Icmpv6),
        };
        rejection.map_or(Decision::Drop, Decision::Reject)
    }
}

/// Sets bits of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkSet {
    /// The new value of the masked bits.
    pub value: u32,
    /// The bits that change.
    pub mask: u32,
}

impl MarkSet {
    /// The mark afterwards.
    #[inline]
    pub const fn apply(self, mark: u32) -> u32 {
        (mark & !self.mask) | (self.value & self.mask)
    }
}
