//! A flow between its first packet and confirmation: nobody can find it yet, but it counts.

use super::cells::Charge;
use super::connections::Charges;
use super::flow::Flow;
use super::info::{CtInfo, CtState, Direction, Status};
use super::nat::Slot;
use super::template::Template;
use super::tuple::{Address, FamilyKey, Tuple};
use crate::helper::{Assigned, Helper};
use crate::ids::{InterfaceId, Millis};

/// A flow that begins. A place is reserved for it until [`super::Conntrack::confirm`] or
/// [`super::Conntrack::abandon`]: to drop it elsewhere would lose the place.
#[derive(Debug)]
#[must_use]
pub struct Pending(pub(super) PendingFlow);

/// Of either family.
#[derive(Debug)]
pub(super) enum PendingFlow {
    V4(Box<NewFlow<u32>>),
    V6(Box<NewFlow<u128>>),
}

/// A flow that is not in the table yet. It is large, so it stays where it was made, in a box that the table lends
/// ([`Spare`]).
#[derive(Debug)]
pub(super) struct NewFlow<A> {
    pub(super) flow: Flow<A>,
    pub(super) key: FamilyKey<A>,
    /// How its packets leave: the flow's own tuple unless it is translated.
    pub(super) outward: Tuple<A>,
    /// Whose address it borrows.
    pub(super) masquerade: Option<InterfaceId>,
    /// The outer endpoint that was taken for it.
    pub(super) endpoint: Option<Slot>,
    /// Whether its answers would be taken for another flow's.
    pub(super) exhausted: bool,
    /// Whether no port is its own alone, and its rule allows no other.
    pub(super) refused: bool,
    /// What rules asked for it.
    pub(super) template: Template,
    /// Its helper.
    pub(super) helper: Option<Assigned>,
    /// The helper that announced it.
    pub(super) announced_by: Option<Helper>,
    /// Whether it is translated as its master is, whatever rules say.
    pub(super) follows: bool,
    /// Whether the policy translates, so that other workers are to know its answers.
    pub(super) bound: bool,
    /// How long it lives from confirmation on.
    pub(super) timeout: Millis,
    /// Bytes of its first packet, for accounting.
    pub(super) bytes: u32,
    /// What was taken for it.
    pub(super) place: Place,
    /// Where rules count it.
    pub(super) charges: Charges,
}

/// What a flow that begins has taken, to be given back if it does not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where it is counted for its source's quota.
    pub(super) charge: Option<Charge>,
    /// Whether it was taken from what is kept for the router's own traffic.
    pub(super) reserved: bool,
}

/// Boxes for flows that begin, of one family: as many as ever began at once, which is one as a rule.
#[derive(Debug)]
pub(super) struct Spare<A>(Vec<Box<NewFlow<A>>>);

impl<A: Address> Spare<A> {
    pub(super) fn new() -> Spare<A> {
        Spare(Vec::with_capacity(8))
    }

    /// Makes a flow in a box.
    #[inline]
    pub(super) fn lend(&mut self, new: NewFlow<A>) -> Box<NewFlow<A>> {
        match self.0.pop() {
            Some(mut room) => {
                *room = new;
                room
            }
            None => Box::new(new),
        }
    }

    /// Takes a box back.
    #[inline]
    pub(super) fn take_back(&mut self, room: Box<NewFlow<A>>) {
        self.0.push(room);
    }
}

impl<A: Address> NewFlow<A> {
    /// A flow that is not translated.
    pub(super) fn new(
        flow: Flow<A>,
        key: &FamilyKey<A>,
        timeout: Millis,
        bytes: u32,
        place: Place,
    ) -> NewFlow<A> {
        let outward = flow.original();
        let template = Template::default();
        NewFlow {
            flow,
            key: *key,
            outward,
            masquerade: None,
            endpoint: None,
            exhausted: false,
            refused: false,
            helper: None,
            announced_by: None,
            follows: false,
            bound: false,
            template,
            timeout,
            bytes,
            place,
            charges: Charges::default(),
        }
    }

    fn info(&self) -> CtInfo {
        let expected = self.flow.status.contains(Status::EXPECTED);
        let state = if expected { CtState::Related } else { CtState::New };
        CtInfo { helper: self.announced_by, ..self.flow.info(Direction::Original, state) }
    }
}

impl Pending {
    /// What rules look at.
    pub fn info(&self) -> CtInfo {
        match &self.0 {
            PendingFlow::V4(new) => new.info(),
            PendingFlow::V6(new) => new.info(),
        }
    }

    /// Whether its place is one of those kept for the router's own traffic: it must not go to a flow that passes through.
    pub fn is_reserved(&self) -> bool {
        match &self.0 {
            PendingFlow::V4(new) => new.place.reserved,
            PendingFlow::V6(new) => new.place.reserved,
        }
    }

    /// The outer endpoint that was taken for it.
    pub(super) fn endpoint(&self) -> Option<Slot> {
        match &self.0 {
            PendingFlow::V4(new) => new.endpoint,
            PendingFlow::V6(new) => new.endpoint,
        }
    }

    /// Whether its translation is its master's, and no rule of `nat` is asked.
    pub fn follows_master(&self) -> bool {
        match &self.0 {
            PendingFlow::V4(new) => new.follows,
            PendingFlow::V6(new) => new.follows,
        }
    }

    /// The flow's mark.
    pub fn mark(&self) -> u32 {
        match &self.0 {
            PendingFlow::V4(new) => new.flow.mark,
            PendingFlow::V6(new) => new.flow.mark,
        }
    }

    /// Sets the flow's mark.
    pub fn set_mark(&mut self, mark: u32) {
        match &mut self.0 {
            PendingFlow::V4(new) => new.flow.mark = mark,
            PendingFlow::V6(new) => new.flow.mark = mark,
        }
    }
}
