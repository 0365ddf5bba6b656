//! IRC: whoever was offered something connects to the offerer, from anywhere.
//!
//! The announced address must be the offerer's own, inside or as the other side sees it.
//! Source: Linux `nf_conntrack_irc.c`, `nf_nat_irc.c`, as observed on 6.18.

use std::ops::{ControlFlow, Range};

use sluice_wire::Protocol;

use super::rewrite::{expect_on_a_port, replace};
use super::{Control, drop, expect};
use crate::conntrack::{Ask, CtState, Direction};
use crate::helper::{Said, irc};
use crate::pipeline::Step;
use crate::transit::Transit;
use crate::verdict::DropReason;

/// Looks at a segment that a client sends to its server.
pub(super) fn look(t: &mut Transit<'_, '_, '_>, control: &Control, payload: Range<usize>) -> Step {
    if control.direction != Direction::Original || control.state != CtState::Established {
        return ControlFlow::Continue(());
    }
    let start = payload.start;
    let Said::Found(offer) = irc::read(t.frame.bytes().get(payload).unwrap_or_default()) else {
        return ControlFlow::Continue(());
    };
    let (own, outer) = (control.here().src, control.there().dst);
    if offer.announced.address != Some(own) && offer.announced.address != Some(outer) {
        return ControlFlow::Continue(());
    }
    let port = offer.announced.port;
    let ask = Ask::from_anyone(Protocol::TCP, outer, port);
    if !control.translated {
        return expect(t, control, &ask);
    }
    let follow = Some(control.follow(Direction::Reply, port));
    let port = expect_on_a_port(t, control, Ask { follow, ..ask })?;
    let mut text = [0; irc::LONGEST];
    let Some(text) = irc::write(outer, port, &mut text).and_then(|length| text.get(..length)) else {
        t.bench.conntrack.unexpect_newest(control.flow);
        return drop(DropReason::HelperRewrite);
    };
    replace(t, control, start + offer.at.start..start + offer.at.end, text)
}
