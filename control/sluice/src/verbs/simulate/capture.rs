//! IP datagrams out of a capture: pcap and pcapng, from Ethernet, Linux cooked captures and raw IP.
//!
//! A capture that is cut off, as one of a `tcpdump` that was killed, is read as far as it goes. Packets that were captured in part
//! are filled up with zeros, so that headers say what they said.

use std::borrow::Cow;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError, TsResolution};

/// Where pcapng files begin. Source: draft-ietf-opsawg-pcapng, section header block.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// The longest datagram.
const LONGEST: usize = 65_535;

/// A packet of a capture.
pub(super) struct Captured<'a> {
    /// Nanoseconds since 1970; 0 where the capture does not tell.
    pub(super) nanos: u64,
    /// The interface that it was captured at, if the capture names it.
    pub(super) interface: Option<&'a str>,
    /// The IP datagram; None if it is none.
    pub(super) datagram: Option<Cow<'a, [u8]>>,
    /// Whether some of its bytes are not known.
    pub(super) cut: bool,
}

/// Reads all packets, in order. Says why it stopped before the end, if it did.
///
/// # Errors
/// It is no capture.
pub(super) fn read(path: &Path, mut each: impl FnMut(&Captured<'_>)) -> Result<Option<String>, String> {
    let open = || std::fs::File::open(path).map_err(|e| e.to_string());
    let mut magic = [0; 4];
    open()?.read_exact(&mut magic).map_err(|_| "it is no capture: shorter than a header".to_owned())?;
    let file = BufReader::new(open()?);
    if magic == PCAPNG { pcapng(file, &mut each) } else { pcap(file, &mut each) }
}

fn pcap(file: impl Read, each: &mut dyn FnMut(&Captured<'_>)) -> Result<Option<String>, String> {
    let mut reader = PcapReader::new(file).map_err(|e| format!("it is no capture: {e}"))?;
    let header = reader.header();
    let unit = if header.ts_resolution == TsResolution::NanoSecond { 1 } else { 1000 };
    while let Some(packet) = reader.next_raw_packet() {
        let packet = match packet {
            Ok(packet) => packet,
            Err(error) => return Ok(Some(stop(&error))),
        };
        let nanos = u64::from(packet.ts_sec) * 1_000_000_000 + u64::from(packet.ts_frac) * unit;
        let (datagram, cut) = datagram(header.datalink, &packet.data, packet.orig_len);
        each(&Captured { nanos, interface: None, datagram, cut });
    }
    Ok(None)
}

fn pcapng(file: impl Read, each: &mut dyn FnMut(&Captured<'_>)) -> Result<Option<String>, String> {
    let mut reader = PcapNgReader::new(file).map_err(|e| format!("it is no capture: {e}"))?;
    let mut links: Vec<Link> = Vec::new();
    let mut last = 0;
    loop {
        // Numbers of interfaces count from each section's beginning; the reader forgets those of the section before.
        let block = match reader.next_block() {
            None => return Ok(None),
            Some(Ok(block)) => block,
            Some(Err(error)) => return Ok(Some(stop(&error))),
        };
        let (id, ticks, length, data) = match block {
            Block::SectionHeader(_) => {
                links.clear();
                continue;
            }
            Block::InterfaceDescription(link) => {
                links.push(Link::of(&link));
                continue;
            }
            Block::EnhancedPacket(packet) => {
                // The reader takes the ticks of every file for nanoseconds.
                let ticks = u64::try_from(packet.timestamp.as_nanos()).unwrap_or(u64::MAX);
                (packet.interface_id, Some(ticks), packet.original_len, packet.data)
            }
            Block::SimplePacket(packet) => (0, None, packet.original_len, packet.data),
            _ => continue,
        };
        let Some(link) = usize::try_from(id).ok().and_then(|id| links.get(id)) else { continue };
        last = ticks.map_or(last, |ticks| link.nanos(ticks));
        let (datagram, cut) = datagram(link.kind, &data, length);
        each(&Captured { nanos: last, interface: link.name.as_deref(), datagram, cut });
    }
}

fn stop(error: &PcapError) -> String {
    match error {
        PcapError::IncompleteBuffer => "the capture is cut off".to_owned(),
        PcapError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            "the capture is cut off".to_owned()
        }
        PcapError::IoError(error) => format!("the capture cannot be read on: {error}"),
        other => format!("the capture cannot be read on: {other}"),
    }
}

/// An interface of a pcapng section.
struct Link {
    kind: DataLink,
    name: Option<String>,
    /// `if_tsresol`: a negative power of 10, or of 2 if the highest bit is set.
    resolution: u8,
}

impl Link {
    fn of(block: &InterfaceDescriptionBlock<'_>) -> Link {
        let mut link = Link { kind: block.linktype, name: None, resolution: 6 };
        for option in &block.options {
            match option {
                InterfaceDescriptionOption::IfName(name) => link.name = Some(name.to_string()),
                InterfaceDescriptionOption::IfTsResol(resolution) => link.resolution = *resolution,
                _ => {}
            }
        }
        link
    }

    fn nanos(&self, ticks: u64) -> u64 {
        let exponent = u32::from(self.resolution & 0x7f);
        let base: u128 = if self.resolution & 0x80 == 0 { 10 } else { 2 };
        let nanos = base.checked_pow(exponent).map(|unit| u128::from(ticks) * 1_000_000_000 / unit);
        nanos.and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0)
    }
}

/// The IP datagram of a captured frame, and whether bytes of it are missing.
fn datagram(link: DataLink, frame: &[u8], original: u32) -> (Option<Cow<'_, [u8]>>, bool) {
    let Some(bytes) = payload(link, frame) else { return (None, false) };
    let total = match bytes.first().map(|byte| byte >> 4) {
        Some(4) => field(bytes, 2).map(usize::from),
        Some(6) => field(bytes, 4).map(|length| usize::from(length) + 40),
        _ => return (None, false),
    };
    let captured_whole = usize::try_from(original).is_ok_and(|original| original <= frame.len());
    match total {
        Some(total) if total > bytes.len() && total <= LONGEST && !captured_whole => {
            let mut filled = bytes.to_vec();
            filled.resize(total, 0);
            (Some(filled.into()), true)
        }
        // Ethernet's padding, or a header that lies, which the parser tells.
        _ => (Some(bytes.get(..LONGEST).unwrap_or(bytes).into()), false),
    }
}

/// What is behind the link's header, if that says that it is IP. VLAN tags are left out.
fn payload(link: DataLink, frame: &[u8]) -> Option<&[u8]> {
    let (mut kind, mut at) = match link {
        DataLink::ETHERNET => (field(frame, 12)?, 14),
        DataLink::LINUX_SLL => (field(frame, 14)?, 16),
        DataLink::LINUX_SLL2 => (field(frame, 0)?, 20),
        DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 => return Some(frame),
        // An address family of the machine that captured, in its own byte order: the datagram itself says which.
        DataLink::NULL | DataLink::LOOP => return frame.get(4..),
        _ => return None,
    };
    while matches!(kind, 0x8100 | 0x88a8) {
        kind = field(frame, at + 2)?;
        at += 4;
    }
    matches!(kind, 0x0800 | 0x86dd).then(|| frame.get(at..)).flatten()
}

/// A number of two bytes, big-endian.
fn field(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP datagram of eight bytes over IPv4, without checksums.
    fn udp() -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 10, 9, 0, 1];
        bytes.extend([0x13, 0x88, 0, 53, 0, 8, 0, 0]);
        bytes
    }

    fn ethernet(kind: &[u8], datagram: &[u8]) -> Vec<u8> {
        [&[2; 12], kind, datagram].concat()
    }

    #[test]
    fn datagrams_are_found_behind_each_kind_of_header() {
        let ip = udp();
        let cases: [(&str, DataLink, Vec<u8>, bool); 7] = [
            ("ethernet", DataLink::ETHERNET, ethernet(&[8, 0], &ip), true),
            ("tagged", DataLink::ETHERNET, ethernet(&[0x81, 0, 0, 7, 8, 0], &ip), true),
            ("arp", DataLink::ETHERNET, ethernet(&[8, 6], &ip), false),
            ("cooked", DataLink::LINUX_SLL, [&[0; 14], &[8, 0][..], &ip].concat(), true),
            ("raw", DataLink::RAW, ip.clone(), true),
            ("loopback", DataLink::NULL, [&[2, 0, 0, 0], ip.as_slice()].concat(), true),
            ("a header alone", DataLink::ETHERNET, vec![0; 14], false),
        ];
        for (name, link, frame, found) in cases {
            let (datagram, cut) = datagram(link, &frame, frame.len() as u32);
            assert_eq!((datagram.is_some_and(|d| *d == ip), cut), (found, false), "{name}");
        }
    }

    #[test]
    fn what_was_not_captured_is_filled_up() {
        let whole = udp();
        let (datagram, cut) = datagram(DataLink::RAW, &whole[..24], 28);
        assert_eq!((datagram.unwrap().len(), cut), (28, true));
        assert!(!super::datagram(DataLink::RAW, &whole[..24], 24).1, "its header lies: the parser tells");
    }

    #[test]
    fn ticks_are_of_the_resolution_that_the_interface_says() {
        for (resolution, ticks, nanos) in
            [(6, 5, 5000), (9, 5, 5), (0, 5, 5_000_000_000), (0x81, 1, 500_000_000), (127, 1, 0)]
        {
            let link = Link { kind: DataLink::RAW, name: None, resolution };
            assert_eq!(link.nanos(ticks), nanos, "{resolution}");
        }
    }
}
