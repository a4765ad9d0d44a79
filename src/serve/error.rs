//! Why a server could not start, in one line that says what to do. Nothing here decides anything.

use std::fmt;
use std::io;

use crate::net::kernel;
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
            ServeError::Host(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}
