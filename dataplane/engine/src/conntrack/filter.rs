//! Which flows a command is about: the options of `conntrack -L` and `-D`. All that is given must hold.

use std::net::IpAddr;

use sluice_wire::{Family, Protocol};

use super::info::Status;
use super::record::{FlowId, FlowRecord, TupleRecord, TupleTransport};

/// Which flows. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// One flow by its id.
    pub id: Option<FlowId>,
    /// Address family (`-f`).
    pub family: Option<Family>,
    /// Protocol (`-p`).
    pub protocol: Option<Protocol>,
    /// State by its name, such as `ESTABLISHED` (`--state`).
    pub state: Option<String>,
    /// What the flow's first packet must be.
    pub original: TupleFilter,
    /// What its answers must be.
    pub reply: TupleFilter,
    /// Mark and the bits of it that count (`-m VALUE[/MASK]`).
    pub mark: Option<(u32, u32)>,
    /// Bits that must be set (`-u`).
    pub status: Status,
    /// Bits that must not be set; `-u UNSET` is not SEEN_REPLY.
    pub status_clear: Status,
}

/// Which tuples of one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TupleFilter {
    /// Source (`-s`, `-r`).
    pub src: Option<Prefix>,
    /// Destination (`-d`, `-q`).
    pub dst: Option<Prefix>,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
    /// ICMP or ICMPv6 type.
    pub icmp_type: Option<u8>,
    /// ICMP or ICMPv6 code.
    pub icmp_code: Option<u8>,
    /// ICMP or ICMPv6 identifier.
    pub icmp_id: Option<u16>,
}

/// An address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Leading bits that count; more than there are is all.
    pub len: u8,
}

impl Prefix {
    /// Whether `address` is in it; never true across families.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(self.len.min(32))
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(self.len.min(128))
            }
            _ => false,
        }
    }
}

impl FlowFilter {
    /// Whether a flow is meant.
    pub fn matches(&self, flow: &FlowRecord) -> bool {
        self.id.is_none_or(|id| id == flow.id)
            && self.family.is_none_or(|family| family == flow.family)
            && self.protocol.is_none_or(|protocol| protocol == flow.protocol)
            && self.mark.is_none_or(|(value, mask)| flow.mark & mask == value & mask)
            && flow.status.contains(self.status)
            && flow.status.0 & self.status_clear.0 == 0
            && self.state.as_deref().is_none_or(|state| flow.state == Some(state))
            && self.original.matches(&flow.original)
            && self.reply.matches(&flow.reply)
    }
}

impl TupleFilter {
    fn matches(&self, tuple: &TupleRecord) -> bool {
        self.src.is_none_or(|prefix| prefix.contains(tuple.src))
            && self.dst.is_none_or(|prefix| prefix.contains(tuple.dst))
            && self.matches_transport(&tuple.transport)
    }

    fn matches_transport(&self, transport: &TupleTransport) -> bool {
        let (ports, icmp) = match *transport {
            TupleTransport::Ports { sport, dport } => (Some((sport, dport)), None),
            TupleTransport::Icmp { kind, code, id } => (None, Some((kind, code, id))),
            TupleTransport::Gre { .. } | TupleTransport::None => (None, None),
        };
        self.sport.is_none_or(|wanted| ports.is_some_and(|(sport, _)| sport == wanted))
            && self.dport.is_none_or(|wanted| ports.is_some_and(|(_, dport)| dport == wanted))
            && self.icmp_type.is_none_or(|wanted| icmp.is_some_and(|(kind, _, _)| kind == wanted))
            && self.icmp_code.is_none_or(|wanted| icmp.is_some_and(|(_, code, _)| code == wanted))
            && self.icmp_id.is_none_or(|wanted| icmp.is_some_and(|(_, _, id)| id == wanted))
    }
}

/// A change to one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowUpdate {
    /// Remove it.
    Delete,
    /// Set the bits of its mark that the mask names.
    Mark {
        /// The bits.
        value: u32,
        /// Which of them.
        mask: u32,
    },
    /// Let it run out so many milliseconds from now.
    Timeout(crate::ids::Millis),
}
