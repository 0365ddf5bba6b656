//! Which sources rules may give to flows, for those who watch how much of them is used. Not on the packet's way.

use crate::ids::InterfaceId;
use crate::ruleset::{Action, Match, RuleId, Ruleset, Translate};

impl Ruleset {
    /// The rules that give sources to flows, with what they give, in the order of [`Ruleset::rules`].
    pub fn source_translations(&self) -> impl Iterator<Item = (RuleId, &Translate)> {
        (0..).map(RuleId).zip(self.rules.iter()).filter_map(|(id, rule)| match &rule.action {
            Action::Translate(
                how @ (Translate::Snat(_)
                | Translate::Blocks(_)
                | Translate::Nat64(_)
                | Translate::Masquerade(_)),
            ) => Some((id, how)),
            _ => None,
        })
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
