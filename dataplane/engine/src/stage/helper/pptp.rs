//! PPTP: the tunnel that a control connection agrees on, GRE version 1 with the two call ids as its keys, both ways.
//!
//! A client behind source NAT is known to the server by another call id: the port of its control connection, which no other
//! client of the same outer address has towards this server. It is written into messages and into the tunnel's packets.
//! Whoever sends first in the tunnel uses up both expectations. When the call ends, or the control connection goes, so does
//! the tunnel.
//!
//! What cannot be expected opens nothing, but its message passes, unlike with other helpers: as in the kernel.
//! Source: RFC 2637; Linux `nf_conntrack_pptp.c`, `nf_nat_pptp.c`, as observed on 6.18.

use std::ops::{ControlFlow, Range};

use sluice_wire::Protocol;

use super::Control;
use super::rewrite::replace;
use crate::conntrack::{Ask, CtState, Direction, Follow};
use crate::helper::pptp::{self, CallId, Deed, Session, Tunnel};
use crate::pipeline::Step;
use crate::transit::Transit;

/// Looks at a segment of a control connection.
pub(super) fn look(t: &mut Transit<'_, '_, '_>, control: &Control, payload: Range<usize>) -> Step {
    if control.state != CtState::Established {
        return ControlFlow::Continue(());
    }
    let start = payload.start;
    let bytes = t.frame.bytes().get(payload).unwrap_or_default();
    let Some(message) = pptp::read(bytes, control.direction) else { return ControlFlow::Continue(()) };
    let mut session = Session::from_words(control.help.memory);
    let outer = control.translated.then(|| CallId(control.ends(Direction::Reply).dport));
    let Some(deed) = session.step(&message, control.direction, outer) else {
        return ControlFlow::Continue(());
    };
    if let Some(mut help) = t.bench.conntrack.help(control.flow) {
        help.memory = session.to_words();
        t.bench.conntrack.set_help(control.flow, &help);
    }
    match deed {
        Deed::Nothing => {}
        Deed::Open => open(t, control, &session, outer.unwrap_or(session.client)),
        Deed::Close => t.bench.conntrack.hang_up(control.flow),
    }
    let Some(at) = message.client_at.filter(|_| control.translated) else {
        return ControlFlow::Continue(());
    };
    let CallId(id) = match control.direction {
        Direction::Original => outer.unwrap_or(session.client),
        Direction::Reply => session.client,
    };
    replace(t, control, start + at.start..start + at.end, &id.to_be_bytes())
}

/// Expects the tunnel from either side. What is there already of another call of this connection makes room, and yet the
/// new one does not open: the ids of a call stay until it ends.
fn open(t: &mut Transit<'_, '_, '_>, control: &Control, session: &Session, CallId(outer): CallId) {
    let (up, down) = (control.ends(Direction::Original), control.ends(Direction::Reply));
    let (CallId(client), CallId(server)) = (session.client, session.server);
    let tunnel = Tunnel { client: session.client, server: session.server, translated: control.translated };
    let ask = |src, sport, dst, dport, follow: Follow| Ask {
        src: Some(src),
        sport: Some(sport),
        follow: control.translated.then_some(follow),
        ..Ask::from_anyone(Protocol::GRE, dst, dport)
    };
    let there = Follow { source: (down.dst, Some(outer)), destination: (down.src, None) };
    let back = Follow { source: (up.dst, None), destination: (up.src, Some(client)) };
    let settings = &t.bench.world.settings.conntrack;
    let conntrack = &mut t.bench.conntrack;
    let asks = [ask(up.src, client, up.dst, server, there), ask(down.src, server, down.dst, outer, back)];
    let opened = asks.iter().all(|ask| conntrack.expect(t.bench.now, settings, control.flow, ask).is_ok())
        && conntrack.begin_call(control.flow, tunnel);
    if !opened {
        conntrack.unexpect_classes(control.flow, |_| true);
    }
}
