//! The kernel's side of the data plane: devices that it gives up while `sluiced` runs, and taps for the box's own
//! traffic.
//!
//! In order of a start: [`KernelInterfaces::prepare`] before the devices are opened, [`KernelInterfaces::configure_taps`]
//! behind that and before the workers poll; dropping the value puts everything back. What a device looked like is on
//! disk before it is changed, so a daemon that was killed leaves nothing that the next start does not mend.
//!
//! A device is left without addresses (they are on the tap that has the interface's name), without IPv6, without receive
//! offloads, with everything dropped at ingress that the kernel's own stack would see. A tap is an ordinary interface
//! that asks no one for neighbours (the data plane does that).

mod ingress;
mod learned;
mod links;
mod netlink;
mod offload;
mod saved;
mod session;
mod sysctl;
mod taps;

use std::collections::BTreeMap;
use std::io;

use netlink_packet_route::link::LinkFlags;
use sluice_config::System;
use sluice_config::system::Device;

use ingress::IngressDrop;
pub use learned::{Learned, changes};
use links::{Link, Links, address_of};
use offload::Offload;
use saved::{HexMessage, SavedDevice, SavedFile};

/// IPv6 sysctls of a device that are changed, with the value they get.
const DEVICE_IPV6: [(&str, &str); 1] = [("disable_ipv6", "1")];

/// Why the kernel's interfaces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// `kernel:` or `xdp:` names what does not exist.
    #[error("interface {interface}: no such kernel interface: {device}")]
    NoDevice {
        /// The logical interface.
        interface: String,
        /// The kernel interface that is missing.
        device: String,
    },
    /// The name of a logical interface is in use.
    #[error("interface {0}: a link of that name exists already")]
    NameTaken(String),
    /// The caller would cut off his own session.
    #[error(
        "interface {interface}: {device} carries this ssh session ({address}); --force takes it over all the same"
    )]
    SshSession {
        /// The logical interface.
        interface: String,
        /// The kernel interface.
        device: String,
        /// The session's address here.
        address: std::net::IpAddr,
    },
    /// A step that the kernel refused.
    #[error("{what}: {source}")]
    Kernel {
        /// What was tried, on what.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Says what was tried when the kernel refuses.
trait Tried<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, KernelError>;
}

impl<T> Tried<T> for io::Result<T> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, KernelError> {
        self.map_err(|source| KernelError::Kernel { what: what(), source })
    }
}

/// The devices of the kernel that the data plane uses, changed for as long as this lives.
pub struct KernelInterfaces {
    links: Links,
    offload: Option<Offload>,
    saved: Vec<SavedDevice>,
    file: SavedFile,
    ingress: Option<IngressDrop>,
}

impl KernelInterfaces {
    /// Mends what a killed daemon left, then makes the devices of `system` ready to be read by the data plane.
    /// `force` takes over a device that carries the caller's ssh session.
    ///
    /// # Errors
    /// What is in the way, or what the kernel refused; everything is as it was before.
    pub fn prepare(system: &System, force: bool) -> Result<KernelInterfaces, KernelError> {
        let mut this = KernelInterfaces {
            links: Links::open().tried(|| "netlink".into())?,
            offload: Offload::open().ok(),
            saved: Vec::new(),
            file: SavedFile::new(&system.state),
            ingress: None,
        };
        this.mend();
        this.check_names(system)?;
        let devices = this.find_devices(system)?;
        if !force {
            this.refuse_ssh(&devices)?;
        }
        let mut saved = Vec::new();
        for (name, device) in &devices {
            saved.push(this.read(name, device.link).tried(|| format!("device {name}"))?);
        }
        if !saved.is_empty()
            && let Err(error) = this.file.store(&saved)
        {
            // A router that runs is worth more than one whose devices can be put back after a crash.
            tracing::error!(%error, "interfaces.json could not be written: a crash would leave devices changed");
        }
        this.saved = saved;
        let read_by_packet = devices.iter().filter(|(_, device)| device.shared_with_kernel);
        this.ingress = IngressDrop::new(read_by_packet.map(|(name, _)| name.as_str()))
            .tried(|| "dropping at ingress what the data plane reads (nf_tables, netdev family)".into())?;
        for (name, device) in &devices {
            this.take_over(name, device)?;
        }
        Ok(this)
    }

    /// Gives the taps their addresses, routes and settings, and sets them up. `system` may have changed since the
    /// last call: what is missing is added, what is too much removed.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn configure_taps(&mut self, system: &System) -> Result<(), KernelError> {
        taps::configure(&mut self.links, system)
    }

    /// Whether the kernel has made the taps' link-local addresses: it does when it notices that a link is up, which may
    /// be a second later, and reports multicast groups then. True where there is no IPv6.
    pub fn taps_are_settled(&mut self, system: &System) -> bool {
        taps::are_settled(&mut self.links, system)
    }

    /// Puts back what a daemon left that was killed. Failures are logged: they must not keep this one from starting.
    fn mend(&mut self) {
        match self.file.load() {
            Ok(left) if left.is_empty() => {}
            Ok(left) => {
                tracing::warn!(devices = left.len(), "putting back devices that an earlier run left changed");
                self.saved = left;
                self.restore();
            }
            Err(error) => tracing::warn!(%error, "interfaces.json is unreadable, devices stay as they are"),
        }
    }

    /// A tap gets the name of its interface.
    fn check_names(&mut self, system: &System) -> Result<(), KernelError> {
        for interface in &system.interfaces {
            if self.links.find(&interface.name).tried(|| interface.name.clone())?.is_some() {
                return Err(KernelError::NameTaken(interface.name.clone()));
            }
        }
        Ok(())
    }

    fn find_devices(&mut self, system: &System) -> Result<BTreeMap<String, KernelDevice>, KernelError> {
        let mut devices = BTreeMap::new();
        for interface in &system.interfaces {
            let (name, shared_with_kernel) = match &interface.device {
                Device::Kernel(name) => (name, true),
                Device::Xdp(name) => (name, false),
                _ => continue,
            };
            let link = self.links.find(name).tried(|| format!("device {name}"))?.ok_or_else(|| {
                KernelError::NoDevice { interface: interface.name.clone(), device: name.clone() }
            })?;
            // VLANs share a device: its MTU is the largest of theirs.
            let new = KernelDevice { link, interface: interface.name.clone(), shared_with_kernel, mtu: 0 };
            let device = devices.entry(name.clone()).or_insert(new);
            device.mtu = device.mtu.max(u32::from(interface.mtu));
        }
        Ok(devices)
    }

    fn refuse_ssh(&mut self, devices: &BTreeMap<String, KernelDevice>) -> Result<(), KernelError> {
        let Some(address) = session::ssh_address() else { return Ok(()) };
        for (name, device) in devices {
            let addresses = self.links.addresses(device.link.index).tried(|| format!("device {name}"))?;
            if addresses.iter().any(|message| address_of(message) == Some(address)) {
                let (interface, device) = (device.interface.clone(), name.clone());
                return Err(KernelError::SshSession { interface, device, address });
            }
        }
        Ok(())
    }

    fn read(&mut self, name: &str, link: Link) -> io::Result<SavedDevice> {
        let features = match &mut self.offload {
            Some(offload) => offload.unwanted(name)?,
            None => Vec::new(),
        };
        let read = |(key, _): &(&str, &str)| Some(((*key).to_owned(), sysctl::read("ipv6", name, key).ok()?));
        Ok(SavedDevice {
            name: name.to_owned(),
            index: link.index,
            up: link.up,
            allmulti: link.allmulti,
            mtu: link.mtu,
            features,
            ipv6: DEVICE_IPV6.iter().filter_map(read).collect(),
            addresses: self.links.addresses(link.index)?.iter().map(HexMessage::new).collect(),
            routes: self.links.routes(link.index)?.iter().map(HexMessage::new).collect(),
        })
    }

    fn take_over(&mut self, name: &str, device: &KernelDevice) -> Result<(), KernelError> {
        let step = |what: &'static str| move || format!("device {name}: {what}");
        let index = device.link.index;
        let features: Vec<String> = self
            .saved
            .iter()
            .filter(|saved| saved.name == name)
            .flat_map(|saved| saved.features.clone())
            .collect();
        if let Some(offload) = &mut self.offload {
            offload.set(name, &features, false).tried(step("receive offloads off"))?;
        }
        for address in self.links.addresses(index).tried(step("addresses"))? {
            if address_of(&address).is_some_and(|ip| !is_link_local(ip)) {
                self.links.remove_address(address).tried(step("moving its addresses"))?;
            }
        }
        for (key, value) in DEVICE_IPV6 {
            // A kernel without IPv6 has no such setting, and nothing to switch off.
            let _ = sysctl::write("ipv6", name, key, value);
        }
        if device.mtu > device.link.mtu {
            self.links.set_mtu(index, device.mtu).tried(step("mtu"))?;
        }
        // Neighbour discovery comes to multicast addresses that the kernel has not joined here.
        self.links.set_flags(index, LinkFlags::Up | LinkFlags::Allmulti, true).tried(step("up"))
    }

    /// Puts every saved device back; keeps on where the kernel refuses a step, and says so.
    fn restore(&mut self) {
        for saved in std::mem::take(&mut self.saved) {
            match self.links.find(&saved.name) {
                Ok(Some(link)) if link.index == saved.index => self.restore_device(&saved),
                _ => tracing::warn!(device = saved.name, "is gone, nothing is put back"),
            }
        }
        if let Err(error) = self.file.remove() {
            tracing::warn!(%error, "interfaces.json could not be removed");
        }
    }

    fn restore_device(&mut self, saved: &SavedDevice) {
        let complain = |what: &str, result: io::Result<()>| {
            if let Err(error) = result {
                tracing::warn!(device = saved.name, %error, "could not put back its {what}");
            }
        };
        if let Some(offload) = &mut self.offload {
            complain("offloads", offload.set(&saved.name, &saved.features, true));
        }
        complain("mtu", self.links.set_mtu(saved.index, saved.mtu));
        for (key, value) in &saved.ipv6 {
            complain(key, sysctl::write("ipv6", &saved.name, key, value));
        }
        if !saved.allmulti {
            complain("multicast flag", self.links.set_flags(saved.index, LinkFlags::Allmulti, false));
        }
        for address in saved.addresses.iter().filter_map(HexMessage::address) {
            complain("addresses", self.links.add_address(address));
        }
        if !saved.up {
            complain("state", self.links.set_flags(saved.index, LinkFlags::Up, false));
        }
        for route in saved.routes.iter().filter_map(HexMessage::route) {
            complain("routes", self.links.add_route(route).map(drop));
        }
    }
}

impl Drop for KernelInterfaces {
    fn drop(&mut self) {
        self.restore();
        // Last, so that the kernel answers nothing on a device that still belongs to the data plane.
        self.ingress = None;
    }
}

/// A kernel interface that the data plane uses.
struct KernelDevice {
    link: Link,
    /// The first logical interface on it.
    interface: String,
    /// AF_PACKET leaves the kernel a copy of every packet, AF_XDP does not.
    shared_with_kernel: bool,
    mtu: u32,
}

/// The kernel makes these itself, and removes them with IPv6.
fn is_link_local(address: std::net::IpAddr) -> bool {
    matches!(address, std::net::IpAddr::V6(ip) if ip.is_unicast_link_local())
}

#[cfg(test)]
mod tests;
