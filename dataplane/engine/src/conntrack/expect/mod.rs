//! Expectations: connections that a helper read of, and that are RELATED when they come.
//!
//! One shard's lie here, both families together; a flow that begins asks for them by its destination, and only while
//! there are any. Each belongs to a *master*, the control connection, and goes with it; how many a master may have at once
//! is its helper's affair, the oldest making room. One that is used up is gone, whatever rules make of its packet.
//!
//! Other workers learn of them through the table of reserved answers (`announce`): the packet that is expected may hash to
//! any worker, and is handed over to the master's. See `docs/adr`, "Expectations".
//!
//! | file | what |
//! |---|---|
//! | `list` | memory, and who finds what there |
//! | `master` | made, used up and deleted with what their masters keep |
//! | `announce` | what other workers must know |
//! | `record` | listing, deleting, watching |
//!
//! Source: Linux `nf_conntrack_expect.c`, as observed on 6.18.

mod announce;
mod list;
mod master;
mod record;

use std::net::IpAddr;

use sluice_wire::Protocol;

use super::info::FlowHandle;
use super::template::ZoneId;
use crate::helper::{Class, Helper};
use crate::ids::Tick;

pub(super) use self::list::Expectations;
pub use self::record::{ExpectationEvent, ExpectationFilter, ExpectationRecord};

/// What is expected: the first packet of a flow. Of addresses and ports as that packet comes, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// None: from anyone.
    pub(crate) src: Option<IpAddr>,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: Protocol,
    /// None: from any port.
    pub(crate) sport: Option<u16>,
    pub(crate) dport: u16,
    pub(crate) class: Class,
    /// The helper that the flow gets.
    pub(crate) helper: Option<Helper>,
    /// How the flow is translated, as its master is.
    pub(crate) follow: Option<Follow>,
    /// It is not used up: any number of flows may come of it, once it is woken (the kernel's PERMANENT and INACTIVE).
    pub(crate) lasting: bool,
}

/// What a flow that was announced through NAT becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Follow {
    /// Its packets leave from this address, and from this port, if it is not kept.
    pub(crate) source: (IpAddr, Option<u16>),
    /// They go to this address, and to this port, if it is not kept: where the announcement said.
    pub(crate) destination: (IpAddr, Option<u16>),
}

/// Why something cannot be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another one overlaps it.
    Busy,
    /// Another one is the same.
    Same,
    /// There are as many as there may be.
    Full,
}

/// An expectation that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expectation {
    pub(super) ask: Ask,
    /// The helper that read of it.
    pub(super) by: Helper,
    /// The zone of its master's first packet.
    pub(super) zone: ZoneId,
    pub(super) master: FlowHandle,
    deadline: Tick,
    /// Of its destination, under the shard's secret.
    hash: u64,
    /// How often its place was used before.
    uses: u16,
    waits: bool,
    /// Of a lasting one: nothing comes of it yet.
    asleep: bool,
    /// One more than the place of the next one in its bucket; of a free place, of the next free one.
    next: u32,
    /// The same of the next older and the next newer one of its master.
    older: u32,
    newer: u32,
}

impl Ask {
    /// From whatever address and port.
    pub(crate) const fn from_anyone(protocol: Protocol, dst: IpAddr, dport: u16) -> Ask {
        let class = Class(0);
        Ask {
            src: None,
            dst,
            protocol,
            sport: None,
            dport,
            class,
            helper: None,
            follow: None,
            lasting: false,
        }
    }

    /// Whether some packet would be expected by both.
    fn overlaps(&self, other: &Ask) -> bool {
        fn alike<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        self.dst == other.dst
            && self.dport == other.dport
            && self.protocol == other.protocol
            && alike(self.src, other.src)
            && alike(self.sport, other.sport)
    }

    /// Whether exactly the same is expected.
    fn is_same(&self, other: &Ask) -> bool {
        self.overlaps(other) && self.src == other.src && self.sport == other.sport
    }

    /// Whether a first packet between these ends is expected.
    fn fits(&self, protocol: u8, src: (IpAddr, u16), dst: (IpAddr, u16)) -> bool {
        (self.dst, self.dport) == dst
            && self.protocol == Protocol(protocol)
            && self.src.is_none_or(|own| own == src.0)
            && self.sport.is_none_or(|own| own == src.1)
    }
}
