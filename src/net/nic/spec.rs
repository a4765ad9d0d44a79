//! The device as the operator names it: a PCI address, or a vdev with its arguments.
//!
//! Reads names and `/sys`; never touches DPDK, so that most wrong names are refused in words before
//! it starts.

use std::fs;
use std::path::Path;

/// Where the kernel shows its devices.
pub(super) const SYSFS: &str = "/sys";

/// Drivers of the kernel through which DPDK reaches a PCI device, or beside which it works.
const PCI_DRIVERS: [&str; 7] = [
    "vfio-pci",
    "uio_pci_generic",
    "igb_uio",
    // These stay the kernel's while DPDK uses the device ("bifurcated").
    "mlx4_core",
    "mlx5_core",
    "mana",
    "hv_netvsc",
];

/// A device as named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Spec {
    /// A PCI device, by its address in full: `0000:05:00.0`.
    Pci { address: String },
    /// A vdev: its name, and the whole string for DPDK.
    Vdev { name: String, devargs: String },
}

/// Why a device's name cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// Neither a PCI address nor a vdev.
    Unknown {
        /// What was given.
        given: String,
    },
    /// A byte that cannot be in it.
    Nul,
    /// An argument that would spread flows over queues by a rule that moves them.
    Queues {
        /// The argument given.
        argument: String,
    },
    /// A vdev that needs an interface has none.
    NoInterface {
        /// The vdev.
        name: String,
    },
    /// A number of workers that cannot be.
    Workers {
        /// What was given.
        given: usize,
    },
}

/// Why a device whose name was understood cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckError {
    /// There is no such PCI device.
    PciMissing {
        /// Its address.
        address: String,
    },
    /// A PCI device belongs to a driver of the kernel's that DPDK cannot share.
    NotBound {
        /// Its address.
        address: String,
        /// The kernel's driver, or None if it has none at all.
        driver: Option<String>,
    },
    /// A vdev's `iface=` names no interface of this network namespace.
    InterfaceMissing {
        /// The interface.
        interface: String,
    },
    /// A vdev's `iface=` is down, and would lose every frame.
    InterfaceDown {
        /// The interface.
        interface: String,
    },
}

impl Spec {
    /// Reads a device's name.
    ///
    /// # Errors
    /// See [`SpecError`].
    pub(super) fn parse(given: &str) -> Result<Spec, SpecError> {
        if given.contains('\0') {
            return Err(SpecError::Nul);
        }
        if let Some(address) = pci_address(given) {
            return Ok(Spec::Pci { address });
        }
        let name = given.split(',').next().unwrap_or_default();
        let is_vdev = ["net_", "eth_", "virtio_user"].iter().any(|kind| name.starts_with(kind));
        let is_clean = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_vdev || !is_clean {
            return Err(SpecError::Unknown { given: given.to_string() });
        }
        let spec = Spec::Vdev { name: name.to_string(), devargs: given.to_string() };
        if spec.is_af_packet()
            && let Some(queues) = spec.argument("qpairs")
            && queues != "1"
        {
            return Err(SpecError::Queues { argument: format!("qpairs={queues}") });
        }
        if (spec.is_af_packet() || name.starts_with("net_af_xdp"))
            && spec.argument("iface").is_none()
        {
            return Err(SpecError::NoInterface { name: name.to_string() });
        }
        Ok(spec)
    }

    fn is_af_packet(&self) -> bool {
        matches!(self, Spec::Vdev { name, .. }
            if name.starts_with("net_af_packet") || name.starts_with("eth_af_packet"))
    }

    /// The name by which DPDK knows the device.
    pub(super) fn name(&self) -> &str {
        match self {
            Spec::Pci { address } => address,
            Spec::Vdev { name, .. } => name,
        }
    }

    /// DPDK's driver of a vdev: its name without the number, as its library is named.
    pub(super) fn driver(&self) -> Option<String> {
        let Spec::Vdev { name, .. } = self else { return None };
        let kind = name.trim_end_matches(|c: char| c.is_ascii_digit());
        Some(match kind.strip_prefix("eth_") {
            Some(kind) => format!("net_{kind}"),
            None if kind.starts_with("virtio_user") => "net_virtio".to_owned(),
            None if kind == "net_tun" => "net_tap".to_owned(),
            None => kind.to_owned(),
        })
    }

    /// The value of a vdev's argument.
    pub(super) fn argument(&self, key: &str) -> Option<&str> {
        let Spec::Vdev { devargs, .. } = self else { return None };
        let mut pairs = devargs.split(',').skip(1).filter_map(|pair| pair.split_once('='));
        pairs.find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The interface of the kernel's that the device needs to be there. A tap makes its own.
    pub(super) fn interface(&self) -> Option<&str> {
        let name = self.name();
        let makes_its_own = name.starts_with("net_tap") || name.starts_with("virtio_user");
        if makes_its_own { self.argument("remote") } else { self.argument("iface") }
    }

    /// Whether a memif device is the end that listens, as its driver understands the role.
    pub(super) fn is_memif_server(&self) -> bool {
        self.argument("role").is_some_and(|role| role.contains("server") || role.contains("master"))
    }

    /// Checks what can be checked before DPDK starts.
    ///
    /// # Errors
    /// The device is not there, or belongs to a driver that DPDK cannot use.
    pub(super) fn check(&self, sysfs: &Path) -> Result<(), CheckError> {
        if let Spec::Pci { address } = self {
            return check_pci(address, sysfs);
        }
        let Some(interface) = self.interface() else { return Ok(()) };
        let name = interface.to_string();
        if !interface_exists(interface) {
            return Err(CheckError::InterfaceMissing { interface: name });
        }
        match interface_is_up(interface, sysfs) {
            Some(false) => Err(CheckError::InterfaceDown { interface: name }),
            _ => Ok(()),
        }
    }
}

/// The address in full, if `given` is one: `[domain:]bus:device.function`, in hexadecimal.
fn pci_address(given: &str) -> Option<String> {
    let (rest, function) = given.split_once('.')?;
    let mut parts = rest.split(':').rev();
    let (device, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next().unwrap_or("0000");
    let is_hex = |s: &str, len: usize| s.len() == len && s.bytes().all(|b| b.is_ascii_hexdigit());
    let is_address = parts.next().is_none()
        && is_hex(domain, 4)
        && is_hex(bus, 2)
        && is_hex(device, 2)
        && matches!(function.as_bytes(), [b'0'..=b'7']);
    is_address.then(|| format!("{domain}:{bus}:{device}.{function}").to_lowercase())
}

fn check_pci(address: &str, sysfs: &Path) -> Result<(), CheckError> {
    let device = sysfs.join("bus/pci/devices").join(address);
    if !device.exists() {
        return Err(CheckError::PciMissing { address: address.to_string() });
    }
    let driver = fs::read_link(device.join("driver")).ok();
    let driver = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    match driver {
        Some(name) if PCI_DRIVERS.contains(&name.as_str()) => Ok(()),
        driver => Err(CheckError::NotBound { address: address.to_string(), driver }),
    }
}

fn interface_exists(interface: &str) -> bool {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    // Any socket will do: the question goes to its network namespace, which sysfs may not show.
    let Ok(any) = socket(AddressFamily::INET, SocketType::DGRAM, None) else { return true };
    netdevice::name_to_index(any, interface).is_ok()
}

/// The number of an interface in this network namespace.
pub(super) fn interface_index(interface: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(any, interface).ok()
}

/// Whether the interface of this number was deleted, or moved to another network namespace.
pub(super) fn interface_is_gone(index: u32) -> bool {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let Ok(any) = socket(AddressFamily::INET, SocketType::DGRAM, None) else { return false };
    let errno = netdevice::index_to_name(any, index).err();
    matches!(errno, Some(rustix::io::Errno::NODEV | rustix::io::Errno::NXIO))
}

/// Whether an interface is meant to be up (IFF_UP, netdevice(7)), if sysfs shows it.
fn interface_is_up(interface: &str, sysfs: &Path) -> Option<bool> {
    let flags = fs::read_to_string(sysfs.join("class/net").join(interface).join("flags")).ok()?;
    let flags = u32::from_str_radix(flags.trim().strip_prefix("0x")?, 16).ok()?;
    Some(flags & 1 != 0)
}

/// Bytes of free hugepages, all sizes and nodes.
pub(super) fn hugepages_free_bytes(sysfs: &Path) -> usize {
    let Ok(sizes) = fs::read_dir(sysfs.join("kernel/mm/hugepages")) else { return 0 };
    let free = |path: &Path| -> Option<usize> {
        let name = path.file_name()?.to_str()?;
        let kib: usize = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let pages = fs::read_to_string(path.join("free_hugepages")).ok()?;
        Some(pages.trim().parse::<usize>().ok()?.saturating_mul(kib).saturating_mul(1024))
    };
    sizes.flatten().filter_map(|entry| free(&entry.path())).sum()
}

/// Whether an interface is up and has a carrier, if sysfs shows it.
pub(super) fn interface_has_carrier(interface: &str, sysfs: &Path) -> Option<bool> {
    let shown = sysfs.join("class/net").join(interface);
    // Of one that is down nothing can be read.
    let carrier = fs::read_to_string(shown.join("carrier")).unwrap_or_default();
    shown.exists().then(|| carrier.trim() == "1")
}

/// The MTU of an interface in this network namespace, in bytes, if sysfs shows it.
pub(super) fn interface_mtu(interface: &str, sysfs: &Path) -> Option<usize> {
    let mtu = fs::read_to_string(sysfs.join("class/net").join(interface).join("mtu")).ok()?;
    mtu.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_put_in_full() {
        for (given, full) in [
            ("0000:05:00.0", "0000:05:00.0"),
            ("05:00.1", "0000:05:00.1"),
            ("10AB:FF:1f.7", "10ab:ff:1f.7"),
        ] {
            assert_eq!(Spec::parse(given), Ok(Spec::Pci { address: full.to_string() }));
        }
        for given in ["05:00.8", "5:00.0", "05:00", "0:0000:05:00.0", "05:0g.0", "", ".", "::."] {
            assert_eq!(Spec::parse(given), Err(SpecError::Unknown { given: given.to_string() }));
        }
    }

    #[test]
    fn vdevs_keep_their_arguments() {
        let spec = Spec::parse("net_af_packet0,iface=veth0,qpairs=1").unwrap();
        assert_eq!(spec.name(), "net_af_packet0");
        assert_eq!(spec.interface(), Some("veth0"));
        assert_eq!(spec.argument("blocksz"), None);
        let tap = Spec::parse("net_tap0,iface=tap7").unwrap();
        assert_eq!(tap.interface(), None);
        let is_server = |spec| Spec::parse(spec).unwrap().is_memif_server();
        assert!(is_server("net_memif0,role=server,id=1") && is_server("net_memif0,role=master"));
        assert!(!is_server("net_memif0,role=client") && !is_server("net_memif0,id=1"));
        for (device, driver) in [
            ("net_af_packet0,iface=veth0", "net_af_packet"),
            ("eth_ring12", "net_ring"),
            ("virtio_user0,path=/dev/vhost-net", "net_virtio"),
            ("net_tun0", "net_tap"),
        ] {
            assert_eq!(Spec::parse(device).unwrap().driver().as_deref(), Some(driver));
        }
        assert_eq!(Spec::parse("05:00.0").unwrap().driver(), None);
        assert!(matches!(Spec::parse("eth0"), Err(SpecError::Unknown { .. })));
        assert!(matches!(Spec::parse("net_ring0\0"), Err(SpecError::Nul)));
    }

    #[test]
    fn af_packet_fanout_and_a_missing_interface_are_refused() {
        assert_eq!(
            Spec::parse("net_af_packet0,iface=veth0,qpairs=4"),
            Err(SpecError::Queues { argument: "qpairs=4".to_string() })
        );
        assert!(matches!(Spec::parse("net_af_packet0"), Err(SpecError::NoInterface { .. })));
        assert!(matches!(Spec::parse("net_af_xdp0,x=y"), Err(SpecError::NoInterface { .. })));
        let spec = Spec::parse("net_af_packet0,iface=no-such-if").unwrap();
        let error = spec.check(Path::new(SYSFS)).unwrap_err();
        assert!(matches!(error, CheckError::InterfaceMissing { .. }), "{error:?}");
        assert!(Spec::parse("net_af_packet0,iface=lo").unwrap().check(Path::new(SYSFS)).is_ok());
    }

    #[test]
    fn pci_devices_must_exist_and_be_bound() {
        let root = std::env::temp_dir().join(format!("sunder-spec-{}", std::process::id()));
        let device = root.join("bus/pci/devices/0000:05:00.0");
        let spec = Spec::parse("05:00.0").unwrap();
        assert!(matches!(spec.check(&root), Err(CheckError::PciMissing { .. })));
        fs::create_dir_all(&device).unwrap();
        assert!(matches!(spec.check(&root), Err(CheckError::NotBound { driver: None, .. })));
        for (driver, usable) in [("e1000e", false), ("vfio-pci", true), ("mlx5_core", true)] {
            let _ = fs::remove_file(device.join("driver"));
            let target = Path::new("../../../../bus/pci/drivers").join(driver);
            std::os::unix::fs::symlink(target, device.join("driver")).unwrap();
            assert_eq!(spec.check(&root).is_ok(), usable, "{driver}");
        }
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn the_carrier_of_an_interface_is_what_sysfs_shows() {
        let root = std::env::temp_dir().join(format!("sunder-carrier-{}", std::process::id()));
        let shown = root.join("class/net/veth0");
        assert_eq!(interface_has_carrier("veth0", &root), None);
        fs::create_dir_all(&shown).unwrap();
        assert_eq!(interface_has_carrier("veth0", &root), Some(false));
        for (carrier, has) in [("1\n", true), ("0\n", false)] {
            fs::write(shown.join("carrier"), carrier).unwrap();
            assert_eq!(interface_has_carrier("veth0", &root), Some(has));
        }
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn free_hugepages_of_all_sizes_add_up() {
        let root = std::env::temp_dir().join(format!("sunder-huge-{}", std::process::id()));
        assert_eq!(hugepages_free_bytes(&root), 0);
        for (size, free) in [("2048kB", "3\n"), ("1048576kB", "1\n"), ("64kB", "what\n")] {
            let dir = root.join("kernel/mm/hugepages").join(format!("hugepages-{size}"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("free_hugepages"), free).unwrap();
        }
        assert_eq!(hugepages_free_bytes(&root), 3 * (2 << 20) + (1 << 30));
        fs::remove_dir_all(&root).unwrap();
    }
}
