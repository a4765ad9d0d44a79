//! Why a server could not start, in one line that says what to do. Nothing here decides anything.

use std::fmt;
use std::io;
#[cfg(feature = "dpdk")]
use std::net::IpAddr;
use std::net::SocketAddr;

use crate::config::{counted, readable_size};
use crate::net::kernel;
#[cfg(feature = "dpdk")]
use crate::net::nic::{CheckError, NicError};
#[cfg(feature = "dpdk")]
use crate::net::tcp::mac_text;
use crate::remedies;
use crate::report::LogError;
use crate::tier::memory;

/// Why a server could not start, or had to stop. Shown as one line.
#[derive(Debug)]
pub enum ServeError {
    /// A kernel socket.
    Bind(kernel::BindError),
    /// The device.
    #[cfg(feature = "dpdk")]
    Device(NicError),
    /// The device was taken away while it served.
    DeviceGone {
        /// Which.
        device: String,
    },
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
    /// The admin port.
    Admin {
        /// Which.
        address: SocketAddr,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The server that runs was not taken over from.
    Takeover {
        /// Why not.
        reason: String,
        /// What has to change.
        fault: Fault,
    },
    /// The file with the users that may log in is not used.
    AuthFile {
        /// Which, and why not.
        reason: String,
        /// What has to change: it is not found, or it is wrong.
        fault: Fault,
    },
    /// The user that is to serve.
    User {
        /// Its name.
        name: String,
        /// What is wrong with it, or what the kernel refuses.
        reason: String,
        /// What has to change.
        fault: Fault,
    },
    /// Memory for L1.
    L1 {
        /// How much, for all workers together.
        bytes: u64,
        /// The kernel's reason.
        source: io::Error,
    },
    /// An L1 in memory that this host does not have the memory for.
    L1Host {
        /// Its size, in bytes.
        bytes: u64,
        /// How many workers take memory beside it.
        workers: usize,
        /// What there is at most, in bytes.
        limit: u64,
        /// The file that says so.
        source: String,
    },
    /// A tier beyond this process.
    Tier {
        /// The flag that names it.
        flag: &'static str,
        /// What is wrong with it, in one line.
        reason: String,
        /// Who can mend it.
        fault: Fault,
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
    /// Lines cannot be written where they were to be.
    Log(LogError),
    /// A thread or a signal handler could not be had.
    Host(io::Error),
    /// A stop was requested before it served.
    Stopped,
}

/// What has to change before a server can start, which its exit status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The command line.
    Words,
    /// Something on the host, by an operator.
    Host,
    /// Nothing: the same start may succeed a little later.
    Passing,
    /// It served and stopped as requested, but a tier could not be closed.
    Unfinished,
    /// It served until its device was taken away.
    Gone,
}

impl Fault {
    /// The exit status for it; 75 is EX_TEMPFAIL of sysexits(3).
    pub fn exit_status(self) -> u8 {
        match self {
            Fault::Words => 2,
            Fault::Host => 1,
            Fault::Passing => 75,
            Fault::Unfinished => 3,
            Fault::Gone => 4,
        }
    }
}

impl ServeError {
    /// What has to change.
    pub fn fault(&self) -> Fault {
        match self {
            ServeError::Bind(error) if error.may_pass() => Fault::Passing,
            ServeError::Admin { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Fault::Passing
            }
            ServeError::Tier { fault, .. } | ServeError::AuthFile { fault, .. } => *fault,
            ServeError::User { fault, .. } | ServeError::Takeover { fault, .. } => *fault,
            ServeError::Unfinished { .. } => Fault::Unfinished,
            ServeError::DeviceGone { .. } => Fault::Gone,
            // That process may be about to end.
            #[cfg(feature = "dpdk")]
            ServeError::Held { .. } => Fault::Passing,
            ServeError::NoDevices
            | ServeError::L1Part { .. }
            | ServeError::L1Host { .. }
            | ServeError::Core(_) => Fault::Words,
            #[cfg(feature = "dpdk")]
            ServeError::Stack(_) => Fault::Words,
            #[cfg(feature = "dpdk")]
            ServeError::Device(error) if names_none(error) => Fault::Words,
            _ => Fault::Host,
        }
    }

    /// Whether the same attempt may work a little later.
    pub fn may_pass(&self) -> bool {
        self.fault() == Fault::Passing
    }
}

/// Whether there is no device of the name that was given.
#[cfg(feature = "dpdk")]
fn names_none(error: &NicError) -> bool {
    match error {
        NicError::Spec(_) => true,
        NicError::Check(error) => {
            matches!(error, CheckError::PciMissing { .. } | CheckError::InterfaceMissing { .. })
        }
        // EAL's words for a driver that it does not have.
        NicError::Probe { detail, .. } => detail.contains("failed to parse device"),
        _ => false,
    }
}

/// Why there is not the memory for L1.
fn of_l1_host(bytes: u64, workers: usize, limit: u64, source: &str) -> String {
    format!(
        "--l1: {}, and {} for each of {}, are more than the {} available ({source}); choose a \
         smaller size",
        readable_size(bytes),
        readable_size(crate::base::limits::WORKER_BYTES),
        counted(workers as u64, "worker"),
        readable_size(limit)
    )
}

/// Why a worker's part of L1 cannot be had.
fn of_l1_part(bytes: u64) -> String {
    format!(
        "--l1: each worker would have {}, and one can have {} to {}; choose another size or number \
         of workers",
        readable_size(bytes),
        readable_size(memory::BYTES_MIN as u64),
        readable_size(memory::BYTES_MAX as u64)
    )
}

/// Why the admin port is not open.
fn of_admin(address: SocketAddr, source: &io::Error) -> String {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{address}: another process listens there; stop it, or choose another port")
        }
        _ => format!("{address}: {source}; choose an address of this host"),
    }
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Bind(error) => f.write_str(&remedies::of_bind(error)),
            #[cfg(feature = "dpdk")]
            ServeError::Device(error) => f.write_str(&remedies::of_device(error)),
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
            ServeError::DeviceGone { device } => write!(
                f,
                "{device} is gone, unplugged or its interface deleted; no client can be served; \
                 start again when it is back"
            ),
            ServeError::NoDevices => f.write_str(
                "--device: this build has no DPDK; build it with libdpdk-dev installed and \
                 without --no-default-features",
            ),
            ServeError::Admin { address, source } => {
                write!(f, "--admin {}", of_admin(*address, source))
            }
            ServeError::Takeover { reason, .. } => write!(f, "--takeover: {reason}"),
            ServeError::AuthFile { reason, .. } => write!(f, "--auth-file {reason}"),
            ServeError::User { name, reason, .. } => {
                write!(f, "-u, --user {}: {reason}", name.escape_debug())
            }
            ServeError::L1 { bytes, source } => {
                let size = readable_size(*bytes);
                write!(f, "--l1: cannot map {size}: {source}; choose a smaller size")
            }
            ServeError::L1Host { bytes, workers, limit, source } => {
                f.write_str(&of_l1_host(*bytes, *workers, *limit, source))
            }
            ServeError::Tier { flag, reason, .. } => write!(f, "{flag}: {reason}"),
            ServeError::L1Part { bytes } => f.write_str(&of_l1_part(*bytes)),
            ServeError::Core(core) => {
                write!(f, "--cores: core {core} is not one that this process may run on")
            }
            ServeError::Files { connections, limit } => write!(
                f,
                "--max-connections: {} and sunder itself need more open files than the limit of \
                 {limit}; raise it (ulimit -n, LimitNOFILE=)",
                counted(*connections as u64, "connection")
            ),
            ServeError::Unfinished { workers } => {
                write!(f, "stopped, and {workers} of its workers could not close a tier")
            }
            ServeError::Log(error) => write!(f, "{error}"),
            ServeError::Host(error) => write!(f, "cannot start: {error}"),
            ServeError::Stopped => f.write_str("a stop was requested before it served"),
        }
    }
}

impl std::error::Error for ServeError {}
