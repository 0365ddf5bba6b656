//! Packet descriptions of the scenarios to bytes, as the harness's `oracle/pkt.py` builds them.

use std::net::IpAddr;

use serde_json::{Value, json};
use sluice_wire::checksum;
use sluice_wire::{Addrs, Protocol};

const TCP_FLAGS: &str = "FSRPAUECN";

/// An IP datagram.
pub fn build(p: &Value) -> Vec<u8> {
    let addrs = addrs(p);
    let (protocol, mut l4) = transport(p, &addrs);
    let bad = &p["bad"];
    if let Some(length) = bad["l4_truncate"].as_u64() {
        l4.truncate(length as usize);
    }
    let mut out = match addrs {
        Addrs::V4 { .. } => ipv4(p, &addrs, protocol, l4),
        Addrs::V6 { .. } => ipv6(p, &addrs, protocol, l4),
    };
    if let Some(length) = bad["truncate"].as_u64() {
        out.truncate(length as usize);
    }
    out.extend(std::iter::repeat_n(0xee, number(&bad["trailer"], 0) as usize));
    out
}

fn addrs(p: &Value) -> Addrs {
    let ip = |key: &str| p[key].as_str().unwrap().parse::<IpAddr>().unwrap();
    match (ip("src"), ip("dst")) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Addrs::V4 { src, dst },
        (IpAddr::V6(src), IpAddr::V6(dst)) => Addrs::V6 { src, dst },
        _ => panic!("two families: {p}"),
    }
}

fn number(value: &Value, default: u64) -> u64 {
    value.as_u64().unwrap_or(default)
}

pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn payload(value: &Value) -> Vec<u8> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => text.chars().map(|c| c as u8).collect(),
        _ => match (value["hex"].as_str(), value["len"].as_u64()) {
            (Some(hex), _) => unhex(hex),
            (None, Some(length)) => (0..length).map(|i| (i * 7 + 13) as u8).collect(),
            _ => panic!("payload {value}"),
        },
    }
}

/// The checksum, or the wrong one that is asked for.
fn fixed(bad: &Value, good: [u8; 2]) -> [u8; 2] {
    let good = u16::from_be_bytes(good);
    let wrong = match bad {
        Value::Bool(true) => match good ^ 0x1234 {
            0 => 0x4321,
            other => other,
        },
        Value::Number(n) => n.as_u64().unwrap() as u16,
        _ => good,
    };
    wrong.to_be_bytes()
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn transport(p: &Value, addrs: &Addrs) -> (Protocol, Vec<u8>) {
    let bad = &p["bad"]["l4_csum"];
    let data = payload(&p["payload"]);
    if p["tcp"].is_object() {
        let mut segment = tcp(&p["tcp"], &p["bad"]["doff"]);
        segment.extend(data);
        let sum = checksum::transport(addrs, Protocol::TCP, &segment);
        put(&mut segment, 16, &fixed(bad, sum));
        (Protocol::TCP, segment)
    } else if p["udp"].is_object() {
        let mut segment = ports(&p["udp"]);
        let length = number(&p["bad"]["udp_len"], 8 + data.len() as u64) as u16;
        segment.extend(length.to_be_bytes());
        segment.extend([0, 0]);
        segment.extend(data);
        let sum = checksum::never_zero(checksum::transport(addrs, Protocol::UDP, &segment));
        put(&mut segment, 6, &fixed(bad, sum));
        (Protocol::UDP, segment)
    } else if p["icmp"].is_object() {
        let mut message = icmp(&p["icmp"], data);
        let sum = checksum::plain(&message);
        put(&mut message, 2, &fixed(bad, sum));
        (Protocol::ICMP, message)
    } else if p["icmp6"].is_object() {
        let mut message = icmp(&p["icmp6"], data);
        let sum = checksum::transport(addrs, Protocol::ICMPV6, &message);
        put(&mut message, 2, &fixed(bad, sum));
        (Protocol::ICMPV6, message)
    } else if p["sctp"].is_object() {
        let mut segment = ports(&p["sctp"]);
        segment.extend((number(&p["sctp"]["vtag"], 0) as u32).to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(data);
        let sum = checksum::sctp(&segment);
        put(&mut segment, 8, &sum);
        (Protocol::SCTP, segment)
    } else {
        let protocol = match &p["proto"] {
            Value::String(name) => Protocol::from_name(name).unwrap(),
            other => Protocol(other.as_u64().unwrap() as u8),
        };
        (protocol, data)
    }
}

fn ports(of: &Value) -> Vec<u8> {
    ["sport", "dport"].iter().flat_map(|key| (number(&of[*key], 0) as u16).to_be_bytes()).collect()
}

fn tcp(t: &Value, data_offset: &Value) -> Vec<u8> {
    let options = tcp_options(&t["opts"]);
    let flags = t["flags"].as_str().unwrap_or("");
    let bits = flags.chars().map(|c| 1u16 << TCP_FLAGS.find(c).unwrap()).sum::<u16>();
    let words = number(data_offset, 5 + options.len() as u64 / 4) as u16;
    let mut out = ports(t);
    out.extend((number(&t["seq"], 0) as u32).to_be_bytes());
    out.extend((number(&t["ack"], 0) as u32).to_be_bytes());
    out.extend((words << 12 | bits).to_be_bytes());
    out.extend((number(&t["win"], 65535) as u16).to_be_bytes());
    out.extend([0, 0]);
    out.extend((number(&t["urg"], 0) as u16).to_be_bytes());
    out.extend(options);
    out
}

fn tcp_options(options: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for option in options.as_array().into_iter().flatten() {
        let word = |at: usize| (option[at].as_u64().unwrap() as u32).to_be_bytes();
        match option[0].as_str().unwrap() {
            "mss" => out.extend([2, 4, word(1)[2], word(1)[3]]),
            "nop" => out.push(1),
            "wscale" => out.extend([3, 3, word(1)[3]]),
            "sackok" => out.extend([4, 2]),
            "eol" => out.push(0),
            "raw" => out.extend(unhex(option[1].as_str().unwrap())),
            "ts" => {
                out.extend([8, 10]);
                out.extend(word(1));
                out.extend(word(2));
            }
            "sack" => {
                let blocks = option[1].as_array().unwrap();
                out.extend([5, 2 + 8 * blocks.len() as u8]);
                for edge in blocks.iter().flat_map(|block| block.as_array().unwrap()) {
                    out.extend((edge.as_u64().unwrap() as u32).to_be_bytes());
                }
            }
            other => panic!("tcp option {other}"),
        }
    }
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn icmp(i: &Value, data: Vec<u8>) -> Vec<u8> {
    let rest = if i["id"].is_u64() {
        (number(&i["id"], 0) << 16 | number(&i["seq"], 0)) as u32
    } else if i["mtu"].is_u64() {
        number(&i["mtu"], 0) as u32
    } else if let Some(gateway) = i["gw"].as_str() {
        gateway.parse::<std::net::Ipv4Addr>().unwrap().to_bits()
    } else {
        number(&i["rest"], 0) as u32
    };
    let mut out = vec![number(&i["type"], 0) as u8, number(&i["code"], 0) as u8, 0, 0];
    out.extend(rest.to_be_bytes());
    if i["quote"].is_object() {
        let mut quote = build(&i["quote"]);
        if let Some(length) = i["quote_len"].as_u64() {
            quote.truncate(length as usize);
        }
        out.extend(quote);
    }
    out.extend(data);
    out
}

/// The part of the payload that `slice` asks for, and the value of the fragment fields in bytes.
fn sliced(p: &Value, whole: Vec<u8>) -> (Vec<u8>, u16, bool) {
    let slice = &p["slice"];
    if !slice.is_object() {
        return (whole, 0, false);
    }
    let start = number(&slice["off"], 0) as usize;
    let end = slice["len"].as_u64().map_or(whole.len(), |length| whole.len().min(start + length as usize));
    let offset = number(&slice["off_field"], start as u64) as u16;
    (whole[start..end].to_vec(), offset, slice["mf"].as_bool().unwrap_or(false))
}

fn ipv4(p: &Value, addrs: &Addrs, protocol: Protocol, l4: Vec<u8>) -> Vec<u8> {
    let Addrs::V4 { src, dst } = addrs else { panic!() };
    let bad = &p["bad"];
    let flag = |key: &str, bit: u16| if p[key].as_bool().unwrap_or(false) { bit } else { 0 };
    let (body, offset, more) = sliced(p, l4);
    let mut options = unhex(p["ip_opts"].as_str().unwrap_or(""));
    options.resize(options.len().next_multiple_of(4), 0);
    let words = number(&bad["ihl"], 5 + options.len() as u64 / 4) as u8;
    let length = number(&bad["ip_len"], (20 + options.len() + body.len()) as u64) as u16;
    let fragment = flag("df", 0x4000) | flag("evil", 0x8000) | (offset / 8) | if more { 0x2000 } else { 0 };
    let mut header = vec![(number(&bad["version"], 4) as u8) << 4 | words, number(&p["tos"], 0) as u8];
    header.extend(length.to_be_bytes());
    header.extend((number(&p["id"], 1) as u16).to_be_bytes());
    header.extend(fragment.to_be_bytes());
    header.extend([number(&p["ttl"], 64) as u8, protocol.0, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    header.extend(options);
    let sum = checksum::plain(&header);
    put(&mut header, 10, &fixed(&bad["ip_csum"], sum));
    header.extend(body);
    header
}

/// An extension header: its number, and its bytes behind the next-header field.
fn extension(of: &Value) -> (u8, Vec<u8>) {
    let (kind, value) = of.as_object().unwrap().iter().next().unwrap();
    match kind.as_str() {
        "hbh" | "dst" => {
            let mut options = unhex(value.as_str().unwrap());
            let padding = (8 - (2 + options.len()) % 8) % 8;
            match padding {
                0 => {}
                1 => options.push(0),
                n => {
                    options.extend([1, n as u8 - 2]);
                    options.extend(vec![0; n - 2]);
                }
            }
            let units = ((options.len() + 2) / 8 - 1) as u8;
            options.insert(0, units);
            (if kind == "hbh" { 0 } else { 60 }, options)
        }
        "frag" => {
            let offset = number(&value["off"], 0) as u16 / 8 * 8;
            let more = u16::from(value["mf"].as_bool().unwrap_or(false));
            let mut body = vec![0];
            body.extend((offset | more).to_be_bytes());
            body.extend((number(&value["id"], 1) as u32).to_be_bytes());
            (44, body)
        }
        "rh" => {
            let segments = value["segs"].as_array().into_iter().flatten();
            let addresses: Vec<u8> = segments
                .flat_map(|s| s.as_str().unwrap().parse::<std::net::Ipv6Addr>().unwrap().octets())
                .collect();
            let left = number(&value["left"], addresses.len() as u64 / 16) as u8;
            let mut body = vec![addresses.len() as u8 / 8, number(&value["type"], 0) as u8, left, 0, 0, 0, 0];
            body.extend(addresses);
            (43, body)
        }
        "unknown" => (number(&value["nh"], 0) as u8, vec![0; 7]),
        other => panic!("extension {other}"),
    }
}

/// Extension headers in front of `behind`, whose protocol is `last`: the number of the first, and the bytes.
fn chain(extensions: &[(u8, Vec<u8>)], last: u8, behind: Vec<u8>) -> (u8, Vec<u8>) {
    extensions.iter().rev().fold((last, behind), |(next, behind), (kind, bytes)| {
        (*kind, [&[next], bytes.as_slice(), &behind].concat())
    })
}

fn ipv6(p: &Value, addrs: &Addrs, protocol: Protocol, l4: Vec<u8>) -> Vec<u8> {
    let Addrs::V6 { src, dst } = addrs else { panic!() };
    let bad = &p["bad"];
    let mut extensions: Vec<_> = p["ext"].as_array().into_iter().flatten().map(extension).collect();
    let (mut last, mut inner) = (protocol.0, l4);
    if p["slice"].is_object() {
        // Hop-by-hop and routing headers stand in every fragment, all else is cut.
        let (every, cut): (Vec<_>, Vec<_>) =
            extensions.into_iter().partition(|(kind, _)| matches!(kind, 0 | 43));
        (last, inner) = chain(&cut, last, inner);
        let (part, offset, more) = sliced(p, inner);
        inner = part;
        let fragment = json!({"frag": {"off": offset, "mf": more, "id": number(&p["id"], 1)}});
        extensions = every;
        extensions.push(extension(&fragment));
    }
    let (first_header, body) = chain(&extensions, last, inner);
    let first =
        (number(&bad["version"], 6) << 28 | number(&p["tos"], 0) << 20 | number(&p["flow"], 0)) as u32;
    let mut out = first.to_be_bytes().to_vec();
    out.extend((number(&bad["ip_len"], body.len() as u64) as u16).to_be_bytes());
    out.extend([first_header, number(&p["ttl"], 64) as u8]);
    out.extend(src.octets());
    out.extend(dst.octets());
    out.extend(body);
    out
}
