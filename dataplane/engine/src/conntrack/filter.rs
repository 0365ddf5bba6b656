//! Which flows a command is about: the options of `conntrack -L` and `-D`. All that is given must hold.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sluice_wire::{Family, Protocol};

use super::info::{Direction, Status};
use super::record::{FlowId, FlowRecord, TupleRecord, TupleTransport};
use super::template::{Zone, ZoneId};
use crate::ids::Millis;

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
    /// Zone of both directions (`-w`); a flow whose directions are in different zones is in none of these.
    pub zone: Option<ZoneId>,
    /// Bits that must be set (`-u`).
    pub status: Status,
    /// Bits that must not be set; `-u UNSET` is not SEEN_REPLY.
    pub status_clear: Status,
    /// At least one of these bits must be set; none given: no matter (`-j`: translated either way).
    pub status_any: Status,
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
    /// Zone of this direction alone (`--orig-zone`, `--reply-zone`).
    pub zone: Option<ZoneId>,
    /// GRE key of the source.
    pub srckey: Option<u16>,
    /// GRE key of the destination.
    pub dstkey: Option<u16>,
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
    /// Its first address.
    pub fn masked(&self) -> IpAddr {
        let ones = |len: u8, bits: u32| u128::MAX.checked_shl(bits - u32::from(len).min(bits)).unwrap_or(0);
        match self.address {
            IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & ones(self.len, 32) as u32).into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & ones(self.len, 128)).into(),
        }
    }

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
            && self.zone.is_none_or(|zone| flow.zone.whole() == Some(zone))
            && self.original.matches_zone(flow.zone, Direction::Original)
            && self.reply.matches_zone(flow.zone, Direction::Reply)
            && self.mark.is_none_or(|(value, mask)| flow.mark & mask == value & mask)
            && flow.status.contains(self.status)
            && flow.status.0 & self.status_clear.0 == 0
            && (self.status_any.0 == 0 || flow.status.0 & self.status_any.0 != 0)
            && self.state.as_deref().is_none_or(|state| flow.state == Some(state))
            && self.original.matches(&flow.original)
            && self.reply.matches(&flow.reply)
    }
}

impl TupleFilter {
    /// As conntrack has it: a flow with one zone for both directions has none for either alone.
    fn matches_zone(&self, zone: Zone, direction: Direction) -> bool {
        self.zone.is_none_or(|wanted| zone.whole().is_none() && zone.of(direction) == wanted)
    }

    fn matches(&self, tuple: &TupleRecord) -> bool {
        self.src.is_none_or(|prefix| prefix.contains(tuple.src))
            && self.dst.is_none_or(|prefix| prefix.contains(tuple.dst))
            && self.matches_transport(&tuple.transport)
    }

    fn matches_transport(&self, transport: &TupleTransport) -> bool {
        let (ports, icmp, keys) = match *transport {
            TupleTransport::Ports { sport, dport } => (Some((sport, dport)), None, None),
            TupleTransport::Icmp { kind, code, id } => (None, Some((kind, code, id)), None),
            TupleTransport::Gre { srckey, dstkey } => (None, None, Some((srckey, dstkey))),
            TupleTransport::None => (None, None, None),
        };
        self.sport.is_none_or(|wanted| ports.is_some_and(|(sport, _)| sport == wanted))
            && self.dport.is_none_or(|wanted| ports.is_some_and(|(_, dport)| dport == wanted))
            && self.icmp_type.is_none_or(|wanted| icmp.is_some_and(|(kind, _, _)| kind == wanted))
            && self.icmp_code.is_none_or(|wanted| icmp.is_some_and(|(_, code, _)| code == wanted))
            && self.icmp_id.is_none_or(|wanted| icmp.is_some_and(|(_, _, id)| id == wanted))
            && self.srckey.is_none_or(|wanted| keys.is_some_and(|(src, _)| src == wanted))
            && self.dstkey.is_none_or(|wanted| keys.is_some_and(|(_, dst)| dst == wanted))
    }
}

/// What is to be changed of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowChange {
    /// Its mark: the bits of the second number are cleared, then those of the first are flipped, which sets the mark
    /// where all are cleared (`-m MARK[/MASK]`).
    pub mark: Option<(u32, u32)>,
    /// It runs out so long from now, unless a packet comes.
    pub timeout: Option<Millis>,
    /// Bits that are set from now on, of [`FlowChange::STATUS`].
    pub status: Status,
}

impl FlowChange {
    /// Bits of the status that may be set by hand, as the kernel has it.
    pub const STATUS: Status = Status::SEEN_REPLY.with(Status::ASSURED).with(Status::FIXED_TIMEOUT);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> FlowRecord {
        let [a, b] = ["10.1.0.2", "10.2.0.2"].map(|address| address.parse().unwrap());
        let transport = |sport, dport| TupleTransport::Ports { sport, dport };
        FlowRecord {
            id: FlowId(7),
            family: Family::V4,
            protocol: Protocol::TCP,
            state: Some("ESTABLISHED"),
            timeout: Millis(1000),
            original: TupleRecord { src: a, dst: b, transport: transport(1024, 80) },
            reply: TupleRecord { src: b, dst: a, transport: transport(80, 1024) },
            status: Status::CONFIRMED.with(Status::SEEN_REPLY),
            mark: 0x12,
            zone: Zone::original(ZoneId(5)),
            helper: None,
            announced_by: None,
            ingress: None,
            accounting: None,
            start: None,
            age: None,
        }
    }

    fn prefix(address: &str, len: u8) -> Option<Prefix> {
        Some(Prefix { address: address.parse().unwrap(), len })
    }

    #[test]
    fn a_prefix_begins_with_its_first_address() {
        let cases = [
            ("10.1.2.3", 32, "10.1.2.3"),
            ("10.1.2.3", 24, "10.1.2.0"),
            ("10.1.2.3", 0, "0.0.0.0"),
            ("2001:db8:1:2:3::4", 64, "2001:db8:1:2::"),
            ("2001:db8::1", 0, "::"),
            ("::1", 128, "::1"),
        ];
        for (address, len, first) in cases {
            assert_eq!(prefix(address, len).unwrap().masked().to_string(), first, "{address}/{len}");
        }
    }

    #[test]
    fn each_option_tells_flows_apart() {
        let all = FlowFilter::default;
        let original = |original| FlowFilter { original, ..all() };
        let any = TupleFilter::default;
        let cases = [
            ("no option", all(), true),
            ("id", FlowFilter { id: Some(FlowId(7)), ..all() }, true),
            ("other id", FlowFilter { id: Some(FlowId(8)), ..all() }, false),
            ("family", FlowFilter { family: Some(Family::V6), ..all() }, false),
            ("protocol", FlowFilter { protocol: Some(Protocol::UDP), ..all() }, false),
            ("state", FlowFilter { state: Some("ESTABLISHED".into()), ..all() }, true),
            ("other state", FlowFilter { state: Some("CLOSE".into()), ..all() }, false),
            ("source", original(TupleFilter { src: prefix("10.1.0.2", 32), ..any() }), true),
            ("prefix", original(TupleFilter { src: prefix("10.1.255.255", 16), ..any() }), true),
            ("any prefix", original(TupleFilter { src: prefix("1.2.3.4", 0), ..any() }), true),
            ("other prefix", original(TupleFilter { src: prefix("10.1.0.128", 25), ..any() }), false),
            ("prefix of IPv6", original(TupleFilter { src: prefix("::", 0), ..any() }), false),
            ("port", original(TupleFilter { dport: Some(80), ..any() }), true),
            ("other port", original(TupleFilter { sport: Some(80), ..any() }), false),
            ("icmp type", original(TupleFilter { icmp_type: Some(8), ..any() }), false),
            (
                "reply",
                FlowFilter { reply: TupleFilter { src: prefix("10.2.0.2", 32), ..any() }, ..all() },
                true,
            ),
            ("mark", FlowFilter { mark: Some((0x12, u32::MAX)), ..all() }, true),
            ("masked mark", FlowFilter { mark: Some((0xf2, 0x0f)), ..all() }, true),
            ("other mark", FlowFilter { mark: Some((0x13, 0x0f)), ..all() }, false),
            ("zone of one direction", original(TupleFilter { zone: Some(ZoneId(5)), ..any() }), true),
            ("other zone", original(TupleFilter { zone: Some(ZoneId(6)), ..any() }), false),
            ("zone of both directions", FlowFilter { zone: Some(ZoneId(5)), ..all() }, false),
            ("status", FlowFilter { status: Status::SEEN_REPLY, ..all() }, true),
            ("other status", FlowFilter { status: Status::ASSURED, ..all() }, false),
            (
                "a status of two",
                FlowFilter { status_any: Status::DNAT.with(Status::SEEN_REPLY), ..all() },
                true,
            ),
            ("none of two", FlowFilter { status_any: Status::DNAT.with(Status::SNAT), ..all() }, false),
            ("gre key", original(TupleFilter { srckey: Some(80), ..any() }), false),
            ("unset status", FlowFilter { status_clear: Status::SEEN_REPLY, ..all() }, false),
        ];
        for (name, filter, expected) in cases {
            assert_eq!(filter.matches(&flow()), expected, "{name}");
        }
    }
}
