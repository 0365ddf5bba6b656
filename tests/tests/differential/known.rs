//! Differences that are meant, with the reason for each; docs/netfilter.md has them too.

use crate::packet::{Message, Packet};
use crate::rules;

/// Headers of IPv6 that only one of nft and ip6tables looks behind.
const AUTHENTICATION: u8 = 51;
/// ICMPv6's.
const REDIRECT: u8 = 137;
/// IPv4 options that a router writes into.
const WRITTEN: [u8; 2] = [7, STAMP];
/// The one that they write the time into.
const STAMP: u8 = 68;

/// Why a sequence with this packet may go another way here than in the kernel, from this packet on.
pub fn excuse(packet: &Packet) -> Option<&'static str> {
    let Packet { extra, spoil, message, .. } = packet;
    let patched = |places: std::ops::Range<u16>| spoil.patches.iter().any(|(at, _)| places.contains(at));
    let ruled = rules::concern(message);
    let short = spoil.cut.is_some() || patched(2..6);
    if ruled && extra.headers.iter().any(|(kind, _)| *kind == AUTHENTICATION) {
        Some("rules see what follows an authentication header, as those of ip6tables do; nft's do not")
    } else if ruled && spoil.cut.is_some_and(|cut| cut < 4) {
        Some("rules see both ports or none; nft's see the source port alone where there is no more")
    } else if ruled && extra.options.first().is_some_and(|kind| WRITTEN.contains(kind)) {
        Some("the kernel sends no reset for a segment with options that routers write into")
    } else if !packet.v6 && (patched(0..1) || extra.options.first() == Some(&STAMP) && patched(20..24)) {
        Some("bytes that come to be options hold times of the day")
    } else if packet.ttl < 2
        && matches!(message, Message::Icmp { .. } | Message::Error { .. })
        && (short || is_tiny(message))
    {
        Some("ICMP that is cut short is answered with no error, for it may be one")
    } else if packet.ttl < 2 && packet.v6 && matches!(message, Message::Icmp { kind: REDIRECT, .. }) {
        Some("a redirect is answered with no error: RFC 4443 section 2.4 (e.2)")
    } else {
        None
    }
}

/// Why what the router itself answers to a packet may differ from what the kernel answers.
pub fn excuse_answer(packet: &Packet) -> Option<&'static str> {
    (!packet.extra.options.is_empty())
        .then_some("options of the packet that an error is about are not echoed")
}

fn is_tiny(message: &Message) -> bool {
    matches!(message, Message::Icmp { length: 0 | 1, .. })
}
