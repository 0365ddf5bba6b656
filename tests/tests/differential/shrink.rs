//! Makes a sequence that differs as small as it gets while it still differs.

use crate::kernel::Kernel;
use crate::packet::{Extra, Message, Packet, Spoil};
use crate::play::{Pair, excuse, play};
use crate::sequence::{Sequence, Settings};

/// The smallest sequence found; None if the difference does not show again.
pub fn shrink(kernel: &Kernel, settings: &Settings, sequence: &Sequence) -> Option<Sequence> {
    if !differs(kernel, settings, std::slice::from_ref(sequence))[0] {
        return None;
    }
    let mut smallest = sequence.clone();
    loop {
        let candidates = smaller(&smallest);
        let differ = differs(kernel, settings, &candidates);
        let Some(found) = differ.iter().position(|differ| *differ) else { return Some(smallest) };
        smallest = candidates[found].clone();
    }
}

fn differs(kernel: &Kernel, settings: &Settings, sequences: &[Sequence]) -> Vec<bool> {
    let pairs = play(kernel, settings, sequences);
    let unexplained = |(sequence, pair): (&Sequence, &Pair)| {
        pair.difference(settings).is_some_and(|differs| excuse(sequence, pair, differs).is_none())
    };
    sequences.iter().zip(&pairs).map(unexplained).collect()
}

/// What is a little smaller, most promising first.
fn smaller(sequence: &Sequence) -> Vec<Sequence> {
    let steps = &sequence.0;
    let mut out = Vec::new();
    let mut chunk = steps.len() / 2;
    while chunk > 0 {
        for start in (0..steps.len()).step_by(chunk) {
            let end = (start + chunk).min(steps.len());
            out.push(Sequence([&steps[..start], &steps[end..]].concat()));
        }
        chunk /= 2;
    }
    for (place, step) in steps.iter().enumerate() {
        for packet in simpler(&step.packet) {
            let mut other = sequence.clone();
            other.0[place].packet = packet;
            out.push(other);
        }
    }
    out
}

fn simpler(packet: &Packet) -> Vec<Packet> {
    let mut out = Vec::new();
    if !packet.extra.is_none() {
        out.push(Packet { extra: Extra::default(), ..packet.clone() });
    }
    if !packet.spoil.is_none() {
        out.push(Packet { spoil: Spoil::default(), ..packet.clone() });
    }
    if let Message::Tcp(tcp) = &packet.message {
        let with = |change: fn(&mut crate::packet::Tcp)| {
            let mut tcp = tcp.clone();
            change(&mut tcp);
            Packet { message: Message::Tcp(tcp), ..packet.clone() }
        };
        if !tcp.options.is_empty() {
            out.push(with(|tcp| tcp.options.clear()));
        }
        if tcp.length > 0 {
            out.push(with(|tcp| tcp.length = 0));
        }
        if tcp.window != 8192 {
            out.push(with(|tcp| tcp.window = 8192));
        }
        if tcp.flags & 0xc8 != 0 {
            out.push(with(|tcp| tcp.flags &= !0xc8));
        }
    }
    out
}
