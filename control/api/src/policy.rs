//! Policies: applying one, what runs, what ran before; and how a request is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Body of every answer other than 2xx.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// One line: what failed, the value, the limit.
    pub error: String,
    /// Where a file was refused: every error in it, and its warnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
}

/// An error or a warning about a place in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// `error` or `warning`.
    pub severity: String,
    /// The file's name as it was given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The nearest valid name, or what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Name of the rule it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// All of it as people read it: place, message, the line and a caret under it. May be several lines.
    pub rendered: String,
}

/// `GET /v1/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it was ready.
    pub uptime: u64,
    /// Generation that the workers run on; rises with every change of policy, routes, addresses or settings.
    pub generation: u32,
    /// Worker cores.
    pub cores: Vec<usize>,
    /// SHA-256 of the running policy, hexadecimal.
    pub policy_digest: String,
}

/// What becomes of live flows when a policy is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FlowHandling {
    /// Entries and marks stay; every packet is judged by the new rules with its true state.
    #[default]
    Keep,
    /// As keep, and flows whose first packet the new policy would not accept are deleted.
    Recheck,
    /// All are deleted.
    Flush,
}

/// `POST /v1/policy/apply`. The asker reads all files: the daemon opens none on its behalf, so that nobody learns
/// through it what they may not read themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyRequest {
    /// The policy file's name as the user gave it; errors are placed in it.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Text of each file that a set names, by the name that the set gives it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// What becomes of live flows.
    #[serde(default)]
    pub flows: FlowHandling,
    /// Seconds after which the policy goes back by itself unless it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
    /// Whether warnings are errors.
    #[serde(default)]
    pub strict: bool,
}

/// Answer of `POST /v1/policy/apply`: the policy runs on every worker and is on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ApplyReply {
    /// The generation that it runs as.
    pub generation: u32,
    /// SHA-256 of the policy, hexadecimal.
    pub digest: String,
    /// Rules in it.
    pub rules: usize,
    /// Live flows that stayed.
    pub flows_kept: u64,
    /// Flows that were deleted.
    pub flows_deleted: u64,
    /// Seconds that reading and compiling took.
    pub compile_seconds: f64,
    /// Seconds in which it is to be confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
    /// What is valid but probably not meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
    /// Sets that were changed by hand, and are as the policy defines them again: it defines them differently.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets_reset: Vec<String>,
}

/// `POST /v1/policy/rollback`: apply a policy of the history once more. While one waits to be confirmed: go back from it
/// now, whatever else is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRequest {
    /// Its place as [`HistoryEntry::index`] has it; None: the latest one that was confirmed and is not what runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// What becomes of live flows.
    #[serde(default)]
    pub flows: FlowHandling,
    /// As in [`ApplyRequest::confirm`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
}

/// Answer of `POST /v1/policy/confirm`: the policy stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmReply {
    /// SHA-256 of the policy, hexadecimal.
    pub digest: String,
    /// Seconds that were left.
    pub left: u64,
}

/// Answer of `POST /v1/policy/diff`: what a policy would change if it were applied. Nothing is changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyDiff {
    /// SHA-256 of the policy, hexadecimal.
    pub digest: String,
    /// Rules in it.
    pub rules: usize,
    /// Seconds that reading and compiling took.
    pub compile_seconds: f64,
    /// What differs from the running one by its meaning.
    pub changes: Vec<PolicyChange>,
    /// What it would do to the flows that are live.
    pub flows: FlowsAhead,
    /// What is valid but probably not meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
    /// Sets whose changes by hand would end, since it defines them differently.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sets_reset: Vec<String>,
}

/// One thing that differs between two policies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// `filter.forward`, `chains.NAME`, `sets.NAME`, `zones.NAME`.
    pub place: String,
    /// `added`, `removed`, `moved` or `changed`.
    pub kind: String,
    /// The rule's number before, from 1; none for elements, and for a chain's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<usize>,
    /// The rule's number now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<usize>,
    /// What a rule or a chain's policy was before it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The rule, the chain's policy or the element.
    pub text: String,
}

/// What a policy would do to live flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowsAhead {
    /// Flows in the table.
    pub live: u64,
    /// Flows that were looked at: all, unless there were too many for the time that a diff may take.
    pub examined: u64,
    /// Of these, flows whose first packet the policy would not accept: what `recheck` deletes.
    pub refused: u64,
    /// Of these, flows whose next packets the policy would drop, also with `keep`.
    pub stopped: u64,
}

/// `GET /v1/policy`: the running policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// Where it came from, as it was given.
    pub name: String,
    /// Its text.
    pub text: String,
    /// SHA-256 of it, hexadecimal.
    pub digest: String,
    /// When it was applied, seconds since 1970.
    pub applied: u64,
    /// The generation that it runs as.
    pub generation: u32,
    /// Seconds that are left to confirm it, if it is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<u64>,
}

/// An applied policy, running or past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// 0 is the running one, 1 the one before it.
    pub index: usize,
    /// False for one that waits to be confirmed, and for one that never was and was gone back from.
    pub confirmed: bool,
    /// Where it came from, as it was given.
    pub name: String,
    /// SHA-256 of it, hexadecimal.
    pub digest: String,
    /// When it was applied, seconds since 1970.
    pub applied: u64,
    /// Who had it applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Answer of `POST /v1/reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReply {
    /// The generation that runs now.
    pub generation: u32,
    /// Keys of the system file that changed and are in force.
    pub changed: Vec<String>,
    /// Whether the policy file had changed and was applied.
    pub policy_applied: bool,
    /// What is valid but probably not meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Diagnostic>,
}
