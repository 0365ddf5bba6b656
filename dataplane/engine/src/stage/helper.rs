//! What helpers make of a packet, behind `nat` and in front of confirm: what it announces is expected, and written anew
//! where the flow is translated; then the numbers of a stream that was made longer or shorter are put right.
//!
//! Only packets of flows that have a helper come further than the first question. A payload that says nothing passes; a
//! command that is cut by its segment's end is dropped, since it comes again whole, and so is what cannot be expected,
//! because the ends would wait for a connection that never comes.
//!
//! Reading is [`crate::helper`]'s; expectations are [`crate::conntrack`]'s.
//! Source: Linux `nf_confirm` and `nf_nat_{ftp,tftp,irc,amanda,sip,pptp}.c`, as observed on 6.18.

mod amanda;
mod edits;
mod ftp;
mod irc;
mod pptp;
mod rewrite;
mod sip;
mod tftp;

use std::ops::{ControlFlow, Range};

use sluice_wire::tcp::Segment;
use sluice_wire::{Transport, icmp};

use crate::conntrack::{Ask, CtState, Direction, Ends, FlowHandle, Follow, Help, Status};
use crate::helper::{Assigned, Helper};
use crate::pipeline::Step;
use crate::stage::confirm;
use crate::transit::{InFlow, Transit};
use crate::verdict::{DropReason, Verdict};

/// Has the flow's helper look at the packet, if it has one.
#[inline]
pub(crate) fn help(t: &mut Transit<'_, '_, '_>) -> Step {
    let begins = t.begins.as_ref().map(|begins| begins.info().status);
    let status = begins.or_else(|| t.ct.map(|ct| ct.status)).unwrap_or_default();
    if status.contains(Status::HELPED) { attend(t, status) } else { ControlFlow::Continue(()) }
}

/// A helper may announce something in a flow's first packet, and what is announced belongs to a flow of the table: so the
/// flow is confirmed here, and taken back if its packet goes no further.
#[cold]
fn attend(t: &mut Transit<'_, '_, '_>, status: Status) -> Step {
    let began = t.begins.is_some();
    confirm::confirm(t)?;
    let Some(InFlow { flow, .. }) = t.flow else { return ControlFlow::Continue(()) };
    if icmp::is_error(t.packet) || t.packet.fragment.is_part() {
        return ControlFlow::Continue(());
    }
    let looked = look(t);
    if looked.is_break() && began {
        t.bench.conntrack.kill(flow);
        t.flow = None;
    }
    looked?;
    // What this packet itself was changed by counts from the next one on.
    if status.contains(Status::SHIFTED) {
        rewrite::shift_numbers(t);
    }
    ControlFlow::Continue(())
}

fn look(t: &mut Transit<'_, '_, '_>) -> Step {
    let (Some(control), Some(payload)) = (Control::of(t), payload(t)) else {
        return ControlFlow::Continue(());
    };
    match control.assigned.helper {
        Helper::Ftp => ftp::look(t, &control, payload),
        Helper::Tftp => tftp::look(t, &control, payload),
        Helper::Irc => irc::look(t, &control, payload),
        Helper::Amanda => amanda::look(t, &control, payload),
        Helper::Sip => sip::look(t, &control, payload),
        Helper::Pptp => pptp::look(t, &control, payload),
    }
}

/// The flow whose packet is looked at.
struct Control {
    flow: FlowHandle,
    /// Which way the packet goes in it.
    direction: Direction,
    state: CtState,
    assigned: Assigned,
    help: Help,
    /// Of the original direction, and of the other one, each as its packets come.
    ends: [Ends; 2],
    translated: bool,
}

impl Control {
    fn of(t: &Transit<'_, '_, '_>) -> Option<Control> {
        let InFlow { flow, direction, state } = t.flow?;
        let help = t.bench.conntrack.help(flow)?;
        Some(Control {
            flow,
            direction,
            state,
            assigned: help.assigned?,
            help,
            ends: t.bench.conntrack.ends(flow)?,
            translated: t.mapping.is_some() && t.bench.world.ruleset.translates(),
        })
    }

    /// The ends of a direction's packets.
    fn ends(&self, direction: Direction) -> Ends {
        let [original, reply] = self.ends;
        match direction {
            Direction::Original => original,
            Direction::Reply => reply,
        }
    }

    /// The ends of packets that go as this one.
    fn here(&self) -> Ends {
        self.ends(self.direction)
    }

    /// The ends of packets that go the other way.
    fn there(&self) -> Ends {
        self.ends(self.direction.opposite())
    }

    /// What becomes of a child of a translated flow that goes in `direction`, and is meant for a port of who announced it.
    fn follow(&self, direction: Direction, port: u16) -> Follow {
        let announcer = self.ends(direction.opposite());
        Follow { source: (announcer.dst, None), destination: (announcer.src, Some(port)) }
    }
}

/// Where the payload lies in the frame.
fn payload(t: &Transit<'_, '_, '_>) -> Option<Range<usize>> {
    const UDP_HEADER: usize = 8;
    let end = usize::from(t.packet.end);
    let start = match t.packet.transport {
        Transport::Udp { .. } => usize::from(t.packet.l4) + UDP_HEADER,
        _ => end - Segment::of(t.packet, t.frame.bytes())?.payload.len(),
    };
    (start < end).then_some(start..end)
}

/// Expects something, or drops the packet that asked for it.
fn expect(t: &mut Transit<'_, '_, '_>, control: &Control, ask: &Ask) -> Step {
    let settings = &t.bench.world.settings.conntrack;
    match t.bench.conntrack.expect(t.bench.now, settings, control.flow, ask) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => drop(DropReason::HelperExpectation),
    }
}

fn drop(reason: DropReason) -> Step {
    ControlFlow::Break(Verdict::Drop(reason))
}

#[cfg(test)]
mod tests;
