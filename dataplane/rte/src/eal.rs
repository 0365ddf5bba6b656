//! DPDK's environment: its start, threads, clock, and devices made or found by name.
//!
//! `rte_eal_init` runs in a thread of its own, because it pins the thread that calls it and what that starts later inherits
//! the pinning. It is never undone (`rte_eal_cleanup` would unmap packets that are still held); the process' end does that.
//!
//! Source: DPDK `rte_eal.h`, `rte_bus_vdev.h`; programmer's guide, "EAL command-line options".

use std::ffi::CString;
use std::fmt;
use std::fs;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sluice_dpdk_sys as sys;

use crate::error::{Error, check, check_errno};
use crate::log::{self, LogLevel};

/// How DPDK is started.
#[derive(Debug, Clone)]
pub struct EalConfig {
    /// Memory from huge pages (of any instance's own; no files are left), or from ordinary ones: slower, and runs anywhere.
    pub hugepages: bool,
    /// Memory taken at the start, in MiB; without huge pages all there will be. See [`crate::memory_needed`].
    pub memory_mb: u32,
    /// CPUs that the workers will be pinned to: DPDK's own helper threads keep off them where there are others. None: all
    /// CPUs that this process may use.
    pub cores: Vec<usize>,
    /// PCI devices to take over, such as `0000:3b:00.0`; no others are touched. None: the PCI bus is not looked at.
    pub pci: Vec<String>,
    /// From which level on DPDK's own log goes to stderr.
    pub log_level: LogLevel,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            hugepages: false,
            memory_mb: 256,
            cores: Vec::new(),
            pci: Vec::new(),
            log_level: LogLevel::default(),
        }
    }
}

/// A port by DPDK's number, as [`Eal::create_vdev`] and [`Eal::port_by_name`] tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortIndex(u16);

impl PortIndex {
    /// The number, as received packets carry it ([`crate::Mbuf::port`]).
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for PortIndex {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(to)
    }
}

/// A NUMA node, by the system's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketId(pub(crate) i32);

impl SocketId {
    /// Whichever has memory.
    pub const ANY: Self = Self(sys::SOCKET_ID_ANY);

    /// The node of that number.
    #[must_use]
    pub const fn new(node: u16) -> Self {
        Self(node as i32)
    }
}

/// Shows that DPDK runs; there is one in a process.
#[derive(Debug)]
pub struct Eal {
    /// There may be devices that read and write memory by themselves.
    dma: bool,
}

static STARTED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts DPDK. The calling thread's CPU affinity stays as it is.
    ///
    /// A PCI device that cannot be probed is no error here: [`Eal::port_by_name`] tells.
    ///
    /// # Errors
    /// [`Error::AlreadyInitialised`] the second time, also after a failure; [`Error::NoHugePages`] where there are fewer
    /// than `memory_mb`; [`Error::NotPermitted`], [`Error::NoMemory`] and [`Error::Failed`] as DPDK answers.
    pub fn init(config: EalConfig) -> Result<Self, Error> {
        let arguments = arguments(&config)?;
        if config.hugepages {
            let (needed_mb, free_mb) = (u64::from(config.memory_mb), free_huge_pages_mb());
            if free_mb < needed_mb.max(1) {
                return Err(Error::NoHugePages { needed_mb, free_mb });
            }
        }
        if STARTED.swap(true, Ordering::SeqCst) {
            return Err(Error::AlreadyInitialised);
        }
        let dma = !config.pci.is_empty();
        let starter = thread::Builder::new().name("eal-init".to_owned()).spawn(move || {
            log::redirect(config.log_level);
            start(arguments)
        });
        let action = || "start of dpdk".to_owned();
        let failed = |reason: String| Error::Failed {
            action: action(),
            errno: 0,
            reason,
            detail: crate::error::Detail::default(),
        };
        match starter.map(thread::JoinHandle::join) {
            Ok(Ok(result)) => result.map(|()| Self { dma }),
            Ok(Err(_)) => Err(failed("its thread panicked".to_owned())),
            Err(error) => Err(failed(format!("no thread for it: {error}"))),
        }
    }

    /// Makes a virtual device of DPDK name `name` (its driver's name and a suffix, see [`crate::vdev`]) and gives its port.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] without the rights (AF_PACKET and tap need CAP_NET_RAW, CAP_NET_ADMIN), [`Error::NoMemory`],
    /// [`Error::PortNotProbed`] where no driver has that name, else [`Error::Failed`] with what the driver said: no such
    /// interface, no such file, name taken.
    pub fn create_vdev(&self, name: &str, args: &str) -> Result<PortIndex, Error> {
        let c_name = c_string("device name", name)?;
        let c_args = c_string("device arguments", args)?;
        let made = check(
            || format!("device {name} with {args:?}"),
            // SAFETY: the EAL runs (`self`); both strings are terminated and are copied by DPDK.
            || unsafe { sys::rte_vdev_init(c_name.as_ptr(), c_args.as_ptr()) },
        );
        match made {
            Ok(_) => self.port_by_name(name),
            // The one failure that is not even logged.
            Err(error) if error.is_unexplained() => {
                Err(Error::not_probed(name, Some("dpdk as built in has no driver of that name")))
            }
            Err(error) => Err(error.or_not_permitted(name)),
        }
    }

    /// The port of a device by its DPDK name; of a PCI device, its address (`0000:3b:00.0`).
    ///
    /// # Errors
    /// [`Error::PortNotProbed`]: there is no such device, it is not bound to a driver that DPDK can use, or it failed.
    pub fn port_by_name(&self, name: &str) -> Result<PortIndex, Error> {
        let c_name = c_string("port name", name)?;
        let mut port = 0;
        // SAFETY: the EAL runs (`self`); the name is terminated, and `port` is written to during the call only.
        let answer = unsafe { sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut port) };
        if answer == 0 { Ok(PortIndex(port)) } else { Err(Error::not_probed(name, None)) }
    }

    /// Makes the calling thread known to DPDK, until the guard is dropped: it gets a cache of its own in each pool, which
    /// takes a third off the cost of a buffer. Does not pin it. 127 threads at most.
    ///
    /// # Errors
    /// [`Error::NoMemory`] when there are too many; [`Error::Failed`].
    pub fn register_thread(&self) -> Result<LcoreGuard, Error> {
        check_errno(
            || "registration of a thread with dpdk".to_owned(),
            // SAFETY: the EAL runs (`self`), without multi-process mode; registering twice does nothing.
            || unsafe { sys::rte_thread_register() },
        )?;
        Ok(LcoreGuard { _of_this_thread: PhantomData })
    }

    /// Whether buffers must lie within pages, for devices that read and write them by themselves.
    pub(crate) fn has_dma(&self) -> bool {
        self.dma
    }

    /// Ticks of [`tsc`] in a second.
    #[must_use]
    pub fn tsc_hz(&self) -> u64 {
        // SAFETY: the EAL runs, and measured it at its start.
        unsafe { sys::rte_get_tsc_hz() }
    }

    /// DPDK's name and version, such as `DPDK 22.11.4`.
    #[must_use]
    pub fn version(&self) -> String {
        // SAFETY: no preconditions; the answer is a terminated string in static memory.
        let text = unsafe { sys::rte_version() };
        if text.is_null() {
            return String::new();
        }
        // SAFETY: as above; it is written once, before the first call returns.
        let text = unsafe { std::ffi::CStr::from_ptr(text) };
        text.to_string_lossy().into_owned()
    }
}

/// The CPU's time stamp counter; constant rate on all machines that matter.
#[inline]
#[must_use]
pub fn tsc() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 CPU has the instruction, and Linux lets programs use it.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // SAFETY: reads a counter; no preconditions.
        unsafe { sys::sluice_rdtsc() }
    }
}

/// A thread's registration with DPDK, of the thread that made it; ends when it is dropped.
#[derive(Debug)]
pub struct LcoreGuard {
    /// Not `Send`: what is undone is thread-local.
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for LcoreGuard {
    fn drop(&mut self) {
        // SAFETY: this is the thread that registered; where it did not, this does nothing.
        unsafe { sys::rte_thread_unregister() }
    }
}

/// Free huge pages of all sizes, in MiB.
#[must_use]
pub fn free_huge_pages_mb() -> u64 {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else { return 0 };
    let free_kb = sizes.flatten().filter_map(|size| {
        let name = size.file_name().into_string().ok()?;
        let kb: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let free = fs::read_to_string(size.path().join("free_hugepages")).ok()?;
        Some(kb.saturating_mul(free.trim().parse().ok()?))
    });
    free_kb.sum::<u64>() / 1024
}

/// A string for DPDK.
pub(crate) fn c_string(what: &'static str, value: &str) -> Result<CString, Error> {
    CString::new(value).map_err(|_| Error::BadString {
        what,
        value: value.to_owned(),
        reason: "contains a zero byte",
    })
}

/// EAL's command line, by facts found by trying: `--in-memory` lets several instances run side by side and leaves no files,
/// but fails together with `--no-huge`; a PCI device's IOVA mode is EAL's to find.
fn arguments(config: &EalConfig) -> Result<Vec<CString>, Error> {
    let mut words = vec!["sluice".to_owned()];
    if config.hugepages {
        words.push("--in-memory".to_owned());
    } else {
        words.extend(["--no-huge", "--no-shconf"].map(str::to_owned));
    }
    if config.pci.is_empty() {
        words.extend(["--no-pci", "--iova-mode=va"].map(str::to_owned));
    }
    for address in &config.pci {
        words.extend(["-a".to_owned(), address.clone()]);
    }
    // One lcore over all the workers' CPUs: the workers register themselves, and DPDK's threads keep off these CPUs.
    words.push(format!("--lcores=0@({})", cpu_list(&config.cores)));
    words.extend(["-m".to_owned(), config.memory_mb.max(1).to_string()]);
    words.push("--no-telemetry".to_owned());
    if config.log_level == LogLevel::Debug {
        words.push("--log-level=*:debug".to_owned());
    }
    words.iter().map(|word| c_string("dpdk argument", word)).collect()
}

fn cpu_list(cores: &[usize]) -> String {
    let mut cpus = cores.to_vec();
    if cpus.is_empty() {
        cpus = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    }
    if cpus.is_empty() {
        cpus.push(0);
    }
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn start(arguments: Vec<CString>) -> Result<(), Error> {
    // DPDK keeps pointers into its command line, so it lives as long as the process; this is done once.
    let mut pointers: Vec<_> = arguments.into_iter().map(CString::into_raw).collect();
    let count = pointers.len() as i32;
    pointers.push(std::ptr::null_mut());
    let argv = Box::leak(pointers.into_boxed_slice()).as_mut_ptr();
    check_errno(
        || "start of dpdk".to_owned(),
        // SAFETY: first call in this process (`STARTED`); `argv` has `count` terminated strings and a null, never freed.
        || unsafe { sys::rte_eal_init(count, argv) },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_follows_the_rules_found_by_trying() {
        let line = |config: &EalConfig| {
            let words = arguments(config).unwrap();
            words.iter().map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        let mut config = EalConfig { cores: vec![2, 3], memory_mb: 64, ..EalConfig::default() };
        assert_eq!(
            line(&config),
            "sluice --no-huge --no-shconf --no-pci --iova-mode=va --lcores=0@(2,3) -m 64 --no-telemetry"
        );
        config.hugepages = true;
        config.pci = vec!["0000:3b:00.0".to_owned()];
        assert_eq!(line(&config), "sluice --in-memory -a 0000:3b:00.0 --lcores=0@(2,3) -m 64 --no-telemetry");
    }
}
