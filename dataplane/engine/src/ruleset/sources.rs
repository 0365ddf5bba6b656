//! Which sources rules may give to flows, and how often one had none to give, for those who watch how much of them is used. Of
//! a packet's way, only that of one that is dropped comes by here.

use crate::ids::{InterfaceId, WorkerId};
use crate::ruleset::{Action, CounterId, Hook, Match, RuleId, Ruleset, Translate, walk};

/// The rules that give sources to flows.
pub(super) fn lenders(rules: &[walk::Rule]) -> Box<[RuleId]> {
    let gives_source = |action: &Action| match action {
        Action::Translate(how) => match how {
            Translate::Snat(_) | Translate::Blocks(_) | Translate::Nat64(_) | Translate::Masquerade(_) => {
                true
            }
            Translate::Dnat(_) | Translate::Redirect(_) => false,
        },
        _ => false,
    };
    let lenders = (0..).map(RuleId).zip(rules).filter(|(_, rule)| gives_source(&rule.action));
    lenders.map(|(id, _)| id).collect()
}

impl Ruleset {
    /// The rules that give sources to flows, with what they give, in the order of [`Ruleset::rules`].
    pub fn source_translations(&self) -> impl Iterator<Item = (RuleId, &Translate)> {
        self.lenders.iter().filter_map(|id| Some((*id, self.translation(*id)?)))
    }

    /// Counts a packet of `bytes` bytes whose flow a rule had no free port for. Each worker counts for itself alone.
    #[cold]
    pub(crate) fn count_exhausted(&self, worker: WorkerId, rule: RuleId, bytes: u16) {
        if let Some(id) = self.exhausted_counter(rule) {
            self.count(worker, id, 1, bytes.into());
        }
    }

    /// Packets whose flows a rule had no free port for, over all workers; 0 of one that gives no sources.
    pub fn exhausted(&self, rule: RuleId) -> u64 {
        self.exhausted_counter(rule).map_or(0, |id| self.counters.sum(id).0)
    }

    /// Behind those of the rules and of the hooks' policies.
    pub(super) fn exhausted_counter(&self, rule: RuleId) -> Option<CounterId> {
        let place = self.lenders.binary_search(&rule).ok()?;
        Some(CounterId((self.infos.len() + Hook::COUNT + place) as u32))
    }

    /// Whether packets that leave by an interface may match a rule, as far as its own `out` says: who jumps to its chain
    /// is not looked at.
    pub fn may_leave_by(&self, rule: RuleId, egress: InterfaceId) -> bool {
        let place = rule.0 as usize;
        let (Some(guard), Some(rule)) = (self.guards.get(place), self.rules.get(place)) else { return false };
        let by_test = rule.tests.iter().all(|test| match &test.what {
            Match::Egress(list) => list.contains(&egress) != test.negated,
            _ => true,
        });
        by_test && guard.admits_egress(egress)
    }
}
