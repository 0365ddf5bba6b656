//! A packet on its way: what the stages look at and change. Lives for one packet, borrows everything else.

use std::net::IpAddr;

use sluice_wire::{MacAddr, Packet};

use crate::conntrack::{Conntrack, CtInfo, CtState, Direction, FlowHandle, Mapping, Pending, Tracked};
use crate::counters::WorkerCounters;
use crate::decision::{self, Decisions};
use crate::frame::{Frame, Outbox};
use crate::ids::{InterfaceId, Now, WorkerId};
use crate::reassembly::{Assembly, Reassembly, Shape};
use crate::ruleset::Effects;
use crate::stage::settle;
use crate::trace::{Step, Trace};
use crate::verdict::Verdict;
use crate::world::{Interface, NeighbourKey, World};

/// What all packets of a burst share.
pub(crate) struct Bench<'a> {
    pub now: Now,
    pub worker: WorkerId,
    pub workers: u8,
    pub world: &'a World,
    pub counters: &'a WorkerCounters,
    pub conntrack: &'a mut Conntrack,
    pub decisions: &'a mut Decisions,
    pub reassembly: &'a mut Reassembly,
    /// Where datagrams are put together; empty while one of them is under way.
    pub assembly: &'a mut Assembly,
    /// Where the router builds packets of its own; empty while one of them is under way.
    pub scratch: &'a mut Vec<u8>,
    pub out: &'a mut dyn Outbox,
    /// Where stages put down what they do, of a packet that is followed.
    pub trace: Option<&'a mut Trace>,
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// Someone on the wire; it came in by this interface.
    Wire(InterfaceId),
    /// A program on the box, by the tap of this interface.
    Box(InterfaceId),
    /// The router itself: never answered with an error or a reset.
    Router,
}

/// Where a packet leaves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Egress {
    pub interface: InterfaceId,
    pub next: NextHop,
}

/// Who gets it on that link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextHop {
    /// The station with this address.
    Neighbour(IpAddr),
    /// Everyone in a group, or on the link.
    Group(MacAddr),
    /// Whom its Ethernet header names already.
    Given,
}

/// What the route says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Not asked yet.
    Unknown,
    /// The box's own sockets, by the tap of this interface.
    Box(InterfaceId),
    /// On.
    Onward(Egress),
}

/// A packet's place in a flow of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InFlow {
    pub flow: FlowHandle,
    pub direction: Direction,
    pub state: CtState,
}

/// One packet on its way.
pub(crate) struct Transit<'a, 'b, 'f> {
    pub bench: &'a mut Bench<'b>,
    pub frame: &'a mut Frame<'f>,
    pub packet: &'a mut Packet,
    pub sender: Sender,
    /// The flow it is of, where it is of one in the table.
    pub flow: Option<InFlow>,
    /// The flow that it begins.
    pub begins: Option<Pending>,
    /// The tuples of that flow, if it is translated.
    pub mapping: Option<Mapping>,
    /// What rules see of it; None before the tracker.
    pub ct: Option<CtInfo>,
    pub mark: u32,
    pub destination: Destination,
    pub effects: Effects,
    /// Something is to be done again for the flow's next packet (a mark set, a line logged): nothing is stored.
    pub once_only: bool,
    /// Too long for the next link, and to be sent there in pieces.
    pub in_pieces: bool,
    /// A helper wrote in it: if it came in fragments, their lengths are no longer its own.
    pub recut: bool,
    /// Bytes that it has fewer since it became IPv4.
    pub lost: u16,
    /// How it was cut, if it came in fragments; that is how it leaves.
    pub shape: Option<&'a Shape>,
}

impl<'a, 'b, 'f> Transit<'a, 'b, 'f> {
    /// A packet that no stage has seen.
    pub fn new(
        bench: &'a mut Bench<'b>,
        frame: &'a mut Frame<'f>,
        packet: &'a mut Packet,
        sender: Sender,
    ) -> Self {
        Transit {
            bench,
            frame,
            packet,
            sender,
            flow: None,
            begins: None,
            mapping: None,
            ct: None,
            mark: 0,
            destination: Destination::Unknown,
            effects: Effects::default(),
            once_only: false,
            in_pieces: false,
            recut: false,
            lost: 0,
            shape: None,
        }
    }

    /// The interface that it came in by; None for what the box itself sends.
    pub fn ingress(&self) -> Option<InterfaceId> {
        match self.sender {
            Sender::Wire(interface) => Some(interface),
            Sender::Box(_) | Sender::Router => None,
        }
    }

    /// Its bytes from the Ethernet header on.
    pub fn ethernet(&self) -> &[u8] {
        self.frame.ethernet(self.packet)
    }

    /// Where it leaves by, once a route said so.
    pub fn egress(&self) -> Option<Egress> {
        match self.destination {
            Destination::Onward(egress) => Some(egress),
            Destination::Unknown | Destination::Box(_) => None,
        }
    }

    /// The interface that it leaves by.
    pub fn egress_interface(&self) -> Option<&'b Interface> {
        self.bench.world.interfaces.get(self.egress()?.interface)
    }

    /// The next hop that it is for, where that is one station.
    pub fn neighbour(&self) -> Option<NeighbourKey> {
        match self.egress()? {
            Egress { interface, next: NextHop::Neighbour(address) } => {
                Some(NeighbourKey { interface, address })
            }
            _ => None,
        }
    }

    /// Takes note of what the tracker said, for rules to see. A flow that is gone meanwhile makes its packet INVALID.
    pub fn set_tracked(&mut self, tracked: Tracked) {
        let info = match tracked {
            Tracked::Flow { flow, direction, state } => {
                self.flow = Some(InFlow { flow, direction, state });
                self.bench.conntrack.info(flow, direction, state)
            }
            Tracked::Related { flow, direction } => {
                let state = CtState::Related;
                self.flow = Some(InFlow { flow, direction, state });
                self.bench.conntrack.info(flow, direction, state)
            }
            Tracked::New(pending) => {
                let begins = self.begins.insert(pending);
                // One that was announced is translated already, as its master is.
                self.mapping = begins.follows_master().then(|| begins.mapping()).flatten();
                Some(begins.info())
            }
            Tracked::RelatedUntracked(about) => Some(CtInfo::about_untracked(about)),
            Tracked::Untracked => Some(CtInfo::without_flow(CtState::Untracked)),
            Tracked::Invalid | Tracked::Drop(_) => None,
        };
        if let (Some(info), Some(place)) = (&info, self.flow)
            && info.status.is_translated()
        {
            self.mapping = self.bench.conntrack.mapping(place.flow);
        }
        self.ct = info.or(const { Some(CtInfo::without_flow(CtState::Invalid)) });
        if let Some(CtInfo { state, direction, .. }) = self.ct {
            self.bench.note(Step::Tracked { state, direction, begins: self.begins.is_some() });
        }
    }

    /// The end of its path: counts it for the rules that it met, gives back a flow that did not begin, stores what
    /// was decided for the flow's next packet.
    pub fn finish(&mut self, verdict: Verdict) -> Verdict {
        if let (Some(_), Some(place)) = (&self.bench.trace, self.flow) {
            self.bench.note_flow(place.flow);
        }
        settle::rules(self.bench, &self.effects, self.packet.length().saturating_add(self.lost));
        decision::remember(self, verdict);
        if let Some(pending) = self.begins.take() {
            self.bench.conntrack.abandon(pending);
        }
        verdict
    }
}
