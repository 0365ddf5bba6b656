//! Random sequences of packets that could be seen on a wire, or that somebody could send to confuse a tracker.

mod datagram;
mod errors;
mod fragments;
mod sctp;
mod tcp;

use crate::packet::{Extra, Host, Message, Packet, Spoil};
use crate::random::Random;
use crate::rules::PORTS;
use crate::sequence::{ROUNDS, Sequence, Settings, Step};

/// A sequence being made.
pub struct Story {
    random: Random,
    v6: bool,
    /// Some packets come in fragments.
    fragments: bool,
    steps: Vec<Step>,
}

/// What a sequence is mostly about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Tcp,
    Udp,
    Echo,
    Sctp,
    Gre,
    Other,
}

/// Settings of a batch: most often the kernel's own.
pub fn settings(random: &mut Random, time: bool) -> Settings {
    Settings {
        tcp_loose: !random.chance(20),
        tcp_be_liberal: random.chance(15),
        tcp_ignore_invalid_rst: random.chance(15),
        tcp_max_retrans: random.pick(&[3, 3, 3, 3, 1, 0, 2]),
        checksum: !random.chance(15),
        acct: random.chance(40),
        status: random.chance(50),
        time,
    }
}

impl Subject {
    /// By its name in small letters.
    pub fn named(name: &str) -> Option<Subject> {
        let all = [Subject::Tcp, Subject::Udp, Subject::Echo, Subject::Sctp, Subject::Gre, Subject::Other];
        all.into_iter().find(|subject| format!("{subject:?}").eq_ignore_ascii_case(name))
    }
}

/// One of some ports, or of those with rules of their own.
fn port(random: &mut Random, usual: &[u16]) -> u16 {
    if random.chance(4) { random.pick(&PORTS) } else { random.pick(usual) }
}

/// The sequence that these choices make, about one subject or any.
pub fn sequence(random: Random, only: Option<Subject>, fragments: bool) -> Sequence {
    let mut story = Story { v6: false, fragments, steps: Vec::new(), random };
    story.v6 = story.random.chance(35);
    let any = story.random.weighted(&[
        (50, Subject::Tcp),
        (12, Subject::Udp),
        (10, Subject::Echo),
        (14, Subject::Sctp),
        (5, Subject::Gre),
        (4, Subject::Other),
    ]);
    match only.unwrap_or(any) {
        Subject::Tcp => tcp::conversation(&mut story),
        Subject::Udp => datagram::udp(&mut story),
        Subject::Echo => datagram::echo(&mut story),
        Subject::Sctp => sctp::association(&mut story),
        Subject::Gre => datagram::gre(&mut story),
        Subject::Other => datagram::other(&mut story),
    }
    let mut round = 0;
    for step in &mut story.steps {
        if round + 1 < ROUNDS && story.random.chance(20) {
            round += 1;
        }
        step.round = round;
    }
    Sequence(story.steps)
}

impl Story {
    /// A good packet between two hosts.
    fn packet(&self, src: Host, dst: Host, message: Message) -> Packet {
        Packet {
            v6: self.v6,
            src,
            dst,
            ttl: 64,
            whole: false,
            extra: Extra::default(),
            message,
            spoil: Spoil::default(),
        }
    }

    /// Sends a packet, or something like it, and now and then an error about a packet that was sent.
    fn send(&mut self, packet: Packet) {
        let mut packet = self.spoil(packet);
        packet.whole = self.random.chance(60);
        if self.random.chance(1) {
            packet.ttl = self.random.pick(&[0, 1, 2, 255]);
        }
        let packet = self.extend(packet);
        if self.fragments && self.random.chance(3) && packet.extra.is_none() && packet.spoil.is_none() {
            fragments::send(self, packet);
        } else {
            self.steps.push(Step::from_source(packet));
        }
        if self.random.chance(4) {
            errors::about_some(self);
        }
    }

    /// Spoils a few packets.
    fn spoil(&mut self, mut packet: Packet) -> Packet {
        let random = &mut self.random;
        if random.chance(96) {
            return packet;
        }
        match random.below(8) {
            0 | 1 => packet.spoil.checksum = true,
            5 => packet.spoil.header_checksum = true,
            6 => {
                // Version, lengths, protocol: neither addresses nor identification, which have to be known again, nor
                // what makes a fragment.
                let places = if self.v6 { [0, 1, 4, 5, 6, 7] } else { [0, 1, 2, 3, 8, 9] };
                packet.spoil.patches.push((random.pick(&places), random.byte()));
            }
            2 => packet.spoil.no_checksum = true,
            3 => packet.spoil.cut = Some(random.below(24) as u16),
            4 => packet.spoil.trailer = random.byte() % 30,
            _ => {
                let header = if self.v6 { 40 } else { 20 };
                packet.spoil.patches.push(((header + random.below(24)) as u16, random.byte()));
            }
        }
        packet
    }

    /// Puts options or extension headers in front of a few packets.
    fn extend(&mut self, mut packet: Packet) -> Packet {
        let random = &mut self.random;
        if random.chance(98) {
            return packet;
        }
        if packet.v6 {
            for _ in 0..1 + random.below(3) {
                let kind = random.pick(&[0, 43, 51, 60, 60, 60, 59, 135]);
                let body = if random.chance(80) { vec![1, 4, 0, 0, 0, 0] } else { random.bytes(6) };
                packet.extra.headers.push((kind, body));
            }
        } else {
            let kinds: [&[u8]; 5] = [
                &[1, 1, 1, 1],
                &[148, 4, 0, 0],
                &[7, 7, 4, 0, 0, 0, 0, 0],
                &[68, 8, 9, 0, 0, 0, 0, 0],
                &[136, 4, 0, 1],
            ];
            packet.extra.options = random.pick(&kinds).to_vec();
        }
        packet
    }
}
