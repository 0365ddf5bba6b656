//! The compiled policy and its evaluation (hooks and their order are netfilter's).

/// A rule by its index in [`Ruleset::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

/// The compiled policy: immutable, shared by all workers.
#[derive(Debug, Default)]
pub struct Ruleset {}
