//! Datagrams in pieces: in any order, some of which are lost, come twice, or overlap.

use super::Story;
use crate::packet::Packet;
use crate::sequence::{Piece, Step};

/// Sends a packet in two to four fragments.
pub fn send(story: &mut Story, packet: Packet) {
    let header = if packet.v6 { 40 } else { 20 };
    let payload = packet.bytes(0, 0).len().saturating_sub(header) as u16;
    if payload <= 8 {
        story.steps.push(Step::from_source(packet));
        return;
    }
    let datagram = story.steps.len();
    let random = &mut story.random;
    let count = 2 + random.below(3) as u16;
    let step = (payload / count).next_multiple_of(8).max(8);
    let mut pieces: Vec<_> = (0..payload)
        .step_by(step.into())
        .map(|offset| {
            let more = offset + step < payload;
            Piece { datagram, offset, length: step.min(payload - offset), more }
        })
        .collect();
    let at = random.below(pieces.len());
    match random.below(12) {
        0 => drop(pieces.remove(at)),
        1 => pieces.push(pieces[at]),
        2 => pieces[at].length += 8,
        3 => pieces[at].length = pieces[at].length.saturating_sub(1),
        4 => pieces[at].offset += 8,
        5 => pieces[at].more = !pieces[at].more,
        _ => {}
    }
    if random.chance(40) {
        for end in (1..pieces.len()).rev() {
            pieces.swap(end, random.below(end + 1));
        }
    }
    for piece in pieces {
        story.steps.push(Step { piece: Some(piece), ..Step::from_source(packet.clone()) });
    }
}
