//! Why a server could not start, in one line that says what to do. Nothing here decides anything.

use std::fmt;
use std::io;
#[cfg(feature = "dpdk")]
use std::net::IpAddr;

use crate::net::kernel;
#[cfg(feature = "dpdk")]
use crate::net::tcp::mac_text;
use crate::tier::memory;

/// Why a server could not start, or had to stop. Shown as one line.
#[derive(Debug)]
pub enum ServeError {
    /// A kernel socket.
    Bind(kernel::BindError),
    /// The device.
    #[cfg(feature = "dpdk")]
    Device(crate::net::nic::NicError),
    /// A device was asked for, and this build has none.
    NoDevices,
    /// The stack.
    #[cfg(feature = "dpdk")]
    Stack(crate::net::tcp::ConfigError),
    /// Another host of the network has an address.
    #[cfg(feature = "dpdk")]
    Taken(crate::net::tcp::Taken),
    /// Another process serves an address on the same interface.
    #[cfg(feature = "dpdk")]
    Held {
        /// The address.
        address: IpAddr,
        /// The interface.
        interface: String,
    },
    /// Memory for L1.
    L1 {
        /// How much, for all workers together.
        bytes: u64,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A tier beyond this process.
    Tier {
        /// The flag that names it.
        flag: &'static str,
        /// What is wrong with it, in one line.
        reason: String,
    },
    /// L1 divided among the workers is outside of what one can have.
    L1Part {
        /// Bytes for each worker.
        bytes: u64,
    },
    /// A core that the host does not have, or that we may not use.
    Core(usize),
    /// The limit on open files does not allow so many connections.
    Files {
        /// Connections asked for.
        connections: usize,
        /// The limit on open files.
        limit: u64,
    },
    /// It has stopped, and some workers' tiers are not closed.
    Unfinished {
        /// How many workers.
        workers: usize,
    },
    /// A thread or a signal handler could not be had.
    Host(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Bind(error) => write!(f, "{error}"),
            #[cfg(feature = "dpdk")]
            ServeError::Device(error) => write!(f, "{error}"),
            #[cfg(feature = "dpdk")]
            ServeError::Stack(error) => write!(f, "--address, --max-connections: {error}"),
            #[cfg(feature = "dpdk")]
            ServeError::Taken(taken) => write!(
                f,
                "--address {}: {} has it on this network, or asks for it at the same time; choose \
                 another, or stop that host and start again",
                taken.address,
                mac_text(taken.mac)
            ),
            #[cfg(feature = "dpdk")]
            ServeError::Held { address, interface } => write!(
                f,
                "--address {address}: another sunder serves it on {interface}; stop that one, or \
                 choose another address"
            ),
            ServeError::NoDevices => f.write_str(
                "--device: this build has no DPDK; build it with libdpdk-dev installed and \
                 without --no-default-features",
            ),
            ServeError::L1 { bytes, source } => {
                write!(f, "--l1: cannot map {bytes} bytes: {source}; choose a smaller size")
            }
            ServeError::Tier { flag, reason } => write!(f, "{flag}: {reason}"),
            ServeError::L1Part { bytes } => write!(
                f,
                "--l1: each worker would have {bytes} bytes, and one can have {} to {}; choose \
                 another size or number of workers",
                memory::BYTES_MIN,
                memory::BYTES_MAX
            ),
            ServeError::Core(core) => {
                write!(f, "--cores: core {core} is not one that this process may run on")
            }
            ServeError::Files { connections, limit } => write!(
                f,
                "--max-connections: {connections} connections need more open files than the \
                 limit of {limit}; raise it (ulimit -n) or choose fewer"
            ),
            ServeError::Unfinished { workers } => {
                write!(f, "stopped, and {workers} of its workers could not close a tier")
            }
            ServeError::Host(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}
