//! TCP: two ends that mostly do what ends do, over a network that loses, repeats and reorders; one of them may have begun
//! before the router was there, begin anew, or be somebody else who guesses numbers.

use sluice_wire::TcpFlags;

use super::{Story, port};
use crate::packet::{Host, Message, Tcp};
use crate::random::Random;

const FIN: u8 = TcpFlags::FIN.bits();
const SYN: u8 = TcpFlags::SYN.bits();
const RST: u8 = TcpFlags::RST.bits();
const PSH: u8 = TcpFlags::PSH.bits();
const ACK: u8 = TcpFlags::ACK.bits();
const URG: u8 = TcpFlags::URG.bits();

/// One end.
#[derive(Clone)]
struct End {
    host: Host,
    port: u16,
    /// The next number to send.
    next: u32,
    /// The next number that it expects.
    expected: u32,
    window: u16,
    scale: Option<u8>,
    sack: bool,
    stamps: bool,
}

/// Two ends, and what they said.
struct Talk {
    ends: [End; 2],
    said: Vec<(usize, Tcp)>,
}

/// What happens next.
#[derive(Clone, Copy)]
enum Event {
    Data,
    Ack,
    Window,
    Probe,
    Repeat,
    Fin,
    Reset,
    Syn,
    SynAck,
    Challenge,
    Stray,
    Flags,
    Handshake,
    Finish,
}

/// A conversation of some segments.
pub fn conversation(story: &mut Story) {
    let random = &mut story.random;
    let mut talk =
        Talk { ends: [end(random, Host::Client(1)), end(random, Host::Server(1))], said: Vec::new() };
    if random.chance(8) {
        talk.ends.swap(0, 1);
    }
    match story.random.below(10) {
        0..=5 => talk.handshake(story),
        6..=7 => {
            // Begun long ago.
            talk.ends[0].expected = talk.ends[1].next;
            talk.ends[1].expected = talk.ends[0].next;
        }
        _ => {}
    }
    for _ in 0..2 + story.random.below(14) {
        talk.event(story);
    }
}

fn end(random: &mut Random, host: Host) -> End {
    End {
        host,
        port: port(random, &[80, 443, 1024, 40000, 1]),
        next: random.pick(&[1000_u32, 0xffff_ff00, 0, 0x7fff_fff0]).wrapping_add(random.bits() % 200),
        expected: 0,
        window: random.pick(&[65535, 8192, 1000, 1, 0, 29200]),
        scale: random.chance(60).then(|| random.pick(&[0, 1, 7, 7, 14, 15, 200])),
        sack: random.chance(60),
        stamps: random.chance(40),
    }
}

impl Talk {
    fn event(&mut self, story: &mut Story) {
        let side = story.random.below(2);
        let event = story.random.weighted(&[
            (20, Event::Data),
            (16, Event::Ack),
            (4, Event::Window),
            (3, Event::Probe),
            (12, Event::Repeat),
            (9, Event::Fin),
            (7, Event::Reset),
            (6, Event::Syn),
            (4, Event::SynAck),
            (3, Event::Challenge),
            (8, Event::Stray),
            (2, Event::Flags),
            (3, Event::Handshake),
            (4, Event::Finish),
        ]);
        match event {
            Event::Data => self.data(story, side),
            Event::Ack => self.say_plain(story, side, ACK, 0),
            Event::Window => {
                self.ends[side].window = story.random.pick(&[0, 1, 500, 65535]);
                self.say_plain(story, side, ACK, 0);
            }
            Event::Probe => {
                let length = story.random.below(2);
                let mut segment = self.segment(story, side, ACK, length);
                segment.seq = segment.seq.wrapping_sub(1);
                self.say(story, side, segment, true);
            }
            Event::Repeat => self.repeat(story),
            Event::Fin => self.say_plain(story, side, FIN | ACK, 0),
            Event::Reset => self.reset(story, side),
            Event::Syn => self.syn(story, side),
            Event::SynAck => self.say_plain(story, side, SYN | ACK, 0),
            Event::Challenge => self.challenge(story, side),
            Event::Stray => self.stray(story, side),
            Event::Flags => {
                let flags = story.random.byte();
                self.say_plain(story, side, flags, 0);
            }
            Event::Handshake => self.handshake(story),
            Event::Finish => self.finish(story, side),
        }
    }

    fn handshake(&mut self, story: &mut Story) {
        for (side, flags) in [(0, SYN), (1, SYN | ACK), (0, ACK)] {
            self.say_plain(story, side, flags, 0);
            if story.random.chance(6) {
                return;
            }
        }
    }

    fn finish(&mut self, story: &mut Story, side: usize) {
        for (side, flags) in [(side, FIN | ACK), (1 - side, ACK), (1 - side, FIN | ACK), (side, ACK)] {
            self.say_plain(story, side, flags, 0);
            if story.random.chance(15) {
                return;
            }
        }
    }

    fn data(&mut self, story: &mut Story, side: usize) {
        let length = story.random.pick(&[1, 10, 100, 500, 1000, 1400]);
        let flags = story.random.pick(&[ACK, ACK | PSH, ACK | PSH, ACK | URG]);
        self.say_plain(story, side, flags, length);
    }

    /// One packet of before comes once more, in a few cases changed a little.
    fn repeat(&mut self, story: &mut Story) {
        if self.said.is_empty() {
            return;
        }
        let random = &mut story.random;
        let recent = random.chance(60);
        let at = if recent { self.said.len() - 1 } else { random.below(self.said.len()) };
        let (side, mut segment) = self.said[at].clone();
        if random.chance(20) {
            segment.window = random.pick(&[0, 1, 1000, 65535]);
        }
        for _ in 0..random.pick(&[1, 1, 1, 1, 2, 4]) {
            self.say(story, side, segment.clone(), false);
        }
    }

    /// An exact reset, or one that somebody guessed.
    fn reset(&mut self, story: &mut Story, side: usize) {
        let flags = story.random.pick(&[RST, RST | ACK, RST | ACK]);
        let mut segment = self.segment(story, side, flags, 0);
        match story.random.below(6) {
            0..=2 => {}
            3 => segment.seq = 0,
            4 => segment.ack = 0,
            _ => {
                segment.seq = segment.seq.wrapping_add(near(&mut story.random));
            }
        }
        self.say(story, side, segment, true);
    }

    /// The same SYN, a higher or a lower one.
    fn syn(&mut self, story: &mut Story, side: usize) {
        let by = story.random.pick(&[0, 0, 1, 1000, 1_000_000, 0x4000_0000, 0xffff_0000]);
        let end = &mut self.ends[side];
        end.next = end.next.wrapping_add(by);
        if story.random.chance(30) {
            end.scale = story.random.chance(50).then_some(3);
            end.sack = story.random.chance(50);
        }
        self.say_plain(story, side, SYN, 0);
    }

    /// RFC 5961: an end's own idea of the connection.
    fn challenge(&mut self, story: &mut Story, side: usize) {
        self.say_plain(story, side, ACK, 0);
    }

    /// A segment whose numbers are not what they should be.
    fn stray(&mut self, story: &mut Story, side: usize) {
        let flags = story.random.pick(&[ACK, ACK | PSH, FIN | ACK, RST | ACK, SYN, SYN | ACK]);
        let length = story.random.pick(&[0, 0, 1, 100, 1400]);
        let mut segment = self.segment(story, side, flags, length);
        let which = story.random.below(3);
        if which != 0 {
            segment.seq = segment.seq.wrapping_add(self.far(story, 1 - side));
        }
        if which != 1 {
            segment.ack = segment.ack.wrapping_add(self.far(story, side));
        }
        self.say(story, side, segment, false);
    }

    /// A distance about which something may change, given whose window counts.
    fn far(&self, story: &mut Story, side: usize) -> u32 {
        let end = &self.ends[side];
        let window = u32::from(end.window) << end.scale.unwrap_or(0).min(14);
        let random = &mut story.random;
        let base = random.pick(&[0, 1, u32::from(end.window), window, window * 2, 66000, 65535, 0x7fff_ffff]);
        let off = random.pick(&[0, 1, u32::MAX, 2, 500, u32::MAX - 500]);
        let distance = base.wrapping_add(off);
        if random.chance(50) { distance } else { distance.wrapping_neg() }
    }

    fn say_plain(&mut self, story: &mut Story, side: usize, flags: u8, length: usize) {
        let segment = self.segment(story, side, flags, length);
        self.say(story, side, segment, true);
    }

    /// What an end would send.
    fn segment(&self, story: &mut Story, side: usize, flags: u8, length: usize) -> Tcp {
        let end = &self.ends[side];
        let ack = if flags & ACK != 0 || story.random.chance(5) { end.expected } else { 0 };
        let options = self.options(&mut story.random, side, flags);
        let ports = (end.port, self.ends[1 - side].port);
        Tcp { ports, seq: end.next, ack, flags, window: end.window, options, length }
    }

    fn options(&self, random: &mut Random, side: usize, flags: u8) -> Vec<u8> {
        let end = &self.ends[side];
        let mut out = Vec::new();
        if flags & SYN != 0 {
            out.extend([2, 4, 5, 180]);
            if let Some(scale) = end.scale {
                out.extend([1, 3, 3, scale]);
            }
            if end.sack {
                out.extend([1, 1, 4, 2]);
            }
        } else if random.chance(10) {
            let blocks = 1 + random.below(3);
            out.extend([1, 1, 5, (2 + 8 * blocks) as u8]);
            for _ in 0..blocks {
                let left = end.expected.wrapping_add(random.pick(&[1, 100, 1000, 70000, u32::MAX - 100]));
                out.extend(left.to_be_bytes());
                out.extend(left.wrapping_add(random.pick(&[1, 100, 1000])).to_be_bytes());
            }
        }
        if end.stamps && out.len() <= 28 {
            out.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        }
        if random.chance(2) {
            let length = random.below(13);
            out = random.bytes(length);
        }
        out
    }

    /// Sends a segment. `own`: it is the end's own idea, so the end goes on from there.
    fn say(&mut self, story: &mut Story, side: usize, segment: Tcp, own: bool) {
        let taken =
            segment.length as u32 + u32::from(segment.flags & SYN != 0) + u32::from(segment.flags & FIN != 0);
        let after = segment.seq.wrapping_add(taken);
        if own && segment.flags & RST == 0 {
            self.ends[side].next = after;
        }
        self.said.push((side, segment.clone()));
        // Lost before the router: nobody knows of it. Lost behind it: only the router does.
        let (lost_before, lost_behind) = (story.random.chance(4), story.random.chance(8));
        if !lost_before {
            let (src, dst) = (self.ends[side].host, self.ends[1 - side].host);
            let packet = story.packet(src, dst, Message::Tcp(segment.clone()));
            story.send(packet);
            let other = &mut self.ends[1 - side];
            if !lost_behind && (segment.seq == other.expected || segment.flags & SYN != 0) {
                other.expected = after;
            }
        }
    }
}

/// A small distance.
fn near(random: &mut Random) -> u32 {
    random.pick(&[1, u32::MAX, 10, u32::MAX - 10, 1000, u32::MAX - 1000, 40000, u32::MAX - 80000])
}
