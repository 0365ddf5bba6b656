//! Keeps the kernel's own stack from seeing what the data plane reads off a `kernel:` device.
//!
//! AF_PACKET copies packets, it does not take them: with the router's addresses on a tap of the same namespace the
//! kernel would answer every packet a second time. A chain at the netdev ingress hook of nf_tables that drops all stands
//! behind the AF_PACKET tap, so the data plane still sees everything. The table is owned by this socket
//! (`NFT_TABLE_F_OWNER`): the kernel removes it when the process ends, whichever way it ends.
//!
//! Source: Linux include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h.

use std::io;

use netlink_packet_core::{DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink::{Netlink, Raw, nested, text};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const FAMILY_NETDEV: u8 = 5;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const FLAG_OWNER: u32 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const INGRESS: u32 = 0;
const POLICY_DROP: u32 = 0;

/// The drop at ingress, for as long as this lives.
pub(super) struct IngressDrop {
    _owner: Netlink,
}

impl IngressDrop {
    /// Drops at ingress what arrives on `devices`. None of them: nothing to do.
    ///
    /// # Errors
    /// What nf_tables refused.
    pub(super) fn new<'a>(devices: impl IntoIterator<Item = &'a str>) -> io::Result<Option<IngressDrop>> {
        let chains: Vec<Raw> = devices.into_iter().map(chain).collect();
        if chains.is_empty() {
            return Ok(None);
        }
        let mut netlink = Netlink::open(NETLINK_NETFILTER)?;
        let create = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK;
        let mut batch = vec![(envelope(BATCH_BEGIN), NLM_F_REQUEST), (table(), create)];
        batch.extend(chains.into_iter().map(|chain| (chain, create)));
        batch.push((envelope(BATCH_END), NLM_F_REQUEST));
        netlink.batch(batch)?;
        Ok(Some(IngressDrop { _owner: netlink }))
    }
}

/// The process id keeps several daemons of one namespace apart.
fn table_name() -> String {
    format!("sluiced_{}", std::process::id())
}

fn envelope(kind: u16) -> Raw {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    Raw::new(kind, [0, 0, high, low], &[])
}

fn table() -> Raw {
    let attributes = [text(TABLE_NAME, &table_name()), number(TABLE_FLAGS, FLAG_OWNER)];
    Raw::new(NEW_TABLE, [FAMILY_NETDEV, 0, 0, 0], &attributes)
}

fn chain(device: &str) -> Raw {
    let hook = [number(HOOK_NUMBER, INGRESS), number(HOOK_PRIORITY, 0), text(HOOK_DEVICE, device)];
    let attributes = [
        text(CHAIN_TABLE, &table_name()),
        text(CHAIN_NAME, device),
        nested(CHAIN_HOOK, &hook),
        number(CHAIN_POLICY, POLICY_DROP),
        text(CHAIN_TYPE, "filter"),
    ];
    Raw::new(NEW_CHAIN, [FAMILY_NETDEV, 0, 0, 0], &attributes)
}

fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}
