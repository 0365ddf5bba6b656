//! FTP: data connections from the server (active) and to it (passive). What is announced must be the announcer's own
//! address, or a client could have holes opened to others' machines; `loose` believes it all the same.
//!
//! Source: RFC 959, RFC 2428, RFC 2577 (bounce attacks); Linux `nf_conntrack_ftp.c`, `nf_nat_ftp.c`, as observed on 6.18.

use std::ops::{ControlFlow, Range};

use sluice_wire::Protocol;
use sluice_wire::tcp::Segment;

use super::rewrite::{expect_on_a_port, replace};
use super::{Control, drop, expect};
use crate::conntrack::{Ask, CtState};
use crate::helper::Said;
use crate::helper::ftp::{self, Command};
use crate::pipeline::Step;
use crate::transit::Transit;
use crate::verdict::DropReason;

/// Looks at a segment of a control connection.
pub(super) fn look(t: &mut Transit<'_, '_, '_>, control: &Control, payload: Range<usize>) -> Step {
    // The kernel reads nothing before both ends were heard.
    if control.state != CtState::Established {
        return ControlFlow::Continue(());
    }
    let Some(segment) = Segment::of(t.packet, t.frame.bytes()) else { return ControlFlow::Continue(()) };
    let begins_line = control.help.lines.of(control.direction).begins_at(segment.seq);
    let behind = segment.seq.wrapping_add(segment.payload.len() as u32);
    let ends_line = segment.payload.last() == Some(&b'\n');
    let said = match begins_line {
        true => ftp::read(segment.payload, control.direction, t.packet.family()),
        false => Said::Nothing,
    };
    match said {
        Said::Part => return drop(DropReason::HelperPart),
        Said::Nothing => {}
        Said::Found(command) => announce(t, control, &command, payload.start)?,
    }
    if ends_line && let Some(mut help) = t.bench.conntrack.help(control.flow) {
        help.lines.of_mut(control.direction).ended_before(behind);
        t.bench.conntrack.set_help(control.flow, &help);
    }
    ControlFlow::Continue(())
}

fn announce(t: &mut Transit<'_, '_, '_>, control: &Control, command: &Command, payload: usize) -> Step {
    let (here, there) = (control.here(), control.there());
    let port = command.announced.port;
    let foreign = command.announced.address.filter(|address| *address != here.src);
    let dst = match foreign {
        Some(_) if !control.assigned.loose => return ControlFlow::Continue(()),
        Some(foreign) => foreign,
        None => there.dst,
    };
    let ask = Ask { src: Some(there.src), ..Ask::from_anyone(Protocol::TCP, dst, port) };
    if !control.translated {
        return expect(t, control, &ask);
    }
    let follow = Some(control.follow(control.direction.opposite(), port));
    let port = expect_on_a_port(t, control, Ask { follow, ..ask })?;
    let mut text = [0; ftp::LONGEST];
    let Some(text) =
        ftp::write(command.form, there.dst, port, &mut text).and_then(|length| text.get(..length))
    else {
        t.bench.conntrack.unexpect_newest(control.flow);
        return drop(DropReason::HelperRewrite);
    };
    replace(t, control, payload + command.at.start..payload + command.at.end, text)
}
