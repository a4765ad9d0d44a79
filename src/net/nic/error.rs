//! Why a device could not be opened: one line each, which says what is wrong and what mends it.

use std::fmt;

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

impl fmt::Display for NicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NicError::Spec(error) => error.fmt(f),
            NicError::Check(error) => error.fmt(f),
            NicError::NoHugepages { needed_mib, free_mib } => write!(
                f,
                "the device needs {needed_mib} MiB of hugepages and {free_mib} MiB are free; run \
                 scripts/hugepages.sh reserve {}, or start with --huge off",
                needed_mib.div_ceil(2)
            ),
            NicError::Permission { device, detail } => write!(
                f,
                "--device {device}: not permitted; run as root, or with CAP_NET_ADMIN, \
                 CAP_NET_RAW and CAP_IPC_LOCK (DPDK: {detail})"
            ),
            NicError::Environment { detail } => write!(
                f,
                "DPDK did not start; check hugepages with scripts/hugepages.sh show and the limit \
                 of this cgroup (hugetlb.2MB.max), or start with --huge off (DPDK: {detail})"
            ),
            NicError::Probe { device, detail } => probe(f, device, detail),
            NicError::Configure { device, step, detail } => {
                write!(f, "--device {device}: {step} failed; try --workers 1 (DPDK: {detail})")
            }
            NicError::Pool { needed_mib, huge: true, detail } => write!(
                f,
                "no memory for the device's frames ({needed_mib} MiB); reserve more with \
                 scripts/hugepages.sh reserve {}, raise the limit of this cgroup \
                 (hugetlb.2MB.max), or start with --huge off (DPDK: {detail})",
                needed_mib.div_ceil(2)
            ),
            NicError::Pool { needed_mib, huge: false, detail } => write!(
                f,
                "no memory for the device's frames ({needed_mib} MiB); free some, or start with \
                 fewer --workers (DPDK: {detail})"
            ),
            NicError::AlreadyOpen => {
                write!(f, "this process has opened a device before; DPDK starts once a process")
            }
        }
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckError::PciMissing { address } => write!(
                f,
                "--device {address}: no such PCI device; scripts/bind-nic.sh show lists them"
            ),
            CheckError::NotBound { address, driver: Some(driver) } => write!(
                f,
                "--device {address}: the kernel's driver {driver} holds it; give it to DPDK with \
                 scripts/bind-nic.sh bind {address} --driver vfio-pci"
            ),
            CheckError::NotBound { address, driver: None } => write!(
                f,
                "--device {address}: no driver holds it; give it to DPDK with scripts/bind-nic.sh \
                 bind {address} --driver vfio-pci"
            ),
            CheckError::InterfaceMissing { interface } => write!(
                f,
                "--device iface={interface}: no such interface in this network namespace; ip link \
                 lists them"
            ),
            CheckError::InterfaceDown { interface } => write!(
                f,
                "--device iface={interface}: the interface is down; ip link set {interface} up"
            ),
        }
    }
}

fn probe(f: &mut fmt::Formatter<'_>, device: &str, detail: &str) -> fmt::Result {
    // VFIO maps memory for the device, which counts as locked: ENOMEM is 12.
    if detail.contains("error 12") || detail.contains("Cannot allocate memory") {
        write!(
            f,
            "--device {device}: memory cannot be locked for it; raise that limit (ulimit -l \
             unlimited, LimitMEMLOCK=infinity; DPDK: {detail})"
        )
    } else {
        write!(
            f,
            "--device {device}: the driver does not accept it; check the name and arguments of a \
             vdev, or a PCI device with scripts/bind-nic.sh show (DPDK: {detail})"
        )
    }
}

impl std::error::Error for NicError {}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_one_line_that_names_a_way_out() {
        let text = || "cannot".to_string();
        let all = [
            NicError::Spec(SpecError::Unknown { given: "veth0".into() }),
            CheckError::PciMissing { address: text() }.into(),
            CheckError::NotBound { address: text(), driver: Some(text()) }.into(),
            CheckError::NotBound { address: text(), driver: None }.into(),
            CheckError::InterfaceMissing { interface: text() }.into(),
            CheckError::InterfaceDown { interface: text() }.into(),
            NicError::NoHugepages { needed_mib: 31, free_mib: 0 },
            NicError::Permission { device: text(), detail: text() },
            NicError::Environment { detail: text() },
            NicError::Probe { device: text(), detail: text() },
            NicError::Probe { device: text(), detail: "error 12 (Cannot allocate memory)".into() },
            NicError::Configure { device: text(), step: "starting", detail: text() },
            NicError::Pool { needed_mib: 31, huge: true, detail: text() },
            NicError::Pool { needed_mib: 31, huge: false, detail: text() },
        ];
        for error in all {
            let line = error.to_string();
            assert!(!line.contains('\n') && !line.contains("  "), "{line:?}");
            assert!(
                ["scripts/", "--", "ip link", "root"].iter().any(|way| line.contains(way)),
                "{line:?}"
            );
        }
        let line = NicError::NoHugepages { needed_mib: 31, free_mib: 0 }.to_string();
        assert!(line.contains("reserve 16"), "{line:?}");
    }
}
