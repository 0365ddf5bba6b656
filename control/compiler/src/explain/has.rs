//! What a packet has in a field that a rule asks about, in the words of the policy language.

use std::net::IpAddr;

use sluice_engine::conntrack::{CtInfo, CtState, Direction, Status, TupleRecord, TupleTransport};
use sluice_engine::ids::InterfaceId;
use sluice_engine::ruleset::{Field, View};
use sluice_engine::world::AddressKind;
use sluice_wire::{Fragment, Packet, Transport};

use crate::text::{family_name, flag_names};

/// The packet in one line: protocol, addresses with ports, flags or type.
pub fn line(packet: &Packet) -> String {
    let end = |address: IpAddr, port: Option<u16>| match (address, port) {
        (address, None) => address.to_string(),
        (IpAddr::V4(v4), Some(port)) => format!("{v4}:{port}"),
        (IpAddr::V6(v6), Some(port)) => format!("[{v6}]:{port}"),
    };
    let ports = packet.ports();
    let src = end(packet.addrs.src(), ports.map(|(sport, _)| sport));
    let dst = end(packet.addrs.dst(), ports.map(|(_, dport)| dport));
    let more = match packet.transport {
        Transport::Tcp { flags, .. } => format!(", flags {}", flag_names(flags.bits())),
        Transport::Icmp { kind, code, .. } | Transport::Icmpv6 { kind, code, .. } => {
            format!(", type {kind} code {code}")
        }
        _ => String::new(),
    };
    format!("{} {src} > {dst}{more}", packet.protocol)
}

/// What there is; None where the packet has no such field.
pub(super) fn field(field: Field, view: &View<'_>) -> Option<String> {
    let packet = view.packet;
    let interface = |id: Option<InterfaceId>| match id {
        Some(id) => view.interfaces.get(id).map(|interface| interface.name.clone()),
        None => Some("none".to_owned()),
    };
    Some(match field {
        Field::Ingress => interface(view.ingress)?,
        Field::Egress => interface(view.egress)?,
        Field::To => kind(view.interfaces.kind(packet.addrs.dst())).into(),
        Field::Origin => kind(view.interfaces.kind(packet.addrs.src())).into(),
        Field::Family => family_name(packet.family()).into(),
        Field::Protocol => packet.protocol.to_string(),
        Field::Ports => match packet.ports() {
            Some((sport, dport)) => format!("{sport} and {dport}"),
            None => "none".into(),
        },
        Field::Source => packet.addrs.src().to_string(),
        Field::Destination => packet.addrs.dst().to_string(),
        Field::SourcePort => packet.ports()?.0.to_string(),
        Field::DestinationPort => packet.ports()?.1.to_string(),
        Field::TcpFlags => match packet.transport {
            Transport::Tcp { flags, .. } => flag_names(flags.bits()),
            _ => return None,
        },
        Field::Icmp | Field::Icmpv6 => match packet.transport {
            Transport::Icmp { kind, code, .. } | Transport::Icmpv6 { kind, code, .. } => {
                format!("{kind}/{code}")
            }
            _ => return None,
        },
        Field::Fragment => matches!(packet.fragment, Fragment::Later { .. }).to_string(),
        Field::Length => packet.length().to_string(),
        Field::Ttl => packet.ttl.to_string(),
        Field::Dscp => (packet.tos >> 2).to_string(),
        Field::Mark => format!("{:#x}", view.mark),
        Field::Limit => "taken to be within".into(),
        Field::Connections => "taken not to be exceeded".into(),
        Field::State => state(view.ct.map_or(CtState::Invalid, |ct| ct.state)).into(),
        Field::Direction | Field::Status | Field::Helper | Field::CtMark | Field::Original => {
            of_flow(field, view.ct.as_ref().filter(|ct| ct.has_flow())?)?
        }
        Field::Absent => return None,
    })
}

fn of_flow(field: Field, flow: &CtInfo) -> Option<String> {
    Some(match field {
        Field::Direction => match flow.direction {
            Direction::Original => "original".into(),
            Direction::Reply => "reply".into(),
        },
        Field::Status => status(flow.status),
        Field::Helper => flow.helper?.name().into(),
        Field::CtMark => format!("{:#x}", flow.mark),
        Field::Original => {
            let of = &flow.original;
            format!("{} port {} > {} port {}", of.src, of.sport, of.dst, of.dport)
        }
        _ => return None,
    })
}

pub(super) const fn state(state: CtState) -> &'static str {
    match state {
        CtState::New => "new",
        CtState::Established => "established",
        CtState::Related => "related",
        CtState::Invalid => "invalid",
        CtState::Untracked => "untracked",
    }
}

fn status(status: Status) -> String {
    let names = [
        (Status::EXPECTED, "expected"),
        (Status::SEEN_REPLY, "seen-reply"),
        (Status::ASSURED, "assured"),
        (Status::CONFIRMED, "confirmed"),
        (Status::SNAT, "snat"),
        (Status::DNAT, "dnat"),
    ];
    let on: Vec<&str> =
        names.iter().filter(|(bit, _)| status.contains(*bit)).map(|(_, name)| *name).collect();
    if on.is_empty() { "none".into() } else { on.join(", ") }
}

const fn kind(kind: AddressKind) -> &'static str {
    match kind {
        AddressKind::Local => "local",
        AddressKind::Broadcast => "broadcast",
        AddressKind::Multicast => "multicast",
        AddressKind::Routed => "routed",
    }
}

/// Ports of a tuple, source first.
pub(super) const fn ports(tuple: &TupleRecord) -> Option<(u16, u16)> {
    match tuple.transport {
        TupleTransport::Ports { sport, dport } => Some((sport, dport)),
        _ => None,
    }
}
