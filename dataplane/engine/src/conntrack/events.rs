//! Events about flows, for whoever watches: what `conntrack -E` prints.
//!
//! The kernel collects what a packet changes in its flow and tells it when the packet has passed; here it is told when
//! the next packet comes, at the end of the burst at the latest. A flow that began, that changed (first answer, ASSURED,
//! another state, another mark), and that ended is one event each, with the flow as it is then by value. Where nobody
//! watches, a packet costs one branch more, and no memory is touched.
//!
//! What it does not do: hold back what a packet changed that a rule dropped afterwards. The kernel tells that with the
//! next packet of the flow that passes, here it is told at once.
//! Source: `nf_conntrack_ecache.c` and `ctnetlink_conntrack_event`, as observed on Linux 6.18.

use std::fmt::Debug;
use std::sync::Arc;

use sluice_wire::Family;

use super::Conntrack;
use super::expect::{ExpectationEvent, ExpectationRecord};
use super::flow::Flow;
use super::info::{FlowHandle, Status};
use super::record::FlowRecord;
use super::shared::Shared;
use super::table::Table;
use super::tuple::Address;
use crate::ids::Now;

/// What happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was confirmed.
    New,
    /// It was answered, became ASSURED, or its state or mark changed.
    Update,
    /// It ended.
    Destroy,
}

/// Kinds of events, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventKinds(u8);

impl EventKinds {
    /// All of flows.
    pub const ALL: EventKinds = EventKinds(7);
    /// Those of expectations.
    pub const EXPECTATIONS: EventKinds = EventKinds(8);

    /// These and `kind`.
    #[must_use]
    pub const fn with(self, kind: EventKind) -> EventKinds {
        EventKinds(self.0 | 1 << kind as u8)
    }

    /// These and those of `other`.
    #[must_use]
    pub const fn union(self, other: EventKinds) -> EventKinds {
        EventKinds(self.0 | other.0)
    }

    /// Whether all of `other` are among them.
    pub const fn includes(self, other: EventKinds) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether `kind` is among them.
    pub const fn contains(self, kind: EventKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}

/// Something that happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowEvent {
    /// What.
    pub kind: EventKind,
    /// The flow as it is then. Of an update, the protocol's state is there only if it changed.
    pub flow: FlowRecord,
    /// Someone asked for it, no packet and no timer.
    pub by_user: bool,
    /// When, in nanoseconds of [`Now`].
    pub at: u64,
}

/// Where a worker leaves events.
pub trait EventSink: Debug + Send + Sync {
    /// Takes an event, or counts it as lost where there is no room. It is called while packets wait: it neither waits
    /// nor allocates, nor does it call the system.
    fn take(&self, event: &FlowEvent);

    /// The same of an expectation.
    fn take_expectation(&self, event: &ExpectationEvent);
}

/// Someone who watches.
#[derive(Clone, Debug)]
pub struct Watch {
    /// What is wanted.
    pub kinds: EventKinds,
    /// Where it goes.
    pub sink: Arc<dyn EventSink>,
}

/// Events of one shard.
#[derive(Debug, Default)]
pub(super) struct Events {
    watch: Option<Watch>,
    /// What the packet at hand changed.
    changed: Option<Changed>,
    now: Now,
    /// What happens now was asked for.
    by_user: bool,
}

#[derive(Clone, Copy, Debug)]
struct Changed {
    flow: FlowHandle,
    state: bool,
}

impl Events {
    /// Whether anyone watches.
    #[inline(always)]
    pub(super) fn are_watched(&self) -> bool {
        self.watch.is_some()
    }

    /// What time it is.
    pub(super) fn now(&self) -> Now {
        self.now
    }

    /// Tells that an expectation began, or is gone.
    #[cold]
    pub(super) fn tell_expectation(&self, begins: bool, expectation: ExpectationRecord) {
        let wanted = |watch: &&Watch| watch.kinds.includes(EventKinds::EXPECTATIONS);
        if let Some(watch) = self.watch.as_ref().filter(wanted) {
            let (by_user, at) = (self.by_user, self.now.nanos);
            watch.sink.take_expectation(&ExpectationEvent { begins, expectation, by_user, at });
        }
    }

    /// Takes note of a flow that changed, to be told when its packet has passed.
    fn note(&mut self, flow: FlowHandle, state: bool) {
        let before = self.changed.filter(|changed| changed.flow == flow);
        self.changed = Some(Changed { flow, state: state || before.is_some_and(|before| before.state) });
    }

    /// Takes note of what a packet changed in its flow, which had `status` and `state` before.
    #[cold]
    pub(super) fn compare<A: Address>(&mut self, place: u32, status: Status, state: u8, flow: &Flow<A>) {
        let other_state = flow.state != state;
        if flow.status != status || other_state {
            self.note(FlowHandle { family: A::FAMILY, index: place }, other_state);
        }
    }

    fn tell(&self, kind: EventKind, flow: FlowRecord) {
        if let Some(watch) = self.watch.as_ref().filter(|watch| watch.kinds.contains(kind)) {
            watch.sink.take(&FlowEvent { kind, flow, by_user: self.by_user, at: self.now.nanos });
        }
    }
}

impl<A: Address> Table<A> {
    /// Tells that a flow began.
    #[cold]
    pub(super) fn tell_begin(&self, shared: &Shared, now: Now, place: u32) {
        self.tell(shared, now, EventKind::New, place, true);
    }

    /// Tells that a flow ends, and nothing more of what its last packet changed.
    #[cold]
    pub(super) fn tell_end(&self, shared: &mut Shared, place: u32) {
        let ends = FlowHandle { family: A::FAMILY, index: place };
        shared.events.changed = shared.events.changed.filter(|changed| changed.flow != ends);
        self.tell(shared, shared.events.now, EventKind::Destroy, place, true);
    }

    /// Tells that someone changed a flow: as the kernel does, with all there is to say.
    pub(super) fn tell_change_by_user(&self, shared: &Shared, place: u32) {
        self.tell(shared, shared.events.now, EventKind::Update, place, true);
    }

    fn tell(&self, shared: &Shared, now: Now, kind: EventKind, place: u32, state: bool) {
        let Some(flow) = self.flow(place) else { return };
        let record = self.describe(shared, now, place, flow);
        shared.events.tell(kind, FlowRecord { state: record.state.filter(|_| state), ..record });
    }
}

impl Conntrack {
    /// Sets a flow's mark.
    pub fn set_mark(&mut self, flow: FlowHandle, mark: u32) {
        let before = match flow.family {
            Family::V4 => self.v4.flow_mut(flow.index).map(|flow| std::mem::replace(&mut flow.mark, mark)),
            Family::V6 => self.v6.flow_mut(flow.index).map(|flow| std::mem::replace(&mut flow.mark, mark)),
        };
        if before.is_some_and(|before| before != mark) {
            self.note_mark(flow);
        }
    }

    /// Tells events to `watch` from now on, or to nobody.
    pub fn watch(&mut self, watch: Option<Watch>) {
        self.shared.events = Events { watch, ..Events::default() };
    }

    /// Tells what the packet before changed, now that it has passed. To be called at the end of a burst.
    #[inline]
    pub fn tell_events(&mut self) {
        if self.shared.events.changed.is_some() {
            self.tell_change();
        }
    }

    /// As [`Conntrack::tell_events`]; what happens from here on happens now.
    #[inline(always)]
    pub(super) fn events_from(&mut self, now: Now) {
        if self.shared.events.are_watched() {
            self.tell_events();
            self.shared.events.now = now;
        }
    }

    /// As [`Conntrack::events_from`], and it was asked for until [`Conntrack::end_request`].
    pub(super) fn begin_request(&mut self, now: Now) {
        self.events_from(now);
        self.shared.events.by_user = true;
    }

    /// What happens from here on happens by itself.
    pub(super) fn end_request(&mut self) {
        self.tell_events();
        self.shared.events.by_user = false;
    }

    /// Takes note of another mark.
    pub(super) fn note_mark(&mut self, flow: FlowHandle) {
        if self.shared.events.are_watched() {
            self.shared.events.note(flow, false);
        }
    }

    #[cold]
    fn tell_change(&mut self) {
        let Some(Changed { flow, state }) = self.shared.events.changed.take() else { return };
        let (shared, now) = (&self.shared, self.shared.events.now);
        match flow.family {
            Family::V4 => self.v4.tell(shared, now, EventKind::Update, flow.index, state),
            Family::V6 => self.v6.tell(shared, now, EventKind::Update, flow.index, state),
        }
    }
}

#[cfg(test)]
mod tests;
