//! Listing and deleting flows in all shards: a bounded step at a time, one worker after the other.
//!
//! Nothing here holds more than one batch in memory, however many flows there are, and no worker does more than one
//! batch between two bursts.

use std::net::IpAddr;
use std::sync::Arc;

use sluice_api as api;
use sluice_engine::conntrack::{
    Direction, FlowFilter, FlowId, FlowRecord, Prefix, Status, TupleFilter, TupleRecord, TupleTransport,
    ZoneId,
};
use sluice_engine::ids::WorkerId;
use sluice_engine::message::{Command, Cursor, Event};
use sluice_wire::{Family, Protocol};

use crate::workers::{WorkerError, Workers};

/// Flows that a worker copies out between two bursts: about 20 µs of its time.
const BATCH: usize = 64;

/// Where a listing stands.
pub struct Listing {
    workers: Arc<Workers>,
    filter: Arc<FlowFilter>,
    worker: WorkerId,
    cursor: Option<Cursor>,
    batch: Vec<FlowRecord>,
}

impl Listing {
    /// A listing of all shards.
    pub fn new(workers: Arc<Workers>, filter: FlowFilter) -> Listing {
        let batch = Vec::with_capacity(BATCH);
        Listing {
            workers,
            filter: Arc::new(filter),
            worker: WorkerId(0),
            cursor: Some(Cursor::default()),
            batch,
        }
    }

    /// The next flows with the worker that owns them; None behind the last. May be empty on the way.
    ///
    /// # Errors
    /// A worker does not answer.
    pub async fn next(&mut self) -> Result<Option<(WorkerId, &[FlowRecord])>, WorkerError> {
        if self.cursor.is_none() {
            self.worker.0 += 1;
            self.cursor = Some(Cursor::default());
        }
        let Some(cursor) = self.cursor else { return Ok(None) };
        if !self.workers.ids().any(|worker| worker == self.worker) {
            return Ok(None);
        }
        let (worker, filter) = (self.worker, Arc::clone(&self.filter));
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        let command = |request| Command::List { request, cursor, filter, batch };
        match self.workers.ask(worker, command).await? {
            Event::Listed { next, batch, .. } => {
                self.cursor = next;
                self.batch = batch;
                Ok(Some((worker, &self.batch)))
            }
            _ => Err(WorkerError::Silent(worker.0)),
        }
    }
}

/// Deletes the flows that match, in all shards; how many there were.
///
/// # Errors
/// A worker does not answer; some flows may be deleted already.
pub async fn delete(workers: &Workers, filter: FlowFilter) -> Result<u64, WorkerError> {
    let filter = Arc::new(filter);
    let mut total = 0;
    for worker in workers.ids() {
        let mut cursor = Some(Cursor::default());
        while let Some(from) = cursor {
            let filter = Arc::clone(&filter);
            let command = |request| Command::Delete { request, cursor: from, filter };
            let Event::Deleted { next, deleted, .. } = workers.ask(worker, command).await? else {
                return Err(WorkerError::Silent(worker.0));
            };
            total += deleted;
            cursor = next;
        }
    }
    Ok(total)
}

/// A flow as the API has it.
pub fn describe(flow: &FlowRecord, worker: WorkerId) -> api::Flow {
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
        age: flow.age.map(|nanos| nanos / 1_000_000_000),
        worker: worker.0,
    }
}

const STATUS: [(&str, Status); 6] = [
    ("expected", Status::EXPECTED),
    ("seen-reply", Status::SEEN_REPLY),
    ("assured", Status::ASSURED),
    ("confirmed", Status::CONFIRMED),
    ("snat", Status::SNAT),
    ("dnat", Status::DNAT),
];

fn tuple(from: &TupleRecord, accounting: Option<(u64, u64)>, zone: Option<u16>) -> api::FlowTuple {
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

/// What the API's filter means.
///
/// # Errors
/// The value that means nothing, in one line.
pub fn filter(from: &api::FlowFilter) -> Result<FlowFilter, String> {
    let tuple = |src: &Option<String>, dst: &Option<String>, sport, dport, zone: Option<u16>| {
        let prefix = |text: &Option<String>| text.as_deref().map(prefix).transpose();
        Ok::<_, String>(TupleFilter {
            src: prefix(src)?,
            dst: prefix(dst)?,
            sport,
            dport,
            zone: zone.map(ZoneId),
            ..TupleFilter::default()
        })
    };
    let mut filter = FlowFilter {
        id: from.id.map(FlowId),
        family: from.family.as_deref().map(family).transpose()?,
        protocol: from.proto.as_deref().map(protocol).transpose()?,
        state: from.state.as_ref().map(|state| state.to_ascii_uppercase()),
        original: tuple(&from.src, &from.dst, from.sport, from.dport, from.orig_zone)?,
        reply: tuple(&from.reply_src, &from.reply_dst, None, None, from.reply_zone)?,
        mark: from.mark,
        zone: from.zone.map(ZoneId),
        status: Status::default(),
        status_clear: Status::default(),
    };
    for name in &from.status {
        let name = name.to_ascii_lowercase().replace('_', "-");
        if name == "unset" || name == "unreplied" {
            filter.status_clear.0 |= Status::SEEN_REPLY.0;
        } else if let Some((_, bit)) = STATUS.iter().find(|(known, _)| *known == name) {
            filter.status.0 |= bit.0;
        } else {
            return Err(format!(
                "status {name}: one of assured, seen-reply, unset, confirmed, expected, snat, dnat"
            ));
        }
    }
    Ok(filter)
}

fn family(text: &str) -> Result<Family, String> {
    match text {
        "ipv4" => Ok(Family::V4),
        "ipv6" => Ok(Family::V6),
        _ => Err(format!("family {text}: ipv4 or ipv6")),
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    let by_name = Protocol::from_name(&text.to_ascii_lowercase());
    by_name.or_else(|| text.parse().ok().map(Protocol)).ok_or_else(|| format!("unknown protocol {text}"))
}

fn prefix(text: &str) -> Result<Prefix, String> {
    let invalid = || format!("{text} is neither an address nor a prefix");
    let (address, len) = match text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let len = len.map_or(Ok(bits), |len| len.parse().map_err(|_| invalid()))?;
    if len > bits {
        return Err(invalid());
    }
    Ok(Prefix { address, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_means_what_conntrack_means() {
        let from = api::FlowFilter {
            family: Some("ipv6".into()),
            proto: Some("17".into()),
            src: Some("2001:db8::/32".into()),
            state: Some("established".into()),
            status: vec!["ASSURED".into(), "UNSET".into()],
            ..api::FlowFilter::default()
        };
        let meant = filter(&from).unwrap();
        assert_eq!(meant.family, Some(Family::V6));
        assert_eq!(meant.protocol, Some(Protocol::UDP));
        assert_eq!(meant.original.src.unwrap().len, 32);
        assert_eq!(meant.state.as_deref(), Some("ESTABLISHED"));
        assert_eq!((meant.status, meant.status_clear), (Status::ASSURED, Status::SEEN_REPLY));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let none = api::FlowFilter::default;
        let cases = [
            api::FlowFilter { family: Some("ip".into()), ..none() },
            api::FlowFilter { proto: Some("tpc".into()), ..none() },
            api::FlowFilter { proto: Some("256".into()), ..none() },
            api::FlowFilter { src: Some("10.0.0.0/33".into()), ..none() },
            api::FlowFilter { dst: Some("ten".into()), ..none() },
            api::FlowFilter { status: vec!["gone".into()], ..none() },
        ];
        for case in cases {
            assert!(filter(&case).is_err(), "{case:?}");
        }
    }
}
