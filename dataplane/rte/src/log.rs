//! DPDK's log: caught while a call runs, so that an error can quote it; else written to stderr.
//!
//! DPDK logs in the thread that calls it, so what is caught is thread-local and needs no lock.

use std::cell::RefCell;
use std::ffi::c_char;
use std::io::Write;

use sluice_dpdk_sys as sys;

/// From which level on DPDK's own log is let through to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What works otherwise than asked for; the default.
    #[default]
    Warning,
    /// What drivers say at their start.
    Notice,
    /// What the EAL says of the machine.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    fn to_dpdk(self) -> u32 {
        match self {
            Self::Error => sys::RTE_LOG_ERR,
            Self::Warning => sys::RTE_LOG_WARNING,
            Self::Notice => sys::RTE_LOG_NOTICE,
            Self::Info => sys::RTE_LOG_INFO,
            Self::Debug => sys::RTE_LOG_DEBUG,
        }
    }
}

thread_local! {
    /// Lines caught in this thread; `None` while none are wanted.
    static CAUGHT: RefCell<Option<Lines>> = const { RefCell::new(None) };
}

/// What DPDK logged during one call, with each piece's level.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<(u32, String)>);

impl Lines {
    /// The last line of level error, or else the last warning: drivers end with the most general complaint of a chain, but
    /// the first is often a consequence of probing around, so the last is the better of the two.
    pub(crate) fn last_error(&self) -> Option<String> {
        let last = |worst: u32| self.0.iter().rev().find(|(level, _)| *level <= worst);
        let (_, line) = last(sys::RTE_LOG_ERR).or_else(|| last(sys::RTE_LOG_WARNING))?;
        let line = line.trim();
        // Most drivers put their function's name in front.
        Some(line.split_once("(): ").map_or(line, |(_, text)| text).to_owned())
    }

    /// Hands the lines on to stderr: the call went well, so no error will quote them.
    pub(crate) fn forward(&self) {
        let worth_saying = |line: &&str| !HARMLESS.iter().any(|words| line.contains(words));
        for line in self.0.iter().map(|(_, line)| line.as_str()).filter(worth_saying) {
            write_stderr(line);
        }
    }
}

/// What drivers log as errors though all is well: the tap driver fails to set up flow rules, which we never use, in a kernel
/// that has no multiq discipline; it and memif fail to reach secondary processes, of which there are none. Huge pages of a size that is not there are no loss
/// where those of another suffice.
const HARMLESS: &[&str] = &[
    "Specified qdisc kind is unknown",
    "multiq qdisc",
    "Disabling rte flow support",
    "req to secondary",
    "Failed to register mp action callback",
    "Disabling remote netdev support",
    "hugepages reported on node",
];

/// Points DPDK's log here; called before the EAL starts, so that even its first words come this way.
pub(crate) fn redirect(level: LogLevel) {
    // SAFETY: no preconditions; sets a number.
    unsafe { sys::rte_log_set_global_level(level.to_dpdk()) };
    // SAFETY: `on_log` stays valid for the life of the process and does not unwind. On failure, which means that a FILE
    // could not be allocated, DPDK goes on logging to stderr by itself. libbpf's and libxdp's chatter comes along as notices.
    unsafe { sys::sluice_log_to(Some(on_log)) };
}

/// Runs `call` and gives what DPDK logged in this thread meanwhile.
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> (T, Lines) {
    let outer = CAUGHT.replace(Some(Lines::default()));
    let answer = call();
    let lines = CAUGHT.replace(outer).unwrap_or_default();
    (answer, lines)
}

extern "C" fn on_log(level: u32, text: *const c_char, length: usize) {
    if text.is_null() {
        return;
    }
    // SAFETY: the C library's stdio hands `length` initialised bytes at `text`, which live until this returns.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    let line = String::from_utf8_lossy(bytes);
    // During a thread's end its locals are gone: then straight to stderr.
    let caught = CAUGHT.try_with(|caught| match caught.try_borrow_mut().as_deref_mut() {
        Ok(Some(lines)) => {
            lines.0.push((level, line.clone().into_owned()));
            true
        }
        _ => false,
    });
    if !caught.unwrap_or(false) {
        write_stderr(&line);
    }
}

/// Writes without the panic of `eprint!` on a closed stderr.
fn write_stderr(line: &str) {
    // Nothing is left to tell it to, if stderr is gone.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
