//! How long packets were away, in classes a sixteenth of their size wide.

/// Classes for each doubling.
const STEPS: u64 = 16;

/// Times in TSC cycles, counted by class.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    longest: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram { counts: vec![0; (STEPS * 64) as usize], longest: 0 }
    }

    #[inline]
    pub(crate) fn note(&mut self, cycles: u64) {
        self.counts[class(cycles)] += 1;
        self.longest = self.longest.max(cycles);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest, in cycles.
    pub(crate) fn longest(&self) -> u64 {
        self.longest
    }

    /// What `part` of all took no longer than, in cycles: the upper end of its class.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        let mut left = (self.len() as f64 * part).ceil() as u64;
        for (class, count) in self.counts.iter().enumerate() {
            left = left.saturating_sub(*count);
            if left == 0 {
                return upper_end(class as u64).min(self.longest);
            }
        }
        self.longest
    }
}

/// Below 16 each number has a class; above, the leading bit and the four behind it tell.
#[inline]
fn class(cycles: u64) -> usize {
    if cycles < STEPS {
        return cycles as usize;
    }
    let doubling = u64::from(cycles.ilog2()) - 3;
    (doubling * STEPS + (cycles >> (doubling - 1)) - STEPS) as usize
}

fn upper_end(class: u64) -> u64 {
    let (doubling, step) = (class / STEPS, class % STEPS);
    if doubling == 0 { step } else { ((STEPS + step + 1) << (doubling - 1)) - 1 }
}
