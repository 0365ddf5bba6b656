//! Memory for fragments' payload: blocks of a fixed size, set aside once, each with a map of what it holds.
//!
//! A datagram has a block for each 1,024 bytes of its payload that a fragment brought. A map has a bit for each eight
//! bytes, the unit of fragment offsets, so that whether a fragment overlaps is a mask and a comparison for each block it
//! touches, however many fragments came before: no list grows that an attacker could make long.

/// Bytes of a block.
pub(super) const BLOCK: usize = 1024;
/// Bytes for which a map has a bit.
pub(super) const UNIT: usize = 8;

/// A block, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockId(u16);

/// What a block holds; the bits are units, the first one the lowest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Map {
    /// Units that a fragment brought.
    pub covered: u128,
    /// Units that a fragment begins with: how the datagram was cut.
    pub cuts: u128,
    /// Units that a run begins with: fragments that came one after the other without a gap.
    pub runs: u128,
}

/// All blocks of one worker.
pub(super) struct Blocks {
    bytes: Vec<u8>,
    maps: Vec<Map>,
    /// Given back.
    free: Vec<u16>,
    /// From here on never taken: pages that nobody touched.
    fresh: u16,
}

impl Blocks {
    /// As many blocks as `bytes` hold, at most 65,535.
    pub(super) fn new(bytes: usize) -> Blocks {
        let count = (bytes / BLOCK).min(usize::from(u16::MAX));
        Blocks {
            bytes: vec![0; count * BLOCK],
            maps: vec![Map::default(); count],
            free: Vec::with_capacity(count),
            fresh: 0,
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.maps.len()
    }

    /// How many are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        usize::from(self.fresh) - self.free.len()
    }

    /// Takes an empty block.
    pub(super) fn take(&mut self) -> Option<BlockId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None if usize::from(self.fresh) < self.maps.len() => {
                self.fresh += 1;
                self.fresh - 1
            }
            None => return None,
        };
        *self.map_mut(BlockId(id))? = Map::default();
        Some(BlockId(id))
    }

    /// Gives a block back. It must not be used again.
    pub(super) fn give(&mut self, BlockId(id): BlockId) {
        // As much room as there are blocks.
        self.free.push(id);
    }

    /// A block's bytes.
    pub(super) fn bytes(&self, BlockId(id): BlockId) -> &[u8] {
        let at = usize::from(id) * BLOCK;
        self.bytes.get(at..at + BLOCK).unwrap_or_default()
    }

    /// A block's bytes from `at` on get those of `from`, as many as fit.
    pub(super) fn write(&mut self, BlockId(id): BlockId, at: usize, from: &[u8]) {
        let start = usize::from(id) * BLOCK;
        let room = self.bytes.get_mut(start..start + BLOCK).and_then(|block| block.get_mut(at..));
        for (to, from) in room.into_iter().flatten().zip(from) {
            *to = *from;
        }
    }

    /// What a block holds.
    pub(super) fn map(&self, BlockId(id): BlockId) -> Map {
        self.maps.get(usize::from(id)).copied().unwrap_or_default()
    }

    /// The same, to be changed.
    pub(super) fn map_mut(&mut self, BlockId(id): BlockId) -> Option<&mut Map> {
        self.maps.get_mut(usize::from(id))
    }
}

/// A part of a datagram's payload within one block: which block, and bytes from and to within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub block: usize,
    pub from: usize,
    pub to: usize,
}

impl Span {
    /// The bits of the units that it touches.
    pub(super) fn mask(&self) -> u128 {
        let (first, end) = (self.from / UNIT, self.to.div_ceil(UNIT));
        let below = |bits: usize| 1u128.checked_shl(bits as u32).map_or(u128::MAX, |bit| bit - 1);
        below(end) & !below(first)
    }

    /// The bit of its first unit.
    pub(super) fn first(&self) -> u128 {
        1 << (self.from / UNIT % 128)
    }
}

/// The payload's bytes from `start` to `end`, block by block.
pub(super) fn spans(start: usize, end: usize) -> impl Iterator<Item = Span> {
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let block = at / BLOCK;
        let to = end.min((block + 1) * BLOCK);
        let span = Span { block, from: at % BLOCK, to: to - block * BLOCK };
        at = to;
        Some(span)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_what_they_should() {
        let all: Vec<_> = spans(1000, 2100).map(|span| (span.block, span.from, span.to)).collect();
        assert_eq!(all, [(0, 1000, 1024), (1, 0, 1024), (2, 0, 52)]);
        assert_eq!(spans(8, 8).count(), 0);
        for (from, to, mask) in [
            (0, 8, 1),
            (0, 1, 1),
            (8, 24, 0b110),
            (1016, 1024, 1 << 127),
            (0, 1024, u128::MAX),
            (1000, 1013, 0b11 << 125),
        ] {
            let span = Span { block: 0, from, to };
            assert_eq!(span.mask(), mask, "{from} to {to}");
        }
    }

    #[test]
    fn what_is_given_back_is_taken_again_and_empty() {
        let mut blocks = Blocks::new(3 * BLOCK + 5);
        let taken: Vec<_> = std::iter::from_fn(|| blocks.take()).collect();
        assert_eq!((taken.len(), blocks.taken()), (3, 3));
        blocks.map_mut(taken[1]).unwrap().covered = 7;
        blocks.give(taken[1]);
        assert_eq!(blocks.take(), Some(taken[1]));
        assert_eq!(blocks.map(taken[1]).covered, 0);
    }
}
