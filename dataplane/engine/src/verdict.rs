//! What becomes of a packet. None of this is an error: a drop reason *is* its counter and its metric label.

use crate::ids::{InterfaceId, PortId, WorkerId};
use crate::world::NeighbourKey;

/// Where a packet went. The frame's bytes are rewritten in place where it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Not judged yet.
    #[default]
    Pending,
    /// Out by this port; MACs, VLAN tag and TTL are written.
    Transmit(PortId),
    /// To the box's own sockets, by the tap of this interface; its VLAN tag is gone.
    Deliver(InterfaceId),
    /// Belongs to another worker; the frame is untouched. Counted as handed over by the I/O shell, as a full ring is.
    HandOver(WorkerId),
    /// ARP or neighbour discovery, given to [`crate::Outbox::punt`] already and counted as consumed.
    Punt,
    /// Complete but for its next hop's MAC, which is being asked for.
    Hold(NeighbourKey),
    /// Dropped, and answered through the outbox with an error, a reset or an ARP reply.
    Answered,
    /// Its bytes left through the outbox (fragmented by the router); nothing more to do with this frame.
    Copied,
    /// Its bytes went to the box's own sockets through the outbox, by the tap of this interface, in pieces.
    Delivered(InterfaceId),
    /// A fragment whose bytes the engine has taken; counted when its datagram is.
    Collected,
    /// Gone, and counted.
    Drop(DropReason),
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $label:literal, $advice:literal,)*) => {
        /// Why a packet was dropped; each is one variant, one counter, one metric label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant,)* }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &[DropReason] = &[$(DropReason::$variant,)*];

            /// The metric label.
            pub const fn label(self) -> &'static str {
                match self { $(DropReason::$variant => $label,)* }
            }

            /// What it means, in a sentence.
            pub const fn sentence(self) -> &'static str {
                match self { $(DropReason::$variant => concat!($($doc),+).trim_ascii(),)* }
            }

            /// What to do about it.
            pub const fn advice(self) -> &'static str {
                match self { $(DropReason::$variant => $advice,)* }
            }
        }
    };
}

// A macro because variant, label, explanation and list must not drift apart, and an enum cannot list itself. The doc comment is
// what users read; behind the label stands what they can do.
drop_reasons! {
    /// Shorter than an Ethernet header, or cut by the device.
    FrameTruncated = "frame_truncated",
        "Compare `mtu` of the interface with what its neighbours send; jumbo frames need it set.",
    /// Spread over several buffers, which no device is configured to do.
    FrameSegmented = "frame_segmented",
        "Set `mtu` to the longest frame that comes, and tell us: no supported device should do this.",
    /// For another station's MAC address.
    OtherHost = "other_host",
        "Usual behind a hub, or on a mirrored port; else look for hosts with an old ARP entry.",
    /// A VLAN tag that no interface has.
    UnknownVlan = "unknown_vlan",
        "Give an interface that `vlan`, or keep the VLAN off this link at the switch.",
    /// Neither IP nor ARP.
    UnknownEthertype = "unknown_ethertype",
        "Usual (spanning tree, LLDP); nothing to do unless a protocol that you need is meant.",
    /// IP version, header length or total length are wrong (RFC 1812 §5.2.2, RFC 8200 §3).
    IpHeader = "ip_header",
        "Capture some (`sluice capture --drops`): whoever sends them is broken, or scans.",
    /// The IPv4 header checksum is wrong.
    IpChecksum = "ip_checksum",
        "Look for a faulty cable, port or host on the way; software senders may lack it on virtual links.",
    /// IPv6 extension headers out of bounds, out of order or too many.
    IpExtension = "ip_extension",
        "Capture some: hardly anybody but scanners sends such.",
    /// Source routes and other options that are refused, or IPv4 options that do not parse.
    IpOptions = "ip_options",
        "Nothing to do: source routes are refused on purpose.",
    /// A source address that must not be routed (RFC 1812 §5.3.7).
    MartianSource = "martian_source",
        "Find the sender by its MAC address in a capture; it is misconfigured or lies.",
    /// A destination address that must not be routed.
    MartianDestination = "martian_destination",
        "Find the sender in a capture; its routes lead addresses here that must not leave a host.",
    /// The reverse path filter.
    ReversePath = "reverse_path",
        "If the traffic is wanted, its way back leads elsewhere: add a route, or set `rp_filter: loose`.",
    /// A fragment that is empty, cut, too long, or contradicts others of its datagram, which went with it in IPv4.
    FragmentInvalid = "fragment_invalid",
        "Capture some: an attack on reassembly, or a broken sender.",
    /// A fragment that overlaps another, and all others of its datagram (RFC 5722).
    FragmentOverlap = "fragment_overlap",
        "Capture some: an attack on reassembly, or a broken sender.",
    /// A fragment that was there already.
    FragmentDuplicate = "fragment_duplicate",
        "Usual now and then; in numbers, a loop or a mirrored link upstream.",
    /// A fragment whose datagram was not complete in time.
    FragmentTimeout = "fragment_timeout",
        "Fragments are lost before they come here: look at the links upstream, and at `timeouts.frag`.",
    /// A fragment for which there was no memory, or that made room for newer ones.
    FragmentMemory = "fragment_memory",
        "Raise `conntrack.frag_high_thresh`, or find out who sends so many fragments.",
    /// A rule or a default policy in `raw`.
    PolicyRaw = "policy_raw",
        "As the policy says; `sluice trace` and `sluice explain` name the rule.",
    /// A rule or a default policy in `mangle`.
    PolicyMangle = "policy_mangle",
        "As the policy says; `sluice trace` and `sluice explain` name the rule.",
    /// A rule or a default policy in `nat`.
    PolicyNat = "policy_nat",
        "As the policy says; `sluice trace` and `sluice explain` name the rule.",
    /// A rule or a default policy in `filter.input`.
    PolicyInput = "policy_input",
        "As the policy says; `sluice trace` and `sluice explain` name the rule.",
    /// A rule or a default policy in `filter.forward`.
    PolicyForward = "policy_forward",
        "As the policy says; `sluice trace` and `sluice explain` name the rule.",
    /// A rule or a default policy in `filter.output`.
    PolicyOutput = "policy_output",
        "As the policy says; `sluice trace` and `sluice explain` name the rule.",
    /// The connection tracking table is full and nothing in it could be evicted.
    ConntrackFull = "conntrack_full",
        "See who fills it (`sluice conntrack top`); raise `conntrack.max`, set `conntrack.quota`, or mark bulk traffic NOTRACK.",
    /// The source has as many flows in the table as it may have.
    ConntrackQuota = "conntrack_quota",
        "See `sluice conntrack top`; raise `conntrack.quota` if the source is in its right.",
    /// The flow could not be entered: it clashed with one that came meanwhile.
    ConntrackClash = "conntrack_clash",
        "Rare, and the sender tries again; if it goes on, two senders use the same addresses and ports.",
    /// The tracker refuses the packet itself, as netfilter does where a retransmission is owed.
    ConntrackDrop = "conntrack_drop",
        "Usual now and then: TCP sends it again.",
    /// No port was free for a flow that is translated: all would be taken for another flow's.
    NatExhausted = "nat_exhausted",
        "Give the rule more addresses or ports; `sluice show nat` says which rule it was, and how many are in use.",
    /// An address was to be borrowed (`masquerade`, `redirect`) from an interface that has none of the family.
    NatNoAddress = "nat_no_address",
        "Give that interface an address of the family, or make the rule ask for `family`.",
    /// A flow that borrowed an interface's address would leave by another one: it is ended.
    NatInterface = "nat_interface",
        "Usual after a route changed: programs connect anew. Use `snat` if addresses are the same on both ways.",
    /// An ICMP redirect about a translated flow, whose addresses mean nothing to the one it is for.
    NatRedirect = "nat_redirect",
        "Nothing to do.",
    /// From IPv6 to an IPv4 host that NAT64 does not speak to, or what the other family has no counterpart of.
    Nat64Refused = "nat64_refused",
        "Private networks need a prefix of their own (docs/nat.md); of ICMP, only ping and errors are translated.",
    /// From an IPv4 host to a port of NAT64's that no flow has.
    Nat64Unmapped = "nat64_unmapped",
        "Usual: scans, and answers that come late. Publish servers by `dnat`, with other addresses or ports.",
    /// A command that a helper reads is cut by the end of its segment: it comes again, whole.
    HelperPart = "helper_part",
        "Nothing to do: TCP sends it again.",
    /// What a helper read of could not be expected: another one expects it, or there are too many.
    HelperExpectation = "helper_expectation",
        "Raise `conntrack.expect_max`, or find the client that opens so many.",
    /// What a helper read of could not be written anew for the addresses that the flow is translated to.
    HelperRewrite = "helper_rewrite",
        "Capture some, and tell us; the connection's peer gets no data connection.",
    /// No route to the destination, and no error could or should be sent.
    NoRoute = "no_route",
        "Add the route, or ask why such packets come here.",
    /// A blackhole route.
    Blackhole = "blackhole",
        "As the routing table says.",
    /// An unreachable or prohibit route, and no error could or should be sent.
    RouteUnreachable = "route_unreachable",
        "As the routing table says.",
    /// TTL or hop limit ran out, and no error could or should be sent.
    TtlExceeded = "ttl_exceeded",
        "A few are traceroute; many are a routing loop: follow one with `sluice trace`.",
    /// Larger than the egress MTU, and no error could or should be sent.
    TooBig = "too_big",
        "Senders ignore path MTU discovery, or its errors are filtered: let ICMP errors pass, or lower `mtu` at the edge.",
    /// Rejected by a rule, and no error could or should be sent.
    Rejected = "rejected",
        "As the policy says; see `icmp.ratelimit` if errors should have been sent.",
    /// The next hop did not answer, and no error could or should be sent.
    NeighbourFailed = "neighbour_failed",
        "See `sluice show neighbours`: the next hop is down, or in another network than its route says.",
    /// Too many packets wait for the next hop's address.
    NeighbourQueue = "neighbour_queue",
        "Many at once are a scan of unused addresses; one at a time, a next hop that answers slowly.",
    /// The queue to the control thread is full.
    PuntQueue = "punt_queue",
        "Control is busy or a host floods with ARP or neighbour discovery: find it by `sluice capture arp or icmp6`.",
    /// ARP or neighbour discovery that is malformed, forged or not for this interface.
    NeighbourMessage = "neighbour_message",
        "Capture some (`sluice capture --drops icmp6 or arp`): a broken host, or one that lies.",
    /// The ring to the owning worker is full.
    HandoverRing = "handover_ring",
        "The owning worker is overloaded: use RSS (docs/nics.md) or more workers; look at skew in `sluice show workers`.",
    /// Multicast or broadcast that no one on this box is meant to get.
    NotForUs = "not_for_us",
        "Usual on every link.",
    /// The device's transmit queue stayed full.
    TxQueue = "tx_queue",
        "The link is full or down: see `sluice show interfaces`; shape upstream, or use a faster link.",
    /// The tap's queue to the box's own sockets stayed full.
    TapQueue = "tap_queue",
        "The box's own programs read too slowly, or are flooded: limit it by `filter.input`.",
    /// No packet buffer was free for a copy.
    NoBuffer = "no_buffer",
        "Raise `memory.mbufs`.",
}

impl DropReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/drops.md has every reason behind a mark. `WRITE_DOCS=1` writes it.
    #[test]
    fn docs_have_every_reason() {
        const MARK: &str = "<!-- made from dataplane/engine/src/verdict.rs -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/drops.md");
        let before = std::fs::read_to_string(path).unwrap();
        let head = before.split(MARK).next().unwrap();
        let row = |reason: &DropReason| {
            format!("| `{}` | {} | {} |\n", reason.label(), reason.sentence(), reason.advice())
        };
        let rows: String = DropReason::ALL.iter().map(row).collect();
        let text = format!("{head}{MARK}\n| reason | what it means | what to do |\n|---|---|---|\n{rows}");
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(path, &text).unwrap();
        } else {
            assert!(before == text, "docs/drops.md is behind: WRITE_DOCS=1 writes it");
        }
    }

    #[test]
    fn every_reason_is_explained() {
        for reason in DropReason::ALL {
            let (sentence, advice) = (reason.sentence(), reason.advice());
            assert!(sentence.ends_with('.') && sentence.len() > 15, "{}: {sentence}", reason.label());
            assert!(advice.ends_with('.') && advice.len() > 8, "{}: {advice}", reason.label());
        }
    }
}
