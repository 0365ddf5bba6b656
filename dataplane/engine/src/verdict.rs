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
    ($($(#[$doc:meta])* $variant:ident = $label:literal,)*) => {
        /// Why a packet was dropped; each is one variant, one counter, one metric label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $variant,)* }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &[DropReason] = &[$(DropReason::$variant,)*];

            /// The metric label.
            pub const fn label(self) -> &'static str {
                match self { $(DropReason::$variant => $label,)* }
            }
        }
    };
}

// A macro because variant, label and list must not drift apart, and an enum cannot list itself.
drop_reasons! {
    /// Shorter than an Ethernet header, or cut by the device.
    FrameTruncated = "frame_truncated",
    /// Spread over several buffers, which no device is configured to do.
    FrameSegmented = "frame_segmented",
    /// For another station's MAC address.
    OtherHost = "other_host",
    /// A VLAN tag that no interface has.
    UnknownVlan = "unknown_vlan",
    /// Neither IP nor ARP.
    UnknownEthertype = "unknown_ethertype",
    /// IP version, header length or total length are wrong (RFC 1812 §5.2.2, RFC 8200 §3).
    IpHeader = "ip_header",
    /// The IPv4 header checksum is wrong.
    IpChecksum = "ip_checksum",
    /// IPv6 extension headers out of bounds, out of order or too many.
    IpExtension = "ip_extension",
    /// Source routes and other options that are refused, or IPv4 options that do not parse.
    IpOptions = "ip_options",
    /// A source address that must not be routed (RFC 1812 §5.3.7).
    MartianSource = "martian_source",
    /// A destination address that must not be routed.
    MartianDestination = "martian_destination",
    /// The reverse path filter.
    ReversePath = "reverse_path",
    /// A fragment that is empty, too long, or contradicts others of its datagram, which went with it in IPv4.
    FragmentInvalid = "fragment_invalid",
    /// A fragment that overlaps another, and all others of its datagram (RFC 5722).
    FragmentOverlap = "fragment_overlap",
    /// A fragment that was there already.
    FragmentDuplicate = "fragment_duplicate",
    /// A fragment whose datagram was not complete in time.
    FragmentTimeout = "fragment_timeout",
    /// A fragment for which there was no memory, or that made room for newer ones.
    FragmentMemory = "fragment_memory",
    /// A rule or a default policy in `raw`.
    PolicyRaw = "policy_raw",
    /// A rule or a default policy in `mangle`.
    PolicyMangle = "policy_mangle",
    /// A rule or a default policy in `nat`.
    PolicyNat = "policy_nat",
    /// A rule or a default policy in `filter.input`.
    PolicyInput = "policy_input",
    /// A rule or a default policy in `filter.forward`.
    PolicyForward = "policy_forward",
    /// A rule or a default policy in `filter.output`.
    PolicyOutput = "policy_output",
    /// The connection tracking table is full and nothing in it could be evicted.
    ConntrackFull = "conntrack_full",
    /// The source has as many flows in the table as it may have.
    ConntrackQuota = "conntrack_quota",
    /// The flow could not be entered: it clashed with one that came meanwhile.
    ConntrackClash = "conntrack_clash",
    /// The tracker refuses the packet itself, as netfilter does where a retransmission is owed.
    ConntrackDrop = "conntrack_drop",
    /// No port was free for a flow that is translated: all would be taken for another flow's.
    NatExhausted = "nat_exhausted",
    /// An address was to be borrowed (`masquerade`, `redirect`) from an interface that has none of the family.
    NatNoAddress = "nat_no_address",
    /// A flow that borrowed an interface's address would leave by another one: it is ended.
    NatInterface = "nat_interface",
    /// An ICMP redirect about a translated flow, whose addresses mean nothing to the one it is for.
    NatRedirect = "nat_redirect",
    /// A command that a helper reads is cut by the end of its segment: it comes again, whole.
    HelperPart = "helper_part",
    /// What a helper read of could not be expected: another one expects it, or there are too many.
    HelperExpectation = "helper_expectation",
    /// What a helper read of could not be written anew for the addresses that the flow is translated to.
    HelperRewrite = "helper_rewrite",
    /// No route to the destination, and no error could or should be sent.
    NoRoute = "no_route",
    /// A blackhole route.
    Blackhole = "blackhole",
    /// An unreachable or prohibit route, and no error could or should be sent.
    RouteUnreachable = "route_unreachable",
    /// TTL or hop limit ran out, and no error could or should be sent.
    TtlExceeded = "ttl_exceeded",
    /// Larger than the egress MTU, and no error could or should be sent.
    TooBig = "too_big",
    /// Rejected by a rule, and no error could or should be sent.
    Rejected = "rejected",
    /// The next hop did not answer, and no error could or should be sent.
    NeighbourFailed = "neighbour_failed",
    /// Too many packets wait for the next hop's address.
    NeighbourQueue = "neighbour_queue",
    /// The queue to the control thread is full.
    PuntQueue = "punt_queue",
    /// ARP or neighbour discovery that is malformed, forged or not for this interface.
    NeighbourMessage = "neighbour_message",
    /// The ring to the owning worker is full.
    HandoverRing = "handover_ring",
    /// Multicast or broadcast that no one on this box is meant to get.
    NotForUs = "not_for_us",
    /// The device's transmit queue stayed full.
    TxQueue = "tx_queue",
    /// The tap's queue to the box's own sockets stayed full.
    TapQueue = "tap_queue",
    /// No packet buffer was free for a copy.
    NoBuffer = "no_buffer",
}

impl DropReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}
