//! The router on real traffic: real programs in network namespaces, as a user would set them up.
//!
//! Needs root and the release build of both programs. Tests run one after the other (`--test-threads=1`): a machine
//! of two cores cannot give several routers their time.

mod capture;
mod confirm;
mod conntrack;
mod control;
mod devices;
mod explain;
mod flood;
mod fragments;
mod frames;
mod helpers;
mod ipfix;
mod leases;
mod lifecycle;
mod mapping;
mod metrics;
mod nat;
mod nat64;
mod policy;
mod prometheus;
mod remote;
mod sets;
mod telephony;
mod trace;
mod tracking;
mod traffic;

/// Accepts everything, tracks everything.
const ACCEPT: &str = "filter: {forward: {policy: accept, rules: []}}\n";

/// A usual border: what is inside may go out, what belongs to it may come back.
const BORDER: &str = r"
zones: {inside: [lan], outside: [wan]}
filter:
  input:
    policy: drop
    rules:
      - {ct: [established, related], action: accept}
      - {proto: [icmp, icmpv6], action: accept, name: icmp-in}
      - {in: inside, proto: tcp, dport: 80, action: accept}
  forward:
    policy: drop
    rules:
      - {ct: [established, related], action: accept}
      - {ct: invalid, action: drop}
      - {in: inside, out: outside, ct: new, action: accept, name: outbound}
";
