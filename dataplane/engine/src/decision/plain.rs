//! Stored decisions, carried out for plain packets: with nothing read twice, and counted together at the burst's end.

use sluice_wire::{Plain, PlainAddress};

use super::{Decision, Decisions, Outcome, seconds};
use crate::conntrack::{Conntrack, CtState, Shard};
use crate::counters::WorkerCounters;
use crate::frame::Frame;
use crate::ids::{InterfaceId, Tick, WorkerId};
use crate::stage::settle;
use crate::transit::Bench;
use crate::verdict::Verdict;
use crate::world::{NeighbourKey, World};

/// Packets that took one decision in a burst, counted together at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    packets: u64,
    /// Of the datagrams, as rules count.
    bytes: u64,
    /// Of the frames that left.
    sent: u64,
}

/// What all plain packets of a burst have in common, kept at hand.
#[derive(Clone, Copy)]
pub(crate) struct Course<'a> {
    pub world: &'a World,
    pub now: Tick,
    /// `now` in seconds.
    pub second: u32,
}

impl<'a> Course<'a> {
    /// That of a burst.
    pub fn of(bench: &Bench<'a>) -> Course<'a> {
        Course { world: bench.world, now: bench.now.tick, second: seconds(bench.now.tick) }
    }
}

/// Does with a plain packet, whose checksum was verified, what is stored in the flow at `place`, if that is its flow; None, and nothing was done, if
/// anything else is to be done with it. It is counted by [`count_runs`], but where it came in.
#[inline(always)]
pub(crate) fn replay_plain<A: Shard>(
    (conntrack, decisions): (&mut Conntrack, &mut Decisions),
    frame: &mut Frame<'_>,
    plain: &Plain<A>,
    (ingress, place): (InterfaceId, u32),
    course: &Course<'_>,
) -> Option<(Verdict, CtState)> {
    let seat = A::find(conntrack, course.now, plain, place)?;
    let stored = &seat.stored;
    if stored.generation != decisions.generation || stored.ingress != ingress {
        return None;
    }
    let number = stored.action.0.checked_sub(1)?;
    let decision = decisions.list.get_mut(number as usize)?;
    let egress = decision.way_of_plain(course, frame, plain.length)?;
    let settings = &course.world.settings.conntrack;
    A::refresh(conntrack, course.now, settings, (plain, frame.bytes()), &seat)?;
    if course.world.ruleset.translates() {
        seat.translate(conntrack, frame.bytes_mut(), plain);
    }
    if !decision.is_running() {
        // A burst has no more packets than there is room for.
        decisions.running.push(number);
    }
    Some((decision.send_plain(frame, plain, egress), stored.state))
}

/// Counts what plain packets did since the last time: for rules, and where they left.
pub(crate) fn count_runs(bench: &mut Bench<'_>) {
    let Decisions { list, running, plans, .. } = &mut *bench.decisions;
    for number in running.drain(..) {
        if let Some(decision) = list.get_mut(number as usize) {
            decision.count_run(bench.world, bench.worker, bench.counters);
        }
    }
    plans.count_runs(bench.world, bench.worker, bench.counters);
}

impl Decision {
    /// Where a plain packet of `length` bytes leaves by, if it is sent on, and nothing is in the way of that.
    #[inline(always)]
    pub fn way_of_plain(
        &mut self,
        course: &Course<'_>,
        frame: &Frame<'_>,
        length: u16,
    ) -> Option<InterfaceId> {
        let interface = self.way_on_link(frame, length)?;
        let &Course { world, now, second } = course;
        let knows = self.is_up_to_date(world, second) || self.ask(world, now, second);
        knows.then_some(interface)
    }

    /// The same where the next hop is known to be there.
    #[inline(always)]
    pub fn way_on_link(&self, frame: &Frame<'_>, length: u16) -> Option<InterfaceId> {
        let Outcome::Forward(NeighbourKey { interface, .. }) = self.outcome else { return None };
        (length <= self.mtu && self.link.fits(frame)).then_some(interface)
    }

    /// Sends a plain packet by what [`Decision::way_of_plain`] said; to be counted with its [`Run`].
    #[inline(always)]
    pub fn send_plain<A: PlainAddress>(
        &mut self,
        frame: &mut Frame<'_>,
        plain: &Plain<A>,
        egress: InterfaceId,
    ) -> Verdict {
        self.link.forward::<A>(frame, plain.end());
        frame.egress = Some(egress);
        self.run.packets += 1;
        self.run.bytes += u64::from(plain.length);
        self.run.sent += u64::from(frame.len);
        Verdict::Transmit(self.port)
    }

    /// Whether it has a [`Run`].
    #[inline(always)]
    pub fn is_running(&self) -> bool {
        self.run.packets > 0
    }

    /// Counts the packets of its [`Run`], which ends.
    pub fn count_run(&mut self, world: &World, worker: WorkerId, counters: &WorkerCounters) {
        let Run { packets, bytes, sent } = std::mem::take(&mut self.run);
        for &rule in self.counted.ids() {
            world.ruleset.count(worker, rule, packets, bytes);
        }
        if let Outcome::Forward(NeighbourKey { interface, .. }) = self.outcome {
            settle::sent(counters, interface, packets, sent);
        }
    }
}
