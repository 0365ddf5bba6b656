//! Bytes to headers and back: the one place where a byte order or an offset is known.
//!
//! [`parse`](fn@parse) turns a frame into a [`Packet`], which exists only if its Ethernet and IP headers fit, so that
//! no later stage checks a length again. Everything else here reads ([`tcp`], [`quoted`](fn@quoted), [`nd`]), verifies
//! ([`checksum`]), changes ([`rewrite`], [`siit`]) or writes ([`build`]) bytes by means of such a packet.
//!
//! What netfilter calls INVALID is not an error here: a transport header that lies is still shown to the
//! filter, so it parses, and says so in [`Packet::malformed`]. An error is what the kernel's `ip_rcv` or
//! `ipv6_rcv` drops before any hook.
//!
//! No allocation, no clock, no sockets, no unsafe code, and no panic whatever the bytes are.
#![forbid(unsafe_code)]

mod addr;
pub mod build;
mod bytes;
pub mod checksum;
mod ethernet;
pub mod fragment;
pub mod icmp;
mod ip;
mod ipv4;
mod ipv6;
mod mac;
pub mod nd;
pub mod options;
mod packet;
mod parse;
mod plain;
mod pref64;
mod protocol;
mod quoted;
pub mod rewrite;
#[cfg(test)]
mod samples;
mod shard;
pub mod siit;
pub mod splice;
pub mod split;
pub mod tcp;
mod transport;

pub use addr::{Addrs, Family, Martian, is_link_local, is_multicast, is_unicast, martian, solicited_node};
pub use checksum::{Checksum, verify};
pub use ethernet::{EtherType, LinkCast, destination, set_addresses, source, vlan_id};
pub use mac::{MacAddr, ParseMacError, Station};
pub use packet::{Arp, ArpOperation, Fragment, Malformed, Packet, ParseError, Parsed, Transport};
pub use parse::{Kind, parse, parse_datagram, parse_into};
pub use plain::{Plain, PlainAddress};
pub use pref64::Pref64;
pub use protocol::Protocol;
pub use quoted::{Quoted, quoted};
pub use shard::{shard_hash, symmetric_toeplitz, toeplitz};
pub use tcp::TcpFlags;
