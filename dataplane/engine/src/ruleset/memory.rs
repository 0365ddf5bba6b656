//! What a compiled policy keeps in memory, by what it is for; allocators' own overhead is not counted.

use crate::ruleset::{Match, Ruleset, Test};

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Guards, tests and actions, with the addresses written in rules.
    pub rules: usize,
    /// How rules are shown.
    pub shown: usize,
    /// Counters of one worker.
    pub counters: usize,
    /// Indexes of long chains.
    pub classifiers: usize,
    /// Named sets.
    pub sets: usize,
}

impl Ruleset {
    /// What it keeps.
    pub fn memory(&self) -> Memory {
        let tests = self.rules.iter().flat_map(|rule| &rule.tests);
        let text = |info: &super::RuleInfo| {
            let words = [&info.name, &info.comment, &info.log_prefix];
            info.text.len() + words.into_iter().flatten().map(|word| word.len()).sum::<usize>()
        };
        let addresses = self.address_sets.iter().map(|set| set.bytes());
        let ports = self.port_sets.iter().map(|set| set.bytes());
        Memory {
            rules: size_of_val(&*self.guards)
                + size_of_val(&*self.rules)
                + tests.map(|test| size_of::<Test>() + test.what.bytes()).sum::<usize>(),
            shown: size_of_val(&*self.infos) + self.infos.iter().map(text).sum::<usize>(),
            counters: self.counters.bytes_of_worker(),
            classifiers: self.indexes().map(|(.., stats)| stats.bytes).sum::<usize>()
                + self.membership.bytes(),
            sets: addresses.chain(ports).sum(),
        }
    }
}

impl Match {
    /// What lies outside of it, where that may be much.
    fn bytes(&self) -> usize {
        match self {
            Match::Source(list) | Match::Destination(list) => list.own.bytes(),
            Match::SourcePort(list) | Match::DestinationPort(list) => list.own.bytes(),
            _ => 0,
        }
    }
}
