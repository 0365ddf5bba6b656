//! Streams whose bytes a helper made longer or shorter: by how much sequence numbers differ between the two sides of the
//! router, before and behind the place of the last change.
//!
//! A segment may be retransmitted from before that place, so both differences are kept. The tracker judges numbers as
//! their sender has them: an acknowledgement is taken back first, by the difference that its other direction has.
//!
//! Source: Linux `nf_conntrack_seqadj.c`, as observed on 6.18 (recordings `nat-helper/`).

/// The difference of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    /// The sequence number, as its sender has it, of the last segment that was changed.
    position: u32,
    /// Up to there.
    before: i32,
    /// From there on.
    behind: i32,
}

impl Shift {
    pub(super) fn to_words(self) -> [u32; 3] {
        [self.position, self.before as u32, self.behind as u32]
    }

    pub(super) fn from_words([position, before, behind]: [u32; 3]) -> Shift {
        Shift { position, before: before as i32, behind: behind as i32 }
    }

    /// Whether there is no difference.
    pub(crate) fn is_none(&self) -> bool {
        self.before == 0 && self.behind == 0
    }

    /// The segment that begins with `seq` became longer by `by` bytes. A retransmission of it changes nothing more.
    pub(super) fn add(&mut self, seq: u32, by: i32) {
        if self.before == self.behind || is_after(seq, self.position) {
            self.position = seq;
            self.before = self.behind;
            self.behind = self.behind.wrapping_add(by);
        }
    }

    /// A sequence number of this direction as it leaves.
    pub(crate) fn forward(&self, seq: u32) -> u32 {
        seq.wrapping_add_signed(if is_after(seq, self.position) { self.behind } else { self.before })
    }

    /// What is to be taken from an acknowledgement of this direction, for its sender to understand it.
    pub(crate) fn back(&self, ack: u32) -> u32 {
        let unshifted = ack.wrapping_sub(self.before as u32);
        let by = if is_after(unshifted, self.position) { self.behind } else { self.before };
        ack.wrapping_sub(by as u32)
    }

    /// The difference that the tracker takes from an acknowledgement and from what is acknowledged selectively.
    pub(super) fn of_acknowledgement(&self, ack: u32) -> u32 {
        (if is_after(ack.wrapping_sub(1), self.position) { self.behind } else { self.before }) as u32
    }
}

fn is_after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment of 22 bytes at 1000 became one of 24, one of 22 at 1100 one of 21.
    #[test]
    fn numbers_go_there_and_back() {
        let mut shift = Shift::default();
        assert!(shift.is_none());
        shift.add(1000, 2);
        assert_eq!((shift.forward(1000), shift.forward(1022)), (1000, 1024));
        assert_eq!((shift.back(1000), shift.back(1024), shift.back(1124)), (1000, 1022, 1122));
        shift.add(1000, 2);
        assert_eq!(shift.forward(1022), 1024, "a retransmission changes nothing");
        shift.add(1100, -1);
        assert_eq!((shift.forward(1100), shift.forward(1122)), (1102, 1123));
        assert_eq!((shift.back(1102), shift.back(1123)), (1100, 1122));
        assert_eq!(Shift::from_words(shift.to_words()), shift);
    }

    #[test]
    fn numbers_wrap() {
        let mut shift = Shift::default();
        shift.add(u32::MAX - 1, 5);
        assert_eq!(shift.forward(10), 15);
        assert_eq!(shift.back(15), 10);
    }
}
