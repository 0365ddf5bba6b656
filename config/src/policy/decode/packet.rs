//! The policy's own tests.

use sluice_wire::Family;

use super::{label, matches};
use crate::addr::{family, parse_addr};
use crate::decode::{Fields, Reader, number};
use crate::diagnostics::{Diagnostics, ValueError};
use crate::policy::names;
use crate::policy::packet::{PolicyTest, TestPacket, TestVerdict};
use crate::source::Spanned;
use crate::yaml::Node;

/// Reads `tests:`.
pub(super) fn tests<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Vec<PolicyTest> {
    let items = reader.list(node, "`tests`").unwrap_or_default();
    (1..).zip(items).filter_map(|(index, item)| test(reader, index, item)).collect()
}

fn test<'a>(reader: &mut Reader<'a>, index: usize, node: &Node<'a>) -> Option<PolicyTest> {
    let fields = reader.fields(node, "a test", &["name", "packet", "expect", "rule"])?;
    let name = fields.get("name").and_then(|node| label(reader, node, "`name`"));
    let rule = fields.get("rule").and_then(|node| {
        let name = reader.text(node, "`rule`")?;
        Some(Spanned::new(name.to_string(), node.span))
    });
    let words =
        [("accept", TestVerdict::Accept), ("drop", TestVerdict::Drop), ("reject", TestVerdict::Reject)];
    let expect = fields.require(reader, "a test", "expect");
    let expect = expect.and_then(|node| reader.keyword(node, "`expect`", &words));
    let packet = fields.require(reader, "a test", "packet").and_then(|node| packet(reader, node));
    let name = name.unwrap_or_else(|| format!("test {index}"));
    Some(PolicyTest { name, packet: packet?, expect: expect?, rule, span: node.span })
}

pub(in crate::policy) const PACKET_KEYS: [&str; 20] = [
    "in",
    "out",
    "src",
    "dst",
    "family",
    "proto",
    "sport",
    "dport",
    "tcp_flags",
    "icmp",
    "icmpv6",
    "ct",
    "ct_dir",
    "ct_helper",
    "ct_mark",
    "mark",
    "length",
    "ttl",
    "dscp",
    "fragment",
];

fn packet<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<TestPacket> {
    let fields = reader.fields(node, "a test's packet", &PACKET_KEYS)?;
    let name = |reader: &mut Reader<'a>, key: &str| {
        let node = fields.get(key)?;
        let name = reader.text(node, "an interface")?;
        Some(Spanned::new(name.to_string(), node.span))
    };
    let (in_interface, out_interface) = (name(reader, "in"), name(reader, "out"));
    let address = |reader: &mut Reader<'a>, key: &str| {
        fields.get(key).and_then(|node| reader.parsed(node, "an address", parse_addr))
    };
    let (src, dst) = (address(reader, "src"), address(reader, "dst"));
    let number = |reader: &mut Reader<'a>, key: &str, max: u32| {
        fields.get(key).and_then(|node| reader.number(node, &format!("`{key}`"), 0, max))
    };
    let short = |reader: &mut Reader<'a>, key: &str, max: u16| {
        fields.get(key).and_then(|node| reader.number16(node, &format!("`{key}`"), 0, max))
    };
    let byte = |reader: &mut Reader<'a>, key: &str, max: u16| {
        short(reader, key, max).and_then(|n| u8::try_from(n).ok())
    };
    let packet = TestPacket {
        in_interface,
        out_interface,
        src,
        dst,
        family: fields
            .get("family")
            .and_then(|node| reader.keyword(node, "`family`", &[("ipv4", Family::V4), ("ipv6", Family::V6)])),
        proto: fields.get("proto").and_then(|node| matches::protocol(reader, node)),
        sport: short(reader, "sport", u16::MAX),
        dport: short(reader, "dport", u16::MAX),
        tcp_flags: fields
            .get("tcp_flags")
            .and_then(|node| reader.parsed(node, "`tcp_flags`", matches::flag_list)),
        icmp: fields.get("icmp").and_then(|node| matches::icmp(reader, node, names::ICMP)),
        icmpv6: fields.get("icmpv6").and_then(|node| matches::icmp(reader, node, names::ICMPV6)),
        ct: fields.get("ct").and_then(|node| reader.keyword(node, "`ct`", &matches::STATES)),
        ct_dir: fields.get("ct_dir").and_then(|node| reader.keyword(node, "`ct_dir`", &matches::DIRECTIONS)),
        ct_helper: fields.get("ct_helper").and_then(|node| matches::helper(reader, node)),
        ct_mark: number(reader, "ct_mark", u32::MAX),
        mark: number(reader, "mark", u32::MAX),
        length: short(reader, "length", u16::MAX),
        ttl: byte(reader, "ttl", 255),
        dscp: fields.get("dscp").and_then(|node| reader.parsed(node, "`dscp`", dscp)),
        fragment: fields.get("fragment").and_then(|node| reader.boolean(node, "`fragment`")),
    };
    one_family(reader, &fields, &packet);
    Some(packet)
}

impl TestPacket {
    /// Reads a packet as it stands in a policy's test, alone. `name` is what messages call the text.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn parse(name: &str, text: &str) -> Result<TestPacket, Diagnostics> {
        let mut reader = Reader::new(name, text);
        let packet = reader.tree().and_then(|root| packet(&mut reader, &root));
        match packet {
            Some(packet) if reader.errors() == 0 => Ok(packet),
            _ => Err(reader.finish()),
        }
    }
}

fn dscp(text: &str) -> Result<u8, ValueError> {
    let named = names::DSCP.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, value)| *value);
    let value = named.or_else(|| number(text).and_then(|n| u16::try_from(n).ok())).filter(|n| *n <= 63);
    let value = value.and_then(|n| u8::try_from(n).ok());
    value.ok_or_else(|| {
        ValueError::new(format!("`dscp` must be a name or a number from 0 to 63, not `{text}`"))
    })
}

/// A packet is of one family.
fn one_family(reader: &mut Reader<'_>, fields: &Fields<'_, '_>, packet: &TestPacket) {
    let icmp = packet.icmp.map(|_| Family::V4).or(packet.icmpv6.map(|_| Family::V6));
    let families = [packet.family, packet.src.map(family), packet.dst.map(family), icmp];
    let mut given = families.into_iter().flatten();
    let first = given.next();
    if given.any(|family| Some(family) != first) {
        reader.error(fields.span, "a test's packet mixes IPv4 and IPv6");
    }
}
