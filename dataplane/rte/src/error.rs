//! Why DPDK refused: one enum for the crate, with DPDK's reason and, where it logged one, its own words.
//!
//! Many drivers answer every failure with a bare -1 and tell the cause only in their log. So the log of each call is
//! caught (`log.rs`), and its last error line decides between the variants where the number cannot.

use std::ffi::CStr;
use std::fmt;

use sluice_dpdk_sys as sys;

use crate::{log, privilege};

/// What failed, with the value, the limit, and DPDK's reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A second start of the EAL in one process, also after a failed one: DPDK cannot be started again.
    #[error("dpdk was started in this process before, and starts only once")]
    AlreadyInitialised,
    /// The system refused: root or a capability (CAP_NET_RAW, CAP_NET_ADMIN, CAP_IPC_LOCK) is missing.
    #[error("{action}: not permitted{detail}")]
    NotPermitted {
        /// What was tried, and on what.
        action: String,
        /// What DPDK logged.
        detail: Detail,
    },
    /// Memory for buffers, descriptors or tables ran out.
    #[error("{action}: no memory{detail}")]
    NoMemory {
        /// What was tried, and on what.
        action: String,
        /// What DPDK logged.
        detail: Detail,
    },
    /// Huge pages were asked for and are not there.
    #[error("{needed_mb} MiB of huge pages needed, {free_mb} MiB free")]
    NoHugePages {
        /// MiB asked for.
        needed_mb: u64,
        /// MiB free, over all page sizes.
        free_mb: u64,
    },
    /// DPDK has no port of that name: no such device or interface, not bound to a driver, or its probe failed.
    #[error("port {name}: not probed{detail}")]
    PortNotProbed {
        /// The name asked for.
        name: String,
        /// What DPDK logged.
        detail: Detail,
    },
    /// The port is configured already.
    #[error("port {port}: in use")]
    PortBusy {
        /// DPDK's port number.
        port: u16,
    },
    /// A value beyond what the device or DPDK can do.
    #[error("{what} {value}: {limit} at most")]
    TooLarge {
        /// What the value is of.
        what: String,
        /// The value asked for.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A string that cannot be handed to DPDK.
    #[error("{what} {value:?}: {reason}")]
    BadString {
        /// What the string is.
        what: &'static str,
        /// The string.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file or device node that could not be opened, or anything else of the system's errors.
    #[error("{action}: {reason}{detail}")]
    Failed {
        /// What was tried, and on what.
        action: String,
        /// Positive errno; 0 where DPDK gave none.
        errno: i32,
        /// DPDK's text for `errno`.
        reason: String,
        /// What DPDK logged.
        detail: Detail,
    },
}

/// The last error line that DPDK logged during the call, in parentheses; empty where there was none, or where it is the
/// reason itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail(Option<String>);

impl Detail {
    /// The line itself.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_deref().map_or(Ok(()), |text| write!(to, " ({text})"))
    }
}

/// Calls a DPDK function that answers with a negative errno, or with -1 for anything.
///
/// `action` says what is tried, for the error. Returns the answer where it is not negative.
pub(crate) fn check(action: impl FnOnce() -> String, call: impl FnOnce() -> i32) -> Result<i32, Error> {
    let (answer, logged) = log::catch(call);
    if answer >= 0 {
        logged.forward();
        return Ok(answer);
    }
    Err(classify(action(), answer.saturating_neg(), logged.last_error()))
}

/// Calls a DPDK function that answers with a pointer, or null and `rte_errno`.
pub(crate) fn check_pointer<T>(
    action: impl FnOnce() -> String,
    call: impl FnOnce() -> *mut T,
) -> Result<std::ptr::NonNull<T>, Error> {
    let (answer, logged) = log::catch(call);
    if let Some(pointer) = std::ptr::NonNull::new(answer) {
        logged.forward();
        return Ok(pointer);
    }
    Err(classify(action(), rte_errno(), logged.last_error()))
}

/// Calls a DPDK function that answers with -1 and `rte_errno`.
pub(crate) fn check_errno(action: impl FnOnce() -> String, call: impl FnOnce() -> i32) -> Result<i32, Error> {
    check(action, || match call() {
        -1 => rte_errno().saturating_neg().min(-1),
        answer => answer,
    })
}

/// Whether the error is only that the device has no such function.
pub(crate) fn is_unsupported(error: &Error) -> bool {
    matches!(error, Error::Failed { errno: libc::ENOTSUP | libc::ENOSYS, .. })
}

/// The reason where there is none.
const UNEXPLAINED: &str = "failed";

fn classify(action: String, errno: i32, logged: Option<String>) -> Error {
    let says = |words: &str| logged.as_deref().is_some_and(|line| line.contains(words));
    // -1 is EPERM by its number and means nothing of the sort: only the log tells.
    let unknown = errno <= 1;
    let not_permitted = errno == libc::EACCES
        || (unknown && (says("Operation not permitted") || says("Permission denied")))
        || (errno == libc::EPERM && says("not permitted"));
    let no_memory = errno == libc::ENOMEM || (unknown && says("Cannot allocate memory"));
    let detail = Detail(logged);
    if not_permitted {
        Error::NotPermitted { action, detail }
    } else if no_memory {
        Error::NoMemory { action, detail }
    } else if unknown {
        let reason = detail.0.unwrap_or_else(|| UNEXPLAINED.to_owned());
        Error::Failed { action, errno: 0, reason, detail: Detail::default() }
    } else {
        Error::Failed { action, errno, reason: strerror(errno), detail }
    }
}

fn rte_errno() -> i32 {
    // SAFETY: reads a thread-local of this thread; no preconditions.
    unsafe { sys::sluice_rte_errno() }
}

fn strerror(errno: i32) -> String {
    // SAFETY: no preconditions; the answer is a terminated string in a thread-local buffer, or a constant.
    let text = unsafe { sys::rte_strerror(errno) };
    if text.is_null() {
        return format!("error {errno}");
    }
    // SAFETY: `text` is terminated, and is copied before this thread asks for another.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().to_lowercase()
}

impl Error {
    /// Whether DPDK gave neither number nor words.
    pub(crate) fn is_unexplained(&self) -> bool {
        matches!(self, Self::Failed { errno: 0, reason, .. } if reason == UNEXPLAINED)
    }

    /// The same, or what it comes from where the driver does not say: that this process lacks a capability.
    pub(crate) fn or_not_permitted(self, device: &str) -> Self {
        match (self, privilege::missing(device)) {
            (Self::Failed { action, reason, .. }, Some(capability)) => {
                let text = format!("needs {capability}; dpdk says: {reason}");
                Self::NotPermitted { action, detail: Detail(Some(text)) }
            }
            (other, _) => other,
        }
    }

    /// The port is not there, for a reason of our own finding.
    pub(crate) fn not_probed(name: &str, why: Option<&str>) -> Self {
        Self::PortNotProbed { name: name.to_owned(), detail: Detail(why.map(str::to_owned)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_by_number_and_where_that_says_nothing_by_log() {
        let cases: &[(i32, Option<&str>, &str)] = &[
            (12, None, "x: no memory"),
            (13, None, "x: not permitted"),
            (1, None, "x: failed"),
            (
                1,
                Some("socket: Operation not permitted"),
                "x: not permitted (socket: Operation not permitted)",
            ),
            (1, Some("eth9: no interface"), "x: eth9: no interface"),
            (22, None, "x: invalid argument"),
            (2, Some("gone"), "x: no such file or directory (gone)"),
        ];
        for (errno, logged, expected) in cases {
            let error = classify("x".to_owned(), *errno, logged.map(str::to_owned));
            assert_eq!(&error.to_string(), expected);
        }
    }
}
