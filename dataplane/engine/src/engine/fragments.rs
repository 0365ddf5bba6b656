//! The third pass for fragments: kept until the others are there, then judged as the datagram that they make.

use std::ops::ControlFlow;

use sluice_wire::fragment::stand_alone;

use super::passes::{Arrival, judge_anew, judge_packet};
use crate::frame::Frame;
use crate::reassembly::Assembly;
use crate::stage::defrag::{self, Course};
use crate::stage::{nat64, raw, settle};
use crate::transit::{Bench, Sender};
use crate::verdict::{DropReason, Verdict};

/// A fragment: kept, or on by itself; or the last that lacked, and the datagram is judged.
#[cold]
pub(super) fn judge(bench: &mut Bench<'_>, frame: &mut Frame<'_>, arrival: &mut Arrival) -> Verdict {
    match defrag::collect(bench, frame, &arrival.packet, arrival.sender) {
        Course::Done(verdict) => verdict,
        Course::Alone => judge_stray(bench, frame, arrival),
        Course::Whole => {
            let mut assembly = std::mem::take(bench.assembly);
            let verdict = judge_whole(bench, frame, &mut assembly, arrival);
            let others = assembly.shape.fragments().saturating_sub(1);
            settle::others(bench.counters, frame, verdict, others);
            *bench.assembly = assembly;
            verdict
        }
    }
}

fn judge_stray(bench: &mut Bench<'_>, frame: &mut Frame<'_>, arrival: &mut Arrival) -> Verdict {
    stand_alone(&mut arrival.packet, frame.bytes());
    if let Sender::Wire(ingress) = arrival.sender {
        match raw::prerouting(bench, &arrival.packet, ingress, frame.ethernet(&arrival.packet)) {
            ControlFlow::Continue(raw) => arrival.raw = raw,
            ControlFlow::Break(verdict) => return verdict,
        }
    }
    judge_packet(bench, frame, arrival, None)
}

fn judge_whole(
    bench: &mut Bench<'_>,
    frame: &mut Frame<'_>,
    Assembly { buffer, shape }: &mut Assembly,
    arrival: &mut Arrival,
) -> Verdict {
    let Some((mut whole, packet)) = defrag::whole(buffer, shape, frame, arrival.packet.family()) else {
        return Verdict::Drop(DropReason::FragmentInvalid);
    };
    let from_wire = matches!(arrival.sender, Sender::Wire(_));
    let seen = if from_wire { nat64::seen(bench, &whole, &packet) } else { packet };
    if let Some(verdict) = defrag::hand_over(bench, &whole, (&packet, &seen), shape) {
        return verdict;
    }
    arrival.packet = packet;
    let verdict = judge_anew(bench, &mut whole, arrival, Some(shape));
    frame.egress = whole.egress;
    verdict
}
