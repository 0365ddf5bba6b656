//! Neighbour discovery: solicitations and advertisements, read and written. Who is asked when, and what is believed,
//! is for the neighbour table.
//! Source: RFC 4861 sections 4.3, 4.4, 7.1 and 7.2.

use std::net::Ipv6Addr;

use crate::build::{BuildError, Link, Network};
use crate::bytes::{Header, HeaderMut};
use crate::checksum::{self, Checksum};
use crate::packet::{Packet, Transport};
use crate::{Addrs, MacAddr, Protocol, icmp, solicited_node, verify};

/// A router must not have forwarded it: RFC 4861 section 7.1.
const HOP_LIMIT: u8 = 255;

/// Length in bytes of either message without options.
const MESSAGE: usize = 24;
const FLAGS: usize = 4;
const TARGET: usize = 8;

const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// A link-layer address option, in bytes; options count their length in such units of eight.
const OPTION: usize = 8;
const OPTION_TYPE: usize = 0;
const OPTION_LENGTH: usize = 1;
const OPTION_ADDRESS: usize = 2;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

/// A message that passed the checks of RFC 4861 section 7.1, checksum included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Who has this address?
    Solicitation(Solicitation),
    /// I have it.
    Advertisement(Advertisement),
}

/// A neighbour solicitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Solicitation {
    /// Who asks; `::` in duplicate address detection.
    pub source: Ipv6Addr,
    /// Where it was sent to: the target's solicited-node group, or the target itself.
    pub destination: Ipv6Addr,
    /// The address that is asked for.
    pub target: Ipv6Addr,
    /// Ethernet address of who asks, if it says so.
    pub mac: Option<MacAddr>,
}

/// A neighbour advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement {
    /// Whose neighbour this is about.
    pub target: Ipv6Addr,
    /// Its Ethernet address, if it says so.
    pub mac: Option<MacAddr>,
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It overrides an address that is known already.
    pub overrides: bool,
}

/// Reads a neighbour solicitation or advertisement; `None` if it is neither, or one that must be dropped.
pub fn parse(packet: &Packet, frame: &[u8]) -> Option<Message> {
    let Transport::Icmpv6 { kind, code: 0, .. } = packet.transport else { return None };
    let Addrs::V6 { src, dst } = packet.addrs else { return None };
    if packet.ttl != HOP_LIMIT || verify(packet, frame) != Checksum::Good {
        return None;
    }
    let bytes = packet.segment(frame);
    let header = Header::<MESSAGE>::at(bytes, 0)?;
    let target = Ipv6Addr::from_octets(header.bytes::<TARGET, 16>());
    let options = bytes.get(MESSAGE..)?;
    if target.is_multicast() {
        return None;
    }
    match kind {
        icmp::v6::NEIGHBOUR_SOLICITATION => {
            let mac = link_layer_address(options, SOURCE_LINK_LAYER)?;
            let detection = src.is_unspecified();
            let detects_badly = detection && (mac.is_some() || dst != solicited_node(target));
            (!detects_badly).then_some(Message::Solicitation(Solicitation {
                source: src,
                destination: dst,
                target,
                mac,
            }))
        }
        icmp::v6::NEIGHBOUR_ADVERTISEMENT => {
            let mac = link_layer_address(options, TARGET_LINK_LAYER)?;
            let flags = header.byte::<FLAGS>();
            let solicited = flags & FLAG_SOLICITED != 0;
            (!(solicited && dst.is_multicast())).then_some(Message::Advertisement(Advertisement {
                target,
                mac,
                router: flags & FLAG_ROUTER != 0,
                solicited,
                overrides: flags & FLAG_OVERRIDE != 0,
            }))
        }
        _ => None,
    }
}

/// The last Ethernet address among the options of that type: `Some(None)` if there is none, `None` if the options are
/// bad (a length of zero, or beyond the packet).
fn link_layer_address(mut options: &[u8], kind: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    while !options.is_empty() {
        let header = Header::<OPTION>::at(options, 0)?;
        let units = usize::from(header.byte::<OPTION_LENGTH>());
        let (_, rest) = options.split_at_checked(units * OPTION)?;
        if units == 0 {
            return None;
        }
        let mac = MacAddr(header.bytes::<OPTION_ADDRESS, 6>());
        if header.byte::<OPTION_TYPE>() == kind && units == 1 && mac.is_unicast() {
            found = Some(mac);
        }
        options = rest;
    }
    Some(found)
}

/// Asks who has `target`, in the name of `source`: its solicited-node group when `neighbour` is none, or the station
/// that had it, to see whether it still does.
///
/// # Errors
/// The buffer is too small: 90 bytes suffice.
pub fn solicitation(
    out: &mut [u8],
    (mac, vlan): (MacAddr, Option<u16>),
    source: Ipv6Addr,
    target: Ipv6Addr,
    neighbour: Option<MacAddr>,
) -> Result<usize, BuildError> {
    let group = solicited_node(target);
    let (destination, dst) = match neighbour {
        Some(neighbour) => (neighbour, target),
        None => (MacAddr::multicast_v6(group), group),
    };
    let link = Link { destination, source: mac, vlan };
    let option = (!source.is_unspecified()).then_some((SOURCE_LINK_LAYER, mac));
    let addrs = Addrs::V6 { src: source, dst };
    emit(out, (link, addrs), (icmp::v6::NEIGHBOUR_SOLICITATION, 0), target, option)
}

/// Answers a solicitation for an address of the interface with `mac`, as a router. Who asked one station knows its
/// Ethernet address already and is not told it again, as the kernel does; who looked for a duplicate is answered
/// through the group of all nodes.
///
/// # Errors
/// The buffer is too small: 90 bytes suffice.
pub fn answer(out: &mut [u8], link: Link, mac: MacAddr, asked: &Solicitation) -> Result<usize, BuildError> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let by_group = asked.destination.is_multicast();
    let (link, dst, solicited) = if asked.source.is_unspecified() {
        (Link { destination: MacAddr::multicast_v6(ALL_NODES), ..link }, ALL_NODES, 0)
    } else {
        (link, asked.source, FLAG_SOLICITED)
    };
    let (overrides, option) =
        if by_group { (FLAG_OVERRIDE, Some((TARGET_LINK_LAYER, mac))) } else { (0, None) };
    let addrs = Addrs::V6 { src: asked.target, dst };
    let flags = FLAG_ROUTER | solicited | overrides;
    let link = Link { source: mac, ..link };
    emit(out, (link, addrs), (icmp::v6::NEIGHBOUR_ADVERTISEMENT, flags), asked.target, option)
}

/// Announces an address of the interface to everyone, unasked: RFC 4861 section 7.2.6.
///
/// # Errors
/// The buffer is too small: 90 bytes suffice.
pub fn announcement(
    out: &mut [u8],
    (mac, vlan): (MacAddr, Option<u16>),
    target: Ipv6Addr,
) -> Result<usize, BuildError> {
    let link = Link { destination: MacAddr::ZERO, source: mac, vlan };
    let asked = Solicitation {
        source: Ipv6Addr::UNSPECIFIED,
        destination: solicited_node(target),
        target,
        mac: None,
    };
    answer(out, link, mac, &asked)
}

fn emit(
    out: &mut [u8],
    (link, addrs): (Link, Addrs),
    (kind, flags): (u8, u8),
    target: Ipv6Addr,
    option: Option<(u8, MacAddr)>,
) -> Result<usize, BuildError> {
    let payload = MESSAGE + if option.is_some() { OPTION } else { 0 };
    let network = Network { link, addrs, protocol: Protocol::ICMPV6, ttl: HOP_LIMIT, tos: 0, payload };
    let (length, message) = network.emit(out)?;
    if let Some(mut header) = HeaderMut::<MESSAGE>::at(message, 0) {
        header.set_byte::<{ icmp::TYPE }>(kind);
        header.set_byte::<FLAGS>(flags);
        header.set_bytes::<TARGET, 16>(&target.octets());
    }
    if let (Some((kind, mac)), Some(mut header)) = (option, HeaderMut::<OPTION>::at(message, MESSAGE)) {
        header.set_byte::<OPTION_TYPE>(kind);
        header.set_byte::<OPTION_LENGTH>(1);
        header.set_bytes::<OPTION_ADDRESS, 6>(&mac.0);
    }
    let sum = checksum::transport(&addrs, Protocol::ICMPV6, message);
    if let Some(mut header) = HeaderMut::<{ icmp::HEADER }>::at(message, 0) {
        header.set_bytes::<{ icmp::CHECKSUM }, 2>(&sum);
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{built, hex, packet};

    const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 1, 1]);
    const HOST: MacAddr = MacAddr([2, 0, 0, 0, 1, 2]);

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn solicited(frame: &[u8]) -> Solicitation {
        match parse(&packet(frame), frame) {
            Some(Message::Solicitation(asked)) => asked,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn asked_through_the_group_and_answered() {
        let frame = built(|out| solicitation(out, (HOST, Some(9)), ip("fd00:1::2"), ip("fd00:1::1"), None));
        let asked = solicited(&frame);
        assert_eq!((asked.source, asked.destination), (ip("fd00:1::2"), ip("ff02::1:ff00:1")));
        assert_eq!((asked.target, asked.mac), (ip("fd00:1::1"), Some(HOST)));
        assert_eq!(crate::destination(&frame), MacAddr::multicast_v6(asked.destination));

        let link = Link::answering(&packet(&frame), &frame);
        let reply = built(|out| answer(out, link, ROUTER, &asked));
        let said = Advertisement {
            target: ip("fd00:1::1"),
            mac: Some(ROUTER),
            router: true,
            solicited: true,
            overrides: true,
        };
        assert_eq!(parse(&packet(&reply), &reply), Some(Message::Advertisement(said)));
        assert_eq!((crate::destination(&reply), crate::source(&reply)), (HOST, ROUTER));
        assert_eq!(packet(&reply).vlan, Some(9));
    }

    /// Recorded: `icmpv6/nd-to-router-untracked`.
    #[test]
    fn asked_alone() {
        let frame =
            built(|out| solicitation(out, (HOST, None), ip("fd00:1::2"), ip("fd00:1::1"), Some(ROUTER)));
        let reply =
            built(|out| answer(out, Link::answering(&packet(&frame), &frame), ROUTER, &solicited(&frame)));
        let expected = "6000000000183afffd000001000000000000000000000001fd000001000000000000000000000002\
                        8800c0a2c0000000fd000001000000000000000000000001";
        assert_eq!(packet(&reply).datagram(&reply), hex(expected));
    }

    #[test]
    fn looking_for_a_duplicate() {
        let frame =
            built(|out| solicitation(out, (HOST, None), Ipv6Addr::UNSPECIFIED, ip("fd00:1::1"), None));
        let asked = solicited(&frame);
        assert_eq!((asked.source, asked.mac), (Ipv6Addr::UNSPECIFIED, None));
        let reply = built(|out| answer(out, Link::answering(&packet(&frame), &frame), ROUTER, &asked));
        let Some(Message::Advertisement(said)) = parse(&packet(&reply), &reply) else { panic!("no answer") };
        assert_eq!((said.solicited, said.overrides, said.mac), (false, true, Some(ROUTER)));
        assert_eq!(packet(&reply).addrs.dst(), ip("ff02::1"));
        assert_eq!(crate::destination(&reply).to_string(), "33:33:00:00:00:01");
        assert_eq!(reply, built(|out| announcement(out, (ROUTER, None), ip("fd00:1::1"))));
    }

    #[test]
    fn not_believed() {
        let good = built(|out| solicitation(out, (HOST, None), ip("fd00:1::2"), ip("fd00:1::1"), None));
        let l4 = 54;
        let changed = |at: usize, value: u8| {
            let mut frame = good.clone();
            frame[at] = value;
            let sealed = packet(&frame);
            crate::rewrite::seal_icmp(&mut frame, &sealed);
            frame
        };
        assert!(parse(&packet(&changed(20, 58)), &changed(20, 58)).is_some(), "nothing changed");
        for (name, frame) in [
            ("forwarded by someone", changed(21, 254)),
            ("code 1", changed(l4 + 1, 1)),
            ("for a group", changed(l4 + 8, 0xff)),
            ("an option of length zero", changed(l4 + 25, 0)),
            ("an option beyond the packet", changed(l4 + 25, 2)),
            ("an echo", changed(l4, 128)),
        ] {
            assert_eq!(parse(&packet(&frame), &frame), None, "{name}");
        }
        let mut bad = good.clone();
        bad[l4 + 2] ^= 1;
        assert_eq!(parse(&packet(&bad), &bad), None, "checksum");
    }
}
