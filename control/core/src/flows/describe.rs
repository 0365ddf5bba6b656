//! A flow as the API has it.

use sluice_api as api;
use sluice_engine::conntrack::{Direction, FlowRecord, Status, TupleRecord, TupleTransport};
use sluice_engine::ids::WorkerId;
use sluice_wire::Family;

/// A flow as the API has it.
pub(crate) fn describe(flow: &FlowRecord, worker: WorkerId) -> api::Flow {
    let accounting = |direction: usize| {
        let counted = flow.accounting.as_ref();
        counted.and_then(|a| Some((*a.packets.get(direction)?, *a.bytes.get(direction)?)))
    };
    let zone = |direction| {
        let one_way = flow.zone.whole().is_none().then(|| flow.zone.of(direction).0);
        one_way.filter(|zone| *zone != 0)
    };
    api::Flow {
        id: flow.id.0,
        family: match flow.family {
            Family::V4 => "ipv4".into(),
            Family::V6 => "ipv6".into(),
        },
        proto: flow.protocol_name().into(),
        protonum: flow.protocol.0,
        state: flow.state.map(str::to_owned),
        timeout: flow.timeout.0 / 1000,
        original: tuple(&flow.original, accounting(0), zone(Direction::Original)),
        reply: tuple(&flow.reply, accounting(1), zone(Direction::Reply)),
        status: STATUS
            .iter()
            .filter(|(_, bit)| flow.status.contains(*bit))
            .map(|(name, _)| (*name).to_owned())
            .collect(),
        mark: flow.mark,
        zone: flow.zone.whole().filter(|zone| zone.0 != 0).map(|zone| zone.0),
        helper: flow.helper.map(|helper| helper.name().to_owned()),
        age: flow.age.map(|nanos| nanos / 1_000_000_000),
        worker: worker.0,
    }
}

/// Bits of a flow's status by their names, in the order of the kernel's numbers.
pub(super) const STATUS: [(&str, Status); 7] = [
    ("expected", Status::EXPECTED),
    ("seen-reply", Status::SEEN_REPLY),
    ("assured", Status::ASSURED),
    ("confirmed", Status::CONFIRMED),
    ("snat", Status::SNAT),
    ("dnat", Status::DNAT),
    ("fixed-timeout", Status::FIXED_TIMEOUT),
];

pub(super) fn tuple(from: &TupleRecord, accounting: Option<(u64, u64)>, zone: Option<u16>) -> api::FlowTuple {
    let mut tuple = api::FlowTuple {
        src: from.src.to_string(),
        dst: from.dst.to_string(),
        packets: accounting.map(|(packets, _)| packets),
        bytes: accounting.map(|(_, bytes)| bytes),
        zone,
        ..api::FlowTuple::default()
    };
    match from.transport {
        TupleTransport::Ports { sport, dport } => {
            (tuple.sport, tuple.dport) = (Some(sport), Some(dport));
        }
        TupleTransport::Icmp { kind, code, id } => {
            (tuple.icmp_type, tuple.icmp_code, tuple.icmp_id) = (Some(kind), Some(code), Some(id));
        }
        TupleTransport::Gre { srckey, dstkey } => {
            (tuple.srckey, tuple.dstkey) = (Some(srckey), Some(dstkey));
        }
        TupleTransport::None => {}
    }
    tuple
}
