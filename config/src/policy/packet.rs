//! The policy's own tests: a packet and what must become of it.

use std::net::IpAddr;

use sluice_wire::{Family, Protocol};

use super::action::Helper;
use super::matches::{CtDir, CtState, IcmpMatch};
use crate::source::{Span, Spanned};

/// One entry of `tests:`.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyTest {
    /// Its name; `test N` (from 1) if it has none.
    pub name: String,
    /// The packet.
    pub packet: TestPacket,
    /// What must become of it.
    pub expect: TestVerdict,
    /// Name of the rule that must decide it, if given; that rule exists.
    pub rule: Option<Spanned<String>>,
    /// Where it stands.
    pub span: Span,
}

/// The packet of a test: the first of its flow unless `ct` says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TestPacket {
    /// Interface that it comes in by; `None`: the router itself sends it.
    pub in_interface: Option<Spanned<String>>,
    /// Interface that it leaves by; `None`: by the routing table.
    pub out_interface: Option<Spanned<String>>,
    /// Source address; `None`: any that its family has (the unspecified one).
    pub src: Option<IpAddr>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// Family: that of the addresses; given only where there are none.
    pub family: Option<Family>,
    /// Protocol; `None`: TCP if it has `tcp_flags` or ports, ICMP if `icmp`, and so on.
    pub proto: Option<Protocol>,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination port.
    pub dport: Option<u16>,
    /// Flags that are on, as in the TCP header; `None`: SYN.
    pub tcp_flags: Option<u8>,
    /// ICMPv4 type and code.
    pub icmp: Option<IcmpMatch>,
    /// ICMPv6 type and code.
    pub icmpv6: Option<IcmpMatch>,
    /// State: `new` unless given.
    pub ct: Option<CtState>,
    /// Direction within its flow: `original` unless given.
    pub ct_dir: Option<CtDir>,
    /// The helper that announced the flow, which is RELATED then unless `ct` says otherwise.
    pub ct_helper: Option<Helper>,
    /// Mark of the flow.
    pub ct_mark: Option<u32>,
    /// Mark of the packet.
    pub mark: Option<u32>,
    /// Length of the IP packet in bytes.
    pub length: Option<u16>,
    /// TTL or hop limit.
    pub ttl: Option<u8>,
    /// Differentiated services code point.
    pub dscp: Option<u8>,
    /// A fragment that is not the first.
    pub fragment: Option<bool>,
}

/// What a test expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TestVerdict {
    /// It passes.
    Accept,
    /// It is dropped, silently.
    Drop,
    /// It is refused and its sender told.
    Reject,
}
