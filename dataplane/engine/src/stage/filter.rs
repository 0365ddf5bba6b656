//! A chain of rules at a hook: `raw.output`, `mangle` and `filter`. Decides what the policy decides; marks, log lines
//! and what is to be counted are taken along.

use std::ops::ControlFlow;

use sluice_wire::build::IcmpError;
use sluice_wire::{Family, icmp};

use crate::conntrack::{Charges, Pending, Tally};
use crate::ids::InterfaceId;
use crate::message::{LogCause, LogRecord, PuntedFrame};
use crate::pipeline::Step;
use crate::ruleset::{Decision, Effects, Hook, Rejection, View};
use crate::stage::answer;
use crate::transit::{Bench, InFlow, Transit};
use crate::verdict::{DropReason, Verdict};

/// Judges the packet at a hook.
pub(crate) fn at(t: &mut Transit<'_, '_, '_>, hook: Hook) -> Step {
    let world = t.bench.world;
    if world.ruleset.is_empty(hook) {
        return ControlFlow::Continue(());
    }
    let tally = tally(t.bench, t.flow, t.begins.as_ref());
    let mut view = View {
        packet: t.packet,
        ingress: t.ingress(),
        egress: t.egress().map(|egress| egress.interface),
        ct: t.ct,
        mark: t.mark,
        interfaces: &world.interfaces,
        now: t.bench.now,
        worker: t.bench.worker,
        tally: tally.as_ref(),
        rehearsed: false,
    };
    let before = t.effects.counted.ids().len();
    let decision = world.ruleset.evaluate(hook, &mut view, &mut t.effects);
    (t.mark, t.ct) = (view.mark, view.ct);
    let charges = tally.map(|tally| tally.charges());
    if let Some(charges) = charges {
        keep_charges(t, charges);
    }
    t.bench.note_hook(hook, (&t.effects, before), decision, t.mark);
    set_flow_mark(t);
    if let (Some(begins), Some(assigned)) = (&mut t.begins, t.effects.template.helper) {
        begins.assign(assigned);
    }
    if !t.effects.logs.is_empty() {
        let interfaces = (t.ingress(), t.egress().map(|egress| egress.interface));
        write_logs(t.bench, &t.effects, t.frame.ethernet(t.packet), t.packet.length(), interfaces);
        t.effects.logs.clear();
        t.once_only = true;
    }
    match decision {
        // The compiler lets no chain but those of `nat` translate.
        Decision::Accept | Decision::Translate(_) => ControlFlow::Continue(()),
        Decision::Drop => ControlFlow::Break(Verdict::Drop(reason(hook))),
        Decision::Reject(rejection) => ControlFlow::Break(reject(t, rejection)),
    }
}

/// What rules with a `connlimit` look at, if there are any.
#[inline]
pub(crate) fn tally<'a>(
    bench: &'a Bench<'_>,
    flow: Option<InFlow>,
    begins: Option<&Pending>,
) -> Option<Tally<'a>> {
    let counts = bench.world.ruleset.counts_flows();
    if counts { bench.conntrack.tally(flow.map(|place| place.flow), begins) } else { None }
}

/// Keeps where such rules counted the packet's flow.
#[cold]
pub(crate) fn keep_charges(t: &mut Transit<'_, '_, '_>, charges: Charges) {
    let flow = t.flow.map(|place| place.flow);
    t.bench.conntrack.keep_charges(flow, t.begins.as_mut(), charges);
}

/// The drop reason of a hook's chain.
pub(crate) const fn reason(hook: Hook) -> DropReason {
    match hook {
        Hook::RawPrerouting | Hook::RawOutput => DropReason::PolicyRaw,
        Hook::ManglePrerouting | Hook::MangleOutput | Hook::ManglePostrouting => DropReason::PolicyMangle,
        Hook::NatPrerouting | Hook::NatOutput | Hook::NatPostrouting => DropReason::PolicyNat,
        Hook::FilterInput => DropReason::PolicyInput,
        Hook::FilterForward => DropReason::PolicyForward,
        Hook::FilterOutput => DropReason::PolicyOutput,
    }
}

/// Gives the flow the mark that rules set, if any did.
pub(crate) fn set_flow_mark(t: &mut Transit<'_, '_, '_>) {
    let Some(mark) = t.effects.ct_mark.take() else { return };
    t.once_only = true;
    if let Some(place) = t.flow {
        t.bench.conntrack.set_mark(place.flow, mark);
    } else if let Some(pending) = &mut t.begins {
        pending.set_mark(mark);
    }
}

/// Writes the lines of `log` rules that matched, with the interfaces that the packet came in and leaves by.
pub(crate) fn write_logs(
    bench: &mut Bench<'_>,
    effects: &Effects,
    bytes: &[u8],
    length: u16,
    (ingress, egress): (Option<InterfaceId>, Option<InterfaceId>),
) {
    if effects.logs.is_empty() {
        return;
    }
    let header = PuntedFrame::truncated(bytes);
    let generation = bench.world.generation;
    for &rule in effects.logs.ids() {
        bench.out.log(&LogRecord {
            cause: LogCause::Rule(rule),
            generation,
            ingress,
            egress,
            length,
            header,
        });
    }
}

/// Drops the packet and tells its sender. What is no answer to be given is dropped all the same.
fn reject(t: &mut Transit<'_, '_, '_>, rejection: Rejection) -> Verdict {
    let unreachable = match t.packet.family() {
        Family::V4 => icmp::v4::UNREACHABLE,
        Family::V6 => icmp::v6::UNREACHABLE,
    };
    match rejection {
        Rejection::TcpReset => answer::reset(t, DropReason::Rejected),
        Rejection::Icmp(code) | Rejection::Icmpv6(code) if answer::checksum_holds(t) => {
            answer::error(t, IcmpError::new(unreachable, code), DropReason::Rejected)
        }
        Rejection::Icmp(_) | Rejection::Icmpv6(_) => Verdict::Drop(DropReason::Rejected),
    }
}
