//! How many connections there may be, in all and of each source: none of them can take the places of all others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use crate::lock::locked;

/// Places of one kind.
pub(super) struct Places<K> {
    /// At most in all.
    most: usize,
    /// At most of one source.
    each: usize,
    taken: Mutex<Taken<K>>,
}

struct Taken<K> {
    all: usize,
    by: HashMap<K, usize>,
}

/// A place that is taken until this is dropped.
pub(super) struct Place<K: Hash + Eq> {
    places: Arc<Places<K>>,
    key: K,
}

impl<K: Hash + Eq + Clone> Places<K> {
    /// None taken.
    pub(super) fn new(most: usize, each: usize) -> Arc<Places<K>> {
        Arc::new(Places { most, each, taken: Mutex::new(Taken { all: 0, by: HashMap::new() }) })
    }

    /// A place for this source; None if there is none, or it has as many as it may.
    pub(super) fn take(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        let mut taken = locked(&self.taken);
        let of_source = taken.by.get(&key).copied().unwrap_or(0);
        if taken.all >= self.most || of_source >= self.each {
            return None;
        }
        taken.all += 1;
        taken.by.insert(key.clone(), of_source + 1);
        Some(Place { places: Arc::clone(self), key })
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        locked(&self.taken).all
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = locked(&self.places.taken);
        taken.all = taken.all.saturating_sub(1);
        match taken.by.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.by.remove(&self.key);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 network of 64 bits, which is what one host may have.
pub(super) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_source_takes_the_places_of_others() {
        let places = Places::new(3, 2);
        let own = [places.take("a").unwrap(), places.take("a").unwrap()];
        assert!(places.take("a").is_none(), "its own are full");
        let other = places.take("b").unwrap();
        assert!(places.take("c").is_none(), "all are full");
        drop(own);
        assert_eq!(places.taken(), 1);
        assert!(places.take("a").is_some() && places.take("c").is_some());
        drop(other);
        assert_eq!((places.taken(), locked(&places.taken).by.len()), (0, 0));
    }

    #[test]
    fn a_source_is_an_address_or_a_network() {
        for (address, expected) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(source(address.parse().unwrap()), expected.parse::<IpAddr>().unwrap());
        }
    }
}
