//! Where lines of a TCP stream begin: a command counts only there, so that what looks like one in the middle of a file
//! name or of data opens nothing.
//!
//! Two line ends are remembered for each direction, so that a retransmission of the line before last is still known.
//! What it does not do: find line ends inside of a segment. Only one that ends a segment is remembered.
//!
//! Source: Linux `nf_conntrack_ftp.c` as observed on 6.18 (recordings `helper-ftp/`).

/// The sequence numbers behind the last line ends of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    /// In no order.
    pub(crate) ends: [u32; 2],
    /// How many of them are there.
    pub(crate) known: u8,
}

impl Lines {
    /// Whether a line begins at a sequence number.
    pub(crate) fn begins_at(&self, seq: u32) -> bool {
        self.ends.iter().take(usize::from(self.known)).any(|end| *end == seq)
    }

    /// Takes note of a line end in front of a sequence number: the oldest one makes room.
    pub(crate) fn ended_before(&mut self, seq: u32) {
        if self.begins_at(seq) {
            return;
        }
        let [first, second] = self.ends;
        match self.known {
            0 => (self.ends, self.known) = ([seq, second], 1),
            1 => (self.ends, self.known) = ([first, seq], 2),
            _ if is_before(first, second) && is_before(first, seq) => self.ends = [seq, second],
            _ if !is_before(first, second) && is_before(second, seq) => self.ends = [first, seq],
            _ => {}
        }
    }
}

fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_line_ends_are_known() {
        let mut lines = Lines::default();
        assert!(!lines.begins_at(0));
        for seq in [u32::MAX - 5, 10, 20] {
            lines.ended_before(seq);
            assert!(lines.begins_at(seq));
        }
        assert!(lines.begins_at(10) && !lines.begins_at(u32::MAX - 5));
        lines.ended_before(5);
        assert!(lines.begins_at(10) && lines.begins_at(20), "an older one takes no place");
    }
}
