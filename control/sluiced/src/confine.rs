//! Gives up what only a start needs, once the router runs: system calls that a router has no use for fail from then on, in
//! all threads.
//!
//! One address space is one trust domain: whoever runs code in a worker runs code in control. So the limit is on the
//! process, not on threads: no programs, no mounts, no modules, no namespaces, no other user, no look into other
//! processes, no packet sockets. What a start needs, and a stop (addresses, routes and flags of links, by netlink), stays.
//! The unit's `SystemCallFilter=` is an allow list on top of it, from the start on.
//!
//! Refused calls get `EPERM`, which is an error like any other, and no reason to end a router.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, EPERM};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// Calls that no running router makes. Source: the groups of systemd's `systemd-analyze syscall-filter`: `@mount`,
/// `@module`, `@reboot`, `@swap`, `@debug`, `@clock`, `@keyring`, `@setuid`, `@privileged`.
const REFUSED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_syslog,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_personality,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Families of sockets that are opened while the router runs: API, metrics and exports, netlink.
const FAMILIES: [libc::c_int; 4] = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];

/// Refuses them from now on, in all threads.
///
/// # Errors
/// A kernel without seccomp.
pub(crate) fn confine() -> Result<()> {
    let program = program().context("system call filter")?;
    apply_filter_all_threads(&program).context("system call filter (seccomp)")
}

fn program() -> Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    let other_than = |family: libc::c_int| {
        let family = u64::try_from(family)?;
        Ok(SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)?)
    };
    let others = FAMILIES.into_iter().map(other_than).collect::<Result<Vec<_>>>()?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(others)?]);
    let refused = SeccompAction::Errno(u32::try_from(EPERM)?);
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refused, std::env::consts::ARCH.try_into()?)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::process::Command;
    use std::sync::mpsc;

    use super::*;

    /// In a process of its own: there is no way back, and it would hold for all other tests.
    #[test]
    fn what_a_router_has_no_use_for_is_refused_in_all_threads() {
        const CHILD: &str = "SLUICED_TEST_CONFINED";
        if std::env::var_os(CHILD).is_none() {
            let me = std::env::current_exe().unwrap();
            let name = "confine::tests::what_a_router_has_no_use_for_is_refused_in_all_threads";
            let out = Command::new(me).args([name, "--exact"]).env(CHILD, "1").output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
            return;
        }
        let (go, wait) = mpsc::channel();
        let older = std::thread::spawn(move || {
            wait.recv().unwrap();
            Command::new("true").status().unwrap_err().kind()
        });
        confine().unwrap();
        go.send(()).unwrap();
        assert_eq!(older.join().unwrap(), std::io::ErrorKind::PermissionDenied);
        assert!(open_socket(libc::AF_PACKET).is_err());
        UdpSocket::bind("127.0.0.1:0").unwrap();
        std::fs::read_to_string("/proc/self/status").unwrap();
    }

    fn open_socket(family: libc::c_int) -> nix::Result<()> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
        let family = AddressFamily::from_i32(family).unwrap();
        socket(family, SockType::Raw, SockFlag::empty(), None).map(drop)
    }
}
