//! The devices of a server of its own network stack: their drivers, their memory, their places in
//! the machine.

#[cfg(not(feature = "dpdk"))]
use crate::serve::ServeError;

use super::{Finding, Subject};

/// All that is looked at of the devices.
#[cfg(not(feature = "dpdk"))]
pub(super) fn look(subject: &Subject<'_>) -> Vec<Finding> {
    let asked = subject.config.has_devices();
    asked.then(|| Finding::refused("device", &ServeError::NoDevices)).into_iter().collect()
}

#[cfg(feature = "dpdk")]
pub(super) fn look(subject: &Subject<'_>) -> Vec<Finding> {
    with_dpdk::look(subject)
}

#[cfg(feature = "dpdk")]
mod with_dpdk {
    use std::path::{Path, PathBuf};

    use super::{Finding, Subject};
    use crate::config::{Huge, readable_size};
    use crate::doctor::Verdict;
    use crate::doctor::host::{Step, list_of};
    use crate::net::nic::DRIVER_FILES;
    use crate::serve::trial::{self, DeviceLook};

    /// CAP_NET_RAW and CAP_IPC_LOCK of capabilities(7).
    const NET_RAW: u32 = 13;
    const IPC_LOCK: u32 = 14;

    /// Bytes of a huge page of the usual size.
    const PAGE_BYTES: u64 = 2 << 20;
    const PAGES: &str = "hugepages/hugepages-2048kB";

    pub(super) fn look(subject: &Subject<'_>) -> Vec<Finding> {
        subject.config.devices.iter().flat_map(|device| look_at(subject, device)).collect()
    }

    fn look_at(subject: &Subject<'_>, device: &str) -> Vec<Finding> {
        let sysfs = subject.host.at("sys");
        let mut findings = Vec::new();
        let named = match trial::device(subject.config, device, &sysfs) {
            Ok(named) => {
                findings.push(Finding::ok("device", format!("{device} is there")));
                named
            }
            Err(error) => {
                findings.push(refused(subject, device, Finding::refused("device", &error)));
                DeviceLook::default()
            }
        };
        findings.extend(permission(subject, device, &named));
        findings.extend(drivers(subject, &named));
        if let Some(address) = &named.pci_address {
            findings.extend(iommu(subject, address));
            findings.extend(locked(subject, device, address));
        }
        let node = node_of(subject, &named);
        findings.extend(numa(subject, node));
        // Their memory is looked at once.
        if subject.config.devices.first().is_some_and(|first| first == device) {
            findings.extend(frames(subject, node, &sysfs));
        }
        findings.extend(link(subject, &named));
        findings
    }

    /// How a PCI device that the kernel has is given to DPDK, unless the host uses it.
    fn refused(subject: &Subject<'_>, device: &str, finding: Finding) -> Finding {
        let host = subject.host;
        let address = if device.len() == 7 { format!("0000:{device}") } else { device.to_owned() };
        let folder = format!("sys/bus/pci/devices/{}", address.to_lowercase());
        if device.contains("net_") || !host.exists(&folder) {
            return finding;
        }
        let used = host
            .names(&format!("{folder}/net"))
            .into_iter()
            .find_map(|interface| use_of(subject, &interface).map(|why| (interface, why)));
        match used {
            Some((interface, why)) => {
                let found = format!("{}; the host uses it: {interface} {why}", finding.found);
                Finding::new("device", Verdict::Error, found)
                    .mend("choose another; scripts/bind-nic.sh show lists them")
            }
            None => finding.mend(format!("scripts/bind-nic.sh bind {address} --driver vfio-pci")),
        }
    }

    /// Why an interface must stay with the kernel.
    fn use_of(subject: &Subject<'_>, interface: &str) -> Option<&'static str> {
        let host = subject.host;
        let routes = host.text("proc/net/route").unwrap_or_default();
        let routes: Vec<Vec<&str>> =
            routes.lines().map(|line| line.split_whitespace().collect()).collect();
        let own = || routes.iter().filter(|words| words.first() == Some(&interface));
        if own().any(|words| words.get(1) == Some(&"00000000")) {
            return Some("has the default route");
        }
        if own().next().is_some() {
            return Some("has an address");
        }
        let addresses = host.text("proc/net/if_inet6").unwrap_or_default();
        // A link-local address (scope 20) is every interface's.
        let has_one = addresses.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.last() == Some(&interface) && words.get(3) != Some(&"20")
        });
        has_one.then_some("has an address")
    }

    fn permission(subject: &Subject<'_>, device: &str, named: &DeviceLook) -> Option<Finding> {
        const CHECK: &str = "permission";
        let is_on_interface = named.interface.is_some();
        match subject.host.is_capable(NET_RAW) {
            None => Some(Finding::unknown(CHECK, "/proc/self/status cannot be read")),
            Some(false) if is_on_interface => {
                let error = trial::not_permitted(device, "CAP_NET_RAW is missing");
                Some(Finding::refused(CHECK, &error))
            }
            Some(_) => None,
        }
    }

    /// DPDK's driver of a vdev, which is a library of its own.
    fn drivers(subject: &Subject<'_>, named: &DeviceLook) -> Option<Finding> {
        const CHECK: &str = "driver";
        let host = subject.host;
        if let Some(address) = &named.pci_address {
            let driver = host.link(&format!("sys/bus/pci/devices/{address}/driver"))?;
            return Some(Finding::ok(CHECK, format!("{driver} holds {address}")));
        }
        let driver = named.driver.as_ref()?;
        let mut folders = Vec::new();
        for lib in ["usr/lib", "usr/local/lib", "usr/lib64", "usr/local/lib64"] {
            let below = host.names(lib).into_iter().map(|name| format!("{lib}/{name}/dpdk"));
            for dpdk in below.chain([format!("{lib}/dpdk")]) {
                let pmds = host.names(&dpdk).into_iter().filter(|name| name.starts_with("pmds"));
                folders.extend(pmds.map(|name| format!("{dpdk}/{name}")));
            }
        }
        if folders.is_empty() {
            return Some(Finding::unknown(CHECK, "the folder of DPDK's drivers was not found"));
        }
        let file = format!("{DRIVER_FILES}{driver}.so");
        let is_there = |folder: &String| {
            host.names(folder).iter().any(|name| {
                let own = name.strip_prefix(DRIVER_FILES).and_then(|name| name.split('.').next());
                // The library of net_bonding is that of net_bond.
                own.is_some_and(|own| driver.starts_with(own))
            })
        };
        Some(match folders.iter().any(is_there) {
            true => Finding::ok(CHECK, format!("{file} is installed")),
            false => Finding::new(
                CHECK,
                Verdict::Error,
                format!("DPDK has no driver {driver}: {file} is not in /{}", folders[0]),
            )
            .mend(format!("apt-get install librte-{}23", driver.replace('_', "-"))),
        })
    }

    fn iommu(subject: &Subject<'_>, address: &str) -> Option<Finding> {
        const CHECK: &str = "IOMMU";
        let host = subject.host;
        let folder = format!("sys/bus/pci/devices/{address}");
        if host.link(&format!("{folder}/driver")).as_deref() != Some("vfio-pci") {
            return None;
        }
        if let Some(group) = host.link(&format!("{folder}/iommu_group")) {
            let line = host.text("proc/cmdline").unwrap_or_default();
            let passes = if line.contains("iommu=pt") { ", iommu=pt" } else { "" };
            return Some(Finding::ok(CHECK, format!("group {group}{passes}")));
        }
        let unsafe_mode = "sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
        let words = "intel_iommu=on iommu=pt on the kernel's command line";
        Some(match host.text(unsafe_mode).as_deref() {
            Some("Y" | "1") => Finding::warning(
                CHECK,
                "none (enable_unsafe_noiommu_mode): the device can write to all memory",
            )
            .mend(words),
            _ => Finding::new(
                CHECK,
                Verdict::Error,
                format!("{address} is in no group, and vfio-pci needs one"),
            )
            .mend(format!(
                "{words}, or scripts/bind-nic.sh bind {address} --driver uio_pci_generic"
            )),
        })
    }

    /// VFIO locks the memory of the frames.
    fn locked(subject: &Subject<'_>, device: &str, address: &str) -> Option<Finding> {
        const CHECK: &str = "memlock";
        let host = subject.host;
        let driver = host.link(&format!("sys/bus/pci/devices/{address}/driver"));
        if driver.as_deref() != Some("vfio-pci") || host.is_capable(IPC_LOCK) == Some(true) {
            return None;
        }
        let needed = trial::frames(subject.config, subject.workers(), &host.at("sys")).0;
        let limit = host.system.memlock().filter(|limit| *limit < needed)?;
        let (limit, needed) = (readable_size(limit), readable_size(needed));
        let error = trial::not_locked(device, &format!("{limit} of {needed} may be locked"));
        Some(Finding::refused(CHECK, &error).mend("ulimit -l unlimited"))
    }

    /// The NUMA node of the device, if the kernel knows one.
    fn node_of(subject: &Subject<'_>, named: &DeviceLook) -> Option<usize> {
        let folder = match (&named.pci_address, &named.interface) {
            (Some(address), _) => format!("sys/bus/pci/devices/{address}"),
            (_, Some(interface)) => format!("sys/class/net/{interface}/device"),
            _ => return None,
        };
        let node: i64 = subject.host.number(&format!("{folder}/numa_node"))?;
        usize::try_from(node).ok()
    }

    fn numa(subject: &Subject<'_>, node: Option<usize>) -> Option<Finding> {
        const CHECK: &str = "NUMA";
        let host = subject.host;
        let Some(node) = node else {
            let nodes = host.names("sys/devices/system/node");
            let is_many = nodes.iter().filter(|name| name.starts_with("node")).count() > 1;
            return is_many.then(|| Finding::unknown(CHECK, "the node of the device is not shown"));
        };
        let list = format!("sys/devices/system/node/node{node}/cpulist");
        let Some(near) = host.cores(&list) else {
            return Some(Finding::unknown(CHECK, format!("/{list} cannot be read")));
        };
        let cores = subject.cores();
        let far: Vec<_> = cores.iter().copied().filter(|core| !near.contains(core)).collect();
        if far.is_empty() {
            return Some(Finding::ok(CHECK, format!("device and workers are on node {node}")));
        }
        let count = subject.workers().min(near.len());
        let found = format!(
            "the device is on node {node}, and workers are on cores of another ({}): each frame \
             crosses between them",
            list_of(&far)
        );
        Some(Finding::warning(CHECK, found).mend(format!("--cores {}", list_of(&near[..count]))))
    }

    fn frames(subject: &Subject<'_>, node: Option<usize>, sysfs: &Path) -> Option<Finding> {
        const CHECK: &str = "hugepages";
        if subject.config.huge == Huge::Off {
            return Some(Finding::warning(
                CHECK,
                "--huge off: frames are in pages of 4 KiB, and take two thirds more memory",
            ));
        }
        let host = subject.host;
        let (needed, result) = trial::frames(subject.config, subject.workers(), sysfs);
        let pages = needed.div_ceil(PAGE_BYTES);
        let number = |name: &str| host.number::<u64>(&format!("sys/kernel/mm/{PAGES}/{name}"));
        if let Err(error) = result {
            let missing = pages.saturating_sub(number("free_hugepages").unwrap_or(0));
            let reserved = number("nr_hugepages").unwrap_or(0);
            let path = format!("sys/kernel/mm/{PAGES}/nr_hugepages");
            let step = script().map_or_else(
                || Step::Write(path, (reserved + missing).to_string()),
                |script| Step::Script(script, vec!["reserve".into(), pages.to_string()]),
            );
            return Some(Finding::refused(CHECK, &error).steps(vec![step]));
        }
        let said = format!("{} of frames", readable_size(needed));
        let Some(node) = node else {
            return Some(Finding::ok(CHECK, format!("enough for {said}")));
        };
        let path = format!("sys/devices/system/node/node{node}/{PAGES}/free_hugepages");
        Some(match host.number::<u64>(&path) {
            None => Finding::unknown(CHECK, format!("/{path} cannot be read")),
            Some(free) if free < pages => Finding::warning(
                CHECK,
                format!("{free} of {pages} pages for {said} are on node {node}, the device's own"),
            )
            .mend(format!("scripts/hugepages.sh reserve {pages} --node {node}")),
            Some(_) => Finding::ok(CHECK, format!("enough for {said} on node {node}")),
        })
    }

    /// scripts/hugepages.sh, which remembers what it has reserved, where this binary was built in
    /// its checkout.
    fn script() -> Option<PathBuf> {
        let own = std::env::current_exe().ok()?;
        let mut folders = own.ancestors().skip(1).take(4);
        folders.find_map(|folder| {
            let script = folder.join("scripts/hugepages.sh");
            script.is_file().then_some(script)
        })
    }

    fn link(subject: &Subject<'_>, named: &DeviceLook) -> Vec<Finding> {
        const CHECK: &str = "link";
        let host = subject.host;
        let Some(interface) = &named.interface else {
            let seen = named.pci_address.as_ref();
            return seen
                .map(|_| Finding::unknown(CHECK, "a start waits for it for 5 s"))
                .into_iter()
                .collect();
        };
        let folder = format!("sys/class/net/{interface}");
        let mut findings = vec![match host.number::<u8>(&format!("{folder}/carrier")) {
            Some(1) => Finding::ok(CHECK, format!("{interface} has a carrier")),
            Some(_) => Finding::warning(CHECK, format!("{interface} has no carrier")),
            None => Finding::unknown(CHECK, format!("/{folder}/carrier cannot be read")),
        }];
        findings.push(match host.number::<u64>(&format!("{folder}/mtu")) {
            Some(mtu) => Finding::ok("MTU", mtu.to_string()),
            None => Finding::unknown("MTU", format!("/{folder}/mtu cannot be read")),
        });
        if use_of(subject, interface).is_some() {
            findings.push(Finding::warning(
                "interface",
                format!(
                    "the host has an address or a route on {interface} as well: both stacks get \
                     its frames"
                ),
            ));
        }
        findings
    }
}
