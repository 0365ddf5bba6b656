//! The HTTP/JSON interface of `sluiced`: what travels over its unix socket, as plain serde types.
//!
//! Both sides use these types, so that the daemon and `sluice` cannot drift apart. Requests are HTTP/1.1 over the
//! socket that `control.api` names (mode 0660); bodies are JSON, at most [`BODY_LIMIT`] bytes. Every answer other
//! than 2xx carries an [`ApiError`]. Durations are seconds, addresses and prefixes are text as the user writes them.
//!
//! | method, path | request | answer |
//! |---|---|---|
//! | `GET /v1/status` | | [`Status`] |
//! | `POST /v1/policy/apply` | [`ApplyRequest`] | [`ApplyReply`]; 422 with `diagnostics` if the policy is refused |
//! | `POST /v1/policy/diff` | [`ApplyRequest`] | [`PolicyDiff`]; 422 as above |
//! | `POST /v1/policy/confirm` | | [`ConfirmReply`]; 409 if no policy waits for it |
//! | `POST /v1/policy/rollback` | [`RollbackRequest`] | [`ApplyReply`]; 409 if there is no such policy |
//! | `GET /v1/policy` | | [`PolicyView`] |
//! | `GET /v1/history` | | `[`[`HistoryEntry`]`]`, newest first |
//! | `POST /v1/reload` | | [`ReloadReply`]; 422 if either file is refused or a restart is needed |
//! | `GET /v1/rules` | | `[`[`Rule`]`]` in the order of evaluation |
//! | `GET /v1/interfaces` | | `[`[`Interface`]`]` |
//! | `GET /v1/routes` | | `[`[`Route`]`]` |
//! | `GET /v1/neighbours` | | `[`[`Neighbour`]`]` |
//! | `GET /v1/workers` | | `[`[`Worker`]`]` |
//! | `GET /v1/nat` | | [`Nat`] |
//! | `GET /v1/drops` | | `[`[`Drop`]`]`, all reasons |
//! | `GET /v1/sets` | | `[`[`Set`]`]` |
//! | `GET /v1/sets/NAME` | | [`Set`], all of it; 404 if there is none |
//! | `POST /v1/sets` | [`SetChange`] | [`SetReply`]; 422 if there is no such set or element |
//! | `POST /v1/explain` | [`ExplainRequest`] | [`Explanation`]; 422 if there is no such packet |
//! | `POST /v1/capture` | [`CaptureRequest`] | pcapng without end; 409 if too many are under way, 422 if the filter is refused |
//! | `POST /v1/trace` | [`TraceRequest`] | NDJSON without end: a [`TraceLine`] a line; 409 if another one runs, 422 if the filter is refused |
//! | `GET /v1/config` | | [`ConfigView`] |
//! | `POST /v1/conntrack/list` | [`FlowFilter`] | NDJSON: a [`Flow`] a line, then one [`ListEnd`] |
//! | `GET /v1/conntrack/count` | | [`FlowCount`] |
//! | `POST /v1/conntrack/delete` | [`FlowFilter`] | NDJSON: each deleted [`Flow`] a line, then one [`ListEnd`] |
//! | `POST /v1/conntrack/update` | [`UpdateRequest`] | NDJSON: each changed [`Flow`] a line, then one [`ListEnd`] |
//! | `POST /v1/conntrack/watch` | [`WatchRequest`] | NDJSON without end: a [`WatchLine`] a line |
//! | `POST /v1/conntrack/expect/list` | [`ExpectationFilter`] | NDJSON: an [`Expectation`] a line, then one [`ExpectationsEnd`] |
//! | `POST /v1/conntrack/expect/delete` | [`ExpectationFilter`] | NDJSON: each deleted [`Expectation`] a line, then one [`ExpectationsEnd`] |
//! | `POST /v1/conntrack/expect/watch` | [`ExpectationFilter`] | NDJSON without end: an [`ExpectationWatchLine`] a line |
//! | `POST /v1/conntrack/flush` | | [`Deleted`] |
//! | `POST /v1/conntrack/top` | [`TopRequest`] | [`Top`] |
//! | `GET /v1/conntrack/stats` | | `[`[`ConntrackStats`]`]`, one for each worker |
//!
//! A listing that ends without [`ListEnd`] was cut short: the daemon stopped, or the reader was too slow.

mod capture;
mod expect;
mod explain;
mod flows;
mod nat;
mod policy;
mod show;
mod top;
mod trace;
mod watch;

pub use capture::{BpfInstruction, CaptureRequest, PacketFilter};
pub use expect::{Expectation, ExpectationEvent, ExpectationFilter, ExpectationWatchLine, ExpectationsEnd};
pub use explain::{ExplainRequest, ExplainedChain, ExplainedMatch, ExplainedRule, Explanation, Step};
pub use flows::{
    ConntrackStats, Deleted, Flow, FlowChange, FlowCount, FlowFilter, FlowTuple, ListEnd, ListLine,
    UpdateRequest,
};
pub use nat::{Nat, NatDestination, NatExhausted, NatSource, PortOwner};
pub use policy::{
    ApiError, ApplyReply, ApplyRequest, ConfirmReply, Diagnostic, FlowHandling, FlowsAhead, HistoryEntry,
    PolicyChange, PolicyDiff, PolicyView, ReloadReply, RollbackRequest, Status,
};
pub use show::{
    ConfigView, Drop, Interface, Neighbour, Port, Route, RouteHop, Rule, Set, SetAction, SetChange, SetReply,
    Worker,
};
pub use top::{Top, TopKey, TopRequest, TopRow};
pub use trace::{Trace, TraceLine, TraceMissing, TraceRequest, TraceRule, TraceStep};
pub use watch::{EventKind, FlowEvent, Lost, WatchLine, WatchRequest};

/// Bytes of the largest request body: a policy document of 64 MiB, escaped as JSON.
pub const BODY_LIMIT: usize = 96 << 20;

/// Header of a change that a remote client asks for: when, in seconds since 1970. Late ones are refused.
pub const TIME_HEADER: &str = "sluice-time";

/// Header of a change that a remote client asks for: 32 random hexadecimal digits. A second one of them is refused.
pub const ID_HEADER: &str = "sluice-id";

/// Where the daemon listens if `control.api` says nothing else.
pub const DEFAULT_SOCKET: &str = "/run/sluice/sluice.sock";
