//! What a start would refuse, found without one. Each is the start's own check, for
//! `sunder doctor`.
//!
//! It must never change what it looks at: no file is made or made longer, no item removed, no
//! client let in. What only a start can tell is left out: whether DPDK's driver takes the device,
//! and whether another host has its addresses.

use std::path::Path;
use std::sync::{Arc, Mutex};

use super::kept::Files;
use super::patience::Patience;
use super::user::User;
use super::{Level, Part, ServeError, part, shared};
use crate::base::buffer::map_huge;
use crate::base::readiness::Readiness;
use crate::config::{Config, L1, L2, Memcached};
use crate::net::kernel::{self as sockets, Inherited};
#[cfg(feature = "dpdk")]
use crate::net::nic::{self, NamedDevice, NicError};
use crate::tier::rend::Rend;
use crate::tier::ssd::disk::ring::try_ring;

pub(crate) use super::ssd::DiskLook;

/// The core of each worker, if it has one; `allowed` are those that this process may run on.
pub(crate) fn pins(config: &Config, allowed: &[usize]) -> Result<Vec<Option<usize>>, ServeError> {
    super::pins(config, allowed)
}

/// What L1 and the workers take, in bytes.
pub(crate) fn memory_bytes(config: &Config, workers: usize) -> u64 {
    let L1::Memory { bytes, .. } = config.l1 else { return super::host::needed_bytes(0, workers) };
    super::host::needed_bytes(bytes, workers)
}

/// Whether an L1 in memory can be had, on a host whose files are below `root`.
pub(crate) fn memory(config: &Config, workers: usize, root: &Path) -> Result<(), ServeError> {
    match config.l1 {
        L1::Memory { bytes, .. } => part::memory_share_of(bytes, workers, root).map(|_| ()),
        _ => Ok(()),
    }
}

/// Whether its addresses can be had: as the limits and the overcommit of the host allow.
pub(crate) fn mapping(config: &Config) -> Result<(), ServeError> {
    match config.l1 {
        L1::Memory { bytes, file: None } => {
            map_huge(bytes as usize).map(|_| ()).map_err(|source| ServeError::L1 { bytes, source })
        }
        _ => Ok(()),
    }
}

/// The place of its lines.
pub(crate) fn log(config: &Config) -> Result<(), ServeError> {
    config.log_to.check().map_err(ServeError::Log)
}

/// The file of users.
pub(crate) fn users(config: &Config) -> Result<(), ServeError> {
    config.auth_file.as_ref().map_or(Ok(()), |path| super::users(path).map(|_| ()))
}

/// The user that is to serve.
pub(crate) fn user(config: &Config) -> Result<(), ServeError> {
    config.user.as_deref().map_or(Ok(()), |name| User::find(name).map(|_| ()))
}

/// What is said of connections that the limit on open files does not allow; None: it allows all.
pub(crate) fn connections(config: &Config) -> Result<Option<String>, ServeError> {
    let asked = config.connections_max;
    let connections_max = super::kernel::allow_files(asked)?;
    Ok((connections_max < asked).then(|| super::kernel::fewer(connections_max, asked)))
}

/// Ports and Unix sockets, without those of the server that this one takes over from.
pub(crate) fn listeners(config: &Config, inherited: &Inherited) -> Result<(), ServeError> {
    let (listeners, _) = super::kernel::listeners(config);
    sockets::try_bind(&listeners, inherited).map_err(ServeError::Bind)
}

/// The listeners of the server that this one would take over from, which goes on; None: there is
/// none, or it is not wanted.
pub(crate) fn inherited(config: &Config) -> Result<Option<Inherited>, ServeError> {
    if !config.is_takeover {
        return Ok(None);
    }
    Ok(super::takeover::ask(config)?.map(super::takeover::Old::into_inherited))
}

/// What a start would refuse beside a server that serves, which it takes over from: what that one
/// has open is left out.
pub(super) fn beside(
    config: &Config,
    workers: usize,
    inherited: &Inherited,
) -> Result<(), ServeError> {
    listeners(config, inherited)?;
    admin(config, inherited)?;
    files(config, workers, true)?;
    let is_in_use = |error: &ServeError| error.may_pass() && super::ssd::exists(config);
    match disk(config, workers) {
        Err(error) if !is_in_use(&error) => return Err(error),
        _ => {}
    }
    for level in [Level::L1, Level::L2] {
        server(config, level)?;
    }
    Ok(())
}

/// The admin port.
pub(crate) fn admin(config: &Config, inherited: &Inherited) -> Result<(), ServeError> {
    let Some(address) = config.admin.filter(|address| !inherited.has_tcp(*address)) else {
        return Ok(());
    };
    sockets::try_tcp(address).map_err(|source| ServeError::Admin { address, source })
}

/// The disk of a tier; None: there is none.
pub(crate) fn disk(config: &Config, workers: usize) -> Result<Option<DiskLook>, ServeError> {
    super::ssd::try_disk(config, workers)
}

/// Whether there can be a ring; if not, why.
pub(crate) fn rings() -> Result<(), String> {
    try_ring().map_err(|error| error.to_string())
}

/// The files of an L1 in memory. `is_beside`: they may be in use.
pub(crate) fn files(config: &Config, workers: usize, is_beside: bool) -> Result<(), ServeError> {
    Files::try_open(config, workers, is_beside)
}

/// The server that the tier at `level` is in, if it is in one. What its clients will miss, if
/// something.
pub(crate) fn server(config: &Config, level: Level) -> Result<Option<&'static str>, ServeError> {
    if let (Level::L2, L2::Rend(link)) = (level, &config.l2) {
        return super::ask(link).map(Rend::lacks);
    }
    let whole = |memcached: &Memcached| Memcached { starts_empty: false, ..memcached.clone() };
    // Without an L2 nothing of what is in L1 has to go.
    let alone = Config { l2: L2::None, ..config.clone() };
    let shared = shared(&alone, 1);
    let patience = Patience::new(0, Arc::clone(&shared.stop));
    let inherited = Mutex::default();
    let (rend, source, files, admin) = (None, None, None, None);
    let opened = part::Opened { patience, rend, source, files, inherited, admin };
    let readiness = Readiness::none();
    let part = Part { config: &alone, shared: &shared, opened: &opened, worker: 0, readiness };
    match (level, &config.l1, &config.l2) {
        (Level::L1, L1::Memcached(it), _) | (Level::L2, _, L2::Memcached(it)) => {
            part.memcached(level, &whole(it)).map(|_| None)
        }
        (Level::L1, L1::Shm(link), _) => part.shm(link).map(|_| None),
        _ => Ok(None),
    }
}

/// What a device's name says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceLook {
    /// The address in full of a PCI device.
    pub pci_address: Option<String>,
    /// The interface of the kernel's that a vdev is on.
    pub interface: Option<String>,
    /// DPDK's driver of a vdev, as its library is named.
    pub driver: Option<String>,
}

/// A device, as far as it is known before DPDK starts. The kernel's devices are below `sysfs`.
#[cfg(feature = "dpdk")]
pub(crate) fn device(
    config: &Config,
    device: &str,
    sysfs: &Path,
) -> Result<DeviceLook, ServeError> {
    let NamedDevice { pci_address, interface, driver } =
        nic::check_device(device, sysfs).map_err(ServeError::Device)?;
    super::device::check(config, device)?;
    Ok(DeviceLook { pci_address, interface, driver })
}

/// Memory of the devices' frames, in bytes, and whether the host has it.
#[cfg(feature = "dpdk")]
pub(crate) fn frames(
    config: &Config,
    workers: usize,
    sysfs: &Path,
) -> (u64, Result<(), ServeError>) {
    let huge = super::device::huge(config);
    let devices = config.devices.len();
    let needed_bytes = nic::memory_bytes(devices, workers, huge) as u64;
    let result = nic::check_memory(devices, workers, huge, sysfs);
    (needed_bytes, result.map_err(ServeError::Device))
}

/// That this process may not use the device.
#[cfg(feature = "dpdk")]
pub(crate) fn not_permitted(device: &str, lack: &str) -> ServeError {
    let (device, detail) = (device.to_owned(), lack.to_owned());
    ServeError::Device(NicError::Permission { device, detail })
}

/// That memory cannot be locked for the device.
#[cfg(feature = "dpdk")]
pub(crate) fn not_locked(device: &str, lack: &str) -> ServeError {
    let (device, detail) = (device.to_owned(), lack.to_owned());
    ServeError::Device(NicError::LockedMemory { device, detail })
}
