//! Protocols whose packets mean little to each other: UDP, UDP-Lite, echo, GRE, and those that no tracker knows.

use super::{Story, port};
use crate::packet::{Host, Message, Packet};

const HOSTS: [Host; 2] = [Host::Client(1), Host::Server(1)];

/// Source and destination of the next packet: mostly the two hosts, either way.
fn way(story: &mut Story) -> (Host, Host) {
    let side = story.random.below(2);
    let stranger = story.random.chance(5);
    let dst = if stranger { Host::Server(2) } else { HOSTS[1 - side] };
    (HOSTS[side], dst)
}

/// UDP or UDP-Lite.
pub fn udp(story: &mut Story) {
    let lite = story.random.chance(25);
    let ports = [port(&mut story.random, &[53, 5000, 1]), port(&mut story.random, &[53, 5001, 0])];
    for _ in 0..1 + story.random.below(8) {
        let (src, dst) = way(story);
        let random = &mut story.random;
        let (mut sport, mut dport) = (ports[src.leg()], ports[1 - src.leg()]);
        if random.chance(10) {
            dport = random.pick(&[53, 5000, 7]);
        }
        if random.chance(5) {
            (sport, dport) = (dport, sport);
        }
        let length = random.pick(&[0, 1, 2, 7, 8, 100, 1000]);
        let right = 8 + length as u16;
        let field = random.chance(12).then(|| random.pick(&[0, 1, 7, 8, right - 1, right, right + 1, 65535]));
        let mut packet = story.packet(src, dst, Message::Udp { lite, ports: (sport, dport), length, field });
        packet.spoil.no_checksum = story.random.chance(10);
        story.send(packet);
    }
}

/// ICMP and ICMPv6, mostly echo and its like.
pub fn echo(story: &mut Story) {
    let id = story.random.bits() as u16;
    let request = if story.v6 {
        story.random.pick(&[128, 128, 128, 139])
    } else {
        story.random.pick(&[8, 8, 8, 13, 15, 17])
    };
    let answer = if request == 8 { 0 } else { request + 1 };
    for _ in 0..1 + story.random.below(8) {
        let (src, dst) = way(story);
        let kind = match story.random.below(20) {
            0..=8 => request,
            9..=16 => answer,
            17 => story.random.byte(),
            18 => story.random.byte() % 48,
            _ => 128 + story.random.byte() % 40,
        };
        let code = if story.random.chance(92) { 0 } else { story.random.byte() % 3 };
        let id = if story.random.chance(92) { id } else { id ^ 1 };
        let length = story.random.pick(&[0, 2, 10, 58, 1000]);
        let packet = story.packet(src, dst, Message::Icmp { kind, code, id, length });
        story.send(packet);
    }
}

/// GRE with and without keys, and PPTP's.
pub fn gre(story: &mut Story) {
    let calls = [story.random.bits() as u8 % 3, story.random.byte() % 3];
    let version = story.random.pick(&[0, 0, 1, 1, 2]);
    for _ in 0..1 + story.random.below(7) {
        let (src, dst) = way(story);
        let random = &mut story.random;
        let version = if random.chance(90) { version } else { random.byte() % 8 };
        let protocol = if version == 1 && random.chance(90) {
            [0x88, 0x0b]
        } else {
            random.pick(&[[8, 0], [0x65, 0x58]])
        };
        let flags = if version == 1 { 0x30 } else { random.pick(&[0, 0x20, 0xb0, 0x80]) };
        let mut body = vec![flags, version, protocol[0], protocol[1], 0, 4, 0, calls[src.leg()]];
        let length = random.below(12);
        body.extend(random.bytes(length));
        if random.chance(6) {
            body.truncate(random.below(9));
        }
        let packet = story.packet(src, dst, Message::Gre(body));
        story.send(packet);
    }
}

/// Protocols that no tracker knows, and known ones with anything in them.
pub fn other(story: &mut Story) {
    let protocol = if story.random.chance(60) {
        story.random.pick(&[2, 4, 33, 41, 50, 51, 89, 103, 112, 253, 255])
    } else {
        story.random.byte()
    };
    for _ in 0..1 + story.random.below(5) {
        let (src, dst) = way(story);
        let length = story.random.below(40);
        let body = story.random.bytes(length);
        let packet: Packet = story.packet(src, dst, Message::Other { protocol, body });
        story.send(packet);
    }
}
