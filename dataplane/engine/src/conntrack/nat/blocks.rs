//! Blocks of ports: which outer address and ports a subscriber has, by arithmetic alone.
//!
//! Subscribers are numbered by their addresses, and so are blocks: those of the first outer address, then those of the next.
//! Subscriber n has block n. So whose a port was can be told from the policy, without a log; a line when a subscriber uses
//! his block for the first time says the same to those who want it in a file.
//!
//! Source: RFC 7422 section 2 (deterministic mapping), RFC 6888 REQ-4 (a limit for each subscriber).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::NatRange;

/// Subscribers at the most: one bit each is kept.
const MOST: u32 = 1 << 24;

/// How ports are dealt out. Two are the same if they deal out the same, whatever was used.
#[derive(Clone, Debug)]
pub struct PortBlocks {
    subscribers: (u32, u32),
    addresses: (u32, u32),
    ports: (u16, u16),
    size: u16,
    endpoint_independent: bool,
    /// A bit for each subscriber whose first use was told.
    told: Arc<[AtomicU64]>,
}

/// What one subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The outer address.
    pub address: Ipv4Addr,
    /// The first port and the last, in host order; of ICMP, identifiers.
    pub ports: (u16, u16),
}

impl PortBlocks {
    /// Blocks of `size` ports out of `ports` of each of the addresses, for all subscribers between two addresses; all
    /// ranges with both ends. None if the blocks are fewer than the subscribers, a range runs backwards, or there are
    /// more than 16,777,216 subscribers.
    pub fn new(
        subscribers: (Ipv4Addr, Ipv4Addr),
        addresses: (Ipv4Addr, Ipv4Addr),
        ports: (u16, u16),
        size: u16,
        endpoint_independent: bool,
    ) -> Option<PortBlocks> {
        let bits = |(first, last): (Ipv4Addr, Ipv4Addr)| (first.to_bits(), last.to_bits());
        let count = |(first, last): (u32, u32)| last.checked_sub(first)?.checked_add(1);
        let (subscribers, addresses) = (bits(subscribers), bits(addresses));
        let wanted = count(subscribers).filter(|count| *count <= MOST)?;
        let each = count((ports.0.into(), ports.1.into()))?.checked_div(size.into())?;
        if u64::from(count(addresses)?) * u64::from(each) < u64::from(wanted) {
            return None;
        }
        let told = std::iter::repeat_with(AtomicU64::default).take(wanted.div_ceil(64) as usize).collect();
        Some(PortBlocks { subscribers, addresses, ports, size, endpoint_independent, told })
    }

    /// The block of a subscriber; None for an address that is no subscriber's.
    pub fn of(&self, subscriber: Ipv4Addr) -> Option<Block> {
        let number = self.number(subscriber)?;
        let each = self.blocks_of_an_address();
        let address = self.addresses.0.checked_add(number.checked_div(each)?)?;
        let first = u32::from(self.ports.0) + number.checked_rem(each)? * u32::from(self.size);
        let last = first + u32::from(self.size) - 1;
        let ports = (u16::try_from(first).ok()?, u16::try_from(last).ok()?);
        Some(Block { address: address.into(), ports })
    }

    /// Whose a port is; None if it is in no subscriber's block.
    pub fn owner(&self, address: Ipv4Addr, port: u16) -> Option<Ipv4Addr> {
        let behind = address.to_bits().checked_sub(self.addresses.0)?;
        let block = u32::from(port.checked_sub(self.ports.0)? / self.size.max(1));
        let number = behind.checked_mul(self.blocks_of_an_address())?.checked_add(block)?;
        let subscriber: Ipv4Addr = self.subscribers.0.checked_add(number)?.into();
        self.of(subscriber).filter(|own| own.address == address && own.ports.1 >= port).map(|_| subscriber)
    }

    /// The outer addresses.
    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        let (first, last) = self.addresses;
        (Ipv4Addr::from(first).into(), Ipv4Addr::from(last).into())
    }

    /// The ports of each address that are dealt out, both ends included, in host order.
    pub const fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// What a packet of a subscriber is translated to.
    pub fn range(&self, source: IpAddr) -> Option<NatRange> {
        let IpAddr::V4(subscriber) = source else { return None };
        let block = self.of(subscriber)?;
        let endpoint_independent = self.endpoint_independent;
        Some(NatRange {
            ports: Some(block.ports),
            endpoint_independent,
            ..NatRange::address(block.address.into())
        })
    }

    /// Whether flows keep one mapping for all destinations.
    pub const fn is_endpoint_independent(&self) -> bool {
        self.endpoint_independent
    }

    /// The block of a subscriber who uses it for the first time since the policy was applied: once, whichever worker asks.
    pub(crate) fn first_use(&self, source: IpAddr) -> Option<Block> {
        let IpAddr::V4(subscriber) = source else { return None };
        let number = self.number(subscriber)?;
        let (word, bit) = (self.told.get(number as usize / 64)?, 1u64 << (number % 64));
        let told =
            word.load(Ordering::Relaxed) & bit != 0 || word.fetch_or(bit, Ordering::Relaxed) & bit != 0;
        if told { None } else { self.of(subscriber) }
    }

    fn number(&self, subscriber: Ipv4Addr) -> Option<u32> {
        let (first, last) = self.subscribers;
        let subscriber = subscriber.to_bits();
        (first <= subscriber && subscriber <= last).then(|| subscriber - first)
    }

    /// At least one, as [`PortBlocks::new`] saw to it.
    fn blocks_of_an_address(&self) -> u32 {
        (u32::from(self.ports.1 - self.ports.0) + 1) / u32::from(self.size.max(1))
    }
}

impl PartialEq for PortBlocks {
    fn eq(&self, other: &PortBlocks) -> bool {
        let what =
            |of: &PortBlocks| (of.subscribers, of.addresses, of.ports, of.size, of.endpoint_independent);
        what(self) == what(other)
    }
}

impl Eq for PortBlocks {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn blocks(to: (&str, &str), ports: (u16, u16), size: u16) -> Option<PortBlocks> {
        let subscribers = (ip("100.64.0.0"), ip("100.64.0.255"));
        PortBlocks::new(subscribers, (ip(to.0), ip(to.1)), ports, size, false)
    }

    #[test]
    fn subscribers_have_blocks_in_their_order() {
        let dealt = blocks(("203.0.113.8", "203.0.113.11"), (1024, 65535), 1000).unwrap();
        for (subscriber, address, ports) in [
            ("100.64.0.0", "203.0.113.8", (1024, 2023)),
            ("100.64.0.1", "203.0.113.8", (2024, 3023)),
            ("100.64.0.63", "203.0.113.8", (64024, 65023)),
            ("100.64.0.64", "203.0.113.9", (1024, 2023)),
            ("100.64.0.255", "203.0.113.11", (64024, 65023)),
        ] {
            let expected = Block { address: ip(address), ports };
            assert_eq!(dealt.of(ip(subscriber)), Some(expected), "{subscriber}");
            assert_eq!(dealt.owner(ip(address), ports.0), Some(ip(subscriber)));
            assert_eq!(dealt.owner(ip(address), ports.1), Some(ip(subscriber)));
        }
        assert_eq!(dealt.of(ip("100.64.1.0")), None);
        for (address, port) in [("203.0.113.8", 1023), ("203.0.113.8", 65024), ("203.0.113.7", 2000)] {
            assert_eq!(dealt.owner(ip(address), port), None, "{address} {port}");
        }
    }

    #[test]
    fn more_subscribers_than_blocks_are_refused() {
        for (to, ports, size, fits) in [
            (("203.0.113.8", "203.0.113.8"), (1024, 65535), 252, true),
            (("203.0.113.8", "203.0.113.8"), (1024, 65535), 253, false),
            (("203.0.113.8", "203.0.113.10"), (1, 100), 1, true),
            (("203.0.113.8", "203.0.113.9"), (1, 100), 1, false),
            (("203.0.113.9", "203.0.113.8"), (1024, 65535), 1, false),
            (("203.0.113.8", "203.0.113.9"), (1024, 65535), 0, false),
        ] {
            assert_eq!(blocks(to, ports, size).is_some(), fits, "{to:?} {ports:?} {size}");
        }
    }

    #[test]
    fn a_first_use_is_one() {
        let dealt = blocks(("203.0.113.8", "203.0.113.11"), (1024, 65535), 1000).unwrap();
        let other = dealt.clone();
        assert_eq!(dealt.first_use(ip("100.64.0.9").into()), dealt.of(ip("100.64.0.9")));
        assert_eq!(other.first_use(ip("100.64.0.9").into()), None);
        assert!(other.first_use(ip("100.64.0.10").into()).is_some());
        assert_eq!(dealt.first_use("fd00::1".parse().unwrap()), None);
    }

    proptest! {
        /// No port is two subscribers', and each port's owner has it.
        #[test]
        fn blocks_are_apart(count in 1..2000u32, addresses in 1..64u32, first in 0..60_000u16, size in 1..4000u16) {
            let base = 100u32 << 24;
            let ends = |base: u32, count: u32| (base.into(), (base + count - 1).into());
            let dealt = PortBlocks::new(ends(base, count), ends(1 << 24, addresses), (first, u16::MAX), size, true);
            let Some(dealt) = dealt else {
                let each = (u32::from(u16::MAX - first) + 1) / u32::from(size);
                prop_assert!(each * addresses < count);
                return Ok(());
            };
            let mut before: Option<Block> = None;
            for number in 0..count {
                let subscriber = Ipv4Addr::from(base + number);
                let own = dealt.of(subscriber).unwrap();
                prop_assert_eq!(u32::from(own.ports.1 - own.ports.0) + 1, u32::from(size));
                prop_assert!(before.is_none_or(|before| before.address < own.address
                    || before.address == own.address && before.ports.1 < own.ports.0));
                prop_assert_eq!(dealt.owner(own.address, own.ports.0), Some(subscriber));
                prop_assert_eq!(dealt.owner(own.address, own.ports.1), Some(subscriber));
                before = Some(own);
            }
        }
    }
}
