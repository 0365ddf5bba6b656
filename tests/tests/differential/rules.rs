//! The rules of both sides: what some ports meet, then one rule for each class of packets.
//!
//! | destination port | of TCP and UDP |
//! |---|---|
//! | 7 | not tracked; answers are |
//! | 9 | not tracked, neither way |
//! | 1025 | what would begin a flow is dropped |
//! | 1026 | rejected: what belongs to a TCP connection, and UDP |
//! | 1027 | marks the flow |

use serde_json::{Value, json};

use crate::packet::Message;
use crate::seen::{Class, STATES, STATUS};

/// Ports with rules of their own.
pub const PORTS: [u16; 5] = [7, 9, 1025, 1026, 1027];

/// Whether a packet may meet such a rule.
pub fn concern(message: &Message) -> bool {
    let (source, destination) = match message {
        Message::Tcp(tcp) => tcp.ports,
        Message::Udp { ports, .. } => *ports,
        _ => return false,
    };
    PORTS.contains(&source) || PORTS.contains(&destination)
}

/// For nft. Classes set the DSCP to their number.
pub fn nft() -> String {
    let (mut chains, mut states) = (String::new(), String::new());
    for (place, (state, direction)) in STATES.into_iter().enumerate() {
        let with_flow = !direction.is_empty();
        let direction = if with_flow { format!("ct direction {direction}") } else { String::new() };
        states += &format!("ct state {state} {direction} goto state{place}\n");
        chains += &format!("chain state{place} {{\n");
        for bits in (0..if with_flow { 4 } else { 1 }).rev() {
            let status: String = named(bits, true).map(|name| format!("ct status {name} ")).collect();
            let class = Class::new(place, bits).0;
            chains += &format!("meta nfproto ipv4 {status} ip dscp set {class} accept\n");
            chains += &format!("meta nfproto ipv6 {status} ip6 dscp set {class} accept\n");
        }
        chains += "}\n";
    }
    format!(
        "table inet diff {{\n{chains}\nchain raw {{ type filter hook prerouting priority raw; policy accept;\n\
         ip saddr {{ 10.127.255.1, 10.255.255.1 }} notrack\n\
         meta l4proto {{ tcp, udp }} th dport {{ 7, 9 }} notrack\n\
         meta l4proto {{ tcp, udp }} th sport 9 notrack\n}}\n\
         chain forward {{ type filter hook forward priority filter; policy accept;\n\
         meta l4proto {{ tcp, udp }} th dport 1025 ct state new drop\n\
         tcp dport 1026 ct state established reject with tcp reset\n\
         udp dport 1026 reject\n\
         meta l4proto {{ tcp, udp }} th dport 1027 ct mark set 5\n\
         {states}}}\n}}\n"
    )
}

/// For Sluice, with the class that each rule tells, in the order of their numbers.
pub fn policy(status: bool) -> (String, Vec<Option<Class>>) {
    let both = json!(["tcp", "udp"]);
    let raw = json!([
        {"proto": both, "dport": [7, 9], "action": "notrack"},
        {"proto": both, "sport": 9, "action": "notrack"},
    ]);
    let mut forward = vec![
        json!({"proto": both, "dport": 1025, "ct": "new", "action": "drop"}),
        json!({"proto": "tcp", "dport": 1026, "ct": "established", "action": {"reject": "tcp-reset"}}),
        json!({"proto": "udp", "dport": 1026, "action": "reject"}),
        json!({"proto": both, "dport": 1027, "action": {"ct_mark": 5}}),
    ];
    let mut classes = vec![None; raw.as_array().map_or(0, Vec::len) + forward.len()];
    for (place, (state, direction)) in STATES.into_iter().enumerate() {
        let by_status = status && !direction.is_empty();
        for bits in 0..if by_status { 4 } else { 1 } {
            forward.push(rule(state, direction, by_status.then_some(bits)));
            classes.push(Some(Class::new(place, bits)));
        }
    }
    let file = json!({
        "raw": {"prerouting": raw},
        "filter": {"forward": {"policy": "drop", "rules": forward}},
    });
    (file.to_string(), classes)
}

/// The rule of a class.
fn rule(state: &str, direction: &str, status: Option<usize>) -> Value {
    let mut rule = json!({"ct": state, "action": "accept"});
    if !direction.is_empty() {
        rule["ct_dir"] = direction.into();
    }
    if let Some(bits) = status {
        // A list matches if any of it holds, so both bits together take what the rules before left.
        let (set, clear): (Vec<_>, Vec<_>) = (named(bits, true).collect(), named(bits, false).collect());
        if !set.is_empty() {
            rule["ct_status"] = set.into();
        }
        if !clear.is_empty() {
            rule["not"] = json!({"ct_status": clear});
        }
    }
    rule
}

/// The names of the bits that are set, or of those that are not.
fn named(bits: usize, set: bool) -> impl Iterator<Item = &'static str> {
    let chosen = STATUS.iter().enumerate().filter(move |(bit, _)| (bits >> bit & 1 != 0) == set);
    chosen.map(|(_, name)| *name)
}
