//! Stored decisions, carried out for plain packets: with nothing read twice, and counted together at the burst's end.

use sluice_wire::PlainAddress;

use super::{Asked, Decision, Decisions, Outcome};
use crate::conntrack::{Conntrack, CtState, Gist, Shard, Times};
use crate::counters::WorkerCounters;
use crate::frame::Frame;
use crate::ids::{InterfaceId, WorkerId};
use crate::stage::settle;
use crate::transit::Bench;
use crate::verdict::Verdict;
use crate::world::World;

/// Packets that took one decision in a burst, counted together at its end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Run {
    packets: u64,
    /// Of the datagrams, as rules count; the frames that left have a link header each in front.
    bytes: u64,
}

/// What all plain packets of a burst have in common, kept at hand.
#[derive(Clone, Copy)]
pub(crate) struct Course<'a> {
    pub world: &'a World,
    pub times: Times,
    /// What asks for a next hop now.
    moment: Asked,
    /// Rules translate.
    pub translates: bool,
}

impl<'a> Course<'a> {
    /// That of a burst.
    pub fn of(bench: &Bench<'a>) -> Course<'a> {
        let (world, now) = (bench.world, bench.now.tick);
        let times = bench.conntrack.times(now, &world.settings.conntrack);
        let moment = Asked::now(world, now);
        Course { world, times, moment, translates: world.ruleset.translates() }
    }
}

/// Does with a plain packet, whose checksum was verified, what is stored in the flow at `place`, if that is its flow; None, and nothing was done, if
/// anything else is to be done with it. It is counted by [`count_runs`], but where it came in.
#[inline(always)]
pub(crate) fn replay_plain<A: Shard>(
    (conntrack, decisions): (&mut Conntrack, &mut Decisions),
    frame: &mut Frame<'_>,
    gist: &Gist<A::Ends>,
    (ingress, place): (InterfaceId, u32),
    course: &Course<'_>,
) -> Option<(Verdict, CtState)> {
    let seat = A::find(conntrack, course.times.now, gist, place)?;
    let stored = &seat.stored;
    if stored.generation != decisions.generation || stored.ingress != ingress {
        return None;
    }
    // What is not stored, 0, becomes a number that no decision has.
    let number = stored.action.0.wrapping_sub(1);
    let decision = decisions.list.get_mut(number as usize)?;
    let egress = decision.way_of_plain(course, frame, gist.length)?;
    let settings = &course.world.settings.conntrack;
    A::refresh(conntrack, &course.times, settings, (gist, frame), &seat)?;
    if course.translates {
        seat.translate::<A>(conntrack, frame);
    }
    if !decision.is_running() {
        // A burst has no more packets than there is room for.
        decisions.running.push(number);
    }
    Some((decision.send_plain::<A>(frame, gist.length, egress), stored.state))
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
        let knows = self.asked == course.moment || self.ask(course.world, course.times.now, course.moment);
        knows.then_some(interface)
    }

    /// The same where the next hop is known to be there.
    #[inline(always)]
    pub fn way_on_link(&self, frame: &Frame<'_>, length: u16) -> Option<InterfaceId> {
        (length <= self.mtu && self.link.fits(frame)).then_some(self.egress)
    }

    /// Sends a plain packet, a datagram of `length` bytes, by what [`Decision::way_of_plain`] said; to be counted with its [`Run`].
    #[inline(always)]
    pub fn send_plain<A: PlainAddress>(
        &mut self,
        frame: &mut Frame<'_>,
        length: u16,
        egress: InterfaceId,
    ) -> Verdict {
        self.link.forward::<A>(frame, length);
        frame.egress = Some(egress);
        self.run.packets += 1;
        self.run.bytes += u64::from(length);
        Verdict::Transmit(self.port)
    }

    /// Whether it has a [`Run`].
    #[inline(always)]
    pub fn is_running(&self) -> bool {
        self.run.packets > 0
    }

    /// Counts the packets of its [`Run`], which ends.
    pub fn count_run(&mut self, world: &World, worker: WorkerId, counters: &WorkerCounters) {
        let Run { packets, bytes } = std::mem::take(&mut self.run);
        for &rule in self.counted.ids() {
            world.ruleset.count(worker, rule, packets, bytes);
        }
        if let Outcome::Forward(_) = self.outcome {
            let sent = bytes + packets * self.link.length() as u64;
            settle::sent(counters, self.egress, packets, sent);
        }
    }
}
