//! One datagram whose fragments are still coming: does the next one fit, and is it complete?
//!
//! The rules are those of the kernel's queues, which differ between the families: what contradicts the fragments before it
//! kills an IPv4 datagram, and is ignored in IPv6; any overlap kills both (RFC 5722, RFC 8200 section 4.5); what a run of
//! fragments in order holds already is a duplicate and ignored.
//!
//! Source: RFC 815 (what a reassembler must know), RFC 8200 section 4.5; which rule strikes, recordings `fragment/` of
//! Linux 6.18.

use sluice_wire::fragment::Part;
use sluice_wire::{Family, LinkCast, MacAddr};

use super::Key;
use super::blocks::{BLOCK, BlockId, Blocks, UNIT, spans};
use crate::frame::Frame;
use crate::ids::{InterfaceId, PortId, Tick};
use crate::verdict::DropReason;

/// The largest payload that offsets of 16 bits reach, in bytes; and in blocks.
const LARGEST: usize = 65_535;
pub(super) const BLOCKS: usize = LARGEST.div_ceil(BLOCK);

/// Fragments that one datagram may have, so that what completing one costs is bounded. The longest datagram needs fewer on
/// any link of 84 bytes or more.
pub(super) const MOST_FRAGMENTS: u16 = 1024;

/// ECN code points that a datagram's fragments had, as bits.
const NOT_CAPABLE: u8 = 1 << 0;
const CONGESTED: u8 = 1 << 3;

/// The Ethernet header that the first fragment came with, and where the latest came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub destination: MacAddr,
    pub source: MacAddr,
    pub vlan: Option<u16>,
    pub cast: LinkCast,
    pub port: PortId,
    pub ingress: Option<InterfaceId>,
}

impl Arrived {
    /// Of a fragment's frame.
    pub fn of(frame: &Frame<'_>, vlan: Option<u16>, cast: LinkCast) -> Arrived {
        let bytes = frame.bytes();
        Arrived {
            destination: sluice_wire::destination(bytes),
            source: sluice_wire::source(bytes),
            vlan,
            cast,
            port: frame.port,
            ingress: frame.ingress,
        }
    }
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// Kept.
    Kept,
    /// Kept, and now nothing is missing.
    Complete,
    /// Not kept; the others stay.
    Refused(DropReason),
    /// The end of the datagram and of all its fragments.
    Killed(DropReason),
    /// The end of the others; this one goes on by itself.
    Stray,
    /// Not enough blocks are free for it.
    NoRoom,
}

/// A datagram in the making.
pub(super) struct Datagram {
    pub key: Key,
    pub deadline: Tick,
    pub arrived: Arrived,
    /// Those that are kept.
    pub fragments: u16,
    /// Length in bytes of the longest fragment, headers included.
    pub largest: u16,
    /// The same of those that said Don't Fragment.
    largest_whole: u16,
    /// Length in bytes of the shortest header that a later fragment had, IPv6's fragment header not included.
    pub shortest: u16,
    /// Length in bytes of the first fragment's header; 0 while it lacks.
    pub header_length: u16,
    ecn: u8,
    last: bool,
    /// Bytes of payload so far as known; of all of it once `last` is there.
    pub end: u32,
    /// Behind the last byte of payload that is kept.
    tail: u32,
    /// Bytes of payload that are kept.
    kept: u32,
    header: Option<BlockId>,
    blocks: [Option<BlockId>; BLOCKS],
}

/// A fragment with what its frame says.
pub(super) struct Incoming<'a> {
    pub part: Part<'a>,
    pub tos: u8,
    pub dont_fragment: bool,
    pub arrived: Arrived,
}

impl Datagram {
    pub(super) fn new(key: Key, deadline: Tick, arrived: Arrived) -> Datagram {
        Datagram {
            key,
            deadline,
            arrived,
            fragments: 0,
            largest: 0,
            largest_whole: 0,
            shortest: u16::MAX,
            header_length: 0,
            ecn: 0,
            last: false,
            end: 0,
            tail: 0,
            kept: 0,
            header: None,
            blocks: [None; BLOCKS],
        }
    }

    /// Adds a fragment, as far as it fits.
    pub(super) fn place(&mut self, blocks: &mut Blocks, incoming: &Incoming<'_>) -> Placed {
        let family = self.key.addrs.family();
        let start = usize::from(incoming.part.offset);
        let end = match self.bound(family, start, &incoming.part) {
            Ok(end) => end,
            Err(placed) => return placed,
        };
        let run = match self.overlap(blocks, start, end) {
            Ok(run) => run,
            Err(placed) => return placed,
        };
        if start == 0 && incoming.part.header.len() > BLOCK {
            return Placed::Refused(DropReason::FragmentInvalid);
        }
        if self.fragments >= MOST_FRAGMENTS {
            return Placed::Killed(DropReason::FragmentInvalid);
        }
        if !self.reserve(blocks, start, end) {
            return Placed::NoRoom;
        }
        self.keep(blocks, incoming, (start, end), run);
        self.note(incoming, end - start);
        if start == 0 {
            self.keep_header(blocks, incoming);
        }
        let complete = self.last && self.header.is_some() && self.kept == self.end;
        if complete { Placed::Complete } else { Placed::Kept }
    }

    /// Where a fragment ends; or why it is not kept. Takes note of the datagram's end.
    fn bound(&mut self, family: Family, start: usize, part: &Part<'_>) -> Result<usize, Placed> {
        let refused = match family {
            Family::V4 => Placed::Killed(DropReason::FragmentInvalid),
            Family::V6 => Placed::Refused(DropReason::FragmentInvalid),
        };
        let mut end = start + part.payload.len();
        if end > LARGEST {
            return Err(refused);
        }
        let known = self.end as usize;
        if !part.more {
            if end < known || (self.last && end != known) {
                return Err(refused);
            }
            (self.last, self.end) = (true, end as u32);
        } else {
            if !end.is_multiple_of(UNIT) {
                match family {
                    Family::V4 => end -= end % UNIT,
                    Family::V6 => return Err(Placed::Stray),
                }
            }
            if end > known {
                if self.last {
                    return Err(refused);
                }
                self.end = end as u32;
            }
        }
        if end <= start { Err(refused) } else { Ok(end) }
    }

    /// Whether the bytes are there already. If none is: whether the fragment begins a run.
    fn overlap(&self, blocks: &Blocks, start: usize, end: usize) -> Result<bool, Placed> {
        let tail = self.tail as usize;
        if tail < end {
            return match start {
                _ if self.fragments == 0 => Ok(true),
                start if start < tail => Err(Placed::Killed(DropReason::FragmentOverlap)),
                start => Ok(start != tail),
            };
        }
        let (mut any, mut all, mut several) = (false, true, false);
        for span in spans(start, end) {
            let map = self.map(blocks, span.block);
            let mask = span.mask();
            any |= map.covered & mask != 0;
            all &= map.covered & mask == mask;
            let own = if span.block == start / BLOCK { span.first() } else { 0 };
            several |= map.runs & mask & !own != 0;
        }
        match (any, all && !several) {
            (false, _) => Ok(true),
            (true, true) => Err(Placed::Refused(DropReason::FragmentDuplicate)),
            (true, false) => Err(Placed::Killed(DropReason::FragmentOverlap)),
        }
    }

    fn map(&self, blocks: &Blocks, at: usize) -> super::blocks::Map {
        self.block(at).map(|id| blocks.map(id)).unwrap_or_default()
    }

    fn block(&self, at: usize) -> Option<BlockId> {
        self.blocks.get(at).copied().flatten()
    }

    /// Takes the blocks that a fragment needs; false, and none taken, where there are too few.
    fn reserve(&mut self, blocks: &mut Blocks, start: usize, end: usize) -> bool {
        let mut enough = true;
        for span in spans(start, end) {
            if let Some(slot @ None) = self.blocks.get_mut(span.block) {
                *slot = blocks.take();
                enough &= slot.is_some();
            }
        }
        if start == 0 && self.header.is_none() {
            self.header = blocks.take();
            enough &= self.header.is_some();
        }
        if !enough {
            self.shrink(blocks);
        }
        enough
    }

    /// Gives back blocks that hold nothing.
    fn shrink(&mut self, blocks: &mut Blocks) {
        for slot in &mut self.blocks {
            if let Some(id) = *slot
                && blocks.map(id).covered == 0
            {
                blocks.give(id);
                *slot = None;
            }
        }
        if self.header_length == 0
            && let Some(id) = self.header.take()
        {
            blocks.give(id);
        }
    }

    fn keep(
        &mut self,
        blocks: &mut Blocks,
        incoming: &Incoming<'_>,
        (start, end): (usize, usize),
        run: bool,
    ) {
        let mut rest = incoming.part.payload;
        for span in spans(start, end) {
            let Some(id) = self.block(span.block) else { return };
            let (here, behind) = rest.split_at_checked(span.to - span.from).unwrap_or((rest, &[]));
            blocks.write(id, span.from, here);
            rest = behind;
            let Some(map) = blocks.map_mut(id) else { return };
            map.covered |= span.mask();
            if span.block == start / BLOCK {
                map.cuts |= span.first();
                map.runs |= if run { span.first() } else { 0 };
            }
        }
        self.tail = self.tail.max(end as u32);
        self.kept += (end - start) as u32;
    }

    /// What is to be known of each fragment; `length` is that of its payload, in bytes.
    fn note(&mut self, incoming: &Incoming<'_>, length: usize) {
        let Incoming { part, tos, dont_fragment, arrived } = incoming;
        let whole = (part.header.len() + length) as u16;
        self.fragments += 1;
        self.ecn |= 1 << (tos & 0b11);
        self.largest = self.largest.max(whole);
        if *dont_fragment {
            self.largest_whole = self.largest_whole.max(whole);
        }
        if part.offset != 0 {
            let header = part.header.len() - fragment_header(self.key.addrs.family());
            self.shortest = self.shortest.min(header as u16);
        }
        let first = if part.offset == 0 { *arrived } else { self.arrived };
        self.arrived = Arrived { port: arrived.port, ingress: arrived.ingress, ..first };
    }

    fn keep_header(&mut self, blocks: &mut Blocks, incoming: &Incoming<'_>) {
        if let Some(id) = self.header {
            blocks.write(id, 0, incoming.part.header);
            self.header_length = incoming.part.header.len() as u16;
        }
    }

    /// The first fragment's header, IPv6's fragment header included.
    pub(super) fn header<'a>(&self, blocks: &'a Blocks) -> Option<&'a [u8]> {
        blocks.bytes(self.header?).get(..usize::from(self.header_length))
    }

    /// The payload, block by block; of a datagram that is not complete with gaps of whatever there was.
    pub(super) fn payload<'a>(&'a self, blocks: &'a Blocks) -> impl Iterator<Item = &'a [u8]> {
        spans(0, self.end as usize)
            .map_while(|span| blocks.bytes(self.block(span.block)?).get(span.from..span.to))
    }

    /// Where each fragment's payload begins, in bytes and in order.
    pub(super) fn cuts<'a>(&'a self, blocks: &'a Blocks) -> impl Iterator<Item = u16> {
        (0..BLOCKS).flat_map(move |at| {
            let mut cuts = self.map(blocks, at).cuts;
            std::iter::from_fn(move || {
                let unit = (cuts != 0).then(|| cuts.trailing_zeros() as usize)?;
                cuts &= cuts - 1;
                u16::try_from(at * BLOCK + unit * UNIT).ok()
            })
        })
    }

    /// Bytes of payload of the first fragment.
    pub(super) fn first_length(&self, blocks: &Blocks) -> u16 {
        let next = self.cuts(blocks).nth(1).map_or(self.end, u32::from).min(self.end);
        let contiguous = (0..BLOCKS).find_map(|at| {
            let gap = (!self.map(blocks, at).covered).trailing_zeros() as usize;
            (gap < 128).then_some(at * BLOCK + gap * UNIT)
        });
        next.min(contiguous.map_or(u32::MAX, |bytes| bytes as u32)) as u16
    }

    /// IPv4's Don't Fragment of the whole: where the longest fragment had it.
    pub(super) fn dont_fragment(&self) -> bool {
        self.largest == self.largest_whole
    }

    /// Whether congestion was met; None where the fragments say what cannot be true together (RFC 3168 section 5.3).
    pub(super) fn congestion(&self) -> Option<bool> {
        let mixed = self.ecn & NOT_CAPABLE != 0 && self.ecn != NOT_CAPABLE;
        (!mixed).then_some(self.ecn & CONGESTED != 0)
    }

    /// Gives all its blocks back.
    pub(super) fn release(&mut self, blocks: &mut Blocks) {
        for id in self.blocks.iter_mut().chain([&mut self.header]).filter_map(Option::take) {
            blocks.give(id);
        }
    }
}

/// Bytes of the header that makes a fragment of a datagram.
pub(super) const fn fragment_header(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 8,
    }
}
