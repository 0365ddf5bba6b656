//! The media of a call: expected between the two ends of the signalling, RTP on the even port that is announced and RTCP on
//! the odd one behind it.
//!
//! Through NAT they get the same ports of the outer address, or another pair where those are taken, and the body says so.
//! Media at other addresses than the announcer's own are nobody's business here.
//!
//! Source: RFC 3550 section 11, RFC 3264; Linux `nf_conntrack_sip.c`, `nf_nat_sip.c`, as observed on 6.18.

use std::ops::ControlFlow;

use sluice_wire::Protocol;

use super::super::Control;
use super::super::edits::Edits;
use super::ATTEMPTS;
use crate::conntrack::{Ask, Follow, Refused};
use crate::helper::Class;
use crate::helper::sip::Sdp;
use crate::pipeline::Step;
use crate::transit::Transit;
use crate::verdict::{DropReason, Verdict};

/// Pairs next to the announced one that are tried, before others at random.
const NEAR: u16 = 16;
/// The lowest port that is tried.
const LOWEST_PORT: u16 = 1024;

/// Expects what a body announces, in a message that begins at `begin`.
pub(super) fn announce(
    t: &mut Transit<'_, '_, '_>,
    control: &Control,
    sdp: &Sdp,
    begin: usize,
    edits: &mut Edits,
) -> Step {
    let (own, outer) = (control.here().src, control.there().dst);
    let mut announced = false;
    for medium in sdp.media.iter().flatten().filter(|medium| medium.address == own) {
        let base = medium.port & !1;
        let port = expect_pair(t, control, medium.class, base)?;
        announced = true;
        if port != base {
            edits.put(medium.port_at.within(begin), port | medium.port & 1);
        }
        if let Some(at) = medium.address_at.filter(|_| outer != own) {
            edits.put(at.within(begin), outer);
        }
    }
    if !announced || outer == own {
        return ControlFlow::Continue(());
    }
    if let Some((_, at)) = sdp.owner {
        edits.put(at.within(begin), outer);
    }
    if let Some((_, at)) = sdp.connection.filter(|(address, _)| *address == own) {
        edits.put(at.within(begin), outer);
    }
    ControlFlow::Continue(())
}

/// Expects a medium and its control; on which port, as the other end must know it. Without NAT it is the announced one, and
/// what another call announced before is as good.
fn expect_pair(
    t: &mut Transit<'_, '_, '_>,
    control: &Control,
    class: Class,
    base: u16,
) -> ControlFlow<Verdict, u16> {
    let own = control.here().src;
    // A message that comes again is to say the same again.
    let known = t.bench.conntrack.announced_port(control.flow, class, (own, base));
    for n in 0..if control.translated { ATTEMPTS } else { 1 } {
        let port = match n {
            0 => known.unwrap_or(base),
            1..NEAR => base.wrapping_add(2 * n),
            _ => t.bench.conntrack.draw_port(LOWEST_PORT) & !1,
        };
        if port < LOWEST_PORT {
            continue;
        }
        let first = expect(t, control, class, (port, base));
        match first {
            Ok(()) => {}
            Err(Refused::Same) if !control.translated => {}
            Err(Refused::Full) => break,
            Err(Refused::Busy | Refused::Same) => continue,
        }
        match expect(t, control, class, (port | 1, base | 1)) {
            Ok(()) => return ControlFlow::Continue(port),
            Err(Refused::Same) if !control.translated => return ControlFlow::Continue(port),
            Err(_) if first.is_ok() => t.bench.conntrack.unexpect_newest(control.flow),
            Err(_) => {}
        }
    }
    ControlFlow::Break(Verdict::Drop(DropReason::HelperExpectation))
}

/// Expects one port, which is `own` of who announced it.
fn expect(
    t: &mut Transit<'_, '_, '_>,
    control: &Control,
    class: Class,
    (port, own): (u16, u16),
) -> Result<(), Refused> {
    let (here, there) = (control.here(), control.there());
    let follow = Follow { source: (here.dst, None), destination: (here.src, Some(own)) };
    let ask = Ask {
        src: Some(there.src),
        class,
        follow: control.translated.then_some(follow),
        ..Ask::from_anyone(Protocol::UDP, there.dst, port)
    };
    let settings = &t.bench.world.settings.conntrack;
    t.bench.conntrack.expect(t.bench.now, settings, control.flow, &ask)
}
