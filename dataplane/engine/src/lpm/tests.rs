//! Longest prefixes against a walk of all.

use proptest::prelude::*;

use super::*;

/// The oracle: a walk of all prefixes.
fn scan<K: LpmKey>(prefixes: &[(K, u8, u32)], key: K) -> Option<u32> {
    let mut best: Option<(u8, u32)> = None;
    for &(prefix, len, value) in prefixes {
        if key.masked(len) == prefix.masked(len) && best.is_none_or(|(longest, _)| len >= longest) {
            best = Some((len, value));
        }
    }
    best.map(|(_, value)| value)
}

fn v4(text: &str) -> u32 {
    text.parse::<std::net::Ipv4Addr>().unwrap().to_bits()
}

#[test]
fn routes_are_found_by_their_longest_prefix() {
    let routes = [
        (v4("0.0.0.0"), 0, 1),
        (v4("10.0.0.0"), 8, 2),
        (v4("10.1.0.0"), 16, 3),
        (v4("10.1.2.0"), 24, 4),
        (v4("10.1.2.128"), 25, 5),
        (v4("10.1.2.200"), 32, 6),
        (v4("10.1.2.200"), 32, 7),
    ];
    let table = Lpm::build(routes);
    for (address, expected) in [
        ("192.0.2.1", 1),
        ("10.200.0.1", 2),
        ("10.1.200.1", 3),
        ("10.1.2.1", 4),
        ("10.1.2.129", 5),
        ("10.1.2.200", 7),
        ("10.1.2.201", 5),
        ("255.255.255.255", 1),
    ] {
        assert_eq!(table.lookup(v4(address)), Some(expected), "{address}");
    }
    assert_eq!(Lpm::build([(v4("10.0.0.0"), 8, 2)]).lookup(v4("11.0.0.0")), None);
}

#[test]
fn an_empty_table_finds_nothing() {
    assert_eq!(Lpm::<u32>::default().lookup(0), None);
    assert_eq!(Lpm::<u128>::build([]).lookup(u128::MAX), None);
    assert!(Lpm::<u32>::build([(0, 0, MAX_VALUE + 1)]).is_empty());
    assert_eq!(Lpm::<u32>::build([(5, 99, MAX_VALUE)]).lookup(5), Some(MAX_VALUE));
}

#[test]
fn many_hosts_take_little_memory() {
    let hosts = (0..100_000u32).map(|i| (u128::from(i.wrapping_mul(2_654_435_761)) << 64 | 1, 128, i));
    let table = Lpm::build(hosts.clone());
    assert!(hosts.clone().all(|(key, _, value)| table.lookup(key) == Some(value)));
    assert!(table.memory() < 100 * 100_000, "{} bytes", table.memory());
}

#[test]
fn what_all_prefixes_have_in_common_takes_no_nodes() {
    let net = |n: u128| 0x2001_0db8_0000 << 80 | n << 64;
    let table = Lpm::build([(net(1), 64, 1), (net(2), 64, 2), (net(2) | 9, 128, 3)]);
    assert_eq!(table.nodes.len(), 1);
    for (key, expected) in [
        (net(1) | 7, Some(1)),
        (net(2) | 7, Some(2)),
        (net(2) | 9, Some(3)),
        (net(3), None),
        (net(1) ^ 1 << 100, None),
        (net(1) ^ 1 << 127, None),
    ] {
        assert_eq!(table.lookup(key), expected, "{key:x}");
    }
}

/// Clustered keys, so that prefixes nest.
fn key4() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), (0u32..64).prop_map(|x| 0x0a01_0200 | x), (0u32..4096).prop_map(|x| x << 14)]
}

fn key6() -> impl Strategy<Value = u128> {
    prop_oneof![
        any::<u128>(),
        (0u128..256).prop_map(|x| 0x2001_0db8 << 96 | x),
        (0u128..256).prop_map(|x| 0x2001_0db8 << 96 | x << 70),
    ]
}

proptest! {
    #[test]
    fn equals_a_linear_scan_v4(
        prefixes in prop::collection::vec((key4(), 0u8..=32, 0u32..50), 0..200),
        keys in prop::collection::vec(key4(), 50),
    ) {
        let table = Lpm::build(prefixes.iter().copied());
        let own = prefixes.iter().map(|p| p.0);
        for key in keys.into_iter().chain(own) {
            prop_assert_eq!(table.lookup(key), scan(&prefixes, key));
        }
    }

    #[test]
    fn equals_a_linear_scan_v6(
        prefixes in prop::collection::vec((key6(), prop_oneof![0u8..=128, 60u8..=128], 0u32..50), 0..200),
        keys in prop::collection::vec(key6(), 50),
        bit in 0u32..128,
    ) {
        let table = Lpm::build(prefixes.iter().copied());
        let own = prefixes.iter().flat_map(|p| [p.0, p.0 ^ 1 << bit]);
        for key in keys.into_iter().chain(own) {
            prop_assert_eq!(table.lookup(key), scan(&prefixes, key));
        }
    }
}
