//! Numbers and addresses in text, read from the front of a slice: each reader says how many bytes it took.
//!
//! [`Read::Cut`] is told from nonsense, because a text that ends where its segment does may go on in the next one.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// A value, in so many bytes.
    Found(T, usize),
    /// The bytes end before the value does.
    Cut,
    /// Something else.
    Other,
}

/// The longest number that is read, in digits.
const DIGITS: usize = 10;
/// The longest text of an IPv6 address: eight groups, or one embedded IPv4 address.
const LONGEST_V6: usize = 45;

/// A number in decimal digits, up to what is no digit; that must be there.
pub fn number(bytes: &[u8]) -> Read<u32> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'0'..=b'9' if at < DIGITS => value = value * 10 + u64::from(byte - b'0'),
            b'0'..=b'9' => return Read::Other,
            _ if at == 0 => return Read::Other,
            _ => return u32::try_from(value).map_or(Read::Other, |value| Read::Found(value, at)),
        }
    }
    if bytes.len() > DIGITS { Read::Other } else { Read::Cut }
}

/// A port before `end`, which is taken too.
pub fn port(bytes: &[u8], end: u8) -> Read<u16> {
    match number(bytes) {
        Read::Found(value, length) if bytes.get(length) == Some(&end) => match u16::try_from(value) {
            Ok(port @ 1..) => Read::Found(port, length + 1),
            _ => Read::Other,
        },
        Read::Cut => Read::Cut,
        _ => Read::Other,
    }
}

/// `N` numbers of one byte each, separated; behind the last must be something that is no digit.
pub fn octets<const N: usize>(bytes: &[u8], separator: u8) -> Read<[u8; N]> {
    let mut values = [0; N];
    let mut at = 0;
    for (n, place) in values.iter_mut().enumerate() {
        if n > 0 {
            match bytes.get(at) {
                Some(byte) if *byte == separator => at += 1,
                Some(_) => return Read::Other,
                None => return Read::Cut,
            }
        }
        match number(bytes.get(at..).unwrap_or_default()) {
            Read::Found(value, length) => match u8::try_from(value) {
                Ok(value) => (*place, at) = (value, at + length),
                Err(_) => return Read::Other,
            },
            Read::Cut => return Read::Cut,
            Read::Other => return Read::Other,
        }
    }
    Read::Found(values, at)
}

/// An IPv4 address; behind it must be something that is no digit.
pub fn v4(bytes: &[u8]) -> Read<Ipv4Addr> {
    match octets::<4>(bytes, b'.') {
        Read::Found(octets, length) => Read::Found(octets.into(), length),
        Read::Cut => Read::Cut,
        Read::Other => Read::Other,
    }
}

/// An IPv6 address, up to what cannot be in one; that must be there.
pub fn v6(bytes: &[u8]) -> Read<Ipv6Addr> {
    let of_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
    let length = bytes.iter().take(LONGEST_V6 + 1).take_while(|byte| of_address(byte)).count();
    if length == bytes.len() {
        return if length > LONGEST_V6 { Read::Other } else { Read::Cut };
    }
    let text = bytes.get(..length).and_then(|text| std::str::from_utf8(text).ok());
    match text.and_then(|text| text.parse().ok()) {
        Some(address) => Read::Found(address, length),
        None => Read::Other,
    }
}

/// Where `wanted` begins in `bytes`, small and capital letters being the same.
pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len().max(1)).position(|window| window.eq_ignore_ascii_case(wanted))
}

/// Whether `bytes` begin with `wanted`, small and capital letters being the same.
pub fn begins_with(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.get(..wanted.len()).is_some_and(|start| start.eq_ignore_ascii_case(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_no_digit_is() {
        let cases: [(&[u8], Read<u32>); 7] = [
            (b"12,", Read::Found(12, 2)),
            (b"4294967295 ", Read::Found(u32::MAX, 10)),
            (b"4294967296 ", Read::Other),
            (b"00000000001 ", Read::Other),
            (b"12", Read::Cut),
            (b"", Read::Cut),
            (b"x", Read::Other),
        ];
        for (bytes, expected) in cases {
            assert_eq!(number(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn ports_are_no_longer_than_ports() {
        assert_eq!(port(b"6446|", b'|'), Read::Found(6446, 5));
        for bytes in [&b"0|"[..], b"65536|", b"12;", b"|"] {
            assert_eq!(port(bytes, b'|'), Read::Other, "{bytes:?}");
        }
        assert_eq!(port(b"644", b'|'), Read::Cut);
    }

    #[test]
    fn addresses_are_read_to_their_end() {
        assert_eq!(v4(b"10.1.0.2|"), Read::Found(Ipv4Addr::new(10, 1, 0, 2), 8));
        assert_eq!(v4(b"10.1.0.256|"), Read::Other);
        assert_eq!(v4(b"10.1.0.2"), Read::Cut);
        assert_eq!(v6(b"fd00:1::2|"), Read::Found("fd00:1::2".parse().unwrap(), 9));
        assert_eq!(v6(b"fd00:1::2"), Read::Cut);
        assert_eq!(v6(b"fd00:1:2|"), Read::Other);
        assert_eq!(v6(&[b'a'; 100]), Read::Other);
    }
}
