//! The router's two files: five legs, and the policy that import made.

use serde_json::{Value, json};

/// The legs in the order of their ports, which is that of the keys in the system file, by the names that the rulesets have for them.
pub const LEGS: [&str; 5] = ["br-back", "br-web", "docker0", "eth0", "eth1"];
/// Their numbers in MAC addresses.
pub const NUMBERS: [u8; 5] = [1, 2, 3, 4, 5];
/// Of each leg: the router's addresses, then its neighbour's.
pub const ADDRESSES: [[&str; 4]; 5] = [
    ["172.30.0.1/30", "2001:db8:0:5::1/64", "172.30.0.2", "2001:db8:0:5::2"],
    ["172.31.0.1/30", "2001:db8:0:4::1/64", "172.31.0.2", "2001:db8:0:4::2"],
    ["172.17.0.1/30", "2001:db8:0:3::1/64", "172.17.0.2", "2001:db8:0:3::2"],
    ["203.0.113.2/30", "2001:db8:0:1::1/64", "203.0.113.1", "2001:db8:0:1::2"],
    ["10.0.0.1/30", "2001:db8:0:2::1/64", "10.0.0.2", "2001:db8:0:2::2"],
];
/// Routes beside those of the links: to, via.
pub const ROUTES: [(&str, &str); 4] = [
    ("0.0.0.0/0", "203.0.113.1"),
    ("::/0", "2001:db8:0:1::2"),
    ("10.0.1.0/24", "10.0.0.2"),
    ("2001:db8:1::/64", "2001:db8:0:2::2"),
];

/// The policy file: `policy` is its text.
pub fn policy(policy: &Value) -> String {
    policy.as_str().unwrap_or_default().to_owned()
}

/// The system file.
pub fn system(_: &Value) -> String {
    let mut interfaces = serde_json::Map::new();
    let mut neighbours = Vec::new();
    for ((name, number), [v4, v6, near4, near6]) in LEGS.into_iter().zip(NUMBERS).zip(ADDRESSES) {
        interfaces
            .insert(name.into(), json!({"device": format!("kernel:port{number}"), "addresses": [v4, v6]}));
        for address in [near4, near6] {
            neighbours.push(json!({"address": address, "mac": format!("02:00:00:00:{number:02x}:02")}));
        }
    }
    let routes: Vec<_> = ROUTES.iter().map(|(to, via)| json!({"to": to, "via": via})).collect();
    json!({
        "workers": {"cores": [0]},
        "interfaces": interfaces,
        "routes": routes,
        "neighbours": neighbours,
        "icmp": {"ratelimit": 0},
    })
    .to_string()
}
