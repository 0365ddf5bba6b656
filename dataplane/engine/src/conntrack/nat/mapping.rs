//! One outer endpoint for each inner one, whatever the destination: endpoint-independent mapping, where a rule asks for it.
//!
//! The outer address is always the same for an inner one. Its port is the inner one where that is free, else the first free
//! one behind a place that a hash of the inner endpoint names; of UDP with the same parity. All workers try the
//! same ports in the same order, so that each finds what another has taken for the same inner endpoint. An outer endpoint is
//! one inner endpoint's alone: where none is left, the flow is refused, and no port serves two.
//!
//! What comes in from others than those that were spoken to is not let in by this: it belongs to no flow, and the filter
//! decides (RFC 4787's address and port-dependent filtering). The box's own flows lend nothing.
//!
//! Source: RFC 4787 REQ-1 to REQ-4 (UDP), RFC 5382 REQ-1 (TCP), RFC 5508 REQ-1 (ICMP), RFC 7857 section 3 and 5.

use sluice_wire::Protocol;

use super::choose::{Search, Wanted};
use super::endpoints::{Endpoints, Slot, Tenant};
use crate::conntrack::Conntrack;
use crate::conntrack::info::Direction;
use crate::conntrack::tuple::{Address, Tuple};

/// Ports that are tried behind the first.
const ATTEMPTS: u32 = 128;

impl Conntrack {
    /// Makes the table of outer endpoints, unless there is one: where there are several workers, control made it for all
    /// ([`super::Reservations::prepare_endpoints`]).
    pub fn prepare_endpoints(&self) {
        self.shared.endpoints.prepare();
    }

    /// Gives back the endpoint that a flow took which does not come into the table.
    pub(in crate::conntrack) fn give_back(&self, endpoint: Option<Slot>) {
        if let Some(slot) = endpoint {
            self.shared.endpoints.release(slot);
        }
    }
}

impl<A: Address> Search<'_, A> {
    /// The tuple, whether its answers are nobody else's, and the endpoint that was taken for it.
    pub(super) fn by_endpoint(&mut self, wanted: &Wanted<A>) -> (Tuple<A>, bool, Option<Slot>) {
        let current = self.new.outward;
        let tuple = wanted.with_paired_address(&current);
        let Some(span) = wanted.search(&tuple) else {
            let free = self.is_free(&tuple);
            return (tuple, free, None);
        };
        let asker = self.asker(&current, &tuple);
        let parity = tuple.protocol == Protocol::UDP.0;
        let from = current.source_hash(self.table.seeds()) as u32;
        let ports = || candidates(current.sport, span, parity, from);
        // What another flow of this endpoint has comes first, be it behind ports that are free by now.
        let known = ports().find(|port| asker.tenant(*port) == Tenant::Asker);
        let free = |port: &u16| {
            asker.tenant(*port) == Tenant::Nobody && self.is_free(&wanted.with_port(&tuple, *port))
        };
        let taken =
            known.into_iter().chain(ports().filter(free)).find_map(|port| Some((port, asker.take(port)?)));
        let Some((port, slot)) = taken else { return (tuple, false, None) };
        // With what is known, a flow of another rule may have these answers: a second port would be against the word.
        let outward = wanted.with_port(&tuple, port);
        let free = self.is_free(&outward);
        (outward, free, Some(slot))
    }

    fn asker(&self, inner: &Tuple<A>, outer: &Tuple<A>) -> Asker<'_> {
        let (seeds, zone) = (self.table.seeds(), self.new.key.zone.of(Direction::Original));
        let (address, none) = ((outer.src, 0), (A::ZERO, 0));
        Asker {
            endpoints: &self.shared.endpoints,
            base: A::mix(address, none, outer.protocol, seeds),
            print: A::mix((inner.src, inner.sport), address, inner.protocol, seeds) ^ zone.spread(),
        }
    }
}

/// An inner endpoint that wants an outer one of an address.
struct Asker<'e> {
    endpoints: &'e Endpoints,
    /// A hash of the outer address and the protocol.
    base: u64,
    print: u64,
}

impl Asker<'_> {
    fn tenant(&self, port: u16) -> Tenant {
        self.endpoints.tenant(self.endpoints.slot(self.base, port), self.print_of(port))
    }

    fn take(&self, port: u16) -> Option<Slot> {
        let slot = self.endpoints.slot(self.base, port);
        self.endpoints.take(slot, self.print_of(port)).then_some(slot)
    }

    /// Ports that share a word are told apart.
    fn print_of(&self, port: u16) -> u64 {
        self.print.wrapping_add(u64::from(port).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

/// The ports that are tried for an inner one, of `count` from `first` on: itself, then others behind a place that `from`
/// names, with its parity if that is to be kept.
fn candidates(
    port: u16,
    (first, count): (u16, u32),
    parity: bool,
    from: u32,
) -> impl Iterator<Item = u16> + Clone {
    let own = Some(port).filter(|port| port.checked_sub(first).is_some_and(|n| u32::from(n) < count));
    let step = if parity && count > 1 { 2 } else { 1 };
    // Of an odd number the last is left out: going round would change the parity.
    let count = count - count % step;
    let odd = if step == 2 { u32::from((port ^ first) & 1) } else { 0 };
    let begin = from / step * step + odd;
    let others = (0..ATTEMPTS.min(count / step)).map(move |n| {
        let offset = (u64::from(begin) + u64::from(n * step)) % u64::from(count.max(1));
        first.wrapping_add(offset as u16)
    });
    own.into_iter().chain(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_port_is_tried_first_and_each_other_once() {
        for (port, span, parity, from) in [
            (5000, (1024, 64512), true, 7),
            (5001, (1024, 64512), true, u32::MAX),
            (80, (1, 511), false, 300),
            (7, (6000, 6), true, 3),
            (7, (6000, 5), true, 9),
            (7, (6000, 1), true, 9),
            (0, (0, 65535), false, 1),
        ] {
            let ports: Vec<u16> = candidates(port, span, parity, from).collect();
            let own = (span.0..=span.0 + (span.1 - 1) as u16).contains(&port);
            assert_eq!(ports.first() == Some(&port), own, "{port} of {span:?}");
            let others = &ports[usize::from(own)..];
            let mut distinct = others.to_vec();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), others.len(), "{others:?}");
            assert!(others.iter().all(|other| u32::from(other - span.0) < span.1), "{others:?}");
            assert!(!parity || span.1 == 1 || others.iter().all(|other| other % 2 == port % 2), "{others:?}");
            assert!(!others.is_empty() && others.len() <= ATTEMPTS as usize);
        }
    }
}
