//! `nat64` as it is written: the pool's addresses alone, or with ports and a prefix.

use std::net::IpAddr;

use sluice_wire::{Family, Pref64};

use crate::addr::{IpPrefix, IpRange};
use crate::decode::Reader;
use crate::policy::action::Action;
use crate::policy::matches::{AddrMatch, PortRange};
use crate::policy::nat64::Nat64;
use crate::policy::{Matches, Rule};
use crate::source::{Span, Spanned};
use crate::yaml::{Node, Value};

/// `ADDR[-ADDR]`, or `{to: ADDR[-ADDR], port: A[-B], prefix: PREFIX}`.
pub(super) fn nat64<'a>(reader: &mut Reader<'a>, node: &Node<'a>, what: &str) -> Option<Nat64> {
    let Value::Map(_) = &node.value else {
        let to = reader.parsed(node, what, str::parse::<IpRange>)?;
        return pool(reader, node, to, None, Pref64::WELL_KNOWN);
    };
    let fields = reader.fields(node, what, &["to", "port", "prefix"])?;
    let before = reader.errors();
    let to = fields.require(reader, what, "to");
    let to = to.and_then(|node| reader.parsed(node, "`to`", str::parse::<IpRange>));
    let ports = fields.get("port").and_then(|node| reader.parsed(node, "`port`", str::parse::<PortRange>));
    let prefix = fields.get("prefix").map_or(Some(Pref64::WELL_KNOWN), |node| prefix(reader, node));
    match (to, prefix) {
        (Some(to), Some(prefix)) if reader.errors() == before => pool(reader, node, to, ports, prefix),
        _ => None,
    }
}

fn pool(
    reader: &mut Reader<'_>,
    node: &Node<'_>,
    to: IpRange,
    ports: Option<PortRange>,
    prefix: Pref64,
) -> Option<Nat64> {
    if to.family() != Family::V4 {
        reader.error(node.span, format!("`nat64` gives IPv4 addresses, and {to} is none"));
        return None;
    }
    Some(Nat64 { to, ports: ports.unwrap_or(Nat64::PORTS), prefix })
}

fn prefix<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Pref64> {
    let asked: IpPrefix = reader.parsed(node, "`prefix`", str::parse)?;
    let found = match asked.addr() {
        IpAddr::V6(address) => Pref64::new(address, asked.len()),
        IpAddr::V4(_) => None,
    };
    if found.is_none() {
        let message = format!(
            "{asked} cannot stand for IPv4: that takes an IPv6 prefix of 32, 40, 48, 56, 64 or 96 bits, of which bits 64 to 71 are zero"
        );
        reader.error(node.span, message);
    }
    found
}

/// The rule matches what it can translate.
pub(super) fn imply(nat64: &Nat64, span: Span, matches: &mut Matches) {
    matches.family = Some(vec![Family::V6]);
    matches.proto.get_or_insert_with(|| Nat64::PROTOCOLS.to_vec());
    if let Some(hosts) = of(nat64.prefix) {
        matches.dst.get_or_insert_with(|| vec![Spanned::new(AddrMatch::Prefix(hosts), span)]);
    }
}

/// A rule that asks for other destinations would match packets that it has nothing for.
pub(super) fn check(reader: &mut Reader<'_>, rule: &Rule, place: impl Fn(&str) -> Span) {
    let Action::Nat64(nat64) = &rule.action.value else { return };
    let Some(hosts) = of(nat64.prefix) else { return };
    let within = |entry: &AddrMatch| match entry {
        AddrMatch::Prefix(prefix) => IpRange::from(hosts).covers(prefix.range()),
        AddrMatch::Range(range) => IpRange::from(hosts).covers(*range),
        AddrMatch::Set(_) => true,
    };
    if rule.matches.dst.iter().flatten().any(|entry| !within(&entry.value)) {
        let message = format!("`nat64` is for {hosts}: `dst` must lie in it, or be left out");
        reader.error(place("dst"), message);
    }
}

fn of(prefix: Pref64) -> Option<IpPrefix> {
    IpPrefix::new(prefix.address().into(), prefix.length())
}
