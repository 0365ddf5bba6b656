//! Quotas: how many flows each source prefix has in the table, over all workers, so that one of them cannot fill it.
//!
//! A flow is counted ([`super::cells`]) when it begins, and until it ends; packets of known flows touch no count. Leases for each
//! worker would spare the shared cells, but a source whose flows are spread over the workers by their ports would then be refused
//! at one while another has places to spare. A flow for which there is no cell is not counted, and passes.

use super::tuple::{Address, Seeds};

/// Most flows that one source prefix may have in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceQuota {
    /// So many.
    pub max: u32,
    /// Length of the prefix that counts as one source, of IPv4; 0 to 32.
    pub prefix_v4: u8,
    /// The same of IPv6; 0 to 128.
    pub prefix_v6: u8,
}

impl SourceQuota {
    /// The keyed hash of the prefix that an address is in.
    pub(super) fn hash<A: Address>(&self, source: A, seeds: &Seeds) -> u64 {
        let length = match A::FAMILY {
            sluice_wire::Family::V4 => self.prefix_v4,
            sluice_wire::Family::V6 => self.prefix_v6,
        };
        let prefix = (source.prefix(length), u16::from(length));
        A::mix(prefix, prefix, 0, seeds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_a_prefix_are_one_source() {
        let seeds = Seeds::new(7);
        let quota = SourceQuota { max: 0, prefix_v4: 24, prefix_v6: 0 };
        assert_eq!(quota.hash(0x0a00_0001_u32, &seeds), quota.hash(0x0a00_00ff_u32, &seeds));
        assert_ne!(quota.hash(0x0a00_0001_u32, &seeds), quota.hash(0x0a00_0101_u32, &seeds));
        assert_eq!(quota.hash(1_u128, &seeds), quota.hash(u128::MAX, &seeds));
        let longer = SourceQuota { prefix_v4: 25, ..quota };
        assert_ne!(quota.hash(0x0a00_0001_u32, &seeds), longer.hash(0x0a00_0001_u32, &seeds));
    }
}
