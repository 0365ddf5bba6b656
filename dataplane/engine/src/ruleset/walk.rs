//! The linear walk: rule after rule of a chain, with netfilter's jumps. Later the oracle that a classifier must equal.
//!
//! Of each rule only its guard is touched until one admits the packet. The stack is an array: the builder refuses
//! policies whose chains are nested deeper, and loops.
//!
//! Source: nft(8), "verdict statement": `return` in a hook's chain leaves it to the policy; behind a chain that was
//! gone to, evaluation goes on where that chain's caller would have.

use std::ops::{ControlFlow, Range};

use crate::conntrack::{CtInfo, TimeoutsId, Zone};
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

pub(super) fn walk(ruleset: &Ruleset, hook: Hook, view: &mut View<'_>, effects: &mut Effects) -> Decision {
    let base = ruleset.base(hook);
    effects.rule = None;
    let mut walk = Walk::of(ruleset, hook);
    let key = GuardKey::of(view);
    while let Some((id, rule)) = walk.next_match(key, view, &mut effects.reads) {
        note(ruleset, CounterId(id.0), view, effects);
        if let ControlFlow::Break(decision) = walk.act(id, &rule.action, view, effects) {
            effects.rule = Some(id);
            return decision;
        }
    }
    if !ruleset.is_empty(hook) {
        note(ruleset, ruleset.policy_counter(hook), view, effects);
    }
    match base.policy {
        Policy::Accept => Decision::Accept,
        Policy::Drop => Decision::Drop,
    }
}

/// Notes a counter, or counts it at once where there is no room.
fn note(ruleset: &Ruleset, id: CounterId, view: &View<'_>, effects: &mut Effects) {
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
    /// What is left of the current chain.
    at: Range<u32>,
    /// What is left of the chains that jumped here.
    callers: [Range<u32>; MAX_DEPTH],
    depth: usize,
}

impl<'r> Walk<'r> {
    /// At the first rule of a hook's chain.
    pub(super) fn of(ruleset: &'r Ruleset, hook: Hook) -> Walk<'r> {
        let at = ruleset.base(hook).rules.clone();
        Walk { ruleset, at, callers: Default::default(), depth: 0 }
    }

    /// The next rule, in this chain or behind it, whatever it matches.
    pub(super) fn step(&mut self) -> Option<(RuleId, Guard, &'r Rule)> {
        loop {
            if let Some(at) = self.at.next() {
                let guard = self.ruleset.guards.get(at as usize)?;
                return Some((RuleId(at), *guard, self.ruleset.rules.get(at as usize)?));
            }
            self.leave()?;
        }
    }

    /// The next rule that matches, in this chain or behind it.
    fn next_match(
        &mut self,
        key: GuardKey,
        view: &View<'_>,
        reads: &mut Reads,
    ) -> Option<(RuleId, &'r Rule)> {
        loop {
            let start = self.at.start as usize;
            let guards = self.ruleset.guards.get(start..self.at.end as usize).unwrap_or_default();
            for (offset, guard) in guards.iter().enumerate() {
                if !guard.admits(key) {
                    continue;
                }
                let Some(rule) = self.ruleset.rules.get(start + offset) else { continue };
                if rule.matches(self.ruleset, view, reads) {
                    let id = RuleId((start + offset) as u32);
                    self.at.start = id.0 + 1;
                    return Some((id, rule));
                }
            }
            self.leave()?;
        }
    }

    fn act(
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
            *caller = self.at.clone();
            self.depth += 1;
            self.at = self.chain(chain);
        }
    }

    pub(super) fn goto(&mut self, chain: ChainId) {
        self.at = self.chain(chain);
    }

    /// Goes on where this chain was jumped to from; None, and at the end of everything, if that is the hook's.
    pub(super) fn leave(&mut self) -> Option<()> {
        self.at = Range::default();
        self.depth = self.depth.checked_sub(1)?;
        self.at = self.callers.get(self.depth)?.clone();
        Some(())
    }

    fn chain(&self, chain: ChainId) -> Range<u32> {
        self.ruleset.chains.get(chain.0 as usize).cloned().unwrap_or_default()
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
