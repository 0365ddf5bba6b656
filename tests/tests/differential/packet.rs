//! Packets as the generator thinks of them, and their bytes. Addresses stand for hosts until a packet is written, so that
//! one sequence can be played many times, between other addresses each time.

use std::fmt;

use sluice_wire::{TcpFlags, checksum};

use crate::sequence::Piece;

/// What each leg carries, in bytes: what a client sends may be too long for the servers.
pub const MTU: [usize; 2] = [1500, 1280];

/// Where a host is, with its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Behind the router's first leg.
    Client(u8),
    /// Behind its second leg.
    Server(u8),
}

/// A datagram.
#[derive(Debug, Clone)]
pub struct Packet {
    pub v6: bool,
    pub src: Host,
    pub dst: Host,
    /// Or hop limit.
    pub ttl: u8,
    /// IPv4: Don't Fragment.
    pub whole: bool,
    /// Options of IPv4; in IPv6, extension headers with their kinds.
    pub extra: Extra,
    pub message: Message,
    pub spoil: Spoil,
}

/// What stands between the fixed header and the message.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// IPv4: filled up to a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6: kind and body behind next header and length, filled up to a multiple of eight bytes in all.
    pub headers: Vec<(u8, Vec<u8>)>,
}

/// How a packet's bytes differ from what they should be.
#[derive(Debug, Clone, Default)]
pub struct Spoil {
    /// IPv4's header checksum is wrong.
    pub header_checksum: bool,
    /// The transport checksum is wrong.
    pub checksum: bool,
    /// The transport checksum is 0.
    pub no_checksum: bool,
    /// Bytes of the datagram to be set; IPv4's header checksum is right all the same.
    pub patches: Vec<(u16, u8)>,
    /// The message has no more bytes than this; lengths say so.
    pub cut: Option<u16>,
    /// Bytes behind the datagram's end.
    pub trailer: u8,
}

/// What a datagram carries.
#[derive(Debug, Clone)]
pub enum Message {
    Tcp(Tcp),
    Udp { lite: bool, ports: (u16, u16), length: usize, field: Option<u16> },
    Sctp { ports: (u16, u16), tag: u32, chunks: Vec<Chunk> },
    Gre(Vec<u8>),
    Icmp { kind: u8, code: u8, id: u16, length: usize },
    Error { kind: u8, code: u8, rest: u32, quote: Box<Packet>, keep: usize },
    Other { protocol: u8, body: Vec<u8> },
}

/// A TCP segment.
#[derive(Clone)]
pub struct Tcp {
    pub ports: (u16, u16),
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    pub options: Vec<u8>,
    pub length: usize,
}

/// A chunk of SCTP.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub kind: u8,
    pub flags: u8,
    pub body: Vec<u8>,
    /// In place of the right length.
    pub length: Option<u16>,
}

impl fmt::Debug for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tcp { ports: (sport, dport), seq, ack, flags, window, options, length } = self;
        let flags = TcpFlags::from_bits(*flags);
        write!(
            f,
            "{sport} > {dport} {flags} seq {seq} ack {ack} win {window} len {length} opt {options:02x?}"
        )
    }
}

impl Host {
    /// The host's address in the `index`th world.
    pub fn address(self, v6: bool, index: u16) -> Vec<u8> {
        let (side, number) = match self {
            Host::Client(number) => (1, number),
            Host::Server(number) => (2, number),
        };
        let [high, low] = index.to_be_bytes();
        if v6 {
            vec![0xfd, side, 0, 0, 0, 0, 0, number, 0, 0, 0, 0, 0, 0, high, low]
        } else {
            vec![10, (side - 1) * 128 + number + 1, high, low]
        }
    }

    /// Behind which leg it is.
    pub fn leg(self) -> usize {
        usize::from(matches!(self, Host::Server(_)))
    }
}

impl Extra {
    /// Whether there is nothing.
    pub fn is_none(&self) -> bool {
        self.options.is_empty() && self.headers.is_empty()
    }
}

impl Spoil {
    /// Whether the packet is as it should be.
    pub fn is_none(&self) -> bool {
        let Spoil { header_checksum, checksum, no_checksum, patches, cut, trailer } = self;
        !header_checksum && !checksum && !no_checksum && patches.is_empty() && cut.is_none() && *trailer == 0
    }
}

impl Message {
    /// What it is, for counting.
    pub fn name(&self) -> &'static str {
        match self {
            Message::Tcp(_) => "tcp",
            Message::Udp { lite: false, .. } => "udp",
            Message::Udp { .. } => "udplite",
            Message::Sctp { .. } => "sctp",
            Message::Gre(_) => "gre",
            Message::Icmp { .. } => "icmp",
            Message::Error { .. } => "error",
            Message::Other { .. } => "other",
        }
    }

    fn protocol(&self, v6: bool) -> u8 {
        match self {
            Message::Tcp(_) => 6,
            Message::Udp { lite, .. } => {
                if *lite {
                    136
                } else {
                    17
                }
            }
            Message::Sctp { .. } => 132,
            Message::Gre(_) => 47,
            Message::Icmp { .. } | Message::Error { .. } => {
                if v6 {
                    58
                } else {
                    1
                }
            }
            Message::Other { protocol, .. } => *protocol,
        }
    }

    fn bytes(&self, index: u16, id: u16) -> Vec<u8> {
        match self {
            Message::Tcp(tcp) => tcp.bytes(),
            Message::Udp { ports, length, field, .. } => {
                let lengths = field.unwrap_or(8 + *length as u16);
                let mut out = words(&[ports.0, ports.1, lengths, 0]);
                out.resize(8 + length, 0x55);
                out
            }
            Message::Sctp { ports, tag, chunks } => {
                let mut out = words(&[ports.0, ports.1]);
                out.extend(tag.to_be_bytes());
                out.extend([0; 4]);
                for chunk in chunks {
                    let length = chunk.length.unwrap_or(4 + chunk.body.len() as u16);
                    out.extend([chunk.kind, chunk.flags]);
                    out.extend(length.to_be_bytes());
                    out.extend(&chunk.body);
                    out.resize(out.len().next_multiple_of(4), 0);
                }
                out
            }
            Message::Gre(bytes) => bytes.clone(),
            Message::Icmp { kind, code, id, length } => {
                let mut out = vec![*kind, *code, 0, 0];
                out.extend(id.to_be_bytes());
                out.resize(6 + length, 1);
                out
            }
            Message::Error { kind, code, rest, quote, keep } => {
                let mut out = vec![*kind, *code, 0, 0];
                out.extend(rest.to_be_bytes());
                let quoted = quote.bytes(index, id);
                out.extend(&quoted[..quoted.len().min(*keep)]);
                out
            }
            Message::Other { body, .. } => body.clone(),
        }
    }

    /// Where the checksum is, and how many bytes it covers.
    fn checksum(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let all = bytes.len();
        match self {
            Message::Tcp(_) => Some((16, all)),
            Message::Udp { lite: false, .. } => Some((6, all)),
            Message::Udp { field, .. } => {
                let covered =
                    field.map_or(all, |field| if field == 0 { all } else { usize::from(field).min(all) });
                Some((6, covered))
            }
            Message::Icmp { .. } | Message::Error { .. } => Some((2, all)),
            _ => None,
        }
    }
}

impl Tcp {
    fn bytes(&self) -> Vec<u8> {
        let mut out = words(&[self.ports.0, self.ports.1]);
        out.extend(self.seq.to_be_bytes());
        out.extend(self.ack.to_be_bytes());
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        out.extend([((20 + options.len()) as u8) << 2, self.flags]);
        out.extend(self.window.to_be_bytes());
        out.extend([0; 4]);
        out.extend(options);
        out.resize(out.len() + self.length, 0x44);
        out
    }
}

impl Packet {
    /// The datagram in the `index`th world. `id` is its identification, or its flow label.
    pub fn bytes(&self, index: u16, id: u16) -> Vec<u8> {
        let mut message = self.message.bytes(index, id);
        self.seal(&mut message, index);
        if let Some(cut) = self.spoil.cut {
            message.truncate(cut.into());
        }
        let mut out =
            if self.v6 { self.v6_header(&message, index, id) } else { self.v4_header(&message, index, id) };
        out.extend(message);
        for &(at, value) in &self.spoil.patches {
            if let Some(byte) = out.get_mut(usize::from(at)) {
                *byte = value;
            }
        }
        if !self.v6 {
            seal_v4(&mut out);
            out[10] ^= u8::from(self.spoil.header_checksum);
        }
        out.resize(out.len() + usize::from(self.spoil.trailer), 0xee);
        out.truncate(MTU[self.src.leg()]);
        out
    }

    fn v4_header(&self, message: &[u8], index: u16, id: u16) -> Vec<u8> {
        let mut options = self.extra.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let header = 20 + options.len();
        let mut out = vec![0x40 | (header / 4) as u8, 0];
        out.extend(((header + message.len()) as u16).to_be_bytes());
        out.extend(id.to_be_bytes());
        out.extend([u8::from(self.whole) << 6, 0, self.ttl, self.message.protocol(false), 0, 0]);
        out.extend(self.src.address(false, index));
        out.extend(self.dst.address(false, index));
        out.extend(options);
        out
    }

    fn v6_header(&self, message: &[u8], index: u16, id: u16) -> Vec<u8> {
        let mut headers: Vec<u8> = Vec::new();
        let protocol = self.message.protocol(true);
        let kinds: Vec<u8> = self.extra.headers.iter().map(|(kind, _)| *kind).chain([protocol]).collect();
        for ((kind, body), next) in self.extra.headers.iter().zip(&kinds[1..]) {
            let length = (2 + body.len()).next_multiple_of(8).max(8);
            let units = if *kind == 51 { length / 4 - 2 } else { length / 8 - 1 };
            let begin = headers.len();
            headers.extend([*next, units as u8]);
            headers.extend(body);
            headers.resize(begin + length, 0);
        }
        let [high, low] = id.to_be_bytes();
        let mut out = vec![0x60, 0, high, low];
        out.extend(((headers.len() + message.len()) as u16).to_be_bytes());
        out.extend([kinds[0], self.ttl]);
        out.extend(self.src.address(true, index));
        out.extend(self.dst.address(true, index));
        out.extend(headers);
        out
    }

    /// The protocol that the pseudo-header names. The kernel's tracker verifies UDP-Lite as if it were UDP, so what ends
    /// send is INVALID to it; some is made such that it is not. (With IPv4 only what is shorter than 256 bytes: it takes
    /// the length modulo that, by mistake.)
    fn summed_protocol(&self) -> u8 {
        match self.message {
            Message::Udp { lite: true, length, .. } if length % 2 == 0 && length < 200 => 17,
            _ => self.message.protocol(self.v6),
        }
    }

    /// Fills in the transport checksum.
    fn seal(&self, message: &mut [u8], index: u16) {
        let protocol = self.message.protocol(self.v6);
        if let Message::Sctp { .. } = self.message {
            let sum = checksum::sctp(message);
            let spoilt = u8::from(self.spoil.checksum);
            message[8..12].copy_from_slice(&[sum[0] ^ spoilt, sum[1], sum[2], sum[3]]);
            return;
        }
        let Some((at, covered)) = self.message.checksum(message) else { return };
        if at + 2 > message.len() || self.spoil.no_checksum {
            return;
        }
        let mut summed = Vec::new();
        if protocol != 1 {
            summed.extend(self.src.address(self.v6, index));
            summed.extend(self.dst.address(self.v6, index));
            summed.extend((message.len() as u32).to_be_bytes());
            summed.extend([0, 0, 0, self.summed_protocol()]);
        }
        summed.extend(&message[..covered]);
        let mut sum = checksum::plain(&summed);
        if matches!(self.message, Message::Udp { .. }) && sum == [0, 0] {
            sum = [0xff, 0xff];
        }
        message[at..at + 2].copy_from_slice(&[sum[0], sum[1] ^ u8::from(self.spoil.checksum)]);
    }
}

/// Fills in the header checksum of IPv4, over as many bytes as the header says it has.
pub fn seal_v4(datagram: &mut [u8]) {
    let length = usize::from(datagram[0] & 0x0f).max(5) * 4;
    if let Some(header) = datagram.get_mut(..length) {
        header[10..12].fill(0);
        let sum = checksum::plain(header);
        header[10..12].copy_from_slice(&sum);
    }
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// A fragment of a datagram without options or extension headers.
pub fn cut(datagram: &[u8], id: u16, piece: &Piece) -> Vec<u8> {
    let v6 = datagram[0] >> 4 == 6;
    let (header, payload) = datagram.split_at(if v6 { 40 } else { 20 });
    let offset = usize::from(piece.offset).min(payload.len());
    let payload = &payload[offset..(offset + usize::from(piece.length)).min(payload.len())];
    let mut out = header.to_vec();
    if v6 {
        out[6] = 44;
        out[4..6].copy_from_slice(&(payload.len() as u16 + 8).to_be_bytes());
        out.extend([header[6], 0]);
        out.extend((piece.offset | u16::from(piece.more)).to_be_bytes());
        out.extend(u32::from(id).to_be_bytes());
    } else {
        out[2..4].copy_from_slice(&(payload.len() as u16 + 20).to_be_bytes());
        let word = (piece.offset / 8) | (u16::from(piece.more) << 13);
        out[6..8].copy_from_slice(&word.to_be_bytes());
        seal_v4(&mut out);
    }
    out.extend(payload);
    out
}
