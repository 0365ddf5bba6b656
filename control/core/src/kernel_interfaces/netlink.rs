//! A blocking netlink socket: one request, its answers (RFC 3549 §2.2).
//!
//! Blocking, unlike most of control: it runs before the workers do and after they stopped, where putting the kernel's
//! interfaces back must also work from a destructor. Messages are encoded by the netlink-packet crates; families that
//! those do not know (nf_tables, generic netlink) travel as [`Raw`].

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;

/// The kernel answers at once; this only keeps a start or a stop from hanging for ever.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A socket of one netlink protocol, talking to the kernel.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket of `protocol`, one of `netlink_sys::protocols`.
    pub(super) fn open(protocol: isize) -> io::Result<Netlink> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let timeout = TimeVal::new(TIMEOUT.as_secs().try_into().unwrap_or(5), 0);
        setsockopt(&socket, ReceiveTimeout, &timeout)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends `message` and waits until the kernel has done it; what it answered besides.
    ///
    /// # Errors
    /// The kernel's errno, or that of the socket.
    pub(super) fn request<M>(&mut self, message: M, flags: u16) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.send([(message, NLM_F_REQUEST | NLM_F_ACK | flags)])?;
        self.answers(self.sequence)
    }

    /// Asks for all objects of a kind.
    ///
    /// # Errors
    /// As [`Netlink::request`].
    pub(super) fn dump<M>(&mut self, message: M) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.send([(message, NLM_F_REQUEST | NLM_F_DUMP)])?;
        self.answers(self.sequence)
    }

    /// Sends `messages` as one datagram and waits until the kernel has done, or refused, all that ask for an
    /// acknowledgement.
    ///
    /// # Errors
    /// The first error among the answers.
    pub(super) fn batch(&mut self, messages: Vec<(Raw, u16)>) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let acks: Vec<bool> = messages.iter().map(|(_, flags)| flags & NLM_F_ACK != 0).collect();
        self.send(messages)?;
        for (sequence, _) in (first..).zip(acks).filter(|(_, ack)| *ack) {
            self.answers::<Raw>(sequence)?;
        }
        Ok(())
    }

    fn send<M: NetlinkSerializable>(
        &mut self,
        messages: impl IntoIterator<Item = (M, u16)>,
    ) -> io::Result<()> {
        let mut datagram = Vec::new();
        for (message, flags) in messages {
            self.sequence = self.sequence.wrapping_add(1);
            let mut header = NetlinkHeader::default();
            header.flags = flags;
            header.sequence_number = self.sequence;
            let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
            message.finalize();
            let start = datagram.len();
            datagram.resize(start + message.buffer_len(), 0);
            message.serialize(&mut datagram[start..]);
        }
        self.socket.send(&datagram, 0).map(drop)
    }

    /// Reads until the acknowledgement, the end of the dump, or the error of request `sequence`.
    fn answers<M: NetlinkDeserializable>(&mut self, sequence: u32) -> io::Result<Vec<M>> {
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while rest.len() >= NetlinkHeader::default().buffer_len() {
                let message = NetlinkMessage::<M>::deserialize(rest).map_err(io::Error::other)?;
                let (header, payload) = message.into_parts();
                let length = usize::try_from(header.length).unwrap_or(usize::MAX).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                if header.sequence_number != sequence {
                    // The rest of an earlier request that ended in an error; or, of a batch, its error.
                    match payload {
                        NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                        _ => continue,
                    }
                }
                match payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }
}

/// A message of a family that the netlink-packet crates do not know: everything behind the netlink header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Raw {
    /// Message type.
    pub(super) kind: u16,
    /// The family's own header and the attributes.
    pub(super) body: Vec<u8>,
}

impl Raw {
    /// A message from its family's header and its attributes.
    pub(super) fn new(kind: u16, header: [u8; 4], attributes: &[DefaultNla]) -> Raw {
        let mut body = header.to_vec();
        body.extend(encode(attributes));
        Raw { kind, body }
    }

    /// The attributes behind the family's header of 4 bytes, as (type, value).
    pub(super) fn attributes(&self) -> Vec<(u16, &[u8])> {
        decode(self.body.get(4..).unwrap_or_default())
    }
}

impl NetlinkSerializable for Raw {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Raw {
    type Error = std::convert::Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Raw, Self::Error> {
        Ok(Raw { kind: header.message_type, body: payload.to_vec() })
    }
}

/// Attributes as bytes.
pub(super) fn encode(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

/// Attributes of a buffer as (type, value); ends at the first that does not fit.
pub(super) fn decode(bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let attributes = NlasIterator::new(bytes).map_while(Result::ok);
    attributes
        .map(|nla| {
            let (kind, end) = (nla.kind(), usize::from(nla.length()));
            (kind, nla.into_inner().get(NLA_HEADER_SIZE..end).unwrap_or_default())
        })
        .collect()
}

/// A text attribute, with the final NUL that the kernel wants.
pub(super) fn text(kind: u16, value: &str) -> DefaultNla {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    DefaultNla::new(kind, bytes)
}

/// An attribute made of attributes.
pub(super) fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | netlink_packet_core::NLA_F_NESTED, encode(attributes))
}
