//! What a hook makes of all packets of which a few facts are known, without looking at one: the walk with three answers,
//! yes, no, and *that depends*, where it gives up. It serves packets that no flow answers for (NOTRACK): what `raw` and
//! the filter make of them is asked once for an ingress interface and a next hop, not once a packet.
//!
//! It equals [`super::Ruleset::evaluate`] for every packet that is as known; a property test holds it to that.

use sluice_wire::Family;

use crate::conntrack::CtState;
use crate::ids::InterfaceId;
use crate::ruleset::guard::KnownKey;
use crate::ruleset::matching::{Match, Test};
use crate::ruleset::view::Effects;
use crate::ruleset::walk::{By, Walk};
use crate::ruleset::{Action, CounterId, Hook, Policy, Ruleset};
use crate::world::AddressKind;

/// Rules looked at before it is left to each packet: this is done between packets, once for each next hop.
const MOST: usize = 256;

/// What is known of packets at a hook. They have no mark.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Their address family.
    pub family: Family,
    /// The interface they came in by.
    pub ingress: InterfaceId,
    /// The interface they leave by; None before the route is known.
    pub egress: Option<InterfaceId>,
    /// What their destination address is to the router.
    pub to: AddressKind,
    /// False before the tracker; true behind it, where they are UNTRACKED.
    pub untracked: bool,
}

impl Ruleset {
    /// Judges all packets that are as `known` at once; what they are counted for and NOTRACK come in `effects`. True:
    /// all go on; false: all are dropped. None: that depends on the packet, or more happens to it than being counted.
    pub fn settle(&self, hook: Hook, known: &Known, effects: &mut Effects) -> Option<bool> {
        if self.is_empty(hook) {
            return Some(true);
        }
        let mut walk = Walk::of(self, hook, By::Turn);
        let key = KnownKey::of(known);
        let mut left = MOST;
        while let Some((id, guard, rule)) = walk.step() {
            left = left.checked_sub(1)?;
            if !both(guard.admits_known(key), || holds(&rule.tests, known))? {
                continue;
            }
            effects.note(CounterId(id.0))?;
            match &rule.action {
                Action::Accept => return Some(true),
                Action::Drop => return Some(false),
                Action::Jump(chain) => walk.jump(*chain),
                Action::Goto(chain) => walk.goto(*chain),
                Action::Return => drop(walk.leave()),
                Action::Notrack { .. } => effects.notrack = true,
                Action::Count => {}
                Action::Reject(_)
                | Action::Translate(_)
                | Action::Zone(_)
                | Action::CtTimeout(_)
                | Action::Helper(_)
                | Action::Mark(_)
                | Action::CtMark(_)
                | Action::SaveMark(_)
                | Action::RestoreMark(_)
                | Action::Log(_) => return None,
            }
        }
        effects.note(self.policy_counter(hook))?;
        Some(self.base(hook).policy == Policy::Accept)
    }
}

/// And, with three answers.
fn both(first: Option<bool>, second: impl FnOnce() -> Option<bool>) -> Option<bool> {
    match first {
        Some(false) => Some(false),
        Some(true) => second(),
        None => second().filter(|second| !second),
    }
}

fn holds(tests: &[Test], known: &Known) -> Option<bool> {
    tests.iter().rfold(Some(true), |rest, test| both(test.holds_for(known), || rest))
}

impl Test {
    fn holds_for(&self, known: &Known) -> Option<bool> {
        // Without the field neither a match nor its negation holds.
        Some(self.what.answer_for(known)?.is_some_and(|yes| yes != self.negated))
    }
}

impl Match {
    /// None: that depends on the packet; else as [`Match::answer`] has it.
    fn answer_for(&self, known: &Known) -> Option<Option<bool>> {
        Some(match self {
            Match::Ingress(list) => Some(list.contains(&known.ingress)),
            Match::Egress(list) => Some(known.egress.is_some_and(|id| list.contains(&id))),
            Match::To(kinds) => Some(kinds.contains(&known.to)),
            Match::Family(list) => Some(list.contains(&known.family)),
            Match::Ct { states, .. } => Some(states.contains(known.state())),
            Match::Mark(list) => Some(list.iter().any(|mark| mark.value == 0)),
            Match::Direction(_)
            | Match::Status(_)
            | Match::Helper(_)
            | Match::CtMark(_)
            | Match::Original(_)
            | Match::Absent => None,
            _ => return None,
        })
    }
}

impl Known {
    /// As rules see it; before the tracker what nft says of a packet without a state.
    pub(super) fn state(&self) -> CtState {
        if self.untracked { CtState::Untracked } else { CtState::Invalid }
    }
}
