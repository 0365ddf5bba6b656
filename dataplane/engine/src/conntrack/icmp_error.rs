//! ICMP errors: RELATED to the flow whose packet they quote. They make no entry, need no room in a full table,
//! neither refresh the flow nor count as its answer.
//!
//! The quote is looked up the other way round, as an answer to the packet would be; and the error must go to the
//! one who sent that packet, or anybody could forge errors to anybody about flows that he only guesses.
//!
//! Source: RFC 792, RFC 4443 section 2.4; `nf_conntrack_inet_error`, as observed on Linux 6.18.

use sluice_wire::icmp::{is_error, v6};
use sluice_wire::{Transport, quoted};

use super::Conntrack;
use super::info::{Found, Tracked};
use super::track::Context;

/// Judges what ICMP says about the network, neighbours or other flows; None: it is an echo or its like, of a flow of
/// its own. Unlike with other protocols the checksum is judged first of all.
pub(super) fn judge(conntrack: &Conntrack, cx: &Context<'_>) -> Option<Tracked> {
    let bad = cx.has_bad_checksum();
    if !bad && is_discovery(&cx.packet.transport) {
        return Some(Tracked::Untracked);
    }
    let error = is_error(cx.packet);
    if !bad && !error {
        return None;
    }
    let owner = if bad { None } else { owner(conntrack, cx) };
    let counters = &conntrack.shared.counters.conntrack;
    Some(match owner {
        Some(Found { flow, direction }) => Tracked::Related { flow, direction },
        None => {
            counters.error.add(1);
            counters.invalid.add(1);
            Tracked::Invalid
        }
    })
}

/// Neighbour, multicast listener and multicast router discovery, which is never tracked: it has no flows, and must not
/// be held up by a full table. Router solicitation (133) to neighbour advertisement (136) are in one row.
fn is_discovery(transport: &Transport) -> bool {
    match transport {
        Transport::Icmpv6 { kind, .. } => {
            matches!(
                *kind,
                v6::LISTENER_QUERY
                    ..=v6::NEIGHBOUR_ADVERTISEMENT
                        | v6::LISTENER_REPORT_V2
                        | v6::MULTICAST_ROUTER_ADVERTISEMENT
                        | v6::MULTICAST_ROUTER_SOLICITATION
            )
        }
        _ => false,
    }
}

/// The flow of the quoted packet, and the direction that the error takes in it.
fn owner(conntrack: &Conntrack, cx: &Context<'_>) -> Option<Found> {
    let quote = quoted(cx.packet, cx.frame)?;
    let key = conntrack.key_between(&quote.addrs, quote.protocol, &quote.transport)?;
    // Looked up as an answer to the quoted packet, whose way the error takes: that way's zone counts.
    let found = conntrack.find(cx.now, &key.in_zone(cx.template.zone).reversed())?;
    // The quote is as it was seen on that side of a translation, and so is the error.
    let told = cx.packet.addrs.dst() == quote.addrs.src();
    told.then_some(found)
}
