//! Why a device could not be opened, as data. `remedies` makes the operator's line of it.

use super::spec::{CheckError, SpecError};

/// Why [`super::open`] failed.
#[derive(Debug)]
pub enum NicError {
    /// The device's name cannot be understood.
    Spec(SpecError),
    /// The device cannot be used.
    Check(CheckError),
    /// Too few free hugepages.
    NoHugepages {
        /// What the device needs, in MiB.
        needed_mib: usize,
        /// What is free, in MiB.
        free_mib: usize,
    },
    /// The process may not do what the device needs.
    Permission {
        /// The device.
        device: String,
        /// What DPDK said.
        detail: String,
    },
    /// DPDK's environment did not start.
    Environment {
        /// What DPDK said.
        detail: String,
    },
    /// The limit on locked memory is too low for the device: VFIO maps memory for it.
    LockedMemory {
        /// The device.
        device: String,
        /// What DPDK said.
        detail: String,
    },
    /// The driver refused the device.
    Probe {
        /// The device.
        device: String,
        /// What DPDK said.
        detail: String,
    },
    /// The driver refused the configuration.
    Configure {
        /// The device.
        device: String,
        /// What was being done.
        step: &'static str,
        /// What DPDK said.
        detail: String,
    },
    /// The pool of frames does not fit the memory there is.
    Pool {
        /// What it needs, in MiB.
        needed_mib: usize,
        /// Whether hugepages were wanted.
        huge: bool,
        /// What DPDK said.
        detail: String,
    },
    /// This process has opened a device before. DPDK starts once a process.
    AlreadyOpen,
}

impl From<SpecError> for NicError {
    fn from(error: SpecError) -> NicError {
        NicError::Spec(error)
    }
}

impl From<CheckError> for NicError {
    fn from(error: CheckError) -> NicError {
        NicError::Check(error)
    }
}
