//! ICMP and ICMPv6: echo and its like. A request makes a flow, its answers belong to it; one packet each way needs
//! no state, and answers that come twice still pass, so the flow just runs out.
//!
//! Errors are in [`super::icmp_error`]. Source: `nf_conntrack_proto_icmp.c`, `nf_conntrack_proto_icmpv6.c`.

use sluice_wire::{Family, icmp};

use super::tuple::Sense;

/// The request that a type belongs to; `None` for types that are no part of a flow.
#[inline]
pub(super) fn request_type(family: Family, kind: u8) -> Option<(u8, Sense)> {
    use icmp::{v4, v6};
    match (family, kind) {
        (
            Family::V4,
            v4::ECHO_REQUEST | v4::TIMESTAMP_REQUEST | v4::INFORMATION_REQUEST | v4::ADDRESS_REQUEST,
        ) => Some((kind, Sense::Request)),
        (Family::V4, v4::ECHO_REPLY) => Some((v4::ECHO_REQUEST, Sense::Answer)),
        (Family::V4, v4::TIMESTAMP_REPLY | v4::INFORMATION_REPLY | v4::ADDRESS_REPLY) => {
            Some((kind - 1, Sense::Answer))
        }
        (Family::V6, v6::ECHO_REQUEST | v6::NODE_QUERY) => Some((kind, Sense::Request)),
        (Family::V6, v6::ECHO_REPLY | v6::NODE_REPLY) => Some((kind - 1, Sense::Answer)),
        _ => None,
    }
}

/// The type that answers a request.
pub(super) fn answer_type(family: Family, request: u8) -> u8 {
    match (family, request) {
        (Family::V4, icmp::v4::ECHO_REQUEST) => icmp::v4::ECHO_REPLY,
        _ => request.wrapping_add(1),
    }
}
