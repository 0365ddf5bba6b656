//! Counting what the engine cannot: packets that were judged, and then lost on their way out.
//!
//! Every packet received ends in exactly one counter. The engine counts a packet as forwarded when it decides so; where
//! the transmit queue turns out to be full, that is taken back and a drop stands in its place.

use std::sync::Arc;

use sluice_engine::DropReason;
use sluice_engine::counters::{Counter, InterfaceCounters, WorkerCounters};
use sluice_engine::ids::{InterfaceId, PortId};
use sluice_engine::world::Interfaces;
use sluice_rte::Mbuf;

use crate::source::{Source, Tag};

/// A worker's counters, and which interface a port's packets are counted at when nothing more is known of them.
pub(crate) struct Account {
    pub(crate) counters: Arc<WorkerCounters>,
    /// By port: where packets are counted that the engine does not see.
    first_interface: Box<[Option<InterfaceId>]>,
}

impl Account {
    pub(crate) fn new(counters: Arc<WorkerCounters>, interfaces: &Interfaces, ports: usize) -> Account {
        let first = |port| interfaces.any_of_port(PortId(u16::try_from(port).unwrap_or(u16::MAX)));
        Account { counters, first_interface: (0..ports).map(first).collect() }
    }

    /// A packet that the device delivered and that is not fit for the engine to see.
    #[cold]
    pub(crate) fn unfit(&self, source: Source, mbuf: &Mbuf, reason: DropReason) {
        if let Source::Wire(port) = source
            && let Some(first) = self.first_interface.get(usize::from(port.0))
            && let Some(interface) = self.interface(*first)
        {
            interface.rx_packets.add(1);
            interface.rx_bytes.add(mbuf.len() as u64);
        }
        self.dropped(source, reason);
    }

    /// A packet that no counter but the received one knows yet.
    #[cold]
    pub(crate) fn dropped(&self, source: Source, reason: DropReason) {
        let drops = match source {
            Source::Wire(_) => &self.counters.drops,
            Source::Local(_) | Source::Made => &self.counters.local_drops,
        };
        add(drops, reason);
    }

    /// A packet that was counted as sent to the wire, and found no room there.
    #[cold]
    pub(crate) fn not_sent(&self, mbuf: &Mbuf) {
        let (source, tag) = (Source::of(mbuf), Tag::of(mbuf));
        let egress = self.interface(tag.egress());
        if let Some(egress) = egress {
            egress.tx_packets.take_back(1);
            egress.tx_bytes.take_back(mbuf.len() as u64);
        }
        let sent = match source {
            Source::Wire(_) => self.interface(tag.ingress()).map(|ingress| &ingress.forwarded),
            Source::Local(_) => egress.map(|egress| &egress.local_tx),
            Source::Made => None,
        };
        if let Some(sent) = sent {
            sent.take_back(1);
        }
        self.dropped(source, DropReason::TxQueue);
    }

    /// A packet that was counted as delivered to the box's own sockets, and found no room in the tap.
    #[cold]
    pub(crate) fn not_delivered(&self, mbuf: &Mbuf) {
        let source = Source::of(mbuf);
        if let Some(ingress) = self.interface(Tag::of(mbuf).ingress()) {
            ingress.delivered.take_back(1);
        }
        self.dropped(source, DropReason::TapQueue);
    }

    fn interface(&self, id: Option<InterfaceId>) -> Option<&InterfaceCounters> {
        self.counters.interfaces.get(usize::from(id?.0))
    }
}

fn add(drops: &[Counter], reason: DropReason) {
    if let Some(counter) = drops.get(reason as usize) {
        counter.add(1);
    }
}
