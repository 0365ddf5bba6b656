//! Any payload: what helpers read of it lies within it, announces a port that can be one, and can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_engine::conntrack::Direction;
use sluice_engine::helper::{Said, amanda, ftp, irc, pptp, sip, tftp};
use sluice_wire::Family;

fuzz_target!(|bytes: &[u8]| {
    for family in [Family::V4, Family::V6] {
        for direction in [Direction::Original, Direction::Reply] {
            file_transfer(bytes, direction, family);
        }
        for alone in [true, false] {
            telephony(bytes, alone, family);
        }
    }
    if let Said::Found(offer) = irc::read(bytes) {
        assert!(offer.announced.port != 0 && !bytes[offer.at].is_empty());
    }
    for port in amanda::read(bytes).into_iter().flatten() {
        let text = std::str::from_utf8(&bytes[port.at]).expect("digits");
        assert_eq!(text.parse(), Ok(port.port));
    }
    tunnels(bytes);
    assert!(!tftp::is_request(bytes) || bytes.len() >= 2);
});

/// What is found, and written in the same form, is read again in its place.
fn file_transfer(bytes: &[u8], direction: Direction, family: Family) {
    let Said::Found(command) = ftp::read(bytes, direction, family) else { return };
    assert!(command.announced.port != 0);
    let address = command.announced.address.unwrap_or([10, 0, 0, 1].into());
    let mut room = [0; ftp::LONGEST];
    let length = ftp::write(command.form, address, command.announced.port, &mut room).expect("its own form");
    let again = [&bytes[..command.at.start], &room[..length], &bytes[command.at.end..]].concat();
    let Said::Found(read) = ftp::read(&again, direction, family) else { panic!("{again:?} is not read") };
    assert_eq!(read.announced, command.announced);
}

/// Each address that is found in a message stands where it is said to stand.
fn telephony(bytes: &[u8], alone: bool, family: Family) {
    let Some(message) = sip::read(bytes, alone) else { return };
    assert!(0 < message.length && message.length <= bytes.len() && message.body() <= message.length);
    let at = |span: sip::Span| std::str::from_utf8(&bytes[span.start.into()..span.end.into()]).expect("a text");
    let via = message.via(family, alone);
    let uris = message.contacts(family).chain(message.parties(family)).chain(message.request(family));
    for uri in uris.chain(via.map(|via| via.uri)) {
        assert!(uri.port >= 1024);
        let text = at(uri.at);
        let host = text.trim_start_matches('[').split(']').next().expect("one part");
        let host = if family == Family::V4 { host.split(':').next().expect("one part") } else { host };
        assert_eq!(host.parse(), Ok(uri.address));
    }
    for address in via.into_iter().flat_map(|via| [via.maddr, via.received]).flatten() {
        assert_eq!(at(address.at).parse(), Ok(address.value));
    }
    if let Some(port) = via.and_then(|via| via.rport) {
        assert_eq!(at(port.at).parse(), Ok(port.value));
    }
    let sdp = message.sdp(family);
    for medium in sdp.media.into_iter().flatten() {
        assert!(medium.port >= 1024);
        assert_eq!(at(medium.port_at).parse(), Ok(medium.port));
    }
    for (address, place) in [sdp.owner, sdp.connection].into_iter().flatten() {
        assert_eq!(at(place).parse(), Ok(address));
    }
    if let Some(contact) = message.contact(family, alone) {
        assert!(contact.at.port != 0 && contact.at.address.is_some());
    }
}

/// Every message in turn, from either side: what is kept of a session comes back, and the client's id lies within.
fn tunnels(bytes: &[u8]) {
    let mut session = pptp::Session::default();
    for (n, rest) in bytes.chunks(64).scan(bytes, |rest, chunk| {
        let now = *rest;
        *rest = rest.get(chunk.len()..).unwrap_or_default();
        Some(now)
    }).enumerate() {
        let direction = if n % 2 == 0 { Direction::Original } else { Direction::Reply };
        let Some(message) = pptp::read(rest, direction) else { continue };
        assert!(message.client_at.clone().is_none_or(|at| rest[at].len() == 2));
        let outer = (n % 3 == 0).then_some(pptp::CallId(7));
        session.step(&message, direction, outer);
    }
}
