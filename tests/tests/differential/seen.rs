//! What comes out of a router, in a form that both sides have.

use std::fmt;

use crate::packet::seal_v4;

/// How a packet was classified, as a number that fits into six bits and is not 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class(pub u8);

/// State and direction of each class of four.
pub const STATES: [(&str, &str); 7] = [
    ("new", "original"),
    ("established", "original"),
    ("established", "reply"),
    ("related", "original"),
    ("related", "reply"),
    ("invalid", ""),
    ("untracked", ""),
];
/// Bits of the status, as `ct_status` and nft name them.
pub const STATUS: [&str; 2] = ["seen-reply", "assured"];

impl Class {
    /// Of a state by its place, and a status.
    pub const fn new(state: usize, status: usize) -> Class {
        Class((1 + state * 4 + status) as u8)
    }

    /// With nothing said of the status.
    pub fn without_status(self) -> Class {
        Class((self.0.saturating_sub(1) & !3) + 1)
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = usize::from(self.0).wrapping_sub(1);
        let Some((state, direction)) = STATES.get(number / 4) else { return write!(f, "none") };
        write!(f, "{state}")?;
        if !direction.is_empty() {
            write!(f, " {direction}")?;
        }
        for (bit, name) in STATUS.iter().enumerate() {
            if number >> bit & 1 != 0 {
                write!(f, " {name}")?;
            }
        }
        Ok(())
    }
}

/// A datagram that came out.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen {
    /// The leg that it left by.
    pub leg: usize,
    pub class: Class,
    /// Without what tells the class, and without IPv4's header checksum, which was right.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "out by {} as {:?}, {} bytes", ["cli", "srv"][self.leg], self.class, self.bytes.len())
    }
}

impl Seen {
    /// As it is compared: with the flow's status or without.
    pub fn plain(&self, status: bool) -> Seen {
        let class = if status { self.class } else { self.class.without_status() };
        Seen { class, ..self.clone() }
    }

    /// Whether the router itself sent it.
    pub fn is_of_router(&self) -> bool {
        is_of_router(&self.bytes)
    }
}

/// The router's own addresses, beginning with those of the first leg.
const ROUTERS: [[u8; 4]; 2] = [[192, 0, 2, 1], [198, 51, 100, 1]];
const ROUTERS6: [u8; 2] = [0x0a, 0x0b];

/// What a datagram that left by a leg tells: the identification that it came in with, and the class that the kernel's
/// rules wrote into it. Both are taken out of what is seen.
pub fn told(leg: usize, datagram: &[u8]) -> (u16, Seen) {
    let mut bytes = datagram.to_vec();
    if is_of_router(&bytes) {
        let id = answered(&bytes);
        forget_identification(&mut bytes);
        if is_v6(&bytes) {
            // The kernel gives a flow label.
            bytes[1] &= 0xf0;
        } else {
            // The kernel leaves Don't Fragment out, and gives an identification instead: both are RFC 6864's.
            bytes[6] &= !0x40;
            seal_v4(&mut bytes);
        }
        return (id, Seen { leg, class: Class(0), bytes });
    }
    let class = if is_v6(&bytes) {
        let class = (bytes[0] << 4 | bytes[1] >> 4) >> 2;
        bytes[0] &= 0xf0;
        bytes[1] &= 0x3f;
        class
    } else {
        let class = bytes[1] >> 2;
        bytes[1] &= 3;
        class
    };
    let id = identification(&bytes);
    forget_identification(&mut bytes);
    (id, Seen { leg, class: Class(class), bytes })
}

fn is_of_router(bytes: &[u8]) -> bool {
    if is_v6(bytes) {
        bytes[8] == 0xfd && ROUTERS6.contains(&bytes[9])
    } else {
        ROUTERS.iter().any(|address| bytes[12..16] == *address)
    }
}

fn is_v6(datagram: &[u8]) -> bool {
    datagram[0] >> 4 == 6
}

/// The last two bytes of IPv6's flow label, or IPv4's identification.
fn identification(datagram: &[u8]) -> u16 {
    let at = if is_v6(datagram) { 2 } else { 4 };
    datagram.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

fn forget_identification(bytes: &mut [u8]) {
    if is_v6(bytes) {
        bytes[2..4].fill(0);
        if bytes[6] == 44 && bytes.len() >= 48 {
            // Of a datagram that was put together, and leaves in pieces again.
            bytes[44..48].fill(0);
        }
    } else {
        bytes[4..6].fill(0);
        seal_v4(bytes);
    }
}

/// The identification of the packet that an ICMP error quotes.
fn answered(error: &[u8]) -> u16 {
    let header = if is_v6(error) { 40 } else { usize::from(error[0] & 15) * 4 };
    error.get(header + 8..).filter(|quote| quote.len() >= 20).map_or(0, identification)
}
