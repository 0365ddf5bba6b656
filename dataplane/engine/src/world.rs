//! What control publishes and workers read: one immutable value, swapped whole between bursts.
//!
//! Routes, addresses, sets, settings and policy carry one [`Generation`]: whatever a flow stored under another is
//! decided again. Neighbours change far more often and carry an epoch of their own, so that a MAC learnt for one
//! host does not make every flow be judged again.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use crate::conntrack::Settings as ConntrackSettings;
use crate::ids::{Generation, InterfaceId, Now};
use crate::limit::{Limit, LimitPer};
use crate::ruleset::Ruleset;

pub mod fib;
pub mod interfaces;
pub mod neighbours;

pub use fib::{Fib, Hop, Route, RouteKind, Target};
pub use interfaces::{AddressKind, Interface, Interfaces, RpFilter, link_local};
pub use neighbours::{Neighbour, NeighbourState, Neighbours};

/// Everything that judging a packet depends on and that control owns.
#[derive(Clone, Debug)]
pub struct World {
    /// Raised with every change but one of neighbours.
    pub generation: Generation,
    /// Logical interfaces and the box's own addresses. Their number and ports are fixed while running.
    pub interfaces: Arc<Interfaces>,
    /// Routes, longest prefix first.
    pub fib: Arc<Fib>,
    /// Link-layer addresses of next hops.
    pub neighbours: Arc<Neighbours>,
    /// The compiled policy.
    pub ruleset: Arc<Ruleset>,
    /// Everything else that can change while running.
    pub settings: Arc<Settings>,
}

/// Settings that can change while running.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `conntrack:` of the system file.
    pub conntrack: ConntrackSettings,
    /// `icmp:` of the system file.
    pub icmp: IcmpSettings,
}

/// Limits on errors that the router itself makes (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f).
#[derive(Clone, Debug)]
pub struct IcmpSettings {
    /// Errors a second over all workers; None: no limit.
    pub ratelimit: Option<u32>,
    /// Errors at once.
    pub burst: u32,
    /// Whether redirects are sent (RFC 1812 §4.3.3.2).
    pub redirects: bool,
    /// The bucket, shared by all workers and by copies of these settings.
    bucket: Option<Arc<Limit>>,
}

impl IcmpSettings {
    /// At most `ratelimit` errors a second, `burst` of them at once.
    pub fn new(ratelimit: Option<u32>, burst: u32, redirects: bool) -> IcmpSettings {
        let limit = |count| Limit::new(count, Duration::from_secs(1), burst, LimitPer::Rule);
        let bucket = ratelimit.map(|count| Arc::new(limit(count)));
        IcmpSettings { ratelimit, burst, redirects, bucket }
    }

    /// Takes a token for an error; false if there is none.
    pub(crate) fn take(&self, now: Now) -> bool {
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        self.bucket.as_ref().is_none_or(|bucket| bucket.take(now.nanos, nobody, nobody))
    }
}

impl Default for IcmpSettings {
    fn default() -> IcmpSettings {
        IcmpSettings::new(Some(1000), 50, false)
    }
}

/// A next hop on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NeighbourKey {
    /// The interface it is on.
    pub interface: InterfaceId,
    /// Its address.
    pub address: IpAddr,
}
