//! What would happen to a packet, rule by rule.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `POST /v1/explain`: a packet that is not there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// The packet, by the keys of the packet of a policy's test: `in`, `src`, `dst`, `proto`, `dport`, …
    pub packet: BTreeMap<String, serde_json::Value>,
}

/// What would happen to a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The packet in one line.
    pub packet: String,
    /// Its way through the router, in order. Hooks without rules and without a policy are left out.
    pub steps: Vec<Step>,
    /// `accept`, `drop` or `reject`.
    pub verdict: String,
    /// Who decided that: a rule, a chain's policy, or the routing table.
    pub by: String,
    /// What was assumed, and what was not looked at.
    pub notes: Vec<String>,
}

/// A stage of the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub enum Step {
    /// A chain at a hook.
    Chain(ExplainedChain),
    /// The tracker.
    Track {
        /// `new`, `established`, `related`, `invalid` or `untracked`.
        state: String,
        /// The flow that it belongs to, in conntrack's line format, and which way it goes in it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        flow: Option<String>,
    },
    /// The packet's addresses or ports change, or will once it leaves.
    Nat {
        /// What becomes of them.
        what: String,
    },
    /// The routing table was asked.
    Route {
        /// `input`, `forward` or `output`.
        way: String,
        /// The interface that it leaves by.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        out: Option<String>,
        /// The next router.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        via: Option<String>,
    },
}

/// A hook's chain, and those that it jumped to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedChain {
    /// `raw`, `mangle`, `nat` or `filter`.
    pub table: String,
    /// `prerouting`, `input`, ….
    pub chain: String,
    /// Rules in the order in which they were looked at.
    pub rules: Vec<ExplainedRule>,
    /// Rules that were looked at, did not match, and are left out of `rules`, which would be too long.
    #[serde(default)]
    pub left_out: usize,
    /// `accept`, `drop`, `reject` or `translate`.
    pub decision: String,
    /// Whether the chain's policy decided, since no rule did.
    pub policy: bool,
}

/// A rule that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedRule {
    /// `raw`, `mangle`, `nat` or `filter`; `chains` for a rule of a user chain.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// Its place in the chain, from 1.
    pub index: u32,
    /// Its line in the policy file.
    pub line: u32,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Matches and action.
    pub text: String,
    /// Whether all of its matches held, so that its action was done.
    pub matched: bool,
    /// Its matches, one by one.
    pub asked: Vec<ExplainedMatch>,
}

/// A match of a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainedMatch {
    /// Its key in the policy.
    pub field: String,
    /// Whether it stands under `not`.
    pub negated: bool,
    /// Whether it held.
    pub holds: bool,
    /// What the packet has there; None: it has no such field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has: Option<String>,
}
