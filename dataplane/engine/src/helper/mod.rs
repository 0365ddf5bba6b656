//! Connection tracking helpers: what the payload of a control connection says of connections to come.
//!
//! A helper only reads. It takes the payload of one packet, and says which address and port it announces and where in
//! the payload that stands; nothing here allocates, keeps a packet, or trusts what it reads. What is made of it — an
//! expectation, another address in the payload — is `stage::helper`'s, and where it is kept
//! [`crate::conntrack`]'s.
//!
//! | file | what |
//! |---|---|
//! | `ftp`, `tftp`, `irc`, `amanda`, `sip`, `pptp` | one protocol each |
//! | `lines` | where lines of a stream begin |
//! | `text` | numbers and addresses in text |
//!
//! A helper is assigned to a flow by a rule, never by itself, and only when the flow begins.
//!
//! Source: Linux `nf_conntrack_{ftp,tftp,irc,amanda,sip,pptp}.c`, as observed on 6.18; NETFILTER.md, "Helpers".

pub mod amanda;
pub mod ftp;
pub mod irc;
pub(crate) mod lines;
pub mod pptp;
pub mod sip;
pub mod text;
pub mod tftp;

use std::net::IpAddr;

use sluice_wire::{Family, Protocol};

use crate::ids::Millis;

/// A helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Helper {
    /// File transfer: RFC 959, RFC 2428.
    Ftp = 1,
    /// Trivial file transfer: RFC 1350.
    Tftp = 2,
    /// Chat: offers of direct connections (DCC).
    Irc = 3,
    /// Amanda's backups.
    Amanda = 4,
    /// Telephony: RFC 3261, and its media by RFC 4566.
    Sip = 5,
    /// Tunnels of PPP: RFC 2637.
    Pptp = 6,
}

/// A helper as a rule assigns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Assigned {
    /// Which.
    pub helper: Helper,
    /// Whether an address may be announced that is not the announcer's own.
    pub loose: bool,
}

/// A kind of expectation of a helper, by its number in listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Class(pub u8);

/// What a helper's expectations of one class may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// At once, for one master.
    pub limit: u8,
    /// How long one waits to be used.
    pub timeout: Millis,
}

impl Helper {
    /// All of them.
    pub const ALL: [Helper; 6] =
        [Helper::Ftp, Helper::Tftp, Helper::Irc, Helper::Amanda, Helper::Sip, Helper::Pptp];

    /// The kernel's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Helper::Ftp => "ftp",
            Helper::Tftp => "tftp",
            Helper::Irc => "irc",
            Helper::Amanda => "amanda",
            Helper::Sip => "sip",
            Helper::Pptp => "pptp",
        }
    }

    /// The helper of a number that [`Helper`]'s discriminants give.
    pub(crate) const fn of_number(number: u8) -> Option<Helper> {
        match number {
            1 => Some(Helper::Ftp),
            2 => Some(Helper::Tftp),
            3 => Some(Helper::Irc),
            4 => Some(Helper::Amanda),
            5 => Some(Helper::Sip),
            6 => Some(Helper::Pptp),
            _ => None,
        }
    }

    /// Whether it understands flows of a family and protocol: a rule assigns it to no others.
    pub const fn serves(self, family: Family, protocol: Protocol) -> bool {
        match self {
            Helper::Ftp => matches!(protocol, Protocol::TCP),
            Helper::Irc | Helper::Pptp => matches!((family, protocol), (Family::V4, Protocol::TCP)),
            Helper::Tftp | Helper::Amanda => matches!(protocol, Protocol::UDP),
            Helper::Sip => matches!(protocol, Protocol::TCP | Protocol::UDP),
        }
    }

    /// What its expectations of a class may be.
    pub const fn allowance(self, class: Class) -> Allowance {
        let (limit, seconds) = match (self, class) {
            (Helper::Ftp | Helper::Tftp, _) => (1, 300),
            (Helper::Irc, _) => (8, 300),
            (Helper::Amanda, _) => (4, 180),
            (Helper::Pptp, _) => (2, 300),
            (Helper::Sip, sip::SIGNALLING) => (1, 180),
            (Helper::Sip, sip::IMAGE) => (2, 180),
            (Helper::Sip, _) => (4, 180),
        };
        Allowance { limit, timeout: Millis::from_secs(seconds) }
    }
}

/// An address and a port that a payload announces. In host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announced {
    /// None: that of who announces it.
    pub address: Option<IpAddr>,
    /// Never 0.
    pub port: u16,
}

/// What a payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<T> {
    /// Nothing that concerns the helper, or nonsense: the packet goes on and nothing is opened.
    Nothing,
    /// A part of something: its end is in the next segment. It is dropped, so that it comes again whole.
    Part,
    /// This.
    Found(T),
}
