//! Addresses in the headers of a translated message, as the other end must read them.
//!
//! Only what is one of the signalling's two ends, with address and port, is changed: everything else concerns others.
//! Source: Linux `nf_nat_sip.c`, as observed on 6.18 (recordings `nat-helper/sip-*`); RFC 3261 section 18.2, RFC 3581.

use std::net::IpAddr;

use sluice_wire::Family;

use super::super::Control;
use super::super::edits::{Edits, InUri};
use crate::helper::sip::{Message, Uri, Via};

/// Has all headers of a message that begins at `begin` written anew. `listens` is the port of a telephone that sends from
/// another one.
pub(super) fn write(
    edits: &mut Edits,
    control: &Control,
    begin: usize,
    (family, alone): (Family, bool),
    listens: Option<u16>,
    message: &Message<'_>,
) {
    let map = |address, port| mapped(control, listens, address, port);
    let mut change = |uri: Uri| {
        if let Some((address, port)) = map(uri.address, uri.port) {
            edits.put(uri.at.within(begin), InUri(address, port));
        }
    };
    message.request(family).into_iter().for_each(&mut change);
    message.contacts(family).for_each(&mut change);
    message.parties(family).for_each(&mut change);
    let own = if message.is_answer() { control.here().destination() } else { control.here().source() };
    let via = message.via(family, alone).filter(|via| (via.uri.address, via.uri.port) == own);
    if let Some(via) = via {
        change(via.uri);
        parameters(edits, control, begin, &via);
    }
}

/// What one end of the signalling is on the other side.
fn mapped(control: &Control, listens: Option<u16>, address: IpAddr, port: u16) -> Option<(IpAddr, u16)> {
    let (here, there) = (control.here(), control.there());
    let new = if (address, port) == here.source() {
        there.destination()
    } else if (address, port) == here.destination() {
        (there.src, listens.unwrap_or(there.sport))
    } else {
        return None;
    };
    (new != (address, port)).then_some(new)
}

/// What the topmost `Via` says of where its request came from, and where the answer goes.
fn parameters(edits: &mut Edits, control: &Control, begin: usize, via: &Via) {
    let (here, there) = (control.here(), control.there());
    if let Some(maddr) = via.maddr.filter(|maddr| maddr.value == here.src && maddr.value != there.dst) {
        edits.put(maddr.at.within(begin), there.dst);
    }
    if let Some(received) = via.received.filter(|from| from.value == here.dst && from.value != there.src) {
        edits.put(received.at.within(begin), there.src);
    }
    if let Some(rport) = via.rport.filter(|port| port.value == here.dport && port.value != there.sport) {
        edits.put(rport.at.within(begin), there.sport);
    }
}
