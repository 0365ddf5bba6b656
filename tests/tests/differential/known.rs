//! Differences that are meant, with the reason for each; docs/netfilter.md has them too.

use crate::packet::Packet;

/// Why what the router itself answers to a packet may have other bytes than the kernel's; its number and the leg that it
/// leaves by must agree all the same.
pub fn excuses_answer(packet: &Packet) -> Option<&'static str> {
    // The kernel writes its own address into a record-route option before it finds a mistake, and copies the options
    // into its error.
    (!packet.extra.options.is_empty())
        .then_some("options of the packet that an error is about are not echoed")
}
