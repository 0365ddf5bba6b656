//! Judging a packet that is not there: would the policy let it pass? Nothing follows from it: no counter moves, no
//! limit loses a token (each rate and each number of flows is taken to be within its limit), nothing is logged.
//!
//! Two ask. Control: would the first packet of this live flow be let in by another policy? And the packet path, about
//! the packet that an ICMP error quotes ([`crate::stage::related`]).
//!
//! Not here: where the packet goes, which the asker says; what the tracker makes of it, likewise.

use sluice_wire::Packet;

use crate::conntrack::CtInfo;
use crate::ids::{InterfaceId, Now, WorkerId};
use crate::ruleset::{Decision, Effects, Hook, Ruleset, View};
use crate::world::Interfaces;

/// A packet's way through the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the box.
    Input,
    /// Through the box.
    Forward,
    /// From the box.
    Output,
}

impl Way {
    /// The hooks before routing, the tracker sitting behind the first one, and those behind routing.
    pub const fn hooks(self) -> (&'static [Hook], &'static [Hook]) {
        match self {
            Way::Input => (&[Hook::RawPrerouting, Hook::ManglePrerouting], &[Hook::FilterInput]),
            Way::Forward => (
                &[Hook::RawPrerouting, Hook::ManglePrerouting],
                &[Hook::FilterForward, Hook::ManglePostrouting],
            ),
            Way::Output => {
                (&[Hook::RawOutput, Hook::MangleOutput], &[Hook::FilterOutput, Hook::ManglePostrouting])
            }
        }
    }
}

/// A packet's way, to be tried.
#[derive(Clone, Copy, Debug)]
pub struct Rehearsal<'a> {
    /// The policy.
    pub ruleset: &'a Ruleset,
    /// The box's addresses.
    pub interfaces: &'a Interfaces,
    /// Which hooks it meets.
    pub way: Way,
    /// Where it would come in; None for the box's own.
    pub ingress: Option<InterfaceId>,
    /// Where it would leave; None for the box's own input.
    pub egress: Option<InterfaceId>,
}

impl Rehearsal<'_> {
    /// Whether a packet passes all hooks on its way: as it was `sent`, and as the filter sees it, its destination
    /// `translated`. `tracked` says what the tracker would, knowing what `raw` did; None: the packet does not pass.
    pub fn passes(
        &self,
        sent: &Packet,
        translated: &Packet,
        tracked: impl FnOnce(&Effects) -> Option<CtInfo>,
    ) -> bool {
        let (before, behind) = self.way.hooks();
        let Some((raw, before)) = before.split_first() else { return false };
        let mut effects = Effects::default();
        let mut view = self.view(sent);
        view.egress = self.egress.filter(|_| self.way == Way::Output);
        let passes = |hook: &Hook, view: &mut View<'_>, effects: &mut Effects| {
            self.ruleset.is_empty(*hook) || self.ruleset.evaluate(*hook, view, effects) == Decision::Accept
        };
        if !passes(raw, &mut view, &mut effects) {
            return false;
        }
        view.ct = tracked(&effects);
        if view.ct.is_none() || !before.iter().all(|hook| passes(hook, &mut view, &mut effects)) {
            return false;
        }
        let mut view = View { packet: translated, egress: self.egress, ..view };
        behind.iter().all(|hook| passes(hook, &mut view, &mut effects))
    }

    fn view<'p>(&'p self, packet: &'p Packet) -> View<'p> {
        View {
            packet,
            ingress: self.ingress,
            egress: self.egress,
            ct: None,
            mark: 0,
            interfaces: self.interfaces,
            now: Now::default(),
            worker: WorkerId(0),
            tally: None,
            rehearsed: true,
        }
    }
}
