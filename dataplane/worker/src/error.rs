//! Why a data plane could not start. Each prints as one clear line.

/// Why a data plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Neither the user nor the capabilities for what a device needs.
    #[error("{what}: not permitted: needs root, or CAP_NET_ADMIN and CAP_NET_RAW")]
    NotPermitted {
        /// What was tried.
        what: String,
    },
    /// The kernel interface of a `kernel:` or `xdp:` device does not exist.
    #[error("interface {name}: no such kernel interface: {ifname}")]
    NoInterface {
        /// The logical interface.
        name: String,
        /// The kernel interface that is missing.
        ifname: String,
    },
    /// A local tap cannot have its name, for a link has it already.
    #[error("interface {name}: a link of that name exists already")]
    NameTaken {
        /// The logical interface.
        name: String,
    },
    /// A device could not be made or was not probed.
    #[error("interface {name}: {device}: {reason}")]
    Device {
        /// The logical interface.
        name: String,
        /// The device as `sluice.yaml` writes it.
        device: String,
        /// What DPDK says.
        reason: String,
    },
    /// Huge pages are required and too few are free.
    #[error("memory: {needed_mb} MB of huge pages needed, {free_mb} MB free (hugepages: off runs without)")]
    NoHugepages {
        /// Megabytes needed.
        needed_mb: u32,
        /// Megabytes free.
        free_mb: u32,
    },
    /// The machine has less memory than packet buffers need.
    #[error("memory: {needed_mb} MB needed, {available_mb} MB available (fewer mbufs need less)")]
    LittleMemory {
        /// Megabytes needed.
        needed_mb: u32,
        /// Megabytes available.
        available_mb: u64,
    },
    /// Packet buffers could not be had.
    #[error("memory: {mbufs} packet buffers of {room} bytes: {reason}")]
    NoMemory {
        /// How many were asked for.
        mbufs: u32,
        /// Bytes of each.
        room: u16,
        /// What DPDK says.
        reason: String,
    },
    /// DPDK's environment could not be set up.
    #[error("dpdk: {0}")]
    Eal(String),
    /// The configuration cannot work, whatever the machine.
    #[error("{0}")]
    Config(String),
    /// A worker thread could not be started or pinned.
    #[error("worker {worker}: {reason}")]
    Worker {
        /// The worker.
        worker: usize,
        /// What failed.
        reason: String,
    },
}
