//! One device: made or found, configured, started.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::net::if_::if_nametoindex;
use nix::unistd::geteuid;
use sluice_rte::vdev::{self, MemifRole, Pcap, Vdev};
use sluice_rte::{Eal, Error, Mempool, Port, PortConfig, PortIndex, PortInfo, RxQueue, StartedPort, TxQueue};
use sluice_wire::MacAddr;

use crate::config::{Device, PortSpec, TapSpec};
use crate::error::StartError;

/// Descriptors of a queue. A NIC's ring of this many lasts some 70 µs at 14.88 Mpps.
const DESCRIPTORS: u16 = 1024;

/// A tap's driver sets a buffer aside for each descriptor and uses one.
const TAP_DESCRIPTORS: u16 = 32;

/// A started device with all its queues.
pub(crate) struct OpenDevice {
    pub(crate) started: StartedPort,
    pub(crate) rx: Vec<RxQueue>,
    pub(crate) tx: Vec<TxQueue>,
}

/// What devices are made with.
pub(crate) struct Maker<'a> {
    pub(crate) eal: &'a Eal,
    pub(crate) pool: &'a Mempool,
    pub(crate) workers: u16,
    /// Tells this data plane's devices from those of an earlier one in the process.
    pub(crate) instance: u32,
}

impl Maker<'_> {
    /// Makes, configures and starts the device of port `number`.
    ///
    /// # Errors
    /// What is wrong, with the names of `sluice.yaml`.
    pub(crate) fn port(&self, number: usize, spec: &PortSpec) -> Result<OpenDevice, StartError> {
        if let Device::Kernel(ifname) | Device::Xdp(ifname) = &spec.device
            && if_nametoindex(ifname.as_str()).is_err()
        {
            return Err(StartError::NoInterface { name: spec.name.clone(), ifname: ifname.clone() });
        }
        if let Device::Tap(ifname) = &spec.device {
            free_name(&spec.name, ifname)?;
        }
        self.open_port(number, spec).map_err(|error| explain(error, &spec.name, &spec.device))
    }

    /// Makes and starts the tap of an interface, with the router's MAC address there.
    ///
    /// # Errors
    /// [`StartError::NameTaken`], and what else may be wrong with a tap.
    pub(crate) fn local_tap(&self, tap: &TapSpec, mac: MacAddr, mtu: u16) -> Result<OpenDevice, StartError> {
        free_name(&tap.name, &tap.name)?;
        let name = format!("local{}_{}", self.instance, tap.interface.0);
        let open = || {
            let vdev = vdev::tap(&name, &tap.name, Some(mac.0))?;
            let index = self.eal.create_vdev(&vdev.name, &vdev.args)?;
            let queues = self.queues(&PortInfo::query(self.eal, index)?);
            let config =
                PortConfig { mtu, all_multicast: false, rx_desc: TAP_DESCRIPTORS, ..config(queues, queues) };
            self.start(index, config)
        };
        open().map_err(|error| explain(error, &tap.name, &Device::Tap(tap.name.clone())))
    }

    fn open_port(&self, number: usize, spec: &PortSpec) -> Result<OpenDevice, Error> {
        let index = match self.vdev(number, spec)? {
            Some(vdev) => self.eal.create_vdev(&vdev.name, &vdev.args)?,
            None => self.eal.port_by_name(pci_address(&spec.device))?,
        };
        let info = PortInfo::query(self.eal, index)?;
        let (rx, tx) = match &spec.device {
            Device::Pci(_) => (self.workers.min(info.max_rx_queues), self.workers.min(info.max_tx_queues)),
            Device::Kernel(_) => (self.workers, self.workers),
            Device::Xdp(ifname) => (xdp_queues(ifname), xdp_queues(ifname)),
            Device::Memif(_) | Device::Pcap { .. } => (1, 1),
            Device::Tap(_) | Device::Vdev(_) => (self.queues(&info), self.queues(&info)),
        };
        let config = PortConfig {
            mtu: port_mtu(spec),
            rx_desc: if matches!(spec.device, Device::Tap(_)) { TAP_DESCRIPTORS } else { DESCRIPTORS },
            // A MAC address of its own is more than these devices' filters know of.
            promiscuous: spec.mac.is_some() || matches!(spec.device, Device::Tap(_)),
            ..config(rx, tx)
        };
        self.start(index, config)
    }

    /// As many queues as there are workers, or as the device can; receive and transmit alike, as some drivers insist.
    fn queues(&self, info: &PortInfo) -> u16 {
        self.workers.min(info.max_rx_queues).min(info.max_tx_queues)
    }

    fn start(&self, index: PortIndex, config: PortConfig) -> Result<OpenDevice, Error> {
        let (started, rx, tx) = Port::configure(self.eal, index, config, self.pool)?.start()?;
        Ok(OpenDevice { started, rx, tx })
    }

    /// The virtual device to make; None for one that is probed at the start.
    fn vdev(&self, number: usize, spec: &PortSpec) -> Result<Option<Vdev>, Error> {
        let name = format!("port{}_{number}", self.instance);
        Ok(Some(match &spec.device {
            Device::Pci(_) => return Ok(None),
            Device::Kernel(ifname) => vdev::kernel(&name, ifname, self.workers, spec.mtu)?,
            Device::Xdp(ifname) => vdev::xdp(&name, ifname, xdp_queues(ifname))?,
            Device::Tap(ifname) => vdev::tap(&name, ifname, None)?,
            Device::Memif(path) => vdev::memif(&name, path, memif_role(path), spec.mtu)?,
            Device::Pcap { input, output } => {
                let files = Pcap { input: &[input], output: output.as_deref(), infinite: false };
                vdev::pcap(&name, &files)?
            }
            Device::Vdev(text) => Vdev::parse(text)?,
        }))
    }
}

/// The router's MAC address on a port: the one asked for, else the device's own. On a `tap:` device the kernel's end has the
/// device's own, so the router's differs from it in the last bit.
pub(crate) fn router_mac(spec: &PortSpec, device: [u8; 6]) -> MacAddr {
    let [a, b, c, d, e, f] = device;
    let own = if matches!(spec.device, Device::Tap(_)) { [a | 2, b, c, d, e, f ^ 1] } else { device };
    spec.mac.unwrap_or(MacAddr(own))
}

/// Bytes from which on a frame may have been cut by the device, so that it is dropped; a longer one is not seen.
pub(crate) fn longest_frame(spec: &PortSpec) -> usize {
    // packet(7): the frame begins 66 bytes into its slot.
    const SLOT_HEADER: usize = 66;
    match spec.device {
        Device::Kernel(_) => (vdev::frame_size(spec.mtu) as usize).saturating_sub(SLOT_HEADER + 1),
        _ => usize::MAX,
    }
}

fn config(rx_queues: u16, tx_queues: u16) -> PortConfig {
    PortConfig {
        rx_queues,
        tx_queues,
        rx_desc: DESCRIPTORS,
        tx_desc: DESCRIPTORS,
        mtu: 0,
        promiscuous: false,
        all_multicast: true,
        rss: true,
    }
}

/// An existing kernel interface's MTU is control's to set, and to put back; for the others it is the device's own.
fn port_mtu(spec: &PortSpec) -> u16 {
    match spec.device {
        Device::Kernel(_) | Device::Xdp(_) | Device::Vdev(_) | Device::Pcap { .. } | Device::Memif(_) => 0,
        Device::Pci(_) | Device::Tap(_) => spec.mtu,
    }
}

fn pci_address(device: &Device) -> &str {
    match device {
        Device::Pci(address) => address,
        _ => "",
    }
}

/// AF_XDP sees only the queues that it is bound to, so all of a NIC's must be. On veth, which spreads nothing, a second one
/// loses flows.
fn xdp_queues(ifname: &str) -> u16 {
    let link = Path::new("/sys/class/net").join(ifname);
    if !link.join("device").exists() {
        return 1;
    }
    let Ok(entries) = std::fs::read_dir(link.join("queues")) else { return 1 };
    let rx = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("rx-")).count();
    u16::try_from(rx).unwrap_or(1).max(1)
}

/// Whoever comes first listens on the socket. One that a dead process left behind refuses connections, and is in the way.
fn memif_role(path: &str) -> MemifRole {
    match UnixStream::connect(path).map_err(|error| error.kind()) {
        Err(ErrorKind::ConnectionRefused) => {
            // Where that fails, the driver says that the address is in use.
            let _ = std::fs::remove_file(path);
            MemifRole::Server
        }
        Err(ErrorKind::NotFound) => MemifRole::Server,
        // Connected, or found a listener of memif's own socket type.
        Ok(_) | Err(_) => MemifRole::Client,
    }
}

fn free_name(name: &str, ifname: &str) -> Result<(), StartError> {
    match if_nametoindex(ifname) {
        Ok(_) => Err(StartError::NameTaken { name: name.to_owned() }),
        Err(_) => Ok(()),
    }
}

fn explain(error: Error, name: &str, device: &Device) -> StartError {
    let needs_rights = matches!(device, Device::Kernel(_) | Device::Xdp(_) | Device::Tap(_));
    match error {
        Error::NotPermitted { .. } => {
            StartError::NotPermitted { what: format!("interface {name}: {device}") }
        }
        // Not all drivers tell why they got no socket.
        Error::Failed { .. } if needs_rights && !geteuid().is_root() => {
            StartError::NotPermitted { what: format!("interface {name}: {device} ({error})") }
        }
        error => StartError::Device {
            name: name.to_owned(),
            device: device.to_string(),
            reason: error.to_string(),
        },
    }
}
