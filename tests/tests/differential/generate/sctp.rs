//! SCTP: associations that are opened, used, restarted and shut down, with right and wrong tags.

use super::Story;
use crate::packet::{Chunk, Host, Message};

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

const HOSTS: [Host; 2] = [Host::Client(1), Host::Server(1)];

/// Tags by the side that chose them.
struct Association {
    ports: [u16; 2],
    tags: [u32; 2],
}

/// Packets of an association, and of what is none.
pub fn association(story: &mut Story) {
    let random = &mut story.random;
    let mut this = Association {
        ports: [random.pick(&[2000, 5000, 1]), random.pick(&[5000, 2905])],
        tags: [random.bits() | 1, random.bits() | 1],
    };
    if story.random.chance(70) {
        for (side, kind) in [(0, INIT), (1, INIT_ACK), (0, COOKIE_ECHO), (1, COOKIE_ACK)] {
            this.say(story, side, &[kind]);
            if story.random.chance(8) {
                break;
            }
        }
    }
    for _ in 0..1 + story.random.below(9) {
        this.event(story);
    }
}

impl Association {
    fn event(&mut self, story: &mut Story) {
        let side = story.random.below(2);
        match story.random.below(12) {
            0 => {
                // One side was restarted.
                self.tags[side] = story.random.bits() | 1;
                self.say(story, side, &[INIT]);
            }
            1 => {
                for (side, kind) in [(side, SHUTDOWN), (1 - side, SHUTDOWN_ACK), (side, SHUTDOWN_COMPLETE)] {
                    self.say(story, side, &[kind]);
                }
            }
            2 => {
                let kinds = [self.any(story), self.any(story), self.any(story)];
                let count = 2 + story.random.below(2);
                self.say(story, side, &kinds[..count]);
            }
            3 => {
                self.say(story, side, &[HEARTBEAT]);
                self.say(story, 1 - side, &[HEARTBEAT_ACK]);
            }
            _ => {
                let kind = self.any(story);
                self.say(story, side, &[kind]);
            }
        }
    }

    fn any(&self, story: &mut Story) -> u8 {
        story.random.pick(&[
            DATA,
            DATA,
            INIT,
            INIT_ACK,
            SACK,
            HEARTBEAT,
            HEARTBEAT_ACK,
            ABORT,
            SHUTDOWN,
            SHUTDOWN_ACK,
            ERROR,
            COOKIE_ECHO,
            COOKIE_ACK,
            SHUTDOWN_COMPLETE,
            12,
            63,
            64,
            192,
        ])
    }

    fn say(&self, story: &mut Story, side: usize, kinds: &[u8]) {
        let random = &mut story.random;
        let mut tag = if kinds[0] == INIT { 0 } else { self.tags[1 - side] };
        if random.chance(6) {
            tag = random.pick(&[0, tag ^ 1, self.tags[side], self.tags[1 - side]]);
        }
        let mut chunks = Vec::new();
        for &kind in kinds {
            let flags = if matches!(kind, ABORT | SHUTDOWN_COMPLETE) && random.chance(30) { 1 } else { 0 };
            if flags == 1 && random.chance(80) {
                tag = self.tags[side];
            }
            let mut body = match kind {
                INIT | INIT_ACK => [&self.tags[side].to_be_bytes()[..], &[0; 12]].concat(),
                DATA => vec![7; 16],
                _ => vec![9; random.pick(&[0, 4, 5, 12])],
            };
            if random.chance(2) {
                body.truncate(random.below(8));
            }
            let length = random.chance(2).then(|| random.pick(&[0, 1, 3, 4, 8, 1000]));
            chunks.push(Chunk { kind, flags, body, length });
        }
        if random.chance(2) {
            chunks.clear();
        }
        let ports = (self.ports[side], self.ports[1 - side]);
        let packet = story.packet(HOSTS[side], HOSTS[1 - side], Message::Sctp { ports, tag, chunks });
        story.send(packet);
    }
}
