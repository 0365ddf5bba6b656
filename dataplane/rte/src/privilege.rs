//! Which of the drivers' failures are want of a capability: they do not say.
//!
//! Source: capabilities(7); proc(5), `CapEff`.

use std::fs;

/// Drivers, and the capabilities without which they fail: number and name.
const NEEDED: &[(&str, &[(u32, &str)])] = &[
    ("net_af_packet", &[(13, "CAP_NET_RAW")]),
    ("net_tap", &[(12, "CAP_NET_ADMIN")]),
    ("net_af_xdp", &[(13, "CAP_NET_RAW"), (12, "CAP_NET_ADMIN"), (39, "CAP_BPF")]),
];

/// The first capability that a device needs and this process lacks; `device` is its name or its driver's.
pub(crate) fn missing(device: &str) -> Option<&'static str> {
    let (_, needed) = NEEDED.iter().find(|(driver, _)| device.starts_with(driver))?;
    let held = effective()?;
    // CAP_SYS_ADMIN (21) stands in for CAP_BPF, which was split off from it.
    let has = |number: u32| held >> number & 1 == 1 || (number == 39 && held >> 21 & 1 == 1);
    needed.iter().find(|(number, _)| !has(*number)).map(|(_, name)| *name)
}

/// The process' effective capabilities, one bit each.
fn effective() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}
