//! Any payload: what helpers read of it lies within it, announces a port that can be one, and can be written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_engine::conntrack::Direction;
use sluice_engine::helper::{Said, amanda, ftp, irc, sip, tftp};
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

fn telephony(bytes: &[u8], alone: bool, family: Family) {
    let Some(message) = sip::read(bytes, alone) else { return };
    assert!(0 < message.length && message.length <= bytes.len());
    for (_, medium) in message.media(family) {
        assert!(medium.port >= 1024 && medium.address.is_some());
    }
    if let Some(contact) = message.contact(family) {
        assert!(contact.at.port != 0 && contact.at.address.is_some());
    }
}
