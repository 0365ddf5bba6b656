//! Names and arguments of the virtual devices behind `kernel:`, `xdp:`, `tap:`, `memif:`, `pcap:` and `null`. Pure.
//!
//! | device | driver | facts |
//! |---|---|---|
//! | `kernel:IF` | af_packet | flows do not stay on a queue (fanout with rollover); frames longer than [`frame_size`]'s room are cut silently, so GRO, LRO and VLAN stripping on IF must be off; sets IF's MTU when asked to; needs CAP_NET_RAW |
//! | `xdp:IF` | af_xdp | one queue on veth; needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF |
//! | `tap:NAME` | tap | makes the interface NAME; 4 queues at most (22.11); `SIGIO` goes to the process; needs CAP_NET_ADMIN |
//! | `memif:PATH` | memif | shared memory over the socket PATH, one server and one client |
//! | `pcap:IN[,OUT]` | pcap | a cargo feature; IN is read into the pool when it repeats for ever: packets + 32k buffers |
//! | `null` | null | a sink; a source too unless told otherwise |
//!
//! `pci:ADDRESS` has none: list the address in [`crate::EalConfig::pci`] and ask [`crate::Eal::port_by_name`] for it.
//! `vdev:STRING` is verbatim: see [`Vdev::parse`].
//!
//! Source: DPDK's "Network Interface Controller Drivers" guide, and trying.

use std::fmt::Write;

use crate::error::Error;
use crate::mbuf::HEADROOM;

/// A virtual device for [`crate::Eal::create_vdev`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vdev {
    /// DPDK's name: that of the driver, and a suffix.
    pub name: String,
    /// Arguments, with commas between.
    pub args: String,
}

/// DPDK's limit (`RTE_ETH_NAME_MAX_LEN` less the terminator); longer names are cut silently by some drivers.
const NAME_MAX: usize = 63;

impl Vdev {
    /// From a `vdev:` string: name, comma, arguments, as DPDK's `--vdev` takes them.
    ///
    /// # Errors
    /// [`Error::BadString`] for a name that is empty or too long.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let (name, args) = text.split_once(',').unwrap_or((text, ""));
        let name = checked("vdev name", name)?;
        Ok(Self { name: name.to_owned(), args: args.to_owned() })
    }

    /// Named for its driver and `port`.
    fn new(driver: &str, port: &str, args: String) -> Result<Self, Error> {
        let name = format!("{driver}_{}", checked("port name", port)?);
        checked("vdev name", &name)?;
        Ok(Self { name, args })
    }
}

/// `kernel:`: the existing interface `interface`, through AF_PACKET.
///
/// `port` is a name of the caller's that makes the device's name, here and below. `mtu` in bytes.
///
/// # Errors
/// [`Error::BadString`], here and below: a name or path with a comma, a bracket, a quote or a blank in it, or too long.
pub fn kernel(port: &str, interface: &str, queues: u16, mtu: u16) -> Result<Vdev, Error> {
    let interface = checked("interface", interface)?;
    let frame = frame_size(mtu);
    // The driver takes frames to lie back to back, so blocks must be whole frames as well as whole pages. 8 MiB a ring
    // whatever the frame; the number is of whole blocks.
    let block = if frame <= 4096 { 16384 } else { frame };
    let count = RING_BYTES / block * (block / frame);
    let args = format!(
        "iface={interface},qpairs={queues},framesz={frame},blocksz={block},framecnt={count},qdisc_bypass=1"
    );
    Vdev::new("net_af_packet", port, args)
}

/// Memory of each of a queue's two AF_PACKET rings.
const RING_BYTES: u32 = 8 << 20;

/// Bytes of an AF_PACKET ring's slot that holds frames of that MTU (in bytes) with two VLAN tags: 2048 at MTU 1500, pages where
/// that is not enough.
#[must_use]
pub const fn frame_size(mtu: u16) -> u32 {
    // Slot header, socket address and alignment in front of the frame (packet(7)), as far as they can grow.
    const HEADER: u32 = 80;
    const ETHERNET: u32 = 14 + 4 + 4;
    let slot = mtu as u32 + ETHERNET + HEADER;
    if slot <= 2048 { 2048 } else { slot.next_multiple_of(4096) }
}

/// Bytes of a pool's buffers ([`crate::Mempool::new`]) with which every device here can receive frames of that MTU: AF_PACKET
/// asks for room for a whole slot. 2176 at MTU 1500; the limit of 65,535 where more would be needed.
#[must_use]
pub const fn data_room(mtu: u16) -> u16 {
    let bytes = frame_size(mtu) + HEADROOM as u32;
    if bytes > u16::MAX as u32 { u16::MAX } else { bytes as u16 }
}

/// `xdp:`: the existing interface `interface`, through AF_XDP, from its queue 0 on.
///
/// # Errors
/// See [`kernel`].
pub fn xdp(port: &str, interface: &str, queues: u16) -> Result<Vdev, Error> {
    let interface = checked("interface", interface)?;
    Vdev::new("net_af_xdp", port, format!("iface={interface},start_queue=0,queue_count={queues}"))
}

/// `tap:`: makes the kernel interface `interface`, with `mac` where given (order of the wire), else a random one. The number of
/// queues follows from the port's configuration.
///
/// # Errors
/// See [`kernel`].
pub fn tap(port: &str, interface: &str, mac: Option<[u8; 6]>) -> Result<Vdev, Error> {
    let interface = checked("interface", interface)?;
    let mut args = format!("iface={interface}");
    if let Some([a, b, c, d, e, f]) = mac {
        // Writing to a string does not fail.
        let _ = write!(args, ",mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    }
    Vdev::new("net_tap", port, args)
}

/// Which end of a memif connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemifRole {
    /// Listens on the socket.
    Server,
    /// Connects to the socket, and has the memory.
    Client,
}

/// `memif:`: shared memory with another process over the socket `path`. `mtu` in bytes.
///
/// # Errors
/// See [`kernel`].
pub fn memif(port: &str, path: &str, role: MemifRole, mtu: u16) -> Result<Vdev, Error> {
    let path = checked("socket", path)?;
    let role = match role {
        MemifRole::Server => "server",
        MemifRole::Client => "client",
    };
    let buffer = frame_size(mtu);
    Vdev::new("net_memif", port, format!("role={role},id=0,socket={path},socket-abstract=no,bsize={buffer}"))
}

/// What a pcap port reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pcap<'a> {
    /// Files read, one for each receive queue.
    pub input: &'a [&'a str],
    /// File written; none: what is sent is dropped.
    pub output: Option<&'a str>,
    /// Read over and over, out of the pool.
    pub infinite: bool,
}

/// `pcap:`: packets out of files and into one.
///
/// # Errors
/// See [`kernel`].
pub fn pcap(port: &str, files: &Pcap<'_>) -> Result<Vdev, Error> {
    let mut args = Vec::new();
    for file in files.input {
        args.push(format!("rx_pcap={}", checked("file", file)?));
    }
    if let Some(file) = files.output {
        args.push(format!("tx_pcap={}", checked("file", file)?));
    }
    if files.infinite {
        args.push("infinite_rx=1".to_owned());
    }
    Vdev::new("net_pcap", port, args.join(","))
}

/// A sink for what is sent. `source`: packets of 64 zero bytes for ever, else none.
///
/// # Errors
/// See [`kernel`].
pub fn null(port: &str, source: bool) -> Result<Vdev, Error> {
    Vdev::new("net_null", port, if source { String::new() } else { "no-rx=1".to_owned() })
}

/// A port that receives what it sends: for tests.
///
/// # Errors
/// See [`kernel`].
pub fn ring(port: &str) -> Result<Vdev, Error> {
    Vdev::new("net_ring", port, String::new())
}

/// DPDK's arguments know no escapes, so what would be taken for syntax is refused.
fn checked<'a>(what: &'static str, value: &'a str) -> Result<&'a str, Error> {
    let syntax = |letter: char| {
        matches!(letter, ',' | '[' | ']' | '(' | ')' | '"' | '\'' | '\0') || letter.is_whitespace()
    };
    let reason = if value.is_empty() {
        "is empty"
    } else if what.ends_with("name") && value.len() > NAME_MAX {
        "is longer than 63 bytes"
    } else if value.contains(syntax) {
        "has a letter in it that dpdk takes for syntax"
    } else {
        return Ok(value);
    };
    Err(Error::BadString { what, value: value.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_those_that_were_found_to_work() {
        let vdev = |name: &str, args: &str| Vdev { name: name.to_owned(), args: args.to_owned() };
        let mac = Some([2, 0, 0, 0, 0, 0x1f]);
        let files = Pcap { input: &["/a.pcap", "/b.pcap"], output: None, infinite: true };
        let cases = [
            (
                kernel("wan", "eth0", 2, 1500).unwrap(),
                vdev(
                    "net_af_packet_wan",
                    "iface=eth0,qpairs=2,framesz=2048,blocksz=16384,framecnt=4096,qdisc_bypass=1",
                ),
            ),
            (xdp("x", "eth0", 1).unwrap(), vdev("net_af_xdp_x", "iface=eth0,start_queue=0,queue_count=1")),
            (tap("lan", "lan0", mac).unwrap(), vdev("net_tap_lan", "iface=lan0,mac=02:00:00:00:00:1f")),
            (
                memif("m", "/run/m.sock", MemifRole::Client, 1500).unwrap(),
                vdev("net_memif_m", "role=client,id=0,socket=/run/m.sock,socket-abstract=no,bsize=2048"),
            ),
            (pcap("p", &files).unwrap(), vdev("net_pcap_p", "rx_pcap=/a.pcap,rx_pcap=/b.pcap,infinite_rx=1")),
            (null("n", false).unwrap(), vdev("net_null_n", "no-rx=1")),
            (Vdev::parse("net_null0,size=128,copy=1").unwrap(), vdev("net_null0", "size=128,copy=1")),
        ];
        for (made, expected) in cases {
            assert_eq!(made, expected);
        }
    }

    #[test]
    fn a_slot_holds_the_largest_frame() {
        for (mtu, expected) in [(68, 2048), (1500, 2048), (1946, 2048), (1947, 4096), (9000, 12288)] {
            assert_eq!(frame_size(mtu), expected, "mtu {mtu}");
            assert_eq!(u32::from(data_room(mtu)), expected + u32::from(HEADROOM));
        }
    }

    #[test]
    fn syntax_in_names_is_refused() {
        assert!(kernel("wan", "eth0,fanout=1", 1, 1500).is_err());
        assert!(pcap("p", &Pcap { input: &["/a b"], output: None, infinite: false }).is_err());
        assert!(Vdev::parse("").is_err());
    }
}
