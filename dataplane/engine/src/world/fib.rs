//! The forwarding information base: longest prefix match for both families (RFC 1812 §5.2.4.3).

use std::net::IpAddr;

use crate::ids::InterfaceId;
use crate::world::interfaces::Interfaces;

/// A route as control knows it, whatever it came from (file, interface address, later netlink).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination prefix; host bits are zero.
    pub destination: IpAddr,
    /// Bits of the prefix.
    pub prefix_len: u8,
    /// What to do.
    pub kind: RouteKind,
    /// Of routes to one prefix, the lowest wins.
    pub metric: u32,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// Forward by one of these, chosen by flow hash in proportion to weight.
    Unicast(Vec<Hop>),
    /// Answer host unreachable (ICMPv6: no route is code 0, unreachable routes code 3).
    Unreachable,
    /// Answer communication administratively prohibited.
    Prohibit,
    /// Drop silently.
    Blackhole,
}

/// One way of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Out by this interface.
    pub interface: InterfaceId,
    /// To this router; None: the destination itself is on the link.
    pub gateway: Option<IpAddr>,
    /// Share among several, at least 1.
    pub weight: u16,
}

/// Compiled routes: those given, and the connected ones that interface addresses imply.
#[derive(Clone, Debug, Default)]
pub struct Fib {}

impl Fib {
    /// Compiles routes; connected routes of `interfaces` are added here.
    pub fn new(routes: &[Route], interfaces: &Interfaces) -> Fib {
        let _ = (routes, interfaces);
        Fib {}
    }
}
