//! Where chains lie among the rules, and the index of those that are long.

use std::ops::Range;

use crate::ruleset::classifier::Index;
use crate::ruleset::{ChainId, Hook};

/// A chain by its place in [`super::Ruleset`]: the hooks' come first, then user chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChainPlace(u32);

impl ChainPlace {
    /// No chain, which has no rules.
    pub(super) const NOWHERE: ChainPlace = ChainPlace(u32::MAX);

    pub(super) const fn of_hook(hook: Hook) -> ChainPlace {
        ChainPlace(hook as u32)
    }

    pub(super) const fn of_user(chain: ChainId) -> ChainPlace {
        ChainPlace(Hook::COUNT as u32 + chain.0)
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A chain's rules, which are contiguous.
#[derive(Debug, Default)]
pub(super) struct Chain {
    pub(super) start: u32,
    pub(super) end: u32,
    /// Of a chain that is long.
    pub(super) index: Option<Box<Index>>,
}

impl Chain {
    #[inline]
    pub(super) fn rules(&self) -> Range<u32> {
        self.start..self.end
    }

    #[inline]
    pub(super) fn index(&self) -> Option<&Index> {
        self.index.as_deref()
    }
}
