//! JSON Schema of the system file.

use serde_json::{Value, json};

use super::{conntrack, decode, interface, route, timeout_names};
use crate::schema::{
    DIALECT, address, boolean, duration, list, map, map_with, named, number, one_or_more, prefix, put, rate,
    text, words,
};

/// The whole schema.
pub(crate) fn schema() -> Value {
    let sections = decode::KEYS.map(|key| {
        let (about, value) = section(key);
        (key, about, value)
    });
    let mut schema = map_with(&["interfaces"], sections);
    put(&mut schema, "$schema", json!(DIALECT));
    put(&mut schema, "$id", json!("urn:sluice:system"));
    put(&mut schema, "title", json!("Sluice's system file"));
    schema
}

fn section(key: &str) -> (&'static str, Value) {
    match key {
        "workers" => ("the packet workers", workers()),
        "memory" => (
            "packet buffers",
            map([
                ("hugepages", "whether huge pages are used", words(["auto", "required", "off"])),
                ("mbufs", "packet buffers for all workers together", number(1024, 1 << 26)),
            ]),
        ),
        "interfaces" => {
            ("interfaces by name: at most 15 characters, no link and no zone has it", interfaces())
        }
        "routes" => ("static routes", list(self::route())),
        "kernel_routes" => (
            "whether routes that programs on the box put into the kernel's main table are followed",
            boolean(),
        ),
        "neighbours" => {
            ("static neighbours; all others are found by ARP and neighbour discovery", list(neighbour()))
        }
        "conntrack" => {
            ("connection tracking, by the names of the kernel's nf_conntrack sysctls", conntrack())
        }
        "icmp" => (
            "ICMP errors made by the router",
            map([
                (
                    "ratelimit",
                    "at most so many; 0: no limit",
                    json!({"anyOf": [rate(), {"enum": [0, "0", "off", false]}]}),
                ),
                ("burst", "how many may come at once", number(1, 1 << 20)),
                ("redirects", "whether redirects are sent", boolean()),
            ]),
        ),
        "ipfix" => (
            "collector that flows are told to as they begin and end (IPFIX over UDP)",
            map_with(
                &["collector"],
                [
                    ("collector", "ADDRESS:PORT", text()),
                    ("domain", "observation domain: tells routers apart", number(0, u32::MAX)),
                    ("templates", "seconds until templates are sent again", number(1, 86_400)),
                ],
            ),
        ),
        "control" => (
            "API and metrics",
            map([
                ("api", "path of the API's unix socket", text()),
                (
                    "metrics",
                    "ADDRESS:PORT that metrics are served at, or off",
                    json!({"type": ["string", "boolean"]}),
                ),
                (
                    "page",
                    "whether a page is served there too; on loopback it is, unless this is off",
                    boolean(),
                ),
                ("remote", "the API for other hosts, over mutual TLS; off unless given", remote()),
            ]),
        ),
        "policy" => ("path of the policy file", text()),
        "state" => ("folder of the policy history", text()),
        _ => ("", json!(true)),
    }
}

fn remote() -> Value {
    let keys = map_with(
        &["listen"],
        [
            ("listen", "ADDRESS:PORT that it is served at", text()),
            ("certificate", "file with the box's certificate; tls/server.crt unless given", text()),
            ("key", "file with its private key; tls/server.key unless given", text()),
            (
                "ca",
                "file with the authority that signs clients' certificates; tls/ca.crt unless given",
                text(),
            ),
            (
                "revoked",
                "file with the list of certificates that are revoked, or off; tls/revoked.crl unless given",
                json!({"type": ["string", "boolean"]}),
            ),
        ],
    );
    json!({"anyOf": [keys, {"enum": ["off", "no", false]}]})
}

fn workers() -> Value {
    let core = json!({"anyOf": [number(0, 1023), {"type": "string", "pattern": "^[0-9]+( *- *[0-9]+)?$"}]});
    map([
        ("cores", "one worker pinned to each of these cores", one_or_more(core)),
        ("count", "so many workers, instead of `cores`", number(1, 128)),
        (
            "idle",
            "what a worker does when there is nothing to do: yield is for shared cores",
            words(["poll", "yield"]),
        ),
    ])
}

fn interfaces() -> Value {
    let device = json!({"type": "string", "pattern": "^(pci|kernel|xdp|tap|memif|pcap|vdev):.+$",
                        "examples": ["kernel:eth1", "pci:0000:3b:00.0"]});
    let interface = interface::INTERFACE_KEYS.map(|key| {
        let (about, value) = match key {
            "device" => ("what it runs on", device.clone()),
            "addresses" => (
                "the router's own, with the length of the network's prefix; kernel: those on its tap (DHCP)",
                json!({"anyOf": [{"const": "kernel"}, list(prefix())]}),
            ),
            "mtu" => ("largest IP packet in bytes", number(68, 9600)),
            "rp_filter" => {
                ("check of the source address against the routes", words(["off", "loose", "strict"]))
            }
            "vlan" => ("802.1Q tag of its frames", number(1, 4094)),
            "mac" => ("its MAC address instead of the device's", mac()),
            _ => ("", json!(true)),
        };
        (key, about, value)
    });
    named(map_with(&["device"], interface))
}

fn mac() -> Value {
    json!({"type": "string", "pattern": "^([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}$"})
}

fn route() -> Value {
    let hop = map([
        ("address", "the next hop", address()),
        ("via", "the same", address()),
        ("dev", "the interface that it is on", text()),
        ("weight", "its share of the flows", number(1, 256)),
    ]);
    let keys = route::ROUTE_KEYS.map(|key| {
        let (about, value) = match key {
            "to" => {
                ("destinations: a prefix, or default", json!({"anyOf": [{"const": "default"}, prefix()]}))
            }
            "via" => ("the next hop, or several", one_or_more(json!({"anyOf": [address(), hop.clone()]}))),
            "dev" => ("the interface", text()),
            "metric" => ("of two routes the lower one wins", number(0, u32::MAX)),
            "type" => {
                ("goes nowhere, and what its sender is told", words(["unreachable", "prohibit", "blackhole"]))
            }
            _ => ("", json!(true)),
        };
        (key, about, value)
    });
    map_with(&["to"], keys)
}

fn neighbour() -> Value {
    map_with(
        &["address", "mac"],
        [
            ("address", "its address", address()),
            ("mac", "its MAC address", mac()),
            ("dev", "the interface that it is on: link-local addresses need it", text()),
        ],
    )
}

fn conntrack() -> Value {
    let flag = || json!({"anyOf": [boolean(), {"enum": [0, 1, 2]}]});
    let share = || json!({"anyOf": [number(0, u32::MAX), {"type": "string", "pattern": "^[0-9]+ *%?$"}]});
    let off_or = |schema: Value| json!({"anyOf": [schema, {"enum": ["off", "no", false]}]});
    let keys = conntrack::KEYS.map(|key| {
        let (about, value) = match key {
            "max" => ("most flows; 0: no limit but memory", number(0, 1 << 28)),
            "buckets" => ("hash buckets: a hint", number(1, 1 << 28)),
            "expect_max" => ("most expectations", number(1, 1 << 28)),
            "checksum" => ("packets with a bad checksum are INVALID", flag()),
            "acct" => ("count packets and bytes of flows", flag()),
            "timestamp" => ("note when a flow began", flag()),
            "events" => ("report changes of flows to those who watch", flag()),
            "log_invalid" => (
                "log INVALID packets of this protocol, 255: of all",
                json!({"anyOf": [number(0, 255), boolean()]}),
            ),
            "tcp_be_liberal" => ("packets outside the window are not INVALID, but for resets", flag()),
            "tcp_loose" => ("flows are picked up in the middle", flag()),
            "tcp_ignore_invalid_rst" => ("a reset outside the window is ignored", flag()),
            "tcp_max_retrans" => {
                ("so many retransmits without an answer shorten the timeout", number(0, 255))
            }
            "frag_high_thresh" => ("bytes that fragments may take", number(0, 1 << 30)),
            "timeouts" => ("how long flows live", map(timeout_names().map(|name| (name, "", duration())))),
            "reserve_local" => {
                ("places kept for flows of the router itself: a number or a part of `max`", share())
            }
            "quota" => (
                "most flows of one source",
                off_or(map([(
                    "per_source",
                    "of an address, or of a prefix",
                    off_or(map_with(
                        &["max"],
                        [
                            ("max", "so many", number(1, u32::MAX)),
                            ("prefix_v4", "length of the prefix that is one source, IPv4", number(1, 32)),
                            ("prefix_v6", "the same, IPv6", number(1, 128)),
                        ],
                    )),
                )])),
            ),
            "adaptive" => (
                "timeouts shrink as the table fills",
                off_or(map([
                    ("start", "flows up to which timeouts are whole", share()),
                    ("end", "flows at which nothing is left of them", share()),
                ])),
            ),
            _ => ("", json!(true)),
        };
        (key, about, value)
    });
    map(keys)
}
