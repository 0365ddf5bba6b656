//! What is said of each match and each action, once: for the schema, and for the tables of docs/policy.md.

/// A match.
pub(crate) struct Match {
    /// Its key.
    pub(crate) key: &'static str,
    /// What its value is.
    pub(crate) value: &'static str,
    /// A rule's text with it.
    pub(crate) example: &'static str,
}

/// Shorthand for a line of the table below.
const fn m(key: &'static str, value: &'static str, example: &'static str) -> Match {
    Match { key, value, example }
}

/// Every match, in the order of the decoder's table.
pub(crate) const MATCHES: [Match; 26] = [
    m("in", "interface or zone that the packet came in by", "in: [inside, dmz]"),
    m("out", "interface or zone that it leaves by; known behind routing", "out: wan"),
    m(
        "to",
        "kind of destination: `local`, `broadcast`, `multicast`, `routed` (none of these); iptables' addrtype",
        "to: local",
    ),
    m("origin", "kind of source address, the same words", "origin: local"),
    m("family", "`ipv4`, `ipv6`", "family: ipv6"),
    m("proto", "protocol by name or number", "proto: [tcp, udp, 132]"),
    m("src", "source: address, prefix, range, `@set`", "src: [10.0.0.0/8, 192.0.2.1-192.0.2.9, \"@mgmt\"]"),
    m("dst", "destination, the same values", "dst: \"2001:db8::/32\""),
    m("sport", "source port, range, `@set`; only protocols that have ports", "sport: 1024-65535"),
    m("dport", "destination port, the same values", "dport: [80, 8000-8080, \"@web\"]"),
    m(
        "tcp_flags",
        "`set/mask`, as in iptables: of the flags in `mask`, exactly those in `set`; `none`, `all`",
        "tcp_flags: \"syn/fin,syn,rst,ack\"",
    ),
    m("icmp", "IPv4's type, or type/code, by name or number", "icmp: [echo-request, 3/4]"),
    m("icmpv6", "IPv6's, likewise", "icmpv6: packet-too-big"),
    m(
        "ct",
        "what connection tracking says: `new`, `established`, `related`, `invalid`, `untracked`, `snat`, `dnat`",
        "ct: [established, related]",
    ),
    m("ct_dir", "direction in its flow: `original`, `reply`", "ct_dir: reply"),
    m(
        "ct_helper",
        "the helper whose expectation made the flow: the data connection, not the control connection",
        "ct_helper: ftp",
    ),
    m("ct_mark", "mark of the flow: value, or value/mask", "ct_mark: 0x10/0xff"),
    m("mark", "mark of the packet, likewise", "mark: 1"),
    m(
        "ct_orig",
        "of the flow's first packet before NAT: `src`, `dst`, `sport`, `dport`",
        "ct_orig: {dst: 192.0.2.1, dport: 80}",
    ),
    m("ct_status", "`assured`, `seen-reply`, `expected`, `confirmed`, `snat`, `dnat`", "ct_status: assured"),
    m(
        "fragment",
        "true: a fragment other than the first; only untracked ones are ever seen ([why](netfilter.md#fragments))",
        "fragment: true",
    ),
    m("length", "bytes of the IP packet, number or range", "length: 0-128"),
    m("ttl", "TTL or hop limit, number or range", "ttl: 255"),
    m("dscp", "code point by name, number or range", "dscp: [ef, 0-7]"),
    m(
        "limit",
        "a rate, or `rate`, `burst` (5 unless given), `per: src` or `dst`: holds while within the rate",
        "limit: {rate: 10/second, burst: 20, per: src}",
    ),
    m(
        "connlimit",
        "`above`, `per: src` or `dst`: holds while more flows than that are live, the packet's own among them; not in `raw`, see below",
        "connlimit: {above: 100, per: src}",
    ),
];

/// An action.
pub(crate) struct Act {
    /// Its word.
    pub(crate) name: &'static str,
    /// The word alone is an action.
    pub(crate) alone: bool,
    /// Where it may stand.
    pub(crate) place: &'static str,
    /// What it does.
    pub(crate) what: &'static str,
    /// Actions as they are written.
    pub(crate) examples: &'static [&'static str],
}

/// An action that the word alone is, too.
const fn a(
    name: &'static str,
    place: &'static str,
    what: &'static str,
    examples: &'static [&'static str],
) -> Act {
    Act { name, alone: true, place, what, examples }
}

/// An action that needs a value.
const fn v(
    name: &'static str,
    place: &'static str,
    what: &'static str,
    examples: &'static [&'static str],
) -> Act {
    Act { name, alone: false, place, what, examples }
}

/// Every action, in the order of the decoder's table.
pub(crate) const ACTIONS: [Act; 19] = [
    a("accept", "all", "the packet passes this hook; terminal", &["accept"]),
    a("drop", "all", "the packet is dropped; terminal", &["drop"]),
    a(
        "reject",
        "filter",
        "dropped, and its sender told: port unreachable, or what is asked for; terminal",
        &[
            "reject",
            "{reject: tcp-reset}",
            "{reject: admin-prohibited}",
            "{reject: {icmp: host-prohibited}}",
            "{reject: {icmpv6: addr-unreachable}}",
        ],
    ),
    v(
        "jump",
        "all",
        "through that chain, and on with the next rule if it decided nothing",
        &["{jump: tcp_in}"],
    ),
    v(
        "goto",
        "all",
        "through that chain, and on behind the chain that this one was called from",
        &["{goto: tcp_in}"],
    ),
    a("return", "all", "ends this chain; at a hook's chain, its policy decides", &["return"]),
    a("notrack", "raw", "the packet is UNTRACKED; goes on", &["notrack", "{notrack: {related: true}}"]),
    v(
        "helper",
        "raw, mangle",
        "the flow gets this helper, which no flow has by itself; goes on",
        &["{helper: ftp}", "{helper: {name: ftp, loose: true}}"],
    ),
    v(
        "snat",
        "nat.postrouting",
        "another source: an address or a pool, ports; terminal there",
        &[
            "{snat: 203.0.113.9}",
            "{snat: {to: 203.0.113.9-203.0.113.12, port: 1024-65535}}",
            "{snat: {to: 203.0.113.9, mapping: endpoint-independent}}",
            "{snat: {to: 203.0.113.8/30, blocks: {of: 100.64.0.0/24, size: 1000}}}",
        ],
    ),
    a(
        "masquerade",
        "nat.postrouting",
        "the address of the interface as source; terminal there",
        &["masquerade", "{masquerade: {port: 1024-65535}}", "{masquerade: {mapping: endpoint-independent}}"],
    ),
    v(
        "nat64",
        "nat.prerouting",
        "from IPv6 to the IPv4 host that the destination stands for, as one of these addresses; terminal there",
        &[
            "{nat64: 203.0.113.9}",
            "{nat64: {to: 203.0.113.8/30, port: 20000-65535}}",
            "{nat64: {to: 203.0.113.9, prefix: \"2001:db8:64::/96\"}}",
        ],
    ),
    v(
        "dnat",
        "nat.prerouting, nat.output",
        "another destination; terminal there",
        &[
            "{dnat: \"10.0.0.9:80\"}",
            "{dnat: {to: \"2001:db8::9\", port: 80}}",
            "{dnat: {prefix: 10.0.0.0/24}}",
        ],
    ),
    a(
        "redirect",
        "nat.prerouting, nat.output",
        "the router itself as destination; terminal there",
        &["redirect", "{redirect: 3128}"],
    ),
    v(
        "zone",
        "raw",
        "tracked in this zone, 0 to 65535; goes on, see below",
        &["{zone: 7}", "{zone: {original: 7}}"],
    ),
    v(
        "ct_timeout",
        "raw",
        "the flow that the packet begins has these timeouts; goes on, see below",
        &["{ct_timeout: short}", "{ct_timeout: {udp: 10s}}"],
    ),
    v(
        "mark",
        "all",
        "sets the packet's mark or, with a mask, bits of it; `ct_mark` copies the flow's; goes on",
        &["{mark: 0x10/0xf0}", "{mark: ct_mark}"],
    ),
    v(
        "ct_mark",
        "behind the tracker",
        "sets the flow's mark, likewise; `mark` saves the packet's (iptables' CONNMARK); goes on",
        &["{ct_mark: 1}", "{ct_mark: mark/0xff}"],
    ),
    a(
        "log",
        "all",
        "a line in the log, in the form of the kernel's LOG target; goes on",
        &["log", "{log: {prefix: \"refused \", limit: 10/minute}}"],
    ),
    a("count", "all", "counts, and exports the counter; goes on", &["count"]),
];
