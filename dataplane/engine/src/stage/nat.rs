//! `nat`: addresses and ports of flows, chosen for their first packet and put into all others.
//!
//! Destinations are translated in prerouting and output, before the route is chosen and the filter asked; sources in
//! postrouting, and behind the filter of what is for the box. A reply is translated back at the other hook. A flow that
//! no rule translates is bound to what it has: should its answers be taken for another flow's, its source port changes
//! all the same. INVALID and UNTRACKED packets are not touched; an ICMP error is, with the packet that it quotes.
//!
//! Where a policy has no chain of `nat` at all, flows that were translated are no more, as in the kernel. What is
//! chosen is [`crate::conntrack`]'s affair; what later packets need is done at once by [`crate::decision`].
//!
//! Source: Linux `nf_nat_core.c`, `nf_nat_proto.c`, `nf_nat_masquerade.c`, `nf_nat_redirect.c`, as observed on 6.18.

use std::net::IpAddr;
use std::ops::ControlFlow;

use sluice_wire::rewrite::Translation;
use sluice_wire::{Family, Transport, icmp, quoted};

use crate::conntrack::{CtState, Direction, Found, Manip, Mapping, NatRange, PortBlocks, Tracked};
use crate::message::{LogCause, LogRecord, PuntedFrame};
use crate::pipeline::Step;
use crate::ruleset::{Decision, Effects, Hook, RuleId, Translate, View};
use crate::stage::{filter, nat64, route, settle};
use crate::transit::{Destination, Transit};
use crate::verdict::{DropReason, Verdict};
use crate::world::AddressKind;

/// Destinations of what came in.
pub(crate) fn prerouting(t: &mut Transit<'_, '_, '_>) -> Step {
    at(t, Manip::Destination, Some(Hook::NatPrerouting))
}

/// Destinations of what the box sends. Another destination may be another way.
pub(crate) fn output(t: &mut Transit<'_, '_, '_>) -> Step {
    let before = t.packet.addrs.dst();
    at(t, Manip::Destination, Some(Hook::NatOutput))?;
    if t.packet.addrs.dst() == before || matches!(t.destination, Destination::Box(_)) {
        return ControlFlow::Continue(());
    }
    t.destination = Destination::Unknown;
    route::output(t)
}

/// Sources of what leaves.
pub(crate) fn postrouting(t: &mut Transit<'_, '_, '_>) -> Step {
    at(t, Manip::Source, Some(Hook::NatPostrouting))
}

/// Sources of what is for the box: no rule, but a port that is taken changes here too.
pub(crate) fn input(t: &mut Transit<'_, '_, '_>) -> Step {
    at(t, Manip::Source, None)
}

/// Takes a packet that was to leave back to how it came, so that its sender can be told about it: of what is translated, nobody
/// may be at the source that it has now.
pub(crate) fn undo(t: &mut Transit<'_, '_, '_>) {
    nat64::undo(t);
    if !t.bench.world.ruleset.translates() {
        return;
    }
    // One that was held knows no flow any more.
    if t.ct.is_none()
        && let Some(Found { flow, direction, .. }) = t.bench.conntrack.left_as(t.bench.now, t.packet)
    {
        t.set_tracked(Tracked::Flow { flow, direction, state: CtState::Established });
    }
    if let (Some(mapping), Some(ct)) = (t.mapping, t.ct)
        && !icmp::is_error(t.packet)
    {
        let translation = mapping.undo(ct.direction, t.packet);
        apply(t, &translation);
    }
}

fn at(t: &mut Transit<'_, '_, '_>, manip: Manip, hook: Option<Hook>) -> Step {
    if !t.bench.world.ruleset.translates() {
        return ControlFlow::Continue(());
    }
    // The source of what goes to an IPv4 host was chosen together with its destination.
    let is_chosen = manip == Manip::Source && nat64::crosses(t);
    if !is_chosen && t.begins.as_ref().is_some_and(|begins| !begins.follows_master()) {
        bind(t, manip, hook)?;
    }
    match (t.mapping, t.ct.map(|ct| (ct.state, ct.direction))) {
        (Some(mapping), Some((state, direction))) => translate(t, &mapping, manip, state, direction),
        _ => ControlFlow::Continue(()),
    }
}

/// Chooses what one end of a flow that begins becomes.
fn bind(t: &mut Transit<'_, '_, '_>, manip: Manip, hook: Option<Hook>) -> Step {
    let rule = match hook {
        Some(hook) if !t.bench.world.ruleset.is_empty(hook) => judge(t, hook)?,
        _ => None,
    };
    let range = match rule {
        Some((_, rule)) => range(t, rule)?,
        None => NatRange::address(match manip {
            Manip::Source => t.packet.addrs.src(),
            Manip::Destination => t.packet.addrs.dst(),
        }),
    };
    let manip = match rule {
        Some((_, Translate::Nat64(_))) => Manip::Source,
        _ => manip,
    };
    let egress = t.egress().map(|egress| egress.interface);
    let Some(pending) = &mut t.begins else { return ControlFlow::Continue(()) };
    t.bench.conntrack.bind(t.bench.now, pending, manip, &range);
    if let (Manip::Source, true, Some((id, _))) = (manip, pending.is_exhausted(), rule) {
        t.bench.world.ruleset.count_exhausted(t.bench.worker, id, t.packet.length());
    }
    match (rule, egress) {
        (Some((_, Translate::Masquerade(_))), Some(interface)) => pending.set_masquerade(interface),
        (Some((_, Translate::Blocks(blocks))), _) => tell_block(t, blocks),
        _ => {}
    }
    let Some(pending) = &mut t.begins else { return ControlFlow::Continue(()) };
    t.mapping = pending.mapping();
    if let Some(ct) = &mut t.ct {
        ct.status = pending.info().status;
    }
    ControlFlow::Continue(())
}

/// The rule that translates; None if none does. Rules of `nat` count first packets alone, so these are no part of what
/// is stored for the others.
fn judge<'w>(
    t: &mut Transit<'_, 'w, '_>,
    hook: Hook,
) -> ControlFlow<Verdict, Option<(RuleId, &'w Translate)>> {
    let world = t.bench.world;
    let interfaces = (t.ingress(), t.egress().map(|egress| egress.interface));
    let tally = filter::tally(t.bench, t.flow, t.begins.as_ref());
    let mut view = View {
        packet: t.packet,
        ingress: interfaces.0,
        egress: interfaces.1,
        ct: t.ct,
        mark: t.mark,
        interfaces: &world.interfaces,
        now: t.bench.now,
        worker: t.bench.worker,
        tally: tally.as_ref(),
        rehearsed: false,
    };
    let mut effects = Effects::default();
    let decision = world.ruleset.evaluate(hook, &mut view, &mut effects);
    // A mark that only the first packet gets must not decide for the others.
    t.once_only |= view.mark != t.mark;
    (t.mark, t.ct) = (view.mark, view.ct);
    let charges = tally.map(|tally| tally.charges());
    if let Some(charges) = charges {
        filter::keep_charges(t, charges);
    }
    t.bench.note_hook(hook, (&effects, 0), decision, t.mark);
    t.effects.ct_mark = effects.ct_mark;
    filter::set_flow_mark(t);
    settle::rules(t.bench, &effects, t.packet.length());
    filter::write_logs(t.bench, &effects, t.frame.ethernet(t.packet), t.packet.length(), interfaces);
    match decision {
        Decision::Translate(rule) => {
            ControlFlow::Continue(world.ruleset.translation(rule).map(|how| (rule, how)))
        }
        Decision::Accept => ControlFlow::Continue(None),
        Decision::Drop | Decision::Reject(_) => ControlFlow::Break(Verdict::Drop(DropReason::PolicyNat)),
    }
}

/// The addresses and ports that a rule lets choose from.
fn range(t: &Transit<'_, '_, '_>, rule: &Translate) -> ControlFlow<Verdict, NatRange> {
    let source = t.packet.addrs.src();
    let with = |address: IpAddr, range: NatRange| NatRange { addresses: Some((address, address)), ..range };
    let range = match rule {
        Translate::Snat(range) => Some(range.of(source)),
        Translate::Dnat(range) => Some(range.of(t.packet.addrs.dst())),
        Translate::Blocks(blocks) => blocks.range(source),
        Translate::Nat64(nat64) => return nat64::range(t, nat64),
        Translate::Masquerade(range) => borrowed(t).map(|address| with(address, *range)),
        Translate::Redirect(ports) => {
            own(t).map(|address| NatRange { ports: *ports, ..NatRange::address(address) })
        }
    };
    match range {
        Some(range) => ControlFlow::Continue(range),
        None => ControlFlow::Break(Verdict::Drop(DropReason::NatNoAddress)),
    }
}

/// Has a line written where a subscriber uses his block for the first time.
fn tell_block(t: &mut Transit<'_, '_, '_>, blocks: &PortBlocks) {
    let subscriber = t.packet.addrs.src();
    let Some(block) = blocks.first_use(subscriber) else { return };
    let record = LogRecord {
        cause: LogCause::Block { subscriber, block },
        generation: t.bench.world.generation,
        ingress: t.ingress(),
        egress: t.egress().map(|egress| egress.interface),
        length: t.packet.length(),
        header: PuntedFrame::truncated(t.frame.ethernet(t.packet)),
    };
    t.bench.out.log(&record);
}

/// The address that the router itself would speak from.
fn borrowed(t: &Transit<'_, '_, '_>) -> Option<IpAddr> {
    let egress = t.egress()?;
    let towards = match (t.packet.family(), t.neighbour()) {
        (Family::V4, Some(key)) => key.address,
        _ => t.packet.addrs.dst(),
    };
    t.bench.world.interfaces.source_for(egress.interface, towards)
}

/// The first address of the interface that the packet came in by; of the box's own packets, of the one they leave by.
fn own(t: &Transit<'_, '_, '_>) -> Option<IpAddr> {
    let interface = t.ingress().or_else(|| t.egress().map(|egress| egress.interface))?;
    let v4 = t.packet.family() == Family::V4;
    let addresses = &t.bench.world.interfaces.get(interface)?.addresses;
    addresses.iter().map(|&(own, _)| own).find(|own| own.is_ipv4() == v4)
}

/// Puts one end of a packet right.
fn translate(
    t: &mut Transit<'_, '_, '_>,
    mapping: &Mapping,
    manip: Manip,
    state: CtState,
    direction: Direction,
) -> Step {
    if state == CtState::Related && icmp::is_error(t.packet) {
        translate_quote(t, mapping, manip, direction)?;
    } else if manip == Manip::Source && direction == Direction::Original {
        still_leaves_there(t, mapping)?;
    }
    if let Some(translation) = mapping.at(manip, direction, t.packet) {
        apply(t, &translation);
    }
    ControlFlow::Continue(())
}

fn apply(t: &mut Transit<'_, '_, '_>, translation: &Translation) {
    translation.apply(t.frame.bytes_mut(), t.packet);
    if let Some(trace) = &mut t.bench.trace {
        trace.became(t.packet);
    }
}

/// Of an ICMP error, what it is about. Redirects go no further: nobody knows such a host there.
fn translate_quote(
    t: &mut Transit<'_, '_, '_>,
    mapping: &Mapping,
    manip: Manip,
    direction: Direction,
) -> Step {
    let redirects = match t.packet.transport {
        Transport::Icmp { kind, .. } => kind == icmp::v4::REDIRECT,
        Transport::Icmpv6 { kind, .. } => kind == icmp::v6::REDIRECT,
        _ => false,
    };
    if redirects {
        return ControlFlow::Break(Verdict::Drop(DropReason::NatRedirect));
    }
    let Some(mut quote) = quoted(t.packet, t.frame.bytes()) else { return ControlFlow::Continue(()) };
    if let Some(inner) = mapping.quoted_at(manip, direction, &quote.addrs, &quote.transport) {
        inner.apply_quoted(t.frame.bytes_mut(), t.packet, &mut quote);
    }
    ControlFlow::Continue(())
}

/// A flow that borrowed an interface's address ends when its packets would leave by another one, or the address is gone.
fn still_leaves_there(t: &mut Transit<'_, '_, '_>, mapping: &Mapping) -> Step {
    let (Some(borrowed), Some(place)) = (mapping.masquerade(), t.flow) else {
        return ControlFlow::Continue(());
    };
    let here = t.egress().is_some_and(|egress| egress.interface == borrowed);
    let lends = t.bench.world.interfaces.kind(mapping.source()) == AddressKind::Local;
    if here && lends {
        return ControlFlow::Continue(());
    }
    t.bench.conntrack.kill(place.flow);
    t.flow = None;
    ControlFlow::Break(Verdict::Drop(DropReason::NatInterface))
}

#[cfg(test)]
mod tests;
