//! Settings of one kernel interface under `/proc/sys/net`, in the namespace of the process.

use std::io;

/// Reads `net.FAMILY.conf.INTERFACE.NAME`; `family` is `ipv4` or `ipv6`.
///
/// # Errors
/// The kernel has no such setting.
pub(super) fn read(family: &str, interface: &str, name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(path(family, interface, name))?.trim().to_owned())
}

/// Writes `net.FAMILY.conf.INTERFACE.NAME`.
///
/// # Errors
/// The kernel has no such setting, or does not take the value.
pub(super) fn write(family: &str, interface: &str, name: &str, value: &str) -> io::Result<()> {
    std::fs::write(path(family, interface, name), value)
}

/// Interface names may hold dots; as path components they need no escape.
fn path(family: &str, interface: &str, name: &str) -> String {
    format!("/proc/sys/net/{family}/conf/{interface}/{name}")
}
