//! Finds the ssh session that the caller sits in, so that taking an interface over does not cut the branch.

use std::net::IpAddr;

/// The address of this box that the caller's ssh session ends at; None if the caller came another way.
///
/// sudo drops `SSH_CONNECTION`, so the environment of every ancestor is asked.
pub(super) fn ssh_address() -> Option<IpAddr> {
    let mut pid = std::process::id();
    while pid > 1 {
        if let Some(address) = environment(pid).as_deref().and_then(server_address) {
            return Some(address);
        }
        pid = parent(pid)?;
    }
    None
}

fn environment(pid: u32) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/environ")).ok()
}

/// `SSH_CONNECTION` is: client address, client port, server address, server port (ssh(1)).
fn server_address(environment: &[u8]) -> Option<IpAddr> {
    let entries = environment.split(|byte| *byte == 0);
    let value = entries.into_iter().find_map(|entry| entry.strip_prefix(b"SSH_CONNECTION="))?;
    let address: IpAddr = std::str::from_utf8(value).ok()?.split(' ').nth(2)?.parse().ok()?;
    Some(address.to_canonical())
}

/// Field 4 of `/proc/PID/stat`, behind the command name, which may itself hold spaces and brackets.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_address_is_the_third_word() {
        let cases = [
            (&b"A=1\0SSH_CONNECTION=192.0.2.7 4711 10.0.0.1 22\0B=2\0"[..], Some("10.0.0.1")),
            (b"SSH_CONNECTION=2001:db8::7 4711 2001:db8::1 22\0", Some("2001:db8::1")),
            (b"SSH_CONNECTION=::ffff:192.0.2.7 4711 ::ffff:10.0.0.1 22\0", Some("10.0.0.1")),
            (b"SSH_CONNECTION=x\0", None),
            (b"XSSH_CONNECTION=192.0.2.7 1 10.0.0.1 22\0", None),
            (b"", None),
        ];
        for (environment, expected) in cases {
            assert_eq!(server_address(environment), expected.map(|a| a.parse().unwrap()), "{environment:?}");
        }
    }

    #[test]
    fn every_process_but_the_first_has_a_parent() {
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
