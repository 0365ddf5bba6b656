//! How deep chains jump into each other, that they never come back to themselves, and what entering one can come to: rules
//! to compare, fields to read.
//!
//! Source: nft's `NFT_JUMP_STACK_SIZE` for the depth.

use super::{BuildError, Chain, RulesetBuilder};
use crate::ruleset::view::Reads;
use crate::ruleset::walk::MAX_DEPTH;
use crate::ruleset::{Action, ChainId, Hook};

/// Rules that a packet may have to be compared with at one hook, jumps counted as often as they can be taken.
pub(super) const MAX_WALK: u64 = 10_000_000;

/// Checks nesting from every chain; what entering each hook's can come to.
///
/// # Errors
/// [`BuildError::NoChain`], [`BuildError::Loop`], [`BuildError::TooDeep`], [`BuildError::TooLong`].
pub(super) fn check(builder: &RulesetBuilder) -> Result<[Extent; Hook::COUNT], BuildError> {
    let mut nesting = Nesting { builder, seen: vec![Visit::New; builder.chains.len()] };
    for id in 0..builder.chains.len() {
        nesting.visit(ChainId(id as u32), 1)?;
    }
    let mut extents = [Extent::default(); Hook::COUNT];
    for ((chain, hook), extent) in builder.bases.iter().zip(Hook::ALL).zip(&mut extents) {
        *extent = nesting.measure(chain, hook.chain(), 0)?;
    }
    Ok(extents)
}

/// Follows jumps, each chain once.
struct Nesting<'a> {
    builder: &'a RulesetBuilder,
    seen: Vec<Visit>,
}

#[derive(Clone, Copy)]
enum Visit {
    New,
    Open,
    Done(Extent),
}

/// What entering a chain can come to.
#[derive(Clone, Copy, Default)]
pub(super) struct Extent {
    /// Chains inside each other.
    depth: usize,
    /// Rules compared.
    rules: u64,
    pub(super) reads: Reads,
    pub(super) asks_for_whole: bool,
}

impl Nesting<'_> {
    fn visit(&mut self, id: ChainId, depth: usize) -> Result<Extent, BuildError> {
        let index = id.0 as usize;
        let builder = self.builder;
        let (Some(chain), Some(seen)) = (builder.chains.get(index), self.seen.get_mut(index)) else {
            return Err(BuildError::NoChain(id.0));
        };
        match *seen {
            Visit::Done(extent) => return Ok(extent),
            Visit::Open => return Err(BuildError::Loop(chain.name.to_string())),
            Visit::New => *seen = Visit::Open,
        }
        let extent = self.measure(chain, &chain.name, depth)?;
        if let Some(seen) = self.seen.get_mut(index) {
            *seen = Visit::Done(extent);
        }
        Ok(extent)
    }

    fn measure(&mut self, chain: &Chain, name: &str, depth: usize) -> Result<Extent, BuildError> {
        let mut extent = Extent { rules: chain.rules.len() as u64, ..Extent::default() };
        for rule in &chain.rules {
            let reads = rule.tests.iter().fold(extent.reads, |reads, test| reads.union(test.what.reads()));
            extent.reads = reads;
            extent.asks_for_whole |= rule.tests.iter().any(|test| test.what.asks_for_whole());
            let (Action::Jump(to) | Action::Goto(to)) = &rule.action else { continue };
            // Recursion ends here at the latest; the memory of visits makes the check below exact.
            if depth > MAX_DEPTH {
                return Err(BuildError::TooDeep(name.to_string()));
            }
            let inner = self.visit(*to, depth + 1)?;
            extent.depth = extent.depth.max(inner.depth + 1);
            extent.rules = extent.rules.saturating_add(inner.rules);
            extent.reads = extent.reads.union(inner.reads);
            extent.asks_for_whole |= inner.asks_for_whole;
        }
        if extent.depth > MAX_DEPTH {
            return Err(BuildError::TooDeep(name.to_string()));
        }
        if extent.rules > MAX_WALK {
            return Err(BuildError::TooLong { chain: name.to_string(), rules: extent.rules });
        }
        Ok(extent)
    }
}
