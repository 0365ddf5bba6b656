//! ICMP errors about packets that were sent, or that look like them.

use super::Story;
use crate::packet::{Host, Message, Packet, Spoil};
use crate::random::Random;
use crate::sequence::Step;

/// Sends an error about one of the packets so far.
pub fn about_some(story: &mut Story) {
    let Some(last) = story.steps.len().checked_sub(1) else { return };
    let at = if story.random.chance(60) { last } else { story.random.below(last + 1) };
    let told = story.steps[at].packet.clone();
    let random = &mut story.random;
    let (kind, code) = kind(random, told.v6);
    let mut quote = told.clone();
    if random.chance(25) {
        // As the receiver would have answered: quotes what nobody sent.
        (quote.src, quote.dst) = (quote.dst, quote.src);
    }
    if random.chance(20) {
        quote = mangled(random, quote);
    }
    let keep = whole_or_less(random, told.v6);
    let rest = random.pick(&[0, 1400, 0x0500_0000, 0x1234_0000]);
    let src = random.pick(&[told.dst, told.dst, Host::Client(3), Host::Server(3)]);
    let dst =
        if random.chance(90) { told.src } else { random.pick(&[told.dst, Host::Client(2), Host::Server(2)]) };
    let from = random.pick(&[told.dst, told.dst, told.dst, told.src]);
    let message = Message::Error { kind, code, rest, quote: Box::new(quote), keep };
    let mut packet = story.packet(src, dst, message);
    packet.v6 = told.v6;
    packet.spoil.checksum = story.random.chance(6);
    // Usually it comes from where the packet went.
    story.steps.push(Step::from_leg_of(from, packet));
}

fn kind(random: &mut Random, v6: bool) -> (u8, u8) {
    if v6 {
        random.pick(&[
            (1, 0),
            (1, 4),
            (1, 1),
            (2, 0),
            (3, 0),
            (4, 1),
            (5, 0),
            (100, 9),
            (127, 0),
            (137, 0),
            (0, 0),
        ])
    } else {
        random.pick(&[(3, 1), (3, 3), (3, 4), (3, 13), (3, 77), (11, 0), (11, 1), (4, 0), (5, 1), (12, 0)])
    }
}

/// How many bytes are quoted: usually enough.
fn whole_or_less(random: &mut Random, v6: bool) -> usize {
    let header = if v6 { 40 } else { 20 };
    match random.below(10) {
        0..=3 => header + 8,
        4..=6 => 548,
        _ => random.pick(&[
            0,
            8,
            header - 1,
            header,
            header + 3,
            header + 4,
            header + 7,
            header + 12,
            header + 20,
        ]),
    }
}

/// A quote that is not quite what was sent.
fn mangled(random: &mut Random, mut quote: Packet) -> Packet {
    match random.below(6) {
        0 => quote.spoil.patches.push((0, random.byte())),
        1 => quote.spoil.patches.push((random.below(60) as u16, random.byte())),
        2 => quote.spoil.checksum = true,
        3 => quote.spoil = Spoil { cut: Some(random.below(12) as u16), ..Spoil::default() },
        4 => {
            let inner = Box::new(quote.clone());
            let kind = if quote.v6 { 1 } else { 3 };
            quote.message = Message::Error { kind, code: 1, rest: 0, quote: inner, keep: 100 };
        }
        _ => {
            if let Message::Tcp(tcp) = &mut quote.message {
                tcp.seq = random.bits();
                tcp.flags = random.byte();
            }
        }
    }
    quote
}
