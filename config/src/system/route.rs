//! The entries of `routes:` and `neighbours:`.

use std::net::IpAddr;

use super::interface::mac;
use super::{Neighbour, NextHop, Route, RouteTarget};
use crate::addr::{IpPrefix, family, parse_addr};
use crate::decode::Reader;
use crate::source::Span;
use crate::yaml::{Node, Value};

/// A route as written; `check` finds its next hops' interfaces.
pub(super) struct RawRoute {
    pub(super) route: Route,
    /// Where each next hop's address stands, and whether its interface was given.
    pub(super) hops: Vec<(Span, bool)>,
}

/// Makes a target; targets with names in them cannot be copied out of a table.
type MakeTarget = fn() -> RouteTarget;

pub(super) const ROUTE_KEYS: [&str; 5] = ["to", "via", "dev", "metric", "type"];

/// Reads one route.
pub(super) fn route<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<RawRoute> {
    let fields = reader.fields(node, "a route", &ROUTE_KEYS)?;
    let to = fields.require(reader, "a route", "to");
    let metric = fields.get("metric").and_then(|node| reader.number(node, "`metric`", 0, u32::MAX));
    let dev = fields.get("dev").and_then(|node| reader.text(node, "`dev`")).map(ToString::to_string);
    let mut hops = Vec::new();
    let target = match (fields.entry("type"), fields.get("via"), dev) {
        (Some((_, node)), None, None) => {
            let words: [(&str, MakeTarget); 3] = [
                ("unreachable", || RouteTarget::Unreachable),
                ("prohibit", || RouteTarget::Prohibit),
                ("blackhole", || RouteTarget::Blackhole),
            ];
            reader.keyword(node, "`type`", &words).map(|make| make())
        }
        (Some((key, _)), _, _) => {
            reader.error(key.span, "a route with a `type` goes nowhere: it has no `via` and no `dev`");
            None
        }
        (None, Some(node), dev) => next_hops(reader, node, dev.as_deref(), &mut hops).map(RouteTarget::Via),
        (None, None, Some(dev)) => Some(RouteTarget::Dev(dev)),
        (None, None, None) => {
            reader.error(node.span, "a route needs `via`, `dev` or `type`");
            None
        }
    };
    let via = match &target {
        Some(RouteTarget::Via(hops)) => hops.first().map(|hop| hop.address),
        _ => None,
    };
    let to = to.and_then(|node| destination(reader, node, via));
    let route = Route { to: to?, target: target?, metric: metric.unwrap_or(0), span: node.span };
    Some(RawRoute { route, hops })
}

/// `to`: a prefix whose host bits are clear, or `default` of the family of `via`.
fn destination<'a>(reader: &mut Reader<'a>, node: &Node<'a>, via: Option<IpAddr>) -> Option<IpPrefix> {
    let text = reader.text(node, "`to`")?;
    if text == "default" {
        let any = match via {
            Some(IpAddr::V4(_)) => IpAddr::from([0; 4]),
            Some(IpAddr::V6(_)) => IpAddr::from([0; 16]),
            None => {
                reader.error(
                    node.span,
                    "`default` without `via` could be either family: write 0.0.0.0/0 or ::/0",
                );
                return None;
            }
        };
        return IpPrefix::new(any, 0);
    }
    let to: IpPrefix = reader.parsed(node, "`to`", str::parse)?;
    if to != to.masked() {
        let hint = Some(format!("did you mean `{}`?", to.masked()));
        reader.error_with(node.span, format!("`{text}` has bits set behind its prefix"), hint);
        return None;
    }
    if let Some(via) = via.filter(|via| family(*via) != to.family()) {
        reader.error(node.span, format!("route to {to} via {via} mixes IPv4 and IPv6"));
        return None;
    }
    Some(to)
}

/// `via`: an address, or a list of addresses and of `{address, dev, weight}`.
fn next_hops<'a>(
    reader: &mut Reader<'a>,
    node: &Node<'a>,
    dev: Option<&str>,
    places: &mut Vec<(Span, bool)>,
) -> Option<Vec<NextHop>> {
    let hops = reader.values(node, "`via`", |reader, node| {
        let fields = match &node.value {
            Value::Map(_) => Some(reader.fields(node, "a next hop", &["address", "via", "dev", "weight"])?),
            Value::Scalar(_) | Value::List(_) => None,
        };
        let place = match &fields {
            Some(fields) => match fields.get("via") {
                Some(node) => node,
                None => fields.require(reader, "a next hop", "address")?,
            },
            None => node,
        };
        let address = reader.parsed(place, "`via`", parse_addr)?;
        let own = fields.and_then(|fields| fields.get("dev")).and_then(|node| reader.text(node, "`dev`"));
        let weight = fields.and_then(|fields| fields.get("weight"));
        let weight = weight.and_then(|node| reader.number16(node, "`weight`", 1, 256)).unwrap_or(1);
        let dev = own.or(dev);
        places.push((place.span, dev.is_some()));
        Some(NextHop { address, dev: dev.unwrap_or_default().to_string(), weight })
    })?;
    if let Some(first) = hops.first()
        && hops.iter().any(|hop| family(hop.address) != family(first.address))
    {
        reader.error(node.span, "next hops of one route mix IPv4 and IPv6");
        return None;
    }
    (!hops.is_empty()).then_some(hops)
}

/// Reads one neighbour; its `dev` is empty if none is given.
pub(super) fn neighbour<'a>(reader: &mut Reader<'a>, node: &Node<'a>) -> Option<Neighbour> {
    let fields = reader.fields(node, "a neighbour", &["address", "mac", "dev"])?;
    let address = fields.require(reader, "a neighbour", "address");
    let address = address.and_then(|node| reader.parsed(node, "`address`", parse_addr));
    let mac = fields.require(reader, "a neighbour", "mac").and_then(|node| mac(reader, node));
    let dev = fields.get("dev").and_then(|node| reader.text(node, "`dev`")).unwrap_or_default().to_string();
    Some(Neighbour { address: address?, mac: mac?, dev, span: node.span })
}
