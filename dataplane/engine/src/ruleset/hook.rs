//! Where chains are evaluated, in netfilter's order and by the names of the policy file.

/// A place on a packet's way where a chain of rules is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Hook {
    /// Received packets before tracking.
    RawPrerouting,
    /// The box's own packets before tracking.
    RawOutput,
    /// Received packets behind the tracker.
    ManglePrerouting,
    /// The box's own packets behind the tracker.
    MangleOutput,
    /// All that leaves, behind the filter.
    ManglePostrouting,
    /// Received packets that begin a flow, before they are routed: destinations are translated.
    NatPrerouting,
    /// The box's own packets that begin a flow, before the filter.
    NatOutput,
    /// All that begins a flow and leaves: sources are translated.
    NatPostrouting,
    /// To the box.
    FilterInput,
    /// Through the box.
    FilterForward,
    /// From the box.
    FilterOutput,
}

impl Hook {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All, in the order of their numbers.
    pub const ALL: [Hook; 11] = [
        Hook::RawPrerouting,
        Hook::RawOutput,
        Hook::ManglePrerouting,
        Hook::MangleOutput,
        Hook::ManglePostrouting,
        Hook::NatPrerouting,
        Hook::NatOutput,
        Hook::NatPostrouting,
        Hook::FilterInput,
        Hook::FilterForward,
        Hook::FilterOutput,
    ];

    /// Its table in the policy file.
    pub const fn table(self) -> &'static str {
        match self {
            Hook::RawPrerouting | Hook::RawOutput => "raw",
            Hook::ManglePrerouting | Hook::MangleOutput | Hook::ManglePostrouting => "mangle",
            Hook::NatPrerouting | Hook::NatOutput | Hook::NatPostrouting => "nat",
            Hook::FilterInput | Hook::FilterForward | Hook::FilterOutput => "filter",
        }
    }

    /// Its chain in the policy file.
    pub const fn chain(self) -> &'static str {
        match self {
            Hook::RawPrerouting | Hook::ManglePrerouting | Hook::NatPrerouting => "prerouting",
            Hook::RawOutput | Hook::MangleOutput | Hook::NatOutput | Hook::FilterOutput => "output",
            Hook::ManglePostrouting | Hook::NatPostrouting => "postrouting",
            Hook::FilterInput => "input",
            Hook::FilterForward => "forward",
        }
    }
}
