//! A router for a capture of which no system file tells: two interfaces, and each address of the capture on one side.
//!
//! Who sends the first packet between two addresses is taken to be on the side that packets come in by. An address is on the
//! side where it was seen first.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use sluice_config::System;

/// Addresses that are told apart; what more there are stand on the outer side.
const ROOM: usize = 1 << 20;

/// Which side each address is on.
#[derive(Default)]
pub(super) struct Sides {
    /// True: where first packets come in.
    inner: HashMap<IpAddr, bool>,
}

impl Sides {
    /// Takes note of a packet.
    pub(super) fn saw(&mut self, src: IpAddr, dst: IpAddr) {
        if self.inner.len() >= ROOM {
            return;
        }
        let known = |address| self.inner.get(&address).copied();
        let side = known(src).unwrap_or_else(|| known(dst).is_none_or(|inner| !inner));
        self.inner.entry(src).or_insert(side);
        self.inner.entry(dst).or_insert(!side);
    }

    /// A system with these two interfaces and a route to each address.
    pub(super) fn system(&self, inner: &str, outer: &str) -> Result<System, String> {
        let mut text = format!(
            "interfaces:\n  {inner}: {{device: 'kernel:a'}}\n  {outer}: {{device: 'kernel:b'}}\n\
             policy: p\nstate: s\nroutes:\n  - {{to: 0.0.0.0/0, dev: {outer}}}\n  - {{to: '::/0', dev: {outer}}}\n"
        );
        for (address, _) in
            self.inner.iter().filter(|(address, is_inner)| **is_inner && !address.is_multicast())
        {
            let length = if address.is_ipv4() { 32 } else { 128 };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  - {{to: '{address}/{length}', dev: {inner}}}");
        }
        System::parse("simulated system", &text).map(|(system, _)| system).map_err(|e| e.to_string())
    }
}
