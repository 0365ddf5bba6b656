//! `raw.prerouting`: before the tracker, every packet from the wire. A rule may say that a packet is not
//! tracked, or in which zone it is, and how long its flow lives.

use std::ops::ControlFlow;

use sluice_wire::Packet;

use crate::conntrack::Template;
use crate::ids::InterfaceId;
use crate::ruleset::{Decision, Effects, Hook, View};
use crate::stage::filter;
use crate::stage::settle;
use crate::transit::Bench;
use crate::verdict::{DropReason, Verdict};

/// What `raw` said of a packet that passes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Raw {
    pub untracked: bool,
    pub template: Template,
    pub mark: u32,
}

/// Judges a packet before the tracker.
#[inline]
pub(crate) fn prerouting(
    bench: &mut Bench<'_>,
    packet: &Packet,
    ingress: InterfaceId,
    bytes: &[u8],
) -> ControlFlow<Verdict, Raw> {
    match bench.world.ruleset.is_empty(Hook::RawPrerouting) {
        true => ControlFlow::Continue(Raw::default()),
        false => judge(bench, packet, ingress, bytes),
    }
}

/// The packet as `raw` sees it.
pub(crate) fn view<'v, 'w: 'v>(bench: &Bench<'w>, packet: &'v Packet, ingress: InterfaceId) -> View<'v> {
    let world = bench.world;
    View {
        packet,
        ingress: Some(ingress),
        egress: None,
        ct: None,
        mark: 0,
        interfaces: &world.interfaces,
        now: bench.now,
        worker: bench.worker,
        tally: None,
        rehearsed: false,
    }
}

fn judge(
    bench: &mut Bench<'_>,
    packet: &Packet,
    ingress: InterfaceId,
    bytes: &[u8],
) -> ControlFlow<Verdict, Raw> {
    let world = bench.world;
    let mut view = view(bench, packet, ingress);
    let mut effects = Effects::default();
    let decision = world.ruleset.evaluate(Hook::RawPrerouting, &mut view, &mut effects);
    let mark = view.mark;
    bench.note_hook(Hook::RawPrerouting, (&effects, 0), decision, mark);
    settle::rules(bench, &effects, packet.length());
    filter::write_logs(bench, &effects, bytes, packet.length(), (Some(ingress), None));
    match decision {
        // The compiler lets no chain but those of `nat` translate.
        Decision::Accept | Decision::Translate(_) => {
            ControlFlow::Continue(Raw { untracked: effects.notrack, template: effects.template, mark })
        }
        // `reject` is the filter's alone; the compiler lets no other chain have it.
        Decision::Drop | Decision::Reject(_) => ControlFlow::Break(Verdict::Drop(DropReason::PolicyRaw)),
    }
}
