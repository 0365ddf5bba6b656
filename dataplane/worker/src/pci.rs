//! Whether a PCI device can be taken over, told before DPDK starts: of a device that it passes over, DPDK says at most that
//! it "cannot be used".
//!
//! What cannot be seen from outside (a driver that does not know the card) is still DPDK's to say.
//!
//! Source: the kernel's Documentation/ABI/testing/sysfs-bus-pci and Documentation/driver-api/vfio.rst; DPDK's Linux guide,
//! "Linux Drivers".

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The driver that hands a device to a program, behind the IOMMU.
const VFIO: &str = "vfio-pci";

/// Drivers under which DPDK finds a device: besides VFIO those without an IOMMU, and those of bifurcated NICs, which the
/// kernel keeps and shares.
const USABLE: [&str; 5] = [VFIO, "uio_pci_generic", "igb_uio", "mlx4_core", "mlx5_core"];

/// Drivers of other devices in an IOMMU group that are not in the way: nothing of theirs reaches memory by itself.
const HARMLESS_NEIGHBOURS: [&str; 3] = [VFIO, "pci-stub", "pcieport"];

/// Why a PCI device cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PciError {
    #[error("no such PCI device (lspci -D lists them)")]
    Missing,
    #[error("bound to no driver: driverctl set-override {address} {VFIO}")]
    Unbound { address: String },
    #[error("bound to the kernel's driver {driver}: driverctl set-override {address} {VFIO}")]
    Kernel { address: String, driver: String },
    #[error("vfio-pci needs an IOMMU: on in the firmware, and intel_iommu=on where the CPU is Intel's")]
    NoIommu,
    #[error(
        "shares IOMMU group {group} with {other}, which is bound to {driver} and must be bound to {VFIO} too"
    )]
    SharedGroup { group: String, other: String, driver: String },
    #[error("/dev/vfio/{group}: {reason}")]
    Group { group: String, reason: String },
}

/// Looks at a device's driver and IOMMU group.
///
/// # Errors
/// What keeps DPDK from it.
pub(crate) fn usable(address: &str) -> Result<(), PciError> {
    let Some(group) = bound(Path::new("/sys/bus/pci/devices"), address)? else { return Ok(()) };
    match File::open(format!("/dev/vfio/{group}")) {
        Ok(_) => Ok(()),
        Err(error) => {
            let reason = match error.kind() {
                io::ErrorKind::ResourceBusy => "another program has it".to_owned(),
                _ => error.to_string(),
            };
            Err(PciError::Group { group, reason })
        }
    }
}

/// The IOMMU group of a device that VFIO has; None for other drivers that DPDK knows.
fn bound(devices: &Path, address: &str) -> Result<Option<String>, PciError> {
    let device = devices.join(address);
    if !device.exists() {
        return Err(PciError::Missing);
    }
    let address = address.to_owned();
    let driver = match link_name(&device.join("driver")) {
        None => return Err(PciError::Unbound { address }),
        Some(driver) if !USABLE.contains(&driver.as_str()) => {
            return Err(PciError::Kernel { address, driver });
        }
        Some(driver) => driver,
    };
    if driver != VFIO {
        return Ok(None);
    }
    let Some(group) = link_name(&device.join("iommu_group")) else { return Err(PciError::NoIommu) };
    if let Some((other, driver)) = in_the_way(&device.join("iommu_group/devices")) {
        return Err(PciError::SharedGroup { group, other, driver });
    }
    Ok(Some(group))
}

/// A device of the group that has a driver of the kernel's, and that driver: VFIO gives away whole groups only.
fn in_the_way(group: &Path) -> Option<(String, String)> {
    fs::read_dir(group).ok()?.flatten().find_map(|entry| {
        let driver = link_name(&entry.path().join("driver"))?;
        let harmless = HARMLESS_NEIGHBOURS.contains(&driver.as_str());
        (!harmless).then(|| (entry.file_name().to_string_lossy().into_owned(), driver))
    })
}

/// The last part of where a link leads to.
fn link_name(link: &Path) -> Option<String> {
    let target = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A bus with one device of each kind, as sysfs shows them.
    fn bus(name: &str) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("sluice-pci-{name}-{}", std::process::id()));
        let devices = root.join("devices");
        for (address, driver, group) in [
            ("0000:01:00.0", Some("igb"), Some("1")),
            ("0000:02:00.0", None, Some("2")),
            ("0000:03:00.0", Some("vfio-pci"), Some("3")),
            ("0000:04:00.0", Some("vfio-pci"), None),
            ("0000:05:00.0", Some("vfio-pci"), Some("5")),
            ("0000:05:00.1", Some("snd_hda_intel"), Some("5")),
            ("0000:06:00.0", Some("mlx5_core"), Some("6")),
        ] {
            let device = devices.join(address);
            fs::create_dir_all(&device).unwrap();
            if let Some(driver) = driver {
                symlink(Path::new("../../drivers").join(driver), device.join("driver")).unwrap();
            }
            if let Some(group) = group {
                let members = root.join("groups").join(group).join("devices");
                fs::create_dir_all(&members).unwrap();
                symlink(&device, members.join(address)).unwrap();
                symlink(root.join("groups").join(group), device.join("iommu_group")).unwrap();
            }
        }
        root
    }

    #[test]
    fn tells_what_is_in_the_way_before_dpdk_starts() {
        let root = bus("way");
        let told = |address: &str| match bound(&root.join("devices"), address) {
            Ok(group) => format!("{group:?}"),
            Err(error) => error.to_string(),
        };
        for (address, expected) in [
            ("0000:7f:00.0", "no such PCI device (lspci -D lists them)"),
            (
                "0000:01:00.0",
                "bound to the kernel's driver igb: driverctl set-override 0000:01:00.0 vfio-pci",
            ),
            ("0000:02:00.0", "bound to no driver: driverctl set-override 0000:02:00.0 vfio-pci"),
            ("0000:03:00.0", "Some(\"3\")"),
            (
                "0000:04:00.0",
                "vfio-pci needs an IOMMU: on in the firmware, and intel_iommu=on where the CPU is Intel's",
            ),
            (
                "0000:05:00.0",
                "shares IOMMU group 5 with 0000:05:00.1, which is bound to snd_hda_intel and must be bound to vfio-pci too",
            ),
            ("0000:06:00.0", "None"),
        ] {
            assert_eq!(told(address), expected, "{address}");
        }
        fs::remove_dir_all(root).unwrap();
    }
}
