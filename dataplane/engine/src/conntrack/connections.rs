//! `connlimit`: how many live flows a rule has counted, in all or for each address, over all workers.
//!
//! A flow is counted when one of its packets is asked, whatever the answer, and until it ends: with the others where it enters the
//! table, not at all where its first packet is dropped. A TCP connection that has closed is not live any more, though
//! its entry stays (`nf_conncount` looks at TIME_WAIT and CLOSE likewise). Counts are a rule's by what it says, not by its
//! place in a policy, so that flows stay counted when another policy has the same rule.
//!
//! Unlike the kernel, whose counts are looked through for dead flows when somebody asks, a count is exact at any time, and
//! costs two changes of a cell in a flow's life ([`super::cells`]).
//!
//! Source: `nf_conncount.c`, iptables-extensions(8) "connlimit", nft(8) "ct count"; observed on Linux 6.18.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use sluice_wire::Family;

use super::Conntrack;
use super::cells::{Cells, Charge, Charged};
use super::flow::{Flow, Track};
use super::info::{FlowHandle, Status};
use super::pending::{Pending, PendingFlow, Place};
use super::shared::Shared;
use super::table::Table;
use super::tcp::TcpState;
use super::tuple::Address;
use crate::limit::LimitPer;

/// A limit to live flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnLimit {
    /// What tells its flows from those of other rules.
    pub rule: u64,
    /// So many are within it.
    pub above: u32,
    /// What is counted together.
    pub per: LimitPer,
}

/// Flows of all rules with a `connlimit`, shared by all workers.
#[derive(Debug)]
pub(super) struct Connections {
    seed: RandomState,
    cells: Cells,
}

/// Where one flow is counted: cells, from 1 on; 0 for none, so that memory is zero until it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charges([u32; Charges::ROOM]);

/// The counts, for a packet that rules look at.
#[derive(Debug)]
pub struct Tally<'a> {
    connections: &'a Connections,
    charges: Cell<Charges>,
    /// Whether there is a flow to be counted.
    counts: bool,
}

impl Connections {
    /// Room to count `flows` flows. Takes some milliseconds for a million.
    pub(super) fn new(flows: u32) -> Connections {
        Connections { seed: RandomState::new(), cells: Cells::new(flows) }
    }

    /// Flows that are counted there are gone.
    pub(super) fn release(&self, charges: Charges) {
        charges.iter().for_each(|charge| self.cells.discharge(charge));
    }
}

impl Charges {
    /// Most rules that count one flow. Further ones see others' flows and this one, and do not add it.
    pub(super) const ROOM: usize = 4;

    /// As it is kept beside a flow.
    pub(super) fn to_words(self) -> [u32; Charges::ROOM] {
        self.0
    }

    /// From what was kept.
    pub(super) fn from_words(words: [u32; Charges::ROOM]) -> Charges {
        Charges(words)
    }

    /// Whether there are none.
    pub(super) fn is_empty(self) -> bool {
        self == Charges::default()
    }

    fn iter(self) -> impl Iterator<Item = Charge> {
        self.0.into_iter().filter_map(|cell| cell.checked_sub(1)).map(Charge)
    }

    /// False if there is no room left.
    fn has_room(self) -> bool {
        self.0.contains(&0)
    }

    fn push(&mut self, charge: Charge) {
        if let Some(slot) = self.0.iter_mut().find(|slot| **slot == 0) {
            *slot = charge.0 + 1;
        }
    }
}

impl Tally<'_> {
    /// Whether there are more flows than the limit has it, that of the packet between these addresses among them.
    pub fn exceeds(&self, limit: &ConnLimit, src: IpAddr, dst: IpAddr) -> bool {
        let address = match limit.per {
            LimitPer::Rule => None,
            LimitPer::Source => Some(src),
            LimitPer::Destination => Some(dst),
        };
        let Connections { seed, cells } = self.connections;
        self.flows(cells, seed.hash_one((limit.rule, address))) > limit.above
    }

    fn flows(&self, cells: &Cells, hash: u64) -> u32 {
        let mut charges = self.charges.get();
        if charges.iter().any(|charge| cells.is_of(charge, hash)) {
            return cells.count(hash);
        }
        if self.counts
            && charges.has_room()
            && let Charged::To(charge, flows) = cells.charge(hash, u32::MAX)
        {
            charges.push(charge);
            self.charges.set(charges);
            return flows;
        }
        cells.count(hash).saturating_add(1)
    }

    /// Where the flow is counted by now.
    pub fn charges(&self) -> Charges {
        self.charges.get()
    }
}

impl Conntrack {
    /// The counts of rules with a `connlimit`, for a packet of a flow, of one that begins, or of none. None if no policy ever
    /// had such a rule ([`super::FlowBudget::count_connections`]).
    pub fn tally(&self, flow: Option<FlowHandle>, begins: Option<&Pending>) -> Option<Tally<'_>> {
        let connections = self.shared.budget.connections()?;
        let of_flow = flow.and_then(|flow| match flow.family {
            Family::V4 => self.v4.charges_at(flow.index),
            Family::V6 => self.v6.charges_at(flow.index),
        });
        let charges = of_flow.or(begins.map(Pending::charges));
        Some(Tally {
            connections,
            charges: Cell::new(charges.unwrap_or_default()),
            counts: charges.is_some(),
        })
    }

    /// Keeps where a flow is counted, or one that begins.
    pub fn keep_charges(&mut self, flow: Option<FlowHandle>, begins: Option<&mut Pending>, charges: Charges) {
        match (flow, begins) {
            (Some(flow), _) if flow.family == Family::V4 => self.v4.keep_charges(flow.index, charges),
            (Some(flow), _) => self.v6.keep_charges(flow.index, charges),
            (None, Some(Pending(PendingFlow::V4(new)))) => new.charges = charges,
            (None, Some(Pending(PendingFlow::V6(new)))) => new.charges = charges,
            (None, None) => {}
        }
    }
}

impl Pending {
    fn charges(&self) -> Charges {
        match &self.0 {
            PendingFlow::V4(new) => new.charges,
            PendingFlow::V6(new) => new.charges,
        }
    }
}

impl<A: Address> Table<A> {
    /// Where the flow at a place is counted; None if it is not to be.
    fn charges_at(&self, place: u32) -> Option<Charges> {
        let flow = self.flow(place)?;
        let live = flow.status.contains(Status::CONFIRMED) && !flow.has_closed();
        live.then(|| self.aside.charges(place, flow.status))
    }

    /// Keeps where the flow at a place is counted.
    pub(super) fn keep_charges(&mut self, place: u32, charges: Charges) {
        if charges.is_empty() {
            return;
        }
        if let Some(flow) = self.flow_mut(place) {
            flow.status = flow.status.with(Status::LIMITED);
            self.aside.keep_charges(place, charges);
        }
    }

    /// Gives back what a flow had taken that does not begin.
    pub(super) fn give_up(&mut self, shared: &mut Shared, place: Place, charges: Charges) {
        self.give_back(shared, place.charge);
        if let (false, Some(connections)) = (charges.is_empty(), shared.budget.connections()) {
            connections.release(charges);
        }
    }

    /// A flow that rules count has closed, or goes.
    #[cold]
    pub(super) fn release_charges(&mut self, connections: Option<&Connections>, place: u32) {
        let Some(flow) = self.flow_mut(place) else { return };
        let status = flow.status;
        flow.status = status.without(Status::LIMITED);
        if let Some(connections) = connections {
            connections.release(self.aside.charges(place, status));
        }
    }
}

impl<A> Flow<A> {
    /// Whether its connection is over, though it is in the table yet.
    pub(super) fn has_closed(&self) -> bool {
        let state = TcpState::from_number(self.state);
        matches!(self.track, Track::Tcp(_)) && matches!(state, TcpState::TimeWait | TcpState::Close)
    }
}

#[cfg(test)]
mod tests;
