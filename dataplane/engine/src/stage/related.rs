//! ICMP errors about packets that are not tracked: RELATED where the policy says so (`{notrack: {related: true}}`).
//!
//! netfilter has no flow for them, so they are INVALID, and path MTU discovery of NOTRACK traffic dies with the first
//! rule that drops INVALID. Here the packet that the error quotes is judged in its place, as if it came by once more:
//! if a rule of `raw` marks it NOTRACK and says so, and no hook on its way drops it, the error is about something that
//! the policy let out, and is RELATED.
//!
//! It must go to the one who sent that packet, come in where that packet left (or leave where it came in), and its
//! checksum must be good. Redirects and source quench are never RELATED this way: nothing shows that they are true, and
//! hosts are to ignore the latter (RFC 6633).
//!
//! One walk of the policy for an error, none for other packets; nothing is remembered. See docs/adr/0007.

use sluice_wire::{Packet, TcpFlags, Transport, icmp, quoted};

use crate::conntrack::{CtInfo, CtState, OriginalTuple, Tracked};
use crate::frame::{Frame, RxChecksum};
use crate::ids::InterfaceId;
use crate::ruleset::{Effects, Rehearsal, Way};
use crate::transit::Bench;
use crate::world::{AddressKind, Target, World};

/// Where an error was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// It came in by this interface: what it quotes left there.
    Received(InterfaceId),
    /// The box sends it by this interface, None if it is for the box itself: what it quotes came in there.
    Sent(Option<InterfaceId>),
}

/// What an error is about which the tracker knows no flow for: the packet that it quotes, if that is not tracked and
/// was let out.
#[cold]
pub(crate) fn to_untracked(
    bench: &Bench<'_>,
    frame: &Frame<'_>,
    packet: &Packet,
    met: Met,
) -> Option<Tracked> {
    let world = bench.world;
    if !world.ruleset.relates_untracked() || !is_meant(packet) || frame.l4_checksum == RxChecksum::Bad {
        return None;
    }
    let quote = quoted(packet, frame.bytes())?;
    if quote.addrs.src() != packet.addrs.dst() {
        return None;
    }
    let unverified = frame.l4_checksum == RxChecksum::Unknown && matches!(met, Met::Received(_));
    if unverified && sluice_wire::verify(packet, frame.bytes()) == sluice_wire::Checksum::Bad {
        return None;
    }
    let mut about = quote.packet(frame.bytes());
    if let Transport::Tcp { flags, .. } = &mut about.transport
        && *flags == TcpFlags::NONE
    {
        // Not in the quote: what nearly all segments have.
        *flags = TcpFlags::ACK;
    }
    was_let_out(world, &about, met).then(|| {
        let (sport, dport) = about.ports().unwrap_or_default();
        let (src, dst) = (about.addrs.src(), about.addrs.dst());
        Tracked::RelatedUntracked(OriginalTuple { src, dst, sport, dport })
    })
}

/// Errors that tell a sender why its packets do not arrive.
const fn is_meant(packet: &Packet) -> bool {
    match packet.transport {
        Transport::Icmp { kind, .. } => {
            matches!(kind, icmp::v4::UNREACHABLE | icmp::v4::TIME_EXCEEDED | icmp::v4::PARAMETER_PROBLEM)
        }
        Transport::Icmpv6 { kind, .. } => {
            matches!(kind, icmp::v6::UNREACHABLE..=icmp::v6::PARAMETER_PROBLEM)
        }
        _ => false,
    }
}

/// Whether the policy marks the packet NOTRACK, means it to have errors, and lets it pass.
fn was_let_out(world: &World, about: &Packet, met: Met) -> bool {
    let Some((way, ingress, egress)) = way(world, about, met) else { return false };
    let rehearsal =
        Rehearsal { ruleset: &world.ruleset, interfaces: &world.interfaces, way, ingress, egress };
    let untracked = |effects: &Effects| {
        (effects.notrack && effects.relates).then(|| CtInfo::without_flow(CtState::Untracked))
    };
    rehearsal.passes(about, about, untracked)
}

type Path = (Way, Option<InterfaceId>, Option<InterfaceId>);

/// The way that the quoted packet took. An interface that the error does not show is that of the route: to the sender for
/// where it came from, to its destination for where it would have left.
fn way(world: &World, about: &Packet, met: Met) -> Option<Path> {
    let is_ours = |address| world.interfaces.kind(address) == AddressKind::Local;
    let towards = |addrs: &sluice_wire::Addrs| match world.fib.route(addrs) {
        Some(Target::Via(hop)) => Some(hop.interface),
        _ => None,
    };
    match met {
        Met::Received(left_by) if is_ours(about.addrs.src()) => Some((Way::Output, None, Some(left_by))),
        Met::Received(left_by) => {
            let came_by = towards(&about.addrs.reversed())?;
            Some((Way::Forward, Some(came_by), Some(left_by)))
        }
        Met::Sent(came_by) if is_ours(about.addrs.dst()) => Some((Way::Input, Some(came_by?), None)),
        Met::Sent(Some(came_by)) => Some((Way::Forward, Some(came_by), towards(&about.addrs))),
        Met::Sent(None) => Some((Way::Output, None, towards(&about.addrs))),
    }
}

#[cfg(test)]
mod tests;
