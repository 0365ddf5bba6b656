//! How large packet buffers are, and where their memory comes from.

use std::ops::Range;

use sluice_rte::{HEADROOM, free_huge_pages_mb, memory_needed, populate, vdev};

use crate::config::{DataplaneConfig, Device, Hugepages};
use crate::error::StartError;

/// Ethernet header, two VLAN tags and an FCS, in bytes.
const FRAME_OVERHEAD: u32 = 14 + 4 + 4 + 4;

/// Real NICs take the size of buffers in steps of this many bytes.
const ROOM_STEP: u32 = 1024;

/// What the rest of DPDK takes: rings, queues, the drivers' own, in MiB.
const OTHER_MB: u64 = 48;

/// Packet buffers and their memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    /// Bytes of a buffer, headroom included.
    pub(crate) room: u16,
    /// Memory for all of DPDK in MiB.
    pub(crate) needed_mb: u32,
    /// Whether it is on huge pages.
    pub(crate) hugepages: bool,
}

impl MemoryPlan {
    /// Sizes buffers for the largest MTU, and looks for huge pages.
    ///
    /// # Errors
    /// [`StartError::NoHugepages`] where they are required, [`StartError::LittleMemory`]; [`StartError::Config`] for an MTU that no buffer holds.
    pub(crate) fn new(config: &DataplaneConfig) -> Result<MemoryPlan, StartError> {
        let room = room(config)?;
        let bytes = memory_needed(config.mbufs, room);
        let needed_mb = u32::try_from(bytes.div_ceil(1 << 20) + OTHER_MB).unwrap_or(u32::MAX);
        let hugepages = choose(config.hugepages, needed_mb, free_huge_pages_mb())?;
        if !hugepages {
            fits(needed_mb, available_mb())?;
        }
        Ok(MemoryPlan { room, needed_mb, hugepages })
    }
}

fn room(config: &DataplaneConfig) -> Result<u16, StartError> {
    let mut largest = 2048;
    for port in &config.ports {
        let frame = (u32::from(port.mtu) + FRAME_OVERHEAD).next_multiple_of(ROOM_STEP);
        let slot = match port.device {
            // These drivers want a buffer as large as a slot of their ring.
            Device::Kernel(_) | Device::Memif(_) => vdev::frame_size(port.mtu),
            _ => 0,
        };
        largest = frame.max(slot).max(largest);
        if u16::try_from(largest + u32::from(HEADROOM)).is_err() {
            let name = &port.name;
            return Err(StartError::Config(format!("interface {name}: mtu {} is too large", port.mtu)));
        }
    }
    Ok(u16::try_from(largest + u32::from(HEADROOM)).unwrap_or(u16::MAX))
}

fn choose(wanted: Hugepages, needed_mb: u32, free_mb: u64) -> Result<bool, StartError> {
    let enough = free_mb >= u64::from(needed_mb);
    match wanted {
        Hugepages::Off => Ok(false),
        Hugepages::Auto | Hugepages::Required if enough => Ok(true),
        Hugepages::Required => {
            Err(StartError::NoHugepages { needed_mb, free_mb: u32::try_from(free_mb).unwrap_or(u32::MAX) })
        }
        Hugepages::Auto => {
            tracing::info!(needed_mb, free_mb, "running without huge pages: too few are free");
            Ok(false)
        }
    }
}

/// Ordinary memory is promised by the kernel without limit, and whoever uses it up is killed: so it is asked first.
fn fits(needed_mb: u32, available_mb: Option<u64>) -> Result<(), StartError> {
    match available_mb {
        Some(available_mb) if available_mb < u64::from(needed_mb) => {
            Err(StartError::LittleMemory { needed_mb, available_mb })
        }
        _ => Ok(()),
    }
}

/// What the kernel reckons can be used without swapping (proc_meminfo(5), MemAvailable), in MiB; None where it does not say.
fn available_mb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

/// Has the kernel give these ranges of a worker's tables memory now, unless that is more than half of what is left: then
/// they have it as they are used, and some polls take longer.
pub(crate) fn settle(ranges: impl Iterator<Item = Range<usize>>) {
    let ranges: Vec<Range<usize>> = ranges.filter(|range| !range.is_empty()).collect();
    let wanted_mb = ranges.iter().map(|range| range.len() as u64).sum::<u64>() >> 20;
    let left_mb = available_mb().unwrap_or(u64::MAX);
    if wanted_mb > left_mb / 2 {
        tracing::warn!(
            wanted_mb,
            left_mb,
            "flow tables are not touched beforehand: too little memory is free"
        );
        return;
    }
    let all = ranges.into_iter().map(populate).fold(true, |all, done| all & done);
    if !all {
        tracing::info!("the kernel gives flow tables their memory only as they are used");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Idle, PortSpec};

    fn config(mtu: u16, device: Device) -> DataplaneConfig {
        let port = PortSpec { name: "wan".into(), device, mtu, mac: None, taps: Vec::new() };
        DataplaneConfig {
            workers: vec![0],
            idle: Idle::Yield,
            hugepages: Hugepages::Off,
            mbufs: 4096,
            ports: vec![port],
            debug_eal: false,
        }
    }

    #[test]
    fn buffers_hold_the_largest_frame() {
        let kernel = || Device::Kernel("eth0".into());
        let pci = || Device::Pci("0000:01:00.0".into());
        for (mtu, device, expected) in
            [(1500, kernel(), 2176), (1500, pci(), 2176), (9000, kernel(), 12416), (9000, pci(), 9344)]
        {
            assert_eq!(room(&config(mtu, device)).unwrap(), expected, "mtu {mtu}");
        }
        assert!(room(&config(65535, kernel())).is_err());
    }

    #[test]
    fn huge_pages_are_taken_where_enough_are_free() {
        assert!(choose(Hugepages::Auto, 100, 100).unwrap());
        assert!(!choose(Hugepages::Auto, 100, 99).unwrap());
        assert!(!choose(Hugepages::Off, 100, 100).unwrap());
        assert!(choose(Hugepages::Required, 100, 99).is_err());
    }

    #[test]
    fn what_the_machine_does_not_have_is_not_asked_for() {
        assert!(fits(100, Some(100)).is_ok() && fits(100, None).is_ok());
        let refused = fits(100, Some(99)).unwrap_err().to_string();
        assert_eq!(refused, "memory: 100 MB needed, 99 MB available (fewer mbufs need less)");
        assert!(available_mb().is_some_and(|mb| mb > 0));
    }
}
