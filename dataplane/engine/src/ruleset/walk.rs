//! The walk: rule after rule of a chain, with netfilter's jumps. In long chains the classifier names the next rule that may
//! match; without it, which is the oracle that it must equal, and in short chains, each is looked at in turn.
//!
//! By turn, only the guard of a rule is touched until one admits the packet. The stack is an array: the builder refuses
//! policies whose chains are nested deeper, and loops.
//!
//! Source: nft(8), "verdict statement": `return` in a hook's chain leaves it to the policy; behind a chain that was
//! gone to, evaluation goes on where that chain's caller would have.

use std::ops::ControlFlow;

use crate::conntrack::{CtInfo, TimeoutsId, Zone};
use crate::ruleset::chain::{Chain, ChainPlace};
use crate::ruleset::classifier::{Index, Search};
use crate::ruleset::guard::{Guard, GuardKey};
use crate::ruleset::view::{Decision, Effects, Reads, View};
use crate::ruleset::{Action, ChainId, CounterId, Hook, MarkSet, Policy, RuleId, Ruleset, Test};

/// Chains inside each other, that of the hook not counted. Source: nft's `NFT_JUMP_STACK_SIZE`.
pub(super) const MAX_DEPTH: usize = 16;

/// What a rule asks beside its guard, and what it does.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) tests: Box<[Test]>,
    pub(super) action: Action,
}

impl Rule {
    fn matches(&self, ruleset: &Ruleset, view: &View<'_>, reads: &mut Reads) -> bool {
        self.tests.iter().all(|test| test.holds(ruleset, view, reads))
    }
}

/// How the next rule that may match is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// By looking at each.
    Turn,
    /// In long chains by what the classifier says of the packet.
    Classifier,
}

pub(super) fn walk(
    ruleset: &Ruleset,
    hook: Hook,
    by: By,
    view: &mut View<'_>,
    effects: &mut Effects,
) -> Decision {
    effects.rule = None;
    let mut walk = Walk::of(ruleset, hook, by);
    let key = GuardKey::of(view);
    while let Some((id, rule)) = walk.next_match(key, view, &mut effects.reads) {
        note(ruleset, CounterId(id.0), view, effects);
        if let ControlFlow::Break(decision) = walk.act(id, &rule.action, view, effects) {
            effects.rule = Some(id);
            return decision;
        }
    }
    at_end(ruleset, hook, view, effects)
}

/// What becomes of a packet that no rule of a hook's chain decided.
pub(super) fn at_end(ruleset: &Ruleset, hook: Hook, view: &View<'_>, effects: &mut Effects) -> Decision {
    if !ruleset.is_empty(hook) {
        note(ruleset, ruleset.policy_counter(hook), view, effects);
    }
    match ruleset.base(hook).policy {
        Policy::Accept => Decision::Accept,
        Policy::Drop => Decision::Drop,
    }
}

/// Notes a counter, or counts it at once where there is no room.
pub(super) fn note(ruleset: &Ruleset, id: CounterId, view: &View<'_>, effects: &mut Effects) {
    if !effects.counted.push(id) && !view.rehearsed {
        ruleset.count(view.worker, id, 1, u64::from(view.packet.length()));
    }
}

/// What is not of a flow has mark 0 to restore, as `meta mark set ct mark` leaves it alone.
fn restore_mark(mask: u32, view: &mut View<'_>, effects: &mut Effects) {
    effects.reads = effects.reads.union(Reads::CT_MARK);
    if let Some(flow) = view.ct.filter(CtInfo::has_flow) {
        view.mark = MarkSet { value: flow.mark, mask }.apply(view.mark);
    }
}

/// The first rule that puts a packet into a zone decides, and the packet is tracked whatever another said before.
fn put_into(zone: Zone, effects: &mut Effects) {
    if effects.template.zone.is_default() {
        effects.template.zone = zone;
        effects.notrack = false;
    }
}

/// Where a packet is in the chains.
pub(super) struct Walk<'r> {
    ruleset: &'r Ruleset,
    by: By,
    chain: ChainPlace,
    /// The next rule of the chain, and where it ends.
    next: u32,
    end: u32,
    /// What the classifier found in this chain, once it was asked.
    search: Search<'r>,
    /// The chains that jumped here, and the next rule of each.
    callers: [(ChainPlace, u32); MAX_DEPTH],
    depth: usize,
}

impl<'r> Walk<'r> {
    /// At the first rule of a hook's chain.
    pub(super) fn of(ruleset: &'r Ruleset, hook: Hook, by: By) -> Walk<'r> {
        let mut walk = Walk {
            ruleset,
            by,
            chain: ChainPlace::NOWHERE,
            next: 0,
            end: 0,
            search: Search::new(),
            callers: [(ChainPlace::NOWHERE, 0); MAX_DEPTH],
            depth: 0,
        };
        walk.enter(ChainPlace::of_hook(hook));
        walk
    }

    /// The next rule, in this chain or behind it, whatever it matches.
    pub(super) fn step(&mut self) -> Option<(RuleId, Guard, &'r Rule)> {
        while self.next >= self.end {
            self.leave()?;
        }
        let id = RuleId(self.next);
        self.next += 1;
        let guard = self.ruleset.guards.get(id.0 as usize)?;
        Some((id, *guard, self.ruleset.rules.get(id.0 as usize)?))
    }

    /// The next rule that matches, in this chain or behind it.
    fn next_match(
        &mut self,
        key: GuardKey,
        view: &View<'_>,
        reads: &mut Reads,
    ) -> Option<(RuleId, &'r Rule)> {
        loop {
            let index = match self.by {
                By::Turn => None,
                By::Classifier => self.ruleset.chain(self.chain).and_then(Chain::index),
            };
            let found = match index {
                Some(index) => self.next_found(index, key, view, reads),
                None => self.next_in_turn(key, view, reads),
            };
            if let Some((id, _)) = found {
                self.next = id.0 + 1;
                return found;
            }
            self.leave()?;
        }
    }

    /// The next rule of this chain that matches, by looking at each.
    #[inline]
    fn next_in_turn(&self, key: GuardKey, view: &View<'_>, reads: &mut Reads) -> Option<(RuleId, &'r Rule)> {
        let start = self.next as usize;
        let guards = self.ruleset.guards.get(start..self.end as usize)?;
        for (offset, guard) in guards.iter().enumerate() {
            if !guard.admits(key) {
                continue;
            }
            let Some(rule) = self.ruleset.rules.get(start + offset) else { continue };
            if rule.matches(self.ruleset, view, reads) {
                return Some((RuleId((start + offset) as u32), rule));
            }
        }
        None
    }

    /// The next rule of this chain that matches, of those that the classifier found.
    fn next_found(
        &mut self,
        index: &'r Index,
        key: GuardKey,
        view: &View<'_>,
        reads: &mut Reads,
    ) -> Option<(RuleId, &'r Rule)> {
        let mut from = self.next;
        loop {
            let named = self.search.next(index, (key, view), &self.ruleset.membership, from)?;
            let rule = self.ruleset.rules.get(named.rule as usize)?;
            if named.exact || rule.matches(self.ruleset, view, reads) {
                return Some((RuleId(named.rule), rule));
            }
            from = named.rule + 1;
        }
    }

    /// Does what a rule says that matched; its decision, if that ends the hook.
    pub(super) fn act(
        &mut self,
        id: RuleId,
        action: &Action,
        view: &mut View<'_>,
        effects: &mut Effects,
    ) -> ControlFlow<Decision> {
        match action {
            Action::Accept => return ControlFlow::Break(Decision::Accept),
            Action::Drop => return ControlFlow::Break(Decision::Drop),
            Action::Translate(_) => return ControlFlow::Break(Decision::Translate(id)),
            Action::Reject(how) => return ControlFlow::Break(how.decide(view.packet)),
            Action::Jump(chain) => self.jump(*chain),
            Action::Goto(chain) => self.goto(*chain),
            Action::Return => drop(self.leave()),
            // What is to be tracked in a zone, or with timeouts, is tracked.
            Action::Notrack { related } if effects.template.is_none() => {
                effects.notrack = true;
                effects.relates |= related;
            }
            Action::Notrack { .. } => {}
            Action::Zone(zone) => put_into(*zone, effects),
            Action::CtTimeout(place) => self.give_timeouts(*place, effects),
            Action::Helper(assigned) => {
                effects.template.helper.get_or_insert(*assigned);
            }
            Action::Mark(set) => view.mark = set.apply(view.mark),
            Action::CtMark(set) => self.mark_flow(*set, view, effects),
            Action::SaveMark(mask) => {
                self.mark_flow(MarkSet { value: view.mark, mask: *mask }, view, effects);
            }
            Action::RestoreMark(mask) => restore_mark(*mask, view, effects),
            Action::Log(limit) => {
                let within = limit.as_ref().is_none_or(|limit| view.takes_token(limit));
                effects.reads = effects.reads.union(Reads::LIMIT);
                if within {
                    effects.logs.push(id);
                }
            }
            Action::Count => {}
        }
        ControlFlow::Continue(())
    }

    pub(super) fn jump(&mut self, chain: ChainId) {
        if let Some(caller) = self.callers.get_mut(self.depth) {
            *caller = (self.chain, self.next);
            self.depth += 1;
            self.goto(chain);
        }
    }

    pub(super) fn goto(&mut self, chain: ChainId) {
        self.enter(ChainPlace::of_user(chain));
    }

    /// Goes on where this chain was jumped to from; None, and at the end of everything, if that is the hook's.
    pub(super) fn leave(&mut self) -> Option<()> {
        self.enter(ChainPlace::NOWHERE);
        self.depth = self.depth.checked_sub(1)?;
        let (chain, next) = *self.callers.get(self.depth)?;
        self.enter(chain);
        self.next = next;
        Some(())
    }

    fn enter(&mut self, chain: ChainPlace) {
        let rules = self.ruleset.chain(chain).map_or(0..0, Chain::rules);
        (self.chain, self.next, self.end) = (chain, rules.start, rules.end);
        self.search.begin();
    }

    /// The first rule that gives a packet timeouts decides, as its flow has one template. What is not tracked has none.
    fn give_timeouts(&self, place: u16, effects: &mut Effects) {
        if !effects.notrack && effects.template.timeouts == TimeoutsId::default() {
            effects.template.timeouts = self.ruleset.timeouts(place);
        }
    }

    /// Notes a flow's new mark only where it changes, so that a flow that has its mark gets a stored answer; none if
    /// other packets of the flow might take it away again.
    fn mark_flow(&self, set: MarkSet, view: &mut View<'_>, effects: &mut Effects) {
        if self.ruleset.marks_clash {
            effects.reads = effects.reads.union(Reads::CT_MARK);
        }
        if let Some(flow) = view.ct.as_mut().filter(|ct| ct.has_flow()) {
            let mark = set.apply(flow.mark);
            if mark != flow.mark {
                flow.mark = mark;
                effects.ct_mark = Some(mark);
            }
        }
    }
}
