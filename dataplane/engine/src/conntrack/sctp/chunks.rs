//! The chunks of an SCTP packet, read without trusting their lengths. Source: RFC 9260 section 3.

use sluice_wire::Packet;

/// The common header: ports, verification tag, checksum.
const HEADER: usize = 12;
const TAG: usize = 4;
/// A chunk's type, flags and length.
const CHUNK_HEADER: usize = 4;
/// The initiate tag is the first word of INIT and INIT-ACK, which have four in front of their parameters.
const INITIATE_TAG: usize = CHUNK_HEADER;
const INIT_LENGTH: usize = CHUNK_HEADER + 16;

/// A chunk's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk(u8);

impl Chunk {
    pub(super) const DATA: Chunk = Chunk(0);
    pub(super) const INIT: Chunk = Chunk(1);
    pub(super) const INIT_ACK: Chunk = Chunk(2);
    pub(super) const HEARTBEAT: Chunk = Chunk(4);
    pub(super) const HEARTBEAT_ACK: Chunk = Chunk(5);
    pub(super) const ABORT: Chunk = Chunk(6);
    pub(super) const SHUTDOWN: Chunk = Chunk(7);
    pub(super) const SHUTDOWN_ACK: Chunk = Chunk(8);
    pub(super) const ERROR: Chunk = Chunk(9);
    pub(super) const COOKIE_ECHO: Chunk = Chunk(10);
    pub(super) const COOKIE_ACK: Chunk = Chunk(11);
    pub(super) const SHUTDOWN_COMPLETE: Chunk = Chunk(14);

    /// Of ABORT and SHUTDOWN-COMPLETE: the tag is the receiver's own.
    pub(super) const FLAG_T: u8 = 1;

    /// Rows of the state table.
    pub(super) const ROWS: usize = 11;

    /// The row of the state table; None for chunks that leave the state alone, as DATA and SACK do.
    pub(super) fn row(self) -> Option<usize> {
        const ORDER: [Chunk; Chunk::ROWS] = [
            Chunk::INIT,
            Chunk::INIT_ACK,
            Chunk::ABORT,
            Chunk::SHUTDOWN,
            Chunk::SHUTDOWN_ACK,
            Chunk::ERROR,
            Chunk::COOKIE_ECHO,
            Chunk::COOKIE_ACK,
            Chunk::SHUTDOWN_COMPLETE,
            Chunk::HEARTBEAT,
            Chunk::HEARTBEAT_ACK,
        ];
        ORDER.iter().position(|known| *known == self)
    }
}

/// Which of the first 64 types are in a packet; no other has a meaning here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kinds(u64);

impl Kinds {
    pub(super) fn has(self, chunk: Chunk) -> bool {
        chunk.0 < 64 && self.0 >> chunk.0 & 1 != 0
    }

    fn add(&mut self, chunk: Chunk) {
        if chunk.0 < 64 {
            self.0 |= 1 << chunk.0;
        }
    }

    /// Whether the tag is judged chunk by chunk: RFC 9260 section 8.5.1.
    pub(super) fn has_own_tag_rule(self) -> bool {
        [
            Chunk::INIT,
            Chunk::SHUTDOWN_COMPLETE,
            Chunk::COOKIE_ECHO,
            Chunk::ABORT,
            Chunk::SHUTDOWN_ACK,
            Chunk::HEARTBEAT,
            Chunk::HEARTBEAT_ACK,
        ]
        .into_iter()
        .any(|chunk| self.has(chunk))
    }
}

/// A packet's verification tag and chunks.
#[derive(Clone, Copy)]
pub(super) struct Chunks<'a> {
    tag: u32,
    rest: &'a [u8],
}

/// A chunk's bytes from its type on, up to the packet's end: its length is only good for finding the next one.
#[derive(Clone, Copy)]
pub(super) struct Body<'a>(&'a [u8]);

impl<'a> Chunks<'a> {
    /// None if the common header is not there.
    pub(super) fn of(packet: &Packet, frame: &'a [u8]) -> Option<Chunks<'a>> {
        let (header, rest) = packet.segment(frame).split_at_checked(HEADER)?;
        Some(Chunks { tag: word(header, TAG)?, rest })
    }

    /// The verification tag.
    pub(super) fn tag(&self) -> u32 {
        self.tag
    }

    /// The types of all chunks; None if the packet is no bundle that an association may have: it is empty, INIT,
    /// INIT-ACK or SHUTDOWN-COMPLETE is not alone, COOKIE-ECHO or COOKIE-ACK is not the first, or a chunk has no length.
    pub(super) fn kinds(&self) -> Option<Kinds> {
        let mut kinds = Kinds::default();
        let mut alone = false;
        for (n, (chunk, body)) in self.iter().enumerate() {
            alone |= matches!(chunk, Chunk::INIT | Chunk::INIT_ACK | Chunk::SHUTDOWN_COMPLETE);
            let first = alone || matches!(chunk, Chunk::COOKIE_ECHO | Chunk::COOKIE_ACK);
            if first && n != 0 || body.length() == 0 {
                return None;
            }
            kinds.add(chunk);
        }
        self.iter().next().map(|_| kinds)
    }

    /// One by one, up to the first without a length, with that one.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Chunk, Body<'a>)> + use<'a> {
        let mut rest = self.rest;
        std::iter::from_fn(move || {
            let &[kind, _, high, low, ..] = rest else { return None };
            let body = Body(rest);
            rest = match usize::from(u16::from_be_bytes([high, low])) {
                0 => &[],
                length => rest.get(length.next_multiple_of(4)..).unwrap_or_default(),
            };
            Some((Chunk(kind), body))
        })
    }
}

impl Body<'_> {
    /// The chunk's flags.
    pub(super) fn flags(&self) -> u8 {
        self.0.get(1).copied().unwrap_or_default()
    }

    /// What the chunk says its length is.
    fn length(&self) -> u16 {
        self.0.get(2..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u16::from_be_bytes(*bytes))
    }

    /// The initiate tag of INIT and INIT-ACK; None if the packet ends before their parameters.
    pub(super) fn initiate_tag(&self) -> Option<u32> {
        word(self.0.get(..INIT_LENGTH)?, INITIATE_TAG)
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}
