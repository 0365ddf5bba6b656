//! What a rule can do with a packet: the action half of a rule.

use sluice_wire::Protocol;

use crate::addr::{IpPrefix, IpRange};
use crate::rate::Rate;
use crate::system::TimeoutOverrides;

use super::matches::PortRange;
use super::nat64::Nat64;

/// What becomes of a packet that no rule of a hook's chain decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChainPolicy {
    /// It goes on.
    #[default]
    Accept,
    /// It is dropped.
    Drop,
}

/// The action of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The packet passes this hook. Terminal.
    Accept,
    /// The packet is dropped. Terminal.
    Drop,
    /// The packet is dropped and its sender told. Terminal.
    Reject(Reject),
    /// Goes through that user chain, and on with the next rule if it decided nothing.
    Jump(String),
    /// Goes through that user chain, and on behind the chain that this one was called from.
    Goto(String),
    /// Ends this chain; at a hook's chain, its policy decides.
    Return,
    /// The packet is UNTRACKED. Not terminal.
    Notrack(Notrack),
    /// The flow gets this helper. Not terminal.
    Helper(AssignedHelper),
    /// Source translation. Terminal in its hook.
    Snat(NatTarget),
    /// Source translation to the address of the outgoing interface. Terminal in its hook.
    Masquerade(Masquerade),
    /// To an IPv4 host that the destination stands for, from an address of a pool. Terminal in its hook.
    Nat64(Nat64),
    /// Destination translation. Terminal in its hook.
    Dnat(NatTarget),
    /// Destination translation to the router itself, to these ports if given. Terminal in its hook.
    Redirect(Option<PortRange>),
    /// The packet is tracked in this zone. Not terminal.
    Zone(CtZone),
    /// The flow that the packet begins has these timeouts. Not terminal.
    CtTimeout(CtTimeout),
    /// Sets the packet's mark. Not terminal.
    Mark(MarkSet),
    /// Sets the flow's mark. Not terminal.
    CtMark(MarkSet),
    /// Takes these bits of the packet's mark over into the flow's (iptables' `CONNMARK --save-mark`). Not terminal.
    SaveMark(u32),
    /// Takes these bits of the flow's mark over into the packet's (`--restore-mark`). Not terminal.
    RestoreMark(u32),
    /// Writes a line to the log. Not terminal.
    Log(Log),
    /// Counts. Not terminal.
    Count,
}

impl Action {
    /// The word that names it in the policy file.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
            Self::Reject(_) => "reject",
            Self::Jump(_) => "jump",
            Self::Goto(_) => "goto",
            Self::Return => "return",
            Self::Notrack(_) => "notrack",
            Self::Helper(_) => "helper",
            Self::Snat(_) => "snat",
            Self::Masquerade(_) => "masquerade",
            Self::Nat64(_) => "nat64",
            Self::Dnat(_) => "dnat",
            Self::Redirect(_) => "redirect",
            Self::Zone(_) => "zone",
            Self::CtTimeout(_) => "ct_timeout",
            Self::Mark(_) | Self::RestoreMark(_) => "mark",
            Self::CtMark(_) | Self::SaveMark(_) => "ct_mark",
            Self::Log(_) => "log",
            Self::Count => "count",
        }
    }

    /// True if no later rule of this chain sees a packet that this action was done for.
    pub const fn ends_chain(&self) -> bool {
        !matches!(
            self,
            Self::Jump(_)
                | Self::Notrack(_)
                | Self::Helper(_)
                | Self::Zone(_)
                | Self::CtTimeout(_)
                | Self::Mark(_)
                | Self::CtMark(_)
                | Self::SaveMark(_)
                | Self::RestoreMark(_)
                | Self::Log(_)
                | Self::Count
        )
    }
}

/// What goes with not being tracked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Notrack {
    /// ICMP errors about such packets are RELATED, if the policy lets the packets pass.
    pub related: bool,
}

/// How a packet's sender is told of its refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// A TCP reset; the rule matches TCP alone (the decoder sets `proto`).
    TcpReset,
    /// An ICMP error, in the packet's own family.
    Reason(RejectReason),
    /// An ICMPv4 error; the rule matches IPv4 alone (the decoder sets `family`).
    Icmp(IcmpCode),
    /// An ICMPv6 error; the rule matches IPv6 alone (the decoder sets `family`).
    Icmpv6(Icmpv6Code),
}

impl Reject {
    /// Code of the ICMPv4 destination unreachable message for an IPv4 packet; `None` where there is none.
    pub const fn icmp_code(self) -> Option<u8> {
        match self {
            Self::Reason(reason) => Some(reason.icmp().code()),
            Self::Icmp(code) => Some(code.code()),
            Self::TcpReset | Self::Icmpv6(_) => None,
        }
    }

    /// Code of the ICMPv6 destination unreachable message for an IPv6 packet; `None` where there is none.
    pub const fn icmpv6_code(self) -> Option<u8> {
        match self {
            Self::Reason(reason) => Some(reason.icmpv6().code()),
            Self::Icmpv6(code) => Some(code.code()),
            Self::TcpReset | Self::Icmp(_) => None,
        }
    }
}

/// Reasons that both families have; nft's `icmpx` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The port is closed: what plain `reject` says.
    PortUnreachable,
    /// The host cannot be reached.
    HostUnreachable,
    /// There is no route.
    NoRoute,
    /// Policy forbids it.
    AdminProhibited,
}

impl RejectReason {
    /// The ICMPv4 code. Source: nft(8), "icmpx type".
    pub const fn icmp(self) -> IcmpCode {
        match self {
            Self::PortUnreachable => IcmpCode::PortUnreachable,
            Self::HostUnreachable => IcmpCode::HostUnreachable,
            Self::NoRoute => IcmpCode::NetUnreachable,
            Self::AdminProhibited => IcmpCode::AdminProhibited,
        }
    }

    /// The ICMPv6 code. Source: nft(8), "icmpx type".
    pub const fn icmpv6(self) -> Icmpv6Code {
        match self {
            Self::PortUnreachable => Icmpv6Code::PortUnreachable,
            Self::HostUnreachable => Icmpv6Code::AddrUnreachable,
            Self::NoRoute => Icmpv6Code::NoRoute,
            Self::AdminProhibited => Icmpv6Code::AdminProhibited,
        }
    }
}

/// Codes of ICMPv4 destination unreachable that `reject` can send, by nft's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IcmpCode {
    /// 0
    NetUnreachable,
    /// 1
    HostUnreachable,
    /// 2
    ProtUnreachable,
    /// 3
    PortUnreachable,
    /// 9
    NetProhibited,
    /// 10
    HostProhibited,
    /// 13
    AdminProhibited,
}

impl IcmpCode {
    /// The code on the wire. Source: RFC 792, RFC 1812 section 5.2.7.1.
    pub const fn code(self) -> u8 {
        match self {
            Self::NetUnreachable => 0,
            Self::HostUnreachable => 1,
            Self::ProtUnreachable => 2,
            Self::PortUnreachable => 3,
            Self::NetProhibited => 9,
            Self::HostProhibited => 10,
            Self::AdminProhibited => 13,
        }
    }
}

/// Codes of ICMPv6 destination unreachable that `reject` can send, by nft's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Icmpv6Code {
    /// 0
    NoRoute,
    /// 1
    AdminProhibited,
    /// 3
    AddrUnreachable,
    /// 4
    PortUnreachable,
    /// 5
    PolicyFail,
    /// 6
    RejectRoute,
}

impl Icmpv6Code {
    /// The code on the wire. Source: RFC 4443 section 3.1.
    pub const fn code(self) -> u8 {
        match self {
            Self::NoRoute => 0,
            Self::AdminProhibited => 1,
            Self::AddrUnreachable => 3,
            Self::PortUnreachable => 4,
            Self::PolicyFail => 5,
            Self::RejectRoute => 6,
        }
    }
}

/// A connection tracking helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Helper {
    /// Amanda backup, UDP.
    Amanda,
    /// File transfer, TCP.
    Ftp,
    /// Chat with DCC, TCP.
    Irc,
    /// PPTP and its GRE, TCP.
    Pptp,
    /// Telephony, TCP and UDP.
    Sip,
    /// Trivial file transfer, UDP.
    Tftp,
}

impl Helper {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Amanda, Self::Ftp, Self::Irc, Self::Pptp, Self::Sip, Self::Tftp];

    /// The protocols of the flows that it reads.
    pub const fn protocols(self) -> &'static [Protocol] {
        match self {
            Self::Amanda | Self::Tftp => &[Protocol::UDP],
            Self::Ftp | Self::Irc | Self::Pptp => &[Protocol::TCP],
            Self::Sip => &[Protocol::TCP, Protocol::UDP],
        }
    }

    /// The kernel's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amanda => "amanda",
            Self::Ftp => "ftp",
            Self::Irc => "irc",
            Self::Pptp => "pptp",
            Self::Sip => "sip",
            Self::Tftp => "tftp",
        }
    }
}

/// `helper`: a helper, and how much it believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AssignedHelper {
    /// Which.
    pub helper: Helper,
    /// `loose`: whether an address may be announced that is not the announcer's own. FTP alone has it.
    pub loose: bool,
}

/// A zone of connection tracking: the same tuple in two zones is two flows. Source: nft(8), "ct zone".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtZone {
    /// Of both directions.
    Both(u16),
    /// Of the original direction; answers are in zone 0.
    Original(u16),
    /// Of the reply direction; what they answer is in zone 0.
    Reply(u16),
}

/// Timeouts in place of the system file's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CtTimeout {
    /// Those of this name under `timeouts:`. Flows that have them follow when a later policy changes them.
    Named(String),
    /// These.
    Own(TimeoutOverrides),
}

/// Whether the outer address and port of a flow depend on where it goes. Source: RFC 4787 section 4.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NatMapping {
    /// They may, as in the kernel: a port serves towards several destinations.
    #[default]
    AddressAndPortDependent,
    /// They do not: an inner address and port has one outer one, which no other has.
    EndpointIndependent,
}

/// Ports dealt out to subscribers, to each as many. Source: RFC 7422.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortBlocks {
    /// The subscribers' addresses, IPv4.
    pub of: IpRange,
    /// Ports of each; at least one.
    pub size: u16,
}

/// `masquerade`: what beside the interface's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Masquerade {
    /// The new port: one of this range. `None`: kept if it can be.
    pub ports: Option<PortRange>,
    /// Whether it depends on the destination.
    pub mapping: NatMapping,
}

/// Where a translation goes: an address or a pool, a port or a range, or both; or another prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NatTarget {
    /// The new address: one of this range. `None`: the address stays (`dnat` of a port alone).
    pub addr: Option<IpRange>,
    /// The new prefix of the address, whose other bits stay; then the two others are `None`.
    pub prefix: Option<IpPrefix>,
    /// The new port: one of this range. `None`: kept if it can be.
    pub ports: Option<PortRange>,
    /// Of `snat`: whether it depends on the destination.
    pub mapping: NatMapping,
    /// Of `snat`: addresses and ports are dealt out; then `addr` and `ports` are given, and there is enough for each.
    pub blocks: Option<PortBlocks>,
}

/// Sets bits of a mark: `mark = (mark & !mask) | value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MarkSet {
    /// The new value of the masked bits; a part of `mask`.
    pub value: u32,
    /// The bits that change; all unless given.
    pub mask: u32,
}

/// A line in the log for each packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// What the line begins with.
    pub prefix: String,
    /// At most so many lines; `None`: no limit.
    pub limit: Option<Rate>,
}
