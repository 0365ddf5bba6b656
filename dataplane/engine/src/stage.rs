//! The stages of a packet's path, a file each; [`crate::pipeline`] has their order.

pub(crate) mod admit;
pub(crate) mod answer;
pub(crate) mod confirm;
pub(crate) mod defrag;
pub(crate) mod deliver;
pub(crate) mod filter;
pub(crate) mod helper;
pub(crate) mod invalid;
pub(crate) mod lease;
pub(crate) mod link;
pub(crate) mod mtu;
pub(crate) mod nat;
pub(crate) mod nat64;
pub(crate) mod options;
pub(crate) mod pieces;
pub(crate) mod raw;
pub(crate) mod redirect;
pub(crate) mod related;
pub(crate) mod route;
pub(crate) mod settle;
pub(crate) mod source;
pub(crate) mod stateless;
pub(crate) mod track;
pub(crate) mod transmit;
pub(crate) mod ttl;
