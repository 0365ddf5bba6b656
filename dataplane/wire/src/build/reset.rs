//! The TCP reset that refuses a segment. Source: RFC 9293 section 3.5.2 (reset generation, group 1).

use super::{BuildError, DEFAULT_TTL, Link, Network};
use crate::bytes::HeaderMut;
use crate::packet::Packet;
use crate::tcp::{self, Segment, TcpFlags};
use crate::transport::{DESTINATION_PORT, SOURCE_PORT};
use crate::{Protocol, checksum};

/// Writes a reset from the destination of a segment to its source. With an acknowledgement in it, the reset bears
/// that as its sequence number; else zero, and acknowledges all that the segment takes.
///
/// # Errors
/// The packet is no whole TCP segment, or is a reset itself; or the buffer is too small: 78 bytes suffice.
pub fn tcp_reset(out: &mut [u8], link: Link, (packet, frame): (&Packet, &[u8])) -> Result<usize, BuildError> {
    let segment = Segment::of(packet, frame).ok_or(BuildError::NoSegment)?;
    let (sport, dport) = packet.ports().ok_or(BuildError::NoSegment)?;
    if segment.flags.contains(TcpFlags::RST) {
        return Err(BuildError::AnswersReset);
    }
    let (seq, ack, flags) = if segment.flags.contains(TcpFlags::ACK) {
        (segment.ack, 0, TcpFlags::RST)
    } else {
        let next = segment.seq.wrapping_add(segment.sequence_length());
        (0, next, TcpFlags::RST.union(TcpFlags::ACK))
    };
    let network = Network {
        link,
        addrs: packet.addrs.reversed(),
        protocol: Protocol::TCP,
        ttl: DEFAULT_TTL,
        tos: 0,
        payload: tcp::HEADER,
    };
    let (length, reset) = network.emit(out)?;
    if let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(reset, 0) {
        header.set_be16::<SOURCE_PORT>(dport);
        header.set_be16::<DESTINATION_PORT>(sport);
        header.set_be32::<{ tcp::SEQUENCE }>(seq);
        header.set_be32::<{ tcp::ACKNOWLEDGEMENT }>(ack);
        header.set_byte::<{ tcp::DATA_OFFSET }>(tcp::PLAIN);
        header.set_byte::<{ tcp::FLAGS }>(flags.bits());
    }
    let sum = checksum::transport(&network.addrs, Protocol::TCP, reset);
    if let Some(mut header) = HeaderMut::<{ tcp::HEADER }>::at(reset, 0) {
        header.set_bytes::<{ tcp::CHECKSUM }, 2>(&sum);
    }
    Ok(length)
}
