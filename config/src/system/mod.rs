//! The system file as a typed model: workers, memory, interfaces, routes, neighbours, connection tracking, control.
//!
//! A [`System`] has passed every check that needs no look at the machine: addresses and routes fit together, every next
//! hop is on a link, names are usable. Whether a device exists is found out by the daemon.

mod capacity;
mod check;
mod conntrack;
mod decode;
mod interface;
mod ipfix;
mod route;
pub(crate) mod schema;
mod timeouts;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use sluice_wire::MacAddr;

use crate::addr::IpPrefix;
use crate::decode::Reader;
use crate::diagnostics::Diagnostics;
use crate::rate::Rate;
use crate::source::{Span, folder, read_text};

pub use capacity::{Adaptive, Share, SourceQuota};
pub use conntrack::{Conntrack, LogInvalid};
pub use ipfix::Ipfix;
pub(crate) use timeouts::names as timeout_names;
pub use timeouts::{TimeoutOverrides, Timeouts};

/// A system file that has no errors. Every setting that the file leaves out has its default.
#[derive(Clone, Debug, PartialEq)]
pub struct System {
    /// The packet workers.
    pub workers: Workers,
    /// The packet buffers.
    pub memory: Memory,
    /// The interfaces in the order of the file.
    pub interfaces: Vec<Interface>,
    /// The static routes, in order.
    pub routes: Vec<Route>,
    /// Whether routes of the kernel's main table over any tap are followed, not only over those with `addresses: kernel`.
    pub kernel_routes: bool,
    /// The static neighbours, in order.
    pub neighbours: Vec<Neighbour>,
    /// Connection tracking.
    pub conntrack: Conntrack,
    /// ICMP errors made by the router.
    pub icmp: Icmp,
    /// The collector that flows are told to.
    pub ipfix: Option<Ipfix>,
    /// API and metrics.
    pub control: Control,
    /// Path of the policy file, absolute or relative to the process's folder.
    pub policy: PathBuf,
    /// Folder of the policy history.
    pub state: PathBuf,
}

impl System {
    /// Reads and checks the file at `path`. With the model come the warnings.
    ///
    /// # Errors
    /// All that is wrong with the file, warnings included.
    pub fn load(path: &Path) -> Result<(Self, Diagnostics), Diagnostics> {
        let text = read_text(path)?;
        Self::parse(&path.to_string_lossy(), &text)
    }

    /// Reads and checks a file's text. `name` is its path as messages show it; relative paths in it are resolved against
    /// that path's folder.
    ///
    /// # Errors
    /// All that is wrong with the text, warnings included.
    pub fn parse(name: &str, text: &str) -> Result<(Self, Diagnostics), Diagnostics> {
        let mut reader = Reader::new(name, text);
        let tree = reader.tree();
        let raw = tree.and_then(|root| decode::system(&mut reader, &root, folder(name)));
        let system = raw.map(|raw| check::system(&mut reader, raw));
        let diagnostics = reader.finish();
        match system {
            Some(system) if !diagnostics.has_errors() => Ok((system, diagnostics)),
            _ => Err(diagnostics),
        }
    }

    /// The names that a policy's `in` and `out` may use beside its own zones.
    pub fn interface_names(&self) -> InterfaceNames {
        InterfaceNames::new(self.interfaces.iter().map(|interface| interface.name.clone()))
    }

    /// The interface of that name.
    pub fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }
}

/// Names of the interfaces that there are, to check a policy against.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceNames(BTreeSet<String>);

impl InterfaceNames {
    /// These names.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().collect())
    }

    /// True if there is an interface of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// All names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// `workers:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workers {
    /// How many there are, and where they run.
    pub placement: Placement,
    /// What one does when there is nothing to do.
    pub idle: Idle,
}

/// Where workers run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One pinned to each of these cores: at least one, at most [`MAX_WORKERS`], each once.
    Cores(Vec<u16>),
    /// So many (1 to [`MAX_WORKERS`]), on the first cores that the process may use.
    Count(u16),
}

/// More workers than this could not all own flows: the owner is one of 128 hash values modulo the workers.
pub const MAX_WORKERS: usize = 128;

impl Placement {
    /// The number of workers.
    pub fn count(&self) -> usize {
        match self {
            Self::Cores(cores) => cores.len(),
            Self::Count(count) => usize::from(*count),
        }
    }
}

/// What a worker does when a round found no packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Idle {
    /// Polls on: for cores of their own.
    #[default]
    Poll,
    /// Gives the core away: for shared cores.
    Yield,
}

/// `memory:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Whether huge pages are used.
    pub hugepages: Hugepages,
    /// Number of packet buffers, for all workers together.
    pub mbufs: u32,
}

/// Use of huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hugepages {
    /// If there are any.
    #[default]
    Auto,
    /// Without them, do not start.
    Required,
    /// Never: runs anywhere, slower.
    Off,
}

/// An entry of `interfaces:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name: at most 15 bytes, as the kernel's.
    pub name: String,
    /// What it runs on.
    pub device: Device,
    /// Its addresses, with the prefix of the attached network; empty with `kernel_addresses`.
    pub addresses: Vec<IpPrefix>,
    /// `addresses: kernel`: they are those that programs on the box (a DHCP client) put on its tap.
    pub kernel_addresses: bool,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Check of the source address against the routes.
    pub rp_filter: RpFilter,
    /// 802.1Q tag of its frames; `None`: untagged.
    pub vlan: Option<VlanId>,
    /// Its MAC address; `None`: the device's own.
    pub mac: Option<MacAddr>,
    /// Where its name stands.
    pub span: Span,
}

impl Interface {
    /// Whether the box's own traffic has a tap here: without an address there is none.
    pub fn has_tap(&self) -> bool {
        self.kernel_addresses || !self.addresses.is_empty()
    }
}

/// An 802.1Q VLAN id, 1 to 4094.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

impl VlanId {
    /// The id; `None` for 0 and above 4094, which are reserved. Source: IEEE 802.1Q.
    pub const fn new(id: u16) -> Option<Self> {
        if id >= 1 && id <= 4094 { Some(Self(id)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// What an interface runs on. Displays as it is written in the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Device {
    /// A PCI device, `0000:3b:00.0`.
    Pci(String),
    /// An existing kernel interface, through AF_PACKET.
    Kernel(String),
    /// An existing kernel interface, through AF_XDP.
    Xdp(String),
    /// A new tap interface of that name.
    Tap(String),
    /// A shared memory interface at that socket.
    Memif(PathBuf),
    /// Packets from a capture file, sent ones to another if given.
    Pcap {
        /// The capture to read.
        input: PathBuf,
        /// The capture to write.
        output: Option<PathBuf>,
    },
    /// Any DPDK vdev: its name and arguments, verbatim.
    Vdev(String),
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pci(address) => write!(f, "pci:{address}"),
            Self::Kernel(name) => write!(f, "kernel:{name}"),
            Self::Xdp(name) => write!(f, "xdp:{name}"),
            Self::Tap(name) => write!(f, "tap:{name}"),
            Self::Memif(path) => write!(f, "memif:{}", path.display()),
            Self::Pcap { input, output: None } => write!(f, "pcap:{}", input.display()),
            Self::Pcap { input, output: Some(output) } => {
                write!(f, "pcap:{},{}", input.display(), output.display())
            }
            Self::Vdev(args) => write!(f, "vdev:{args}"),
        }
    }
}

/// Reverse path filter. Source: RFC 3704 sections 2.2 and 2.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RpFilter {
    /// Not checked.
    #[default]
    Off,
    /// There is a route to the source.
    Loose,
    /// The route to the source leaves by the interface that the packet came in by.
    Strict,
}

/// An entry of `routes:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destinations; host bits are clear.
    pub to: IpPrefix,
    /// What becomes of packets to there.
    pub target: RouteTarget,
    /// Of two routes to the same destinations the lower metric wins.
    pub metric: u32,
    /// Where the route stands.
    pub span: Span,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// Through one of these next hops, by weight; at least one.
    Via(Vec<NextHop>),
    /// Straight onto the link of that interface.
    Dev(String),
    /// Refused with host unreachable.
    Unreachable,
    /// Refused with administratively prohibited.
    Prohibit,
    /// Dropped silently.
    Blackhole,
}

/// A next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Its address: of the route's family, on the link of `dev`.
    pub address: IpAddr,
    /// The interface that it is on, given or found by its address.
    pub dev: String,
    /// Its share of the flows, 1 to 256.
    pub weight: u16,
}

/// An entry of `neighbours:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its MAC address.
    pub mac: MacAddr,
    /// The interface that it is on, given or found by its address.
    pub dev: String,
    /// Where the entry stands.
    pub span: Span,
}

/// `icmp:`: errors that the router makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// At most so many; `None`: no limit.
    pub ratelimit: Option<Rate>,
    /// How many may come at once.
    pub burst: u32,
    /// Whether redirects are sent.
    pub redirects: bool,
}

/// `control:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Path of the API's unix socket.
    pub api: PathBuf,
    /// Where metrics are served; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Whether the page is served beside them; `None`: if they are on loopback.
    pub page: Option<bool>,
    /// Whether the API is served to other hosts, too.
    pub remote: Option<Remote>,
}

/// `control.remote:`: the API over mutual TLS. What is in the files is looked at by the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where it is served.
    pub listen: SocketAddr,
    /// The box's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that signs clients' certificates.
    pub ca: PathBuf,
    /// The list of certificates that are revoked; `None`: none is.
    pub revoked: Option<PathBuf>,
}

#[cfg(test)]
mod tests;
