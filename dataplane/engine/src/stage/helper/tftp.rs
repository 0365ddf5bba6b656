//! TFTP: the answer to a request comes from a port of the server that nobody knows yet, to the port that asked.
//!
//! Source: RFC 1350 section 4; Linux `nf_conntrack_tftp.c`, `nf_nat_tftp.c`, as observed on 6.18.

use std::ops::{ControlFlow, Range};

use sluice_wire::Protocol;

use super::{Control, expect};
use crate::conntrack::{Ask, Direction};
use crate::helper::tftp;
use crate::pipeline::Step;
use crate::transit::Transit;

/// Looks at a datagram to the server's well-known port, or back.
pub(super) fn look(t: &mut Transit<'_, '_, '_>, control: &Control, payload: Range<usize>) -> Step {
    if !t.frame.bytes().get(payload).is_some_and(tftp::is_request) {
        return ControlFlow::Continue(());
    }
    let (request, answer) = (control.ends(Direction::Original), control.ends(Direction::Reply));
    let ask = Ask {
        src: Some(answer.src),
        follow: control.translated.then(|| control.follow(Direction::Reply, request.sport)),
        ..Ask::from_anyone(Protocol::UDP, answer.dst, answer.dport)
    };
    expect(t, control, &ask)
}
