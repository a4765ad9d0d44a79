//! DPDK devices: queue pairs for workers, out of a PCI device or a vdev.
//!
//! ```text
//! spec ── eal ── ethdev ──┬── port (worker 0)      with RSS: a queue pair each
//! name   starts  queues,  ├── port (worker 1)      without: worker 0 has the one there is, and
//!        DPDK    pool     └── ..                   steer's rings lead to the others
//! ```
//!
//! Only this module and the crate `dpdk-sys` use DPDK. A port moves frames; it never reads them,
//! except for the flow they belong to.
//!
//! A memif device must not lose its peer while a worker polls: net_memif (DPDK 22.11) then unmaps
//! the rings in DPDK's interrupt thread, during the burst, and the process crashes. Nothing here
//! prevents that: the driver notifies nobody before it unmaps, and checking the link before a burst
//! only makes the window smaller. See docs/ARCHITECTURE.md.
//!
//! A process opens its devices once, all together. Their frames may outlive them: their memory
//! stays until the process ends.

#![allow(unsafe_code, reason = "DPDK is a C library, and frames are its memory")]

mod eal;
mod error;
mod ethdev;
mod frame;
mod port;
mod queue;
mod spec;
mod steer;

use std::path::Path;
use std::sync::Arc;

pub use error::NicError;
#[cfg(feature = "internals")]
pub use frame::NicFrame;
pub use port::WorkerPort;
pub use spec::{CheckError, SpecError};

use crate::base::limits::{
    NIC_EAL_BYTES, NIC_FRAME_BYTES, NIC_FRAME_SMALL_PAGE_BYTES, WORKERS_MAX, nic_pool_frames,
};
use crate::base::secret;
use crate::base::stats::WorkerStats;
use ethdev::Device;
use spec::Spec;

/// Whether frames are in hugepages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Huge {
    /// In hugepages, which must exist.
    #[default]
    Auto,
    /// In ordinary pages: slower, and not for every PCI device.
    Off,
}

/// The devices to open.
#[derive(Clone, Debug)]
pub struct NicConfig {
    /// Each a PCI address, or a vdev with its arguments in DPDK's syntax.
    pub devices: Vec<String>,
    /// The number of ports of each.
    pub workers: usize,
    /// Where frames are stored.
    pub huge: Huge,
}

/// The device's own counters, since it was opened. Counters that a driver does not support are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames received.
    pub frames_received: u64,
    /// Frames sent.
    pub frames_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Frames dropped because no descriptor was free: a worker was too slow (DPDK's `imissed`).
    pub receive_missed: u64,
    /// Frames received with errors (`ierrors`).
    pub receive_errors: u64,
    /// Times the pool had no frame to receive into (`rx_nombuf`).
    pub receive_no_buffer: u64,
    /// Frames that could not be sent (`oerrors`).
    pub send_errors: u64,
}

/// An open device and the ports that were not taken yet.
pub struct Nic {
    ports: Vec<Option<WorkerPort>>,
    is_link_up: bool,
    device: Arc<Device>,
}

/// The state of a device, for any thread. The device stays open as long as one exists.
#[derive(Clone)]
pub struct NicMonitor {
    device: Arc<Device>,
}

/// Opens devices with one port for each element of `stats`, in which the port counts: worker 0's
/// first. Waits for each link for a few seconds, and continues without it ([`Nic::is_link_up`]).
///
/// # Errors
/// See [`NicError`]. No device can be opened again in this process, whatever the error.
///
/// # Panics
/// If `stats` does not have `config.workers` elements, or no device is named.
pub fn open(config: &NicConfig, stats: &[Arc<WorkerStats>]) -> Result<Vec<Nic>, NicError> {
    let workers = config.workers;
    if workers == 0 || workers > WORKERS_MAX {
        return Err(SpecError::Workers { given: workers }.into());
    }
    assert_eq!(stats.len(), workers);
    if eal::was_started() {
        return Err(NicError::AlreadyOpen);
    }
    let sysfs = Path::new(spec::SYSFS);
    let parsed = |name: &String| -> Result<Spec, NicError> {
        let spec = Spec::parse(name)?;
        spec.check(sysfs)?;
        Ok(spec)
    };
    let specs = config.devices.iter().map(parsed).collect::<Result<Vec<_>, _>>()?;
    let needed_bytes = memory_bytes(specs.len(), workers, config.huge);
    let is_huge = config.huge == Huge::Auto;
    check_memory(specs.len(), workers, config.huge, sysfs)?;
    let mut log = eal::Log::new();
    let eal = eal::Eal::start(&specs, (!is_huge).then_some(needed_bytes), &mut log)?;
    let mut opened = |spec| Device::open(spec, &eal, workers, config.huge, &mut log).map(Arc::new);
    let devices = specs.iter().map(&mut opened).collect::<Result<Vec<_>, _>>()?;
    let made = devices.into_iter().map(|device| {
        let is_link_up = device.wait_for_link();
        Nic { ports: make_ports(&device, stats), is_link_up, device }
    });
    Ok(made.collect())
}

/// Finds what [`open`] would refuse before it starts DPDK. The kernel's devices are below `sysfs`.
///
/// # Errors
/// As [`open`].
pub fn check_device(device: &str, sysfs: &Path) -> Result<NamedDevice, NicError> {
    let spec = Spec::parse(device)?;
    spec.check(sysfs)?;
    Ok(NamedDevice {
        pci_address: matches!(spec, Spec::Pci { .. }).then(|| spec.name().to_owned()),
        interface: spec.interface().map(str::to_owned),
        driver: spec.driver(),
    })
}

/// The same of the memory of so many devices.
///
/// # Errors
/// [`NicError::NoHugepages`].
pub fn check_memory(
    devices: usize,
    workers: usize,
    huge: Huge,
    sysfs: &Path,
) -> Result<(), NicError> {
    match huge {
        Huge::Auto => {
            let needed_bytes = memory_bytes(devices, workers, huge);
            check_hugepages(needed_bytes, spec::hugepages_free_bytes(sysfs))
        }
        Huge::Off => Ok(()),
    }
}

/// What the names of DPDK's drivers' libraries begin with.
pub const DRIVER_FILES: &str = "librte_";

/// What a device's name says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedDevice {
    /// The address in full of a PCI device.
    pub pci_address: Option<String>,
    /// The interface of the kernel's that a vdev is on.
    pub interface: Option<String>,
    /// DPDK's driver of a vdev, as its library is named.
    pub driver: Option<String>,
}

fn make_ports(device: &Arc<Device>, stats: &[Arc<WorkerStats>]) -> Vec<Option<WorkerPort>> {
    let mut stats = stats.iter().map(Arc::clone);
    if device.queues() == stats.len() {
        let own = |(queue, stats)| Some(WorkerPort::own(device, queue as u16, stats));
        return stats.enumerate().map(own).collect();
    }
    let (hub, lanes) = steer::connect(stats.len(), u64::from_ne_bytes(secret::random()));
    let first = stats.next().map(|stats| WorkerPort::shared(device, hub, stats));
    let others = lanes.into_iter().zip(stats);
    let others = others.map(|(lane, stats)| Some(WorkerPort::steered(device, lane, stats)));
    std::iter::once(first).chain(others).collect()
}

fn check_hugepages(needed_bytes: usize, free_bytes: usize) -> Result<(), NicError> {
    if free_bytes >= needed_bytes {
        return Ok(());
    }
    let mib = 1024 * 1024;
    Err(NicError::NoHugepages {
        needed_mib: needed_bytes.div_ceil(mib),
        free_mib: free_bytes / mib,
    })
}

/// Memory of a pool, in bytes.
fn pool_bytes(frames: usize, huge: Huge) -> usize {
    match huge {
        Huge::Auto => frames * NIC_FRAME_BYTES,
        Huge::Off => frames * NIC_FRAME_SMALL_PAGE_BYTES,
    }
}

/// Most memory that so many devices use, in bytes, before their numbers of queues are known.
pub fn memory_bytes(devices: usize, workers: usize, huge: Huge) -> usize {
    let frames = nic_pool_frames(workers, workers).max(nic_pool_frames(workers, 1));
    devices * pool_bytes(frames, huge) + NIC_EAL_BYTES
}

impl Nic {
    /// The port of a worker, once. Must be used in one thread.
    ///
    /// # Panics
    /// If there is no such worker, or its port was taken.
    pub fn take_port(&mut self, worker: usize) -> WorkerPort {
        self.ports[worker].take().expect("a worker's port is taken once")
    }

    /// Whether the link was up when the device was opened. Without it frames are queued and lost.
    pub fn is_link_up(&self) -> bool {
        self.is_link_up
    }

    /// Whether each worker has a queue pair of its own; otherwise worker 0 receives for all.
    #[cfg(feature = "internals")]
    pub fn has_queue_per_worker(&self) -> bool {
        self.device.queues() == self.ports.len()
    }

    /// The state of the device, for other threads.
    pub fn monitor(&self) -> NicMonitor {
        NicMonitor { device: Arc::clone(&self.device) }
    }
}

impl NicMonitor {
    /// The device's counters now.
    pub fn statistics(&self) -> Statistics {
        self.device.statistics()
    }

    /// Whether the link is up now.
    pub fn is_link_up(&self) -> bool {
        self.device.link_is_up()
    }

    /// Whether the link is up now, including that of the kernel's interface under the device, whose
    /// driver may not report it.
    pub fn has_carrier(&self) -> bool {
        self.device.has_carrier()
    }

    /// The longest IP packet that the device accepts now, in bytes, if it reports one.
    pub fn mtu_bytes(&self) -> Option<usize> {
        self.device.mtu_bytes()
    }

    /// Whether the device no longer exists: unplugged, or its interface deleted. This process
    /// cannot use it again.
    pub fn is_gone(&self) -> bool {
        self.device.is_gone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_impossible_device_is_refused_before_dpdk_starts() {
        let open = |device: &str, workers: usize| {
            let stats: Vec<_> = (0..workers).map(|_| Arc::new(WorkerStats::default())).collect();
            let devices = vec![device.to_string()];
            let config = NicConfig { devices, workers, huge: Huge::Off };
            open(&config, &stats).err().expect("refused")
        };
        assert!(matches!(open("eth0", 1), NicError::Spec(SpecError::Unknown { .. })));
        let absent = open("net_af_packet0,iface=absent0", 1);
        assert!(matches!(absent, NicError::Check(CheckError::InterfaceMissing { .. })));
        let address = "ffff:ff:1f.7".to_string();
        let absent = open(&address, 1);
        let expected = CheckError::PciMissing { address };
        assert!(matches!(absent, NicError::Check(error) if error == expected));
        for workers in [0, WORKERS_MAX + 1] {
            let refused = open("net_ring0", workers);
            let expected = SpecError::Workers { given: workers };
            assert!(matches!(refused, NicError::Spec(error) if error == expected));
        }
    }

    #[test]
    fn too_few_hugepages_are_refused_with_the_missing_number() {
        let error = check_hugepages(64 << 20, 63 << 20).unwrap_err();
        assert!(matches!(error, NicError::NoHugepages { needed_mib: 64, free_mib: 63 }));
        assert!(check_hugepages(64 << 20, 64 << 20).is_ok());
    }
}
