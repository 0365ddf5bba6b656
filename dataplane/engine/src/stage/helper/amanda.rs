//! Amanda: the backup server connects to the ports that the backed-up host answers with. The answer may take its time, so
//! the control flow lives longer after it.
//!
//! Source: Linux `nf_conntrack_amanda.c`, `nf_nat_amanda.c`, as observed on 6.18.

use std::io::{Cursor, Write};
use std::ops::{ControlFlow, Range};

use sluice_wire::Protocol;

use super::rewrite::{expect_on_a_port, replace};
use super::{Control, expect};
use crate::conntrack::{Ask, Direction};
use crate::helper::amanda::{self, Port};
use crate::ids::Millis;
use crate::pipeline::Step;
use crate::transit::Transit;

/// How long the control flow lives behind an answer: the kernel's `master_timeout`.
const PATIENCE: Millis = Millis::from_secs(300);

/// Looks at a datagram of the control flow.
pub(super) fn look(t: &mut Transit<'_, '_, '_>, control: &Control, payload: Range<usize>) -> Step {
    if control.direction == Direction::Original {
        return ControlFlow::Continue(());
    }
    t.bench.conntrack.extend(t.bench.now, control.flow, PATIENCE);
    let ports = amanda::read(t.frame.bytes().get(payload.clone()).unwrap_or_default());
    // From the last one on, so that what is written anew moves none that is still to be done.
    for port in ports.iter().rev().flatten() {
        announce(t, control, port, payload.start)?;
    }
    ControlFlow::Continue(())
}

fn announce(t: &mut Transit<'_, '_, '_>, control: &Control, found: &Port, payload: usize) -> Step {
    let server = control.ends(Direction::Original);
    let ask = Ask { src: Some(server.src), ..Ask::from_anyone(Protocol::TCP, server.dst, found.port) };
    if !control.translated {
        return expect(t, control, &ask);
    }
    let follow = Some(control.follow(Direction::Original, found.port));
    let port = expect_on_a_port(t, control, Ask { follow, ..ask })?;
    let mut text = [0; 5];
    let mut out = Cursor::new(&mut text[..]);
    // Five digits have room.
    let _ = write!(out, "{port}");
    let length = usize::try_from(out.position()).unwrap_or_default();
    let at = payload + found.at.start..payload + found.at.end;
    replace(t, control, at, text.get(..length).unwrap_or_default())
}
