//! Tables of IPv4 and of IPv6 as one: rules that are the same in both are one rule for both families.

use crate::model::{Families, Rule, Ruleset, Table};

/// Chains with more pairs of rules than this are put together without looking for what they have in common.
const MAX_PAIRS: usize = 4_000_000;

/// Puts a table of IPv6 into the table of IPv4 of the same name.
pub(crate) fn families(ruleset: &mut Ruleset) {
    let mut tables: Vec<Table> = Vec::new();
    for table in std::mem::take(&mut ruleset.tables) {
        let partner = tables.iter_mut().find(|known| {
            known.name == table.name && known.families.and(table.families).is_none() && fit(known, &table)
        });
        match partner {
            Some(partner) => merge(partner, table),
            None => tables.push(table),
        }
    }
    ruleset.tables = tables;
}

/// Whether chains of one name are of one kind.
fn fit(known: &Table, other: &Table) -> bool {
    other
        .chains
        .iter()
        .all(|chain| known.chain(&chain.name).is_none_or(|of| of.base.is_some() == chain.base.is_some()))
}

fn merge(known: &mut Table, other: Table) {
    known.families = known.families.or(other.families);
    for chain in other.chains {
        match known.chains.iter_mut().find(|of| of.name == chain.name) {
            // Chains at hooks with another policy or priority stay apart: each is for its own family.
            Some(of) if of.base == chain.base => {
                of.families = of.families.or(chain.families);
                of.rules = together(std::mem::take(&mut of.rules), chain.rules);
            }
            _ => known.chains.push(chain),
        }
    }
}

/// Two lists as one in which each keeps its order. Rules of one family do not concern the other's, so any such list would do;
/// this one has the longest common subsequence once.
fn together(left: Vec<Rule>, right: Vec<Rule>) -> Vec<Rule> {
    let lengths = common(&left, &right);
    let at = |i: usize, j: usize| lengths.get(i * (right.len() + 1) + j).copied().unwrap_or(0);
    let (mut all, mut i, mut j) = (Vec::with_capacity(left.len() + right.len()), 0, 0);
    while let (Some(a), Some(b)) = (left.get(i), right.get(j)) {
        if a.same(b) && at(i, j) == at(i + 1, j + 1) + 1 {
            all.push(Rule { families: Families::BOTH, ..a.clone() });
            (i, j) = (i + 1, j + 1);
        } else if at(i + 1, j) >= at(i, j + 1) {
            all.push(a.clone());
            i += 1;
        } else {
            all.push(b.clone());
            j += 1;
        }
    }
    all.extend(left.into_iter().skip(i));
    all.extend(right.into_iter().skip(j));
    all
}

/// Lengths of the longest common subsequences of all tails; nothing where that would be too much.
fn common(left: &[Rule], right: &[Rule]) -> Vec<u32> {
    let width = right.len() + 1;
    if left.len().saturating_mul(right.len()) > MAX_PAIRS {
        return Vec::new();
    }
    let mut lengths = vec![0u32; (left.len() + 1) * width];
    for (i, a) in left.iter().enumerate().rev() {
        for (j, b) in right.iter().enumerate().rev() {
            let at = |i: usize, j: usize| lengths.get(i * width + j).copied().unwrap_or(0);
            let length = if a.same(b) { at(i + 1, j + 1) + 1 } else { at(i + 1, j).max(at(i, j + 1)) };
            if let Some(place) = lengths.get_mut(i * width + j) {
                *place = length;
            }
        }
    }
    lengths
}
