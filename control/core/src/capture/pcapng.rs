//! The blocks of a capture file: one section, a description of each interface, packets with direction and fate, and how many
//! packets there were.
//!
//! Everything is little endian, whatever the machine; times are nanoseconds since 1970.
//!
//! Source: draft-ietf-opsawg-pcapng, sections 4.1 (section header), 4.2 (interface description), 4.3 (enhanced packet) and
//! 4.6 (interface statistics).

use sluice_engine::capture::{Copied, Fate, Way};
use sluice_engine::world::Interfaces;

const SECTION: u32 = 0x0A0D_0D0A;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// `LINKTYPE_ETHERNET`.
const ETHERNET: u16 = 1;

/// Codes of options; the first two are those of all blocks.
const END_OF_OPTIONS: u16 = 0;
const COMMENT: u16 = 1;
const SECTION_APPLICATION: u16 = 4;
const INTERFACE_NAME: u16 = 2;
const INTERFACE_MAC: u16 = 6;
const INTERFACE_RESOLUTION: u16 = 9;
const INTERFACE_FILTER: u16 = 11;
const PACKET_FLAGS: u16 = 2;
const STATISTICS_START: u16 = 2;
const STATISTICS_END: u16 = 3;
const STATISTICS_ACCEPTED: u16 = 6;
const STATISTICS_LOST: u16 = 7;

/// Ten to the minus ninth of a second.
const NANOSECONDS: u8 = 9;

/// Bits 0 and 1 of a packet's flags.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// How many packets a capture saw.
pub(super) struct Statistics {
    /// When it began.
    pub(super) begun: u64,
    /// When this was counted.
    pub(super) now: u64,
    /// Packets that matched, over all interfaces.
    pub(super) matched: u64,
    /// Those of them that were lost.
    pub(super) lost: u64,
}

/// What a file begins with: interfaces are numbered as they are in the engine.
pub(super) fn head(interfaces: &Interfaces, filter: &str, snaplen: u32) -> Vec<u8> {
    let mut out = Vec::new();
    block(&mut out, SECTION, |body| {
        body.extend_from_slice(&0x1A2B_3C4D_u32.to_le_bytes());
        // Version 1.0, a section of unknown length.
        body.extend_from_slice(&[1, 0, 0, 0]);
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        option(body, SECTION_APPLICATION, concat!("sluiced ", env!("CARGO_PKG_VERSION")).as_bytes());
        option(body, END_OF_OPTIONS, b"");
    });
    for (_, interface) in interfaces.iter() {
        block(&mut out, INTERFACE, |body| {
            body.extend_from_slice(&ETHERNET.to_le_bytes());
            body.extend_from_slice(&[0, 0]);
            body.extend_from_slice(&snaplen.to_le_bytes());
            option(body, INTERFACE_NAME, interface.name.as_bytes());
            option(body, INTERFACE_MAC, &interface.mac.0);
            option(body, INTERFACE_RESOLUTION, &[NANOSECONDS]);
            if !filter.is_empty() {
                // Of the kinds of filters, this is text as libpcap reads it.
                let text: Vec<u8> = [0].into_iter().chain(filter.bytes()).collect();
                option(body, INTERFACE_FILTER, &text);
            }
            option(body, END_OF_OPTIONS, b"");
        });
    }
    out
}

/// A packet at `time`, with as much of it as was copied.
pub(super) fn packet(out: &mut Vec<u8>, copied: &Copied, time: u64, bytes: &[u8]) {
    block(out, PACKET, |body| {
        body.extend_from_slice(&u32::from(copied.interface.0).to_le_bytes());
        timestamp(body, time);
        body.extend_from_slice(&length(bytes).to_le_bytes());
        body.extend_from_slice(&copied.length.to_le_bytes());
        padded(body, bytes);
        let way = if copied.way == Way::In { INBOUND } else { OUTBOUND };
        option(body, PACKET_FLAGS, &way.to_le_bytes());
        match copied.fate {
            Fate::Passed => {}
            Fate::Answered => option(body, COMMENT, b"dropped, and answered with an error or a reset"),
            Fate::Dropped(reason) => {
                option(
                    body,
                    COMMENT,
                    format!("dropped: {} ({})", reason.label(), reason.sentence()).as_bytes(),
                );
            }
        }
        option(body, END_OF_OPTIONS, b"");
    });
}

/// How many packets there were, for each of so many interfaces. They are counted for the capture as a whole: the first
/// interface has them.
pub(super) fn statistics(out: &mut Vec<u8>, interfaces: u32, statistics: &Statistics) {
    for interface in 0..interfaces {
        let (matched, lost) = if interface == 0 { (statistics.matched, statistics.lost) } else { (0, 0) };
        block(out, STATISTICS, |body| {
            body.extend_from_slice(&interface.to_le_bytes());
            timestamp(body, statistics.now);
            for (code, time) in [(STATISTICS_START, statistics.begun), (STATISTICS_END, statistics.now)] {
                let mut value = Vec::new();
                timestamp(&mut value, time);
                option(body, code, &value);
            }
            option(body, STATISTICS_ACCEPTED, &matched.to_le_bytes());
            option(body, STATISTICS_LOST, &lost.to_le_bytes());
            option(body, END_OF_OPTIONS, b"");
        });
    }
}

/// A block: its kind, its length, what `fill` puts in (whole words), its length again.
fn block(out: &mut Vec<u8>, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let length = u32::try_from(out.len() - start + 4).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(place) = out.get_mut(start + 4..start + 8) {
        place.copy_from_slice(&length);
    }
    out.extend_from_slice(&length);
}

/// An option: its code, its length, its value filled up to whole words.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend_from_slice(&code.to_le_bytes());
    // Names and filters: control refuses longer ones (a filter of a thousand instructions has a shorter text).
    let fits = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    body.extend_from_slice(&u16::try_from(fits.len()).unwrap_or(u16::MAX).to_le_bytes());
    padded(body, fits);
}

fn padded(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(bytes);
    body.resize(body.len() + bytes.len().wrapping_neg() % 4, 0);
}

/// The upper half stands first, whatever the order of bytes.
fn timestamp(body: &mut Vec<u8>, nanos: u64) {
    body.extend_from_slice(&((nanos >> 32) as u32).to_le_bytes());
    body.extend_from_slice(&(nanos as u32).to_le_bytes());
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}
