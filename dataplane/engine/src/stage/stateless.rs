//! The way of packets that are routed and not tracked, where only the filter may need to look at them: what `raw` and
//! `mangle` make of packets from one interface to one next hop is asked once ([`crate::ruleset::Ruleset::settle`]), and
//! holds for all of them. What the filter makes of them too, if it can be told so; else it judges each. No flow memory
//! is touched.
//!
//! It stands before `raw`, and before packets are handed over to their flow's worker, since there is no flow. It takes nothing that it would treat otherwise than the whole path: packets with options, to
//! groups, of suspicious addresses, too long, at the end of their TTL, or without a known neighbour go on to that; so do
//! those that the filter answers, logs, marks or limits, or judges by their TTL, and fragments that it judges.

mod plans;

use sluice_wire::{
    Addrs, Family, Fragment, LinkCast, Packet, Plain, PlainAddress, icmp, is_link_local, martian,
};

use self::plans::{PlanKey, Route};
use crate::conntrack::{CtInfo, CtState};
use crate::decision::{Course, Outcome};
use crate::frame::Frame;
use crate::ids::{InterfaceId, Now, WorkerId};
use crate::ruleset::{self, Effects, Hook, Reads, View};
use crate::stage::filter;
use crate::transit::Bench;
use crate::verdict::{DropReason, Verdict};
use crate::world::fib::FibKey;
use crate::world::{AddressKind, Interfaces, NeighbourKey, World};

pub(crate) use self::plans::Plans;

/// Sends a packet on, or drops it, if it is one that is not tracked and need not be looked at; else None. To be asked only
/// where `raw` has a rule that says NOTRACK ([`crate::ruleset::First`]).
#[inline]
pub(crate) fn forward(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    packet: &mut Packet,
    ingress: InterfaceId,
) -> Option<Verdict> {
    let world = bench.world;
    if !is_plain(world, packet) {
        return None;
    }
    // They may be RELATED to a packet that is not tracked.
    if world.ruleset.relates_untracked() && icmp::is_error(packet) {
        return None;
    }
    let target = world.fib.route_id(&packet.addrs)?;
    let key = PlanKey::new(world.generation, target, (ingress, false), packet.family());
    let route = bench.decisions.plans.route(key, (world, bench.worker, bench.counters))?;
    let verdict = route.carry_out((bench.now, bench.worker), world, frame, packet)?;
    for &rule in route.decision.counted().ids() {
        world.ruleset.count(bench.worker, rule, 1, u64::from(packet.length()));
    }
    if let Some(trace) = &mut bench.trace {
        trace.stateless(route.decision.counted());
        if route.filtered {
            let view = routed(world, (bench.now, bench.worker), packet, (Some(ingress), route.egress()));
            trace.filtered(&world.ruleset, view);
        }
    }
    bench.counters.states.untracked.add(1);
    bench.counters.fast_path.add(1);
    Some(verdict)
}

/// A plain packet's address, which it is routed by.
pub(crate) trait Routed: PlainAddress + FibKey {
    const FAMILY: Family;

    /// Whether packets from an ordinary address are stopped because it is the router's own.
    fn is_own(self, interfaces: &Interfaces) -> bool;
}

impl Routed for u32 {
    const FAMILY: Family = Family::V4;

    #[inline(always)]
    fn is_own(self, interfaces: &Interfaces) -> bool {
        interfaces.own_v4(self)
    }
}

impl Routed for u128 {
    const FAMILY: Family = Family::V6;

    #[inline(always)]
    fn is_own(self, _: &Interfaces) -> bool {
        false
    }
}

/// As [`forward`], with a plain packet to the router's own station: by a route that packets only leave by. It is counted by
/// [`crate::decision::count_runs`], but where it came in; nothing is done where it is None. `asked`: `raw` said of this
/// packet that it is not tracked; else only what it says of all packets counts.
#[inline(always)]
pub(crate) fn forward_plain<A: Routed>(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    plain: &Plain<A>,
    (ingress, asked): (InterfaceId, bool),
    course: &Course<'_>,
) -> Option<Verdict> {
    let world = course.world;
    let ordinary = plain.src.is_ordinary() & plain.dst.is_ordinary();
    if !ordinary || plain.src.is_own(&world.interfaces) {
        return None;
    }
    let target = world.fib.route_id_of(plain.src, plain.dst)?;
    let key = PlanKey::new(world.generation, target, (ingress, asked), A::FAMILY);
    let plans = &mut bench.decisions.plans;
    let route = plans.route(key, (world, bench.worker, bench.counters))?;
    let egress = if route.is_simple {
        route.decision.way_of_plain(course, frame, plain.length)?
    } else {
        match route.judge((bench.now, bench.worker), frame, plain, ingress, course)? {
            Judged::Leaves(egress) => egress,
            Judged::Drops(reason) => return Some(Verdict::Drop(reason)),
        }
    };
    let began = !route.decision.is_running();
    let verdict = route.decision.send_plain::<A>(frame, plain.length, egress);
    if began {
        // A burst has no more packets than there is room for.
        plans.running.push(key.slot());
    }
    Some(verdict)
}

/// Whether no stage before the filter would stop the packet, or do more than route it.
#[inline]
fn is_plain(world: &World, packet: &Packet) -> bool {
    if packet.cast != LinkCast::Unicast || packet.options || packet.ttl <= 1 {
        return false;
    }
    match packet.addrs {
        Addrs::V4 { src, dst } => {
            !dst.is_multicast()
                && martian(&packet.addrs).is_none()
                && world.interfaces.kind_v4(src) != AddressKind::Local
        }
        Addrs::V6 { src, dst } => {
            !dst.is_multicast()
                && !is_link_local(dst.into())
                && martian(&packet.addrs).is_none()
                && !src.is_unicast_link_local()
                && !src.is_unspecified()
        }
    }
}

/// What becomes of a plain packet.
enum Judged {
    /// It leaves by this interface, and is counted when it does.
    Leaves(InterfaceId),
    Drops(DropReason),
}

impl Route {
    /// What becomes of a plain packet where that differs from packet to packet; None, and nothing was done, where it is to take
    /// the whole path.
    #[inline(never)]
    fn judge<A: PlainAddress>(
        &mut self,
        (now, worker): (Now, WorkerId),
        frame: &Frame<'_>,
        plain: &Plain<A>,
        ingress: InterfaceId,
        course: &Course<'_>,
    ) -> Option<Judged> {
        let world = course.world;
        let addrs = plain.addrs();
        if self.is_spoofed(world, addrs.src(), ingress) {
            return None;
        }
        let egress = match self.decision.outcome() {
            Outcome::Drop(reason) if plain.length <= self.mtu => {
                return Some(self.drop_plain((world, worker), plain.length, reason));
            }
            Outcome::Forward(_) if !self.on_link => {
                self.decision.way_of_plain(course, frame, plain.length)?
            }
            Outcome::Forward(_) if self.find_on_link(world, course.times.now, addrs.dst()) => {
                self.decision.way_on_link(frame, plain.length)?
            }
            _ => return None,
        };
        if self.filtered {
            let packet = plain.packet(frame.bytes());
            let interfaces = (Some(ingress), Some(egress));
            if !passes_filter(world, now, worker, &packet, interfaces)? {
                let reason = filter::reason(Hook::FilterForward);
                return Some(self.drop_plain((world, worker), plain.length, reason));
            }
        }
        Some(Judged::Leaves(egress))
    }

    /// Counts a packet of `length` bytes that is dropped for the rules that it met.
    fn drop_plain(&self, (world, worker): (&World, WorkerId), length: u16, reason: DropReason) -> Judged {
        for &rule in self.decision.counted().ids() {
            world.ruleset.count(worker, rule, 1, u64::from(length));
        }
        Judged::Drops(reason)
    }

    #[inline]
    fn carry_out(
        &mut self,
        (now, worker): (Now, WorkerId),
        world: &World,
        frame: &mut Frame<'_>,
        packet: &mut Packet,
    ) -> Option<Verdict> {
        let spoofed =
            frame.ingress.is_some_and(|ingress| self.is_spoofed(world, packet.addrs.src(), ingress));
        if spoofed || packet.length() > self.mtu {
            return None;
        }
        match self.decision.outcome() {
            Outcome::Drop(reason) => Some(Verdict::Drop(reason)),
            Outcome::Forward(NeighbourKey { interface, .. }) => {
                let known = match self.on_link {
                    true => self.find_on_link(world, now.tick, packet.addrs.dst()),
                    false => self.decision.knows_neighbour(world, now.tick),
                };
                let passes = known
                    && (!self.filtered || {
                        let interfaces = (frame.ingress, Some(interface));
                        passes_filter(world, now, worker, packet, interfaces)?
                    });
                match (known, passes) {
                    (false, _) => None,
                    (true, false) => Some(Verdict::Drop(filter::reason(Hook::FilterForward))),
                    (true, true) => Some(self.decision.send(frame, packet, interface)),
                }
            }
            Outcome::Deliver(_) => None,
        }
    }
}

/// Whether the filter lets a packet pass, which is counted for the rules that it met. None, and nothing was done, if
/// more is to be done about it than that, or if what it looks at is not yet as it would be there.
fn passes_filter(
    world: &World,
    now: Now,
    worker: WorkerId,
    packet: &Packet,
    (ingress, egress): (Option<InterfaceId>, Option<InterfaceId>),
) -> Option<bool> {
    if packet.fragment != Fragment::Whole {
        return None;
    }
    let mut view = routed(world, (now, worker), packet, (ingress, egress));
    let mut effects = Effects::default();
    let decision = world.ruleset.evaluate(Hook::FilterForward, &mut view, &mut effects);
    if view.mark != 0 || !effects.is_countable() || effects.reads.intersects(Reads::LIMIT.union(Reads::TTL)) {
        return None;
    }
    let passes = match decision {
        ruleset::Decision::Accept => true,
        ruleset::Decision::Drop => false,
        ruleset::Decision::Reject(_) | ruleset::Decision::Translate(_) => return None,
    };
    for &rule in effects.counted.ids() {
        world.ruleset.count(worker, rule, 1, u64::from(packet.length()));
    }
    Some(passes)
}

/// An untracked packet as the filter sees it. Nothing follows from looking: not until all of it is known.
fn routed<'v>(
    world: &'v World,
    (now, worker): (Now, WorkerId),
    packet: &'v Packet,
    (ingress, egress): (Option<InterfaceId>, Option<InterfaceId>),
) -> View<'v> {
    View {
        packet,
        ingress,
        egress,
        ct: Some(CtInfo::without_flow(CtState::Untracked)),
        mark: 0,
        interfaces: &world.interfaces,
        now,
        worker,
        rehearsed: true,
        tally: None,
    }
}

#[cfg(test)]
mod tests;
