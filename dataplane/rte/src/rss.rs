//! The device's share in finding a packet's owner: Toeplitz hash, key, and the table from hash to queue.
//!
//! The owner of a flow is (hash & 127) mod workers. Where a device can be brought to hash as we do (our key, the same fields)
//! and its table repeats those 128 entries, packets arrive at their owner and bring the hash along.
//!
//! Source: DPDK `rte_ethdev.h`, "Receive Side Scaling"; the key is of Woo and Park, "Scalable TCP Session Monitoring with
//! Symmetric Receive-side Scaling" (2012).

use sluice_dpdk_sys as sys;

use crate::eal::PortIndex;

/// The key that makes Toeplitz' hash the same for both directions of a flow: 16 bits, repeated. It has no more entropy than
/// these: for choosing a worker, never for the index of a table. A device that wants 40 bytes gets the first 40.
pub const SYMMETRIC_KEY: [u8; 52] = {
    let mut key = [0x6d; 52];
    let mut odd = 1;
    while odd < key.len() {
        key[odd] = 0x5a;
        odd += 2;
    }
    key
};

/// Entries after which the table from hash to queue repeats: entry i leads to queue (i mod 128) mod queues.
pub const RETA_PERIOD: u16 = 128;

/// Drivers look at the key again when the port starts, so it must stay where it is.
static KEY: [u8; SYMMETRIC_KEY.len()] = SYMMETRIC_KEY;

/// Ports are hashed for these: TCP and UDP, no fragments.
const WITH_PORTS: u64 =
    sys::SLUICE_RSS_TCP4 | sys::SLUICE_RSS_UDP4 | sys::SLUICE_RSS_TCP6 | sys::SLUICE_RSS_UDP6;

/// Addresses alone for these. SCTP is left out: some devices would take its ports in.
const ADDRESSES_ONLY: u64 = sys::SLUICE_RSS_IPV4
    | sys::SLUICE_RSS_FRAG_IPV4
    | sys::SLUICE_RSS_OTHER4
    | sys::SLUICE_RSS_IPV6
    | sys::SLUICE_RSS_FRAG_IPV6
    | sys::SLUICE_RSS_OTHER6;

/// How far a device does as we want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RssState {
    /// The hash in its mbufs is ours.
    pub(crate) hash: bool,
    /// Our hash leads, by its table, to the queue of the owner's number.
    pub(crate) steering: bool,
}

/// What a device is asked for, as far as it says it can.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RssRequest {
    functions: u64,
    key_length: u8,
}

impl RssRequest {
    /// `None` where the device does no RSS.
    pub(crate) fn new(info: &sys::rte_eth_dev_info) -> Option<Self> {
        let functions = info.flow_type_rss_offloads & (WITH_PORTS | ADDRESSES_ONLY);
        let key_length = if info.hash_key_size == 0 { 40 } else { info.hash_key_size };
        (functions != 0 && usize::from(key_length) <= KEY.len()).then_some(Self { functions, key_length })
    }

    /// Writes the request into a port's configuration.
    pub(crate) fn write(&self, configuration: &mut sys::rte_eth_conf) {
        configuration.rxmode.mq_mode = sys::RTE_ETH_MQ_RX_RSS;
        let rss = &mut configuration.rx_adv_conf.rss_conf;
        // DPDK takes a pointer to mutable and only reads.
        rss.rss_key = KEY.as_ptr().cast_mut();
        rss.rss_key_len = self.key_length;
        rss.rss_hf = self.functions;
    }

    /// Whether the port, now started, hashes with our key, over what we hash, as it says itself.
    pub(crate) fn verify_hash(&self, port: PortIndex) -> bool {
        let mut key = [0_u8; 255];
        let mut now = sys::rte_eth_rss_conf {
            rss_key: key.as_mut_ptr(),
            rss_key_len: self.key_length,
            ..Default::default()
        };
        // SAFETY: the EAL runs, as a `PortIndex` shows; a key fits in 255 bytes whatever its length; both live on.
        let answer = unsafe { sys::rte_eth_dev_rss_hash_conf_get(port.get(), &raw mut now) };
        let length = usize::from(self.key_length);
        answer == 0 && now.rss_hf & WITH_PORTS == WITH_PORTS && key.get(..length) == KEY.get(..length)
    }
}

/// Writes the table of a started port. Returns whether it now leads every hash to its owner's queue.
pub(crate) fn program_reta(port: PortIndex, size: u16, queues: u16) -> bool {
    if size == 0 || queues == 0 {
        return false;
    }
    let mut groups: Vec<_> = reta(size, queues)
        .chunks(sys::RTE_ETH_RETA_GROUP_SIZE as usize)
        .map(|chunk| {
            let mut group = sys::rte_eth_rss_reta_entry64 { mask: u64::MAX, ..Default::default() };
            for (entry, queue) in group.reta.iter_mut().zip(chunk) {
                *entry = *queue;
            }
            if chunk.len() < group.reta.len() {
                group.mask = (1 << chunk.len()) - 1;
            }
            group
        })
        .collect();
    // SAFETY: the EAL runs, as a `PortIndex` shows; `groups` covers `size` entries.
    let answer = unsafe { sys::rte_eth_dev_rss_reta_update(port.get(), groups.as_mut_ptr(), size) };
    answer == 0 && reta_agrees(size, queues)
}

/// Whether the port's table is as [`program_reta`] writes it.
#[cfg(test)]
pub(crate) fn reta_is_programmed(port: PortIndex, size: u16, queues: u16) -> bool {
    let groups = usize::from(size).div_ceil(sys::RTE_ETH_RETA_GROUP_SIZE as usize);
    let mut now = vec![sys::rte_eth_rss_reta_entry64 { mask: u64::MAX, ..Default::default() }; groups];
    // SAFETY: the EAL runs, as a `PortIndex` shows; `now` covers `size` entries.
    let answer = unsafe { sys::rte_eth_dev_rss_reta_query(port.get(), now.as_mut_ptr(), size) };
    let entries: Vec<u16> = now.iter().flat_map(|group| group.reta).take(usize::from(size)).collect();
    answer == 0 && entries == reta(size, queues)
}

/// Entry i leads to queue (i mod 128) mod `queues`.
fn reta(size: u16, queues: u16) -> Vec<u16> {
    (0..size).map(|entry| (entry % RETA_PERIOD) % queues).collect()
}

/// Whether a table of that size, which the device indexes by the hash's low bits, agrees with 128 entries.
fn reta_agrees(size: u16, queues: u16) -> bool {
    size.is_power_of_two() && (size >= RETA_PERIOD || size.is_multiple_of(queues))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_one_word_repeated() {
        assert!(SYMMETRIC_KEY.chunks(2).all(|word| word == [0x6d, 0x5a]));
    }

    #[test]
    fn reta_repeats_the_table_of_128() {
        for queues in 1..=16 {
            let table = reta(512, queues);
            assert!((0..512_u16).all(|entry| table[usize::from(entry)] == (entry & 127) % queues));
        }
    }

    #[test]
    fn a_small_table_agrees_only_where_it_divides_evenly() {
        assert!(reta_agrees(128, 3));
        assert!(reta_agrees(512, 5));
        assert!(reta_agrees(64, 4));
        assert!(!reta_agrees(64, 3));
        assert!(!reta_agrees(192, 2));
    }
}
