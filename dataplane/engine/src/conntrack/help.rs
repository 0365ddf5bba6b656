//! What lies beside a flow that has a helper, or that a helper announced: 64 bytes of zero pages, which other flows never
//! touch. [`Status::HELPED`] and [`Status::EXPECTED`] say whether there is anything.
//!
//! Copied out and in whole: only packets of control connections do so.

use super::flow::PerDirection;
use super::info::{Direction, FlowHandle, Status};
use super::pending::{NewFlow, Pending, PendingFlow};
use super::shift::Shift;
use super::table::Table;
use super::tuple::{Address, Tuple};
use super::{Conntrack, Ends};
use crate::helper::lines::Lines;
use crate::helper::{Assigned, Helper};
use sluice_wire::{Family, Protocol};

/// Words that are kept beside a flow.
pub(super) type Words = [u32; 16];

/// Classes of expectations that a helper may have.
pub(super) const CLASSES: usize = 4;

/// All of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Help {
    /// The flow's own helper.
    pub(crate) assigned: Option<Assigned>,
    /// The helper that announced the flow.
    pub(crate) announced_by: Option<Helper>,
    /// Line ends seen in each direction.
    pub(crate) lines: PerDirection<Lines>,
    /// By how much each direction's bytes are longer or shorter when they leave.
    pub(crate) shifts: PerDirection<Shift>,
    /// Expectations that wait, by class.
    pub(super) waiting: [u8; CLASSES],
    /// One more than the place of the newest of them.
    pub(super) newest: u32,
    /// Whatever else a helper remembers.
    pub(crate) memory: [u32; 3],
}

const LOOSE: u8 = 1;

impl Help {
    pub(super) fn to_words(self) -> Words {
        let number = |helper: Option<Helper>| helper.map_or(0, |helper| helper as u8);
        let loose = self.assigned.is_some_and(|assigned| assigned.loose);
        let (one, two) = (self.lines.original, self.lines.reply);
        let bits = (u8::from(loose) * LOOSE) | (one.known << 2) | (two.known << 4);
        let own = number(self.assigned.map(|assigned| assigned.helper));
        let first = u32::from_ne_bytes([own, number(self.announced_by), bits, 0]);
        let ([a, b], [c, d]) = (one.ends, two.ends);
        let [s, t, u] = self.shifts.original.to_words();
        let [v, w, x] = self.shifts.reply.to_words();
        let [i, j, k] = self.memory;
        [first, u32::from_ne_bytes(self.waiting), self.newest, a, b, c, d, s, t, u, v, w, x, i, j, k]
    }

    pub(super) fn from_words(words: Words) -> Help {
        let [first, waiting, newest, a, b, c, d, s, t, u, v, w, x, i, j, k] = words;
        let [own, by, bits, _] = first.to_ne_bytes();
        let loose = bits & LOOSE != 0;
        Help {
            assigned: Helper::of_number(own).map(|helper| Assigned { helper, loose }),
            announced_by: Helper::of_number(by),
            lines: PerDirection {
                original: Lines { ends: [a, b], known: (bits >> 2) & 3 },
                reply: Lines { ends: [c, d], known: (bits >> 4) & 3 },
            },
            shifts: PerDirection {
                original: Shift::from_words([s, t, u]),
                reply: Shift::from_words([v, w, x]),
            },
            waiting: waiting.to_ne_bytes(),
            newest,
            memory: [i, j, k],
        }
    }

    /// What a flow that begins has.
    pub(super) fn of_new<A>(new: &NewFlow<A>) -> Help {
        Help { assigned: new.helper, announced_by: new.announced_by, ..Help::default() }
    }
}

impl<A: Address> NewFlow<A> {
    /// Gives the flow a helper, unless it has one or the helper does not understand such flows.
    pub(super) fn assign(&mut self, assigned: Assigned) {
        let protocol = Protocol(self.flow.protocol());
        if self.helper.is_none() && assigned.helper.serves(A::FAMILY, protocol) {
            self.helper = Some(assigned);
            self.flow.status = self.flow.status.with(Status::HELPED);
        }
    }
}

impl Pending {
    /// Gives the flow a helper: the first that understands such flows stays.
    pub(crate) fn assign(&mut self, assigned: Assigned) {
        match &mut self.0 {
            PendingFlow::V4(new) => new.assign(assigned),
            PendingFlow::V6(new) => new.assign(assigned),
        }
    }
}

impl<A: Address> Table<A> {
    fn ends_at(&self, place: u32) -> Option<[Ends; 2]> {
        let ends = |tuple: Tuple<A>| Ends {
            src: tuple.src.ip(),
            dst: tuple.dst.ip(),
            sport: tuple.sport,
            dport: tuple.dport,
        };
        Some([ends(self.original_at(place)?), ends(self.outward_at(place)?.reversed())])
    }
}

impl Conntrack {
    /// What lies beside a flow of the table, if it has a helper.
    pub(crate) fn help(&self, flow: FlowHandle) -> Option<Help> {
        match flow.family {
            Family::V4 => self.v4.help(flow.index),
            Family::V6 => self.v6.help(flow.index),
        }
    }

    /// Puts it back, changed.
    pub(crate) fn set_help(&mut self, flow: FlowHandle, help: &Help) {
        match flow.family {
            Family::V4 => self.v4.aside.set_help(flow.index, help),
            Family::V6 => self.v6.aside.set_help(flow.index, help),
        }
    }

    /// A flow's two tuples, as packets of the original direction come, and as packets of the other one do.
    pub(crate) fn ends(&self, flow: FlowHandle) -> Option<[Ends; 2]> {
        match flow.family {
            Family::V4 => self.v4.ends_at(flow.index),
            Family::V6 => self.v6.ends_at(flow.index),
        }
    }

    /// Takes note that a direction's stream became longer (or shorter) by `by` bytes behind `seq`.
    pub(crate) fn shift(&mut self, flow: FlowHandle, direction: Direction, seq: u32, by: i32) {
        let Some(mut help) = self.help(flow) else { return };
        help.shifts.of_mut(direction).add(seq, by);
        self.set_help(flow, &help);
        let status = match flow.family {
            Family::V4 => self.v4.flow_mut(flow.index).map(|flow| &mut flow.status),
            Family::V6 => self.v6.flow_mut(flow.index).map(|flow| &mut flow.status),
        };
        if let Some(status) = status {
            *status = status.with(Status::SHIFTED);
        }
    }
}

impl<A: Address> Table<A> {
    /// What lies beside the flow at a place, if anything does.
    pub(super) fn help(&self, place: u32) -> Option<Help> {
        let status = self.flow(place)?.status;
        status.intersects(Status::HELPED.with(Status::EXPECTED)).then(|| self.aside.help(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let lines = |n| Lines { ends: [n, n + 1], known: 2 };
        let shift = |n: u32| Shift::from_words([n, n + 1, n + 2]);
        let help = Help {
            assigned: Some(Assigned { helper: Helper::Tftp, loose: true }),
            announced_by: Some(Helper::Ftp),
            lines: PerDirection { original: lines(7), reply: Lines { ends: [1, 0], known: 1 } },
            shifts: PerDirection { original: shift(100), reply: shift(200) },
            waiting: [1, 2, 3, 4],
            newest: 99,
            memory: [5, 6, u32::MAX],
        };
        assert_eq!(Help::from_words(help.to_words()), help);
        assert_eq!(Help::from_words([0; 16]), Help::default());
    }
}
