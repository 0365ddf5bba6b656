//! The IP header as the router writes it: without options or extension headers, for packets of its own ([`build`]) and for
//! those that become packets of the other family ([`siit`]). Headers that are kept are changed field by field, by
//! [`rewrite`]; those of fragments are copied, by [`split`].
//!
//! Source: RFC 791 section 3.1, RFC 8200 section 3.
//!
//! [`build`]: crate::build
//! [`siit`]: crate::siit
//! [`rewrite`]: crate::rewrite
//! [`split`]: crate::split

use crate::bytes::HeaderMut;
use crate::{Addrs, EtherType, Family, Protocol, checksum, ipv4, ipv6};

/// What a header says.
#[derive(Clone, Copy)]
pub(crate) struct IpHeader {
    /// Addresses, which choose the family.
    pub(crate) addrs: Addrs,
    pub(crate) protocol: Protocol,
    /// Type of service, or traffic class.
    pub(crate) tos: u8,
    /// Time to live, or hop limit.
    pub(crate) ttl: u8,
    /// Bytes behind the header; with it at most 65535.
    pub(crate) payload: usize,
    /// IPv4's identification.
    pub(crate) id: u16,
    /// IPv4's Don't Fragment. With it the identification may be zero: RFC 6864 section 4.
    pub(crate) dont_fragment: bool,
}

impl IpHeader {
    /// Its length in bytes.
    pub(crate) const fn length(&self) -> usize {
        length(self.addrs.family())
    }

    /// What an Ethernet header before it says.
    pub(crate) const fn ethertype(&self) -> EtherType {
        match self.addrs {
            Addrs::V4 { .. } => EtherType::IPV4,
            Addrs::V6 { .. } => EtherType::IPV6,
        }
    }

    /// Writes it at `at`, whatever is there; nothing where it does not fit. IPv6's flow label is 0.
    pub(crate) fn emit(&self, buffer: &mut [u8], at: usize) {
        match self.addrs {
            Addrs::V4 { src, dst } => {
                let Some(mut header) = HeaderMut::<{ ipv4::HEADER }>::at(buffer, at) else { return };
                let fragment = if self.dont_fragment { ipv4::DONT_FRAGMENT } else { 0 };
                header.set_byte::<{ ipv4::VERSION_IHL }>(ipv4::PLAIN);
                header.set_byte::<{ ipv4::TOS }>(self.tos);
                header.set_be16::<{ ipv4::TOTAL_LENGTH }>((ipv4::HEADER + self.payload) as u16);
                header.set_be16::<{ ipv4::IDENTIFICATION }>(self.id);
                header.set_be16::<{ ipv4::FRAGMENT }>(fragment);
                header.set_byte::<{ ipv4::TTL }>(self.ttl);
                header.set_byte::<{ ipv4::PROTOCOL }>(self.protocol.0);
                header.set_be16::<{ ipv4::CHECKSUM }>(0);
                header.set_bytes::<{ ipv4::SOURCE }, 4>(&src.octets());
                header.set_bytes::<{ ipv4::DESTINATION }, 4>(&dst.octets());
                let sum = checksum::finish(checksum::sum_header(header.view().as_bytes()));
                header.set_bytes::<{ ipv4::CHECKSUM }, 2>(&sum);
            }
            Addrs::V6 { src, dst } => {
                let Some(mut header) = HeaderMut::<{ ipv6::HEADER }>::at(buffer, at) else { return };
                header.set_be32::<{ ipv6::VERSION_CLASS_FLOW }>(6 << 28 | u32::from(self.tos) << 20);
                header.set_be16::<{ ipv6::PAYLOAD_LENGTH }>(self.payload as u16);
                header.set_byte::<{ ipv6::NEXT_HEADER }>(self.protocol.0);
                header.set_byte::<{ ipv6::HOP_LIMIT }>(self.ttl);
                header.set_bytes::<{ ipv6::SOURCE }, 16>(&src.octets());
                header.set_bytes::<{ ipv6::DESTINATION }, 16>(&dst.octets());
            }
        }
    }
}

/// The length in bytes of a header of a family.
pub(crate) const fn length(family: Family) -> usize {
    match family {
        Family::V4 => ipv4::HEADER,
        Family::V6 => ipv6::HEADER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::{fold, sum_header};

    /// Over whatever was there: every byte of it is written.
    #[test]
    fn all_of_it_is_written() {
        for (addrs, bytes) in [
            (
                Addrs::V4 { src: [192, 0, 2, 1].into(), dst: [198, 51, 100, 2].into() },
                &[0x45, 0xb8, 0, 28, 0x12, 0x34, 0x40, 0, 61, 17][..],
            ),
            (Addrs::V6 { src: 1.into(), dst: 2.into() }, &[0x6b, 0x80, 0, 0, 0, 8, 17, 61][..]),
        ] {
            let header = IpHeader {
                addrs,
                protocol: Protocol::UDP,
                tos: 0xb8,
                ttl: 61,
                payload: 8,
                id: 0x1234,
                dont_fragment: true,
            };
            let mut both = [[0u8; 60], [0xff; 60]];
            both.iter_mut().for_each(|buffer| header.emit(buffer, 10));
            let length = header.length();
            assert_eq!(both[0][10..10 + length], both[1][10..10 + length], "{addrs:?}");
            assert_eq!(&both[0][10..10 + bytes.len()], bytes);
            assert!(both[1][..10].iter().chain(&both[1][10 + length..]).all(|byte| *byte == 0xff));
            if let Addrs::V4 { .. } = addrs {
                assert_eq!(fold(sum_header(both[0][10..].first_chunk().unwrap())), 0xffff);
            }
            header.emit(&mut both[0], 60 - length + 1);
        }
    }
}
