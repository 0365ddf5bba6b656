//! What chains do, with all that they jump to: nothing at all, or ask for interfaces.

use std::collections::BTreeSet;

use crate::model::{Rule, Table, Test, Verdict};

/// The chains that do nothing, however they are reached: firewalld and ufw make dozens of them for rules to come.
pub(crate) fn chains_of_nothing(table: &Table) -> BTreeSet<&str> {
    let mut nothing = BTreeSet::new();
    loop {
        let before = nothing.len();
        for chain in table.chains.iter().filter(|chain| chain.base.is_none()) {
            if chain.rules.iter().all(|rule| is_nothing(rule, &nothing)) {
                nothing.insert(chain.name.as_str());
            }
        }
        if nothing.len() == before {
            return nothing;
        }
    }
}

/// A rule in a chain of others like it has no effect.
pub(crate) fn is_nothing(rule: &Rule, nothing: &BTreeSet<&str>) -> bool {
    rule.refused.is_some()
        || rule.effects.is_empty()
            && match &rule.verdict {
                Verdict::Return => true,
                Verdict::Jump(name) | Verdict::Goto(name) => nothing.contains(name.as_str()),
                _ => false,
            }
}

/// The chains that ask for interfaces, or for the hook that they stand at, themselves or by what they jump to.
pub(crate) fn chains_with_interfaces(table: &Table) -> BTreeSet<&str> {
    let asks = |rule: &Rule| {
        let mut tests = rule.alternatives.iter().flatten();
        matches!(rule.verdict, Verdict::Netmap(_))
            || tests.any(|test| matches!(test, Test::Is("in" | "out", _) | Test::Not("in" | "out", _)))
    };
    let mut found: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = found.len();
        for chain in &table.chains {
            let goes = |rule: &Rule| match &rule.verdict {
                Verdict::Jump(name) | Verdict::Goto(name) => found.contains(name.as_str()),
                _ => false,
            };
            if chain.rules.iter().any(|rule| asks(rule) || goes(rule)) {
                found.insert(chain.name.as_str());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}
