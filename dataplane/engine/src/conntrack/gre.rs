//! GRE: once answered, a tunnel lives longer and is ASSURED. Keys play no part (version 0), call ids do (PPTP).
//!
//! Source: `nf_conntrack_proto_gre.c`, as observed on Linux 6.18.

use super::info::Status;
use super::track::{Context, Judged};

/// Judges a packet of a tunnel.
pub(super) fn judge(status: &mut Status, cx: &Context<'_>) -> Judged {
    let timeouts = cx.timeouts;
    if !status.contains(Status::SEEN_REPLY) {
        return Judged::Accept { timeout: timeouts.gre };
    }
    *status = status.with(Status::ASSURED);
    Judged::Accept { timeout: timeouts.gre_stream }
}
