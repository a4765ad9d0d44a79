//! What an operator can do about an error: the line that names the flag or the script.
//!
//! `net` and `tier` say what went wrong as data and know no command line. A server and the load
//! client have the same flags for the same things, and both show these lines. Nothing here decides
//! anything.

use crate::base::limits::WORKERS_MAX;
use crate::net::Remedies;
use crate::net::kernel::{Address, BindError, Listener};
#[cfg(feature = "dpdk")]
use crate::net::nic::{CheckError, NicError, SpecError};
use crate::orchestrator::PortRole;
use crate::tier::segments::{Room, StartError};
use crate::tier::ssd::OpenError;
use crate::tier::ssd::disk::ring::{Completions, Mode};

/// Of connections that are refused while the server serves.
pub const OF_CONNECTIONS: Remedies = Remedies {
    full: "raise --max-connections, or have idle ones closed with --idle-timeout",
    not_allowed: "if it should, add it to --allow (--bp-allow for the batch port)",
    bad_header: "have the load balancer send version 2 (HAProxy: send-proxy-v2), or remove it \
                 from --proxy-protocol",
    unnamed_proxy: "which --proxy-protocol does not name, was taken for commands; if that is a \
                    load balancer, name it there, or have it send no header",
    not_accepted: "raise the limit on open files (ulimit -n), or lower --max-connections",
};

/// Of addresses whose logins are refused.
pub const OF_LOGINS: &str = "if a client there has an old password, give it the new one \
     (--login-attempts allows more)";

/// A device that could not be opened.
#[cfg(feature = "dpdk")]
pub fn of_device(error: &NicError) -> String {
    match error {
        NicError::Spec(error) => of_device_name(error),
        NicError::Check(error) => of_device_check(error),
        NicError::NoHugepages { needed_mib, free_mib } => format!(
            "frames need {needed_mib} MiB of hugepages and {free_mib} MiB are free; run \
             scripts/hugepages.sh reserve {}, or start with --huge off",
            needed_mib.div_ceil(2)
        ),
        NicError::Permission { device, detail } => format!(
            "--device {device}: not permitted; run as root, or with CAP_NET_ADMIN, CAP_NET_RAW \
             and CAP_IPC_LOCK (DPDK: {detail})"
        ),
        NicError::Environment { detail } => format!(
            "DPDK did not start; check hugepages with scripts/hugepages.sh show and the limit of \
             this cgroup (hugetlb.2MB.max), or start with --huge off (DPDK: {detail})"
        ),
        NicError::LockedMemory { device, detail } => format!(
            "--device {device}: memory cannot be locked for it; raise that limit (ulimit -l \
             unlimited, LimitMEMLOCK=infinity; DPDK: {detail})"
        ),
        NicError::Probe { device, detail } => format!(
            "--device {device}: the driver does not accept it; check the name and arguments of a \
             vdev, or a PCI device with scripts/bind-nic.sh show (DPDK: {detail})"
        ),
        NicError::Configure { device, step, detail } => {
            format!("--device {device}: {step} failed; try --workers 1 (DPDK: {detail})")
        }
        NicError::Pool { needed_mib, huge: true, detail } => format!(
            "no memory for the device's frames ({needed_mib} MiB); reserve more with \
             scripts/hugepages.sh reserve {}, raise the limit of this cgroup (hugetlb.2MB.max), or \
             start with --huge off (DPDK: {detail})",
            needed_mib.div_ceil(2)
        ),
        NicError::Pool { needed_mib, huge: false, detail } => format!(
            "no memory for the device's frames ({needed_mib} MiB); free some, or start with fewer \
             --workers (DPDK: {detail})"
        ),
        NicError::AlreadyOpen => {
            "this process has opened a device before; DPDK starts once a process".to_owned()
        }
    }
}

#[cfg(feature = "dpdk")]
fn of_device_name(error: &SpecError) -> String {
    match error {
        SpecError::Unknown { given } => format!(
            "--device {given:?}: expected a PCI address (0000:05:00.0) or a vdev with its \
             arguments (net_af_packet0,iface=veth0)"
        ),
        SpecError::Nul => "--device: a name has no zero byte in it".to_owned(),
        SpecError::Queues { argument } => format!(
            "--device ..,{argument}: net_af_packet moves flows between queues; leave it out, \
             workers share one queue"
        ),
        SpecError::NoInterface { name } => {
            format!("--device {name}: expected its interface too: {name},iface=NAME")
        }
        SpecError::Workers { given } => {
            format!("--workers {given}: expected a number from 1 to {WORKERS_MAX}")
        }
    }
}

#[cfg(feature = "dpdk")]
fn of_device_check(error: &CheckError) -> String {
    match error {
        CheckError::PciMissing { address } => {
            format!("--device {address}: no such PCI device; scripts/bind-nic.sh show lists them")
        }
        CheckError::NotBound { address, driver } => {
            let holder = match driver {
                Some(driver) => format!("the kernel's driver {driver} holds it"),
                None => "no driver holds it".to_owned(),
            };
            format!(
                "--device {address}: {holder}; give it to DPDK with scripts/bind-nic.sh bind \
                 {address} --driver vfio-pci"
            )
        }
        CheckError::InterfaceMissing { interface } => format!(
            "--device iface={interface}: no such interface in this network namespace; ip link \
             lists them"
        ),
        CheckError::InterfaceDown { interface } => {
            format!("--device iface={interface}: the interface is down; ip link set {interface} up")
        }
    }
}

/// A kernel socket that could not be listened on.
pub fn of_bind(error: &BindError) -> String {
    let remedy = match error {
        BindError::Poll(_) => "raise the limit on open files (ulimit -n)".to_owned(),
        BindError::NotASocket(listener) => {
            format!("remove it, or choose another path with {}", flag(listener))
        }
        BindError::NoFolder(listener) => {
            let flag = flag(listener);
            format!("create it or mount its file system, or choose another path with {flag}")
        }
        BindError::Outgoing(listener) => format!(
            "try again when it has ended, choose another port with {}, or keep the kernel from \
             handing it out (sysctl net.ipv4.ip_local_reserved_ports)",
            flag(listener)
        ),
        BindError::Listen { listener, source } => {
            use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
            let (is_tcp, flag) = (matches!(listener.address, Address::Tcp(_)), flag(listener));
            match source.kind() {
                AddrInUse if is_tcp => format!("stop it, or choose another port with {flag}"),
                AddrInUse => format!("stop it, or choose another path with {flag}"),
                AddrNotAvailable => {
                    "choose one of its own with --bind, or let the start wait for it with --wait"
                        .to_owned()
                }
                PermissionDenied if is_tcp => {
                    format!("choose a port of 1024 or more with {flag}")
                }
                _ if is_tcp => format!("choose another with --bind and {flag}"),
                _ => format!("choose another path with {flag}"),
            }
        }
    };
    format!("{error}: {remedy}")
}

/// The flag that chose a listener's port or path.
fn flag(listener: &Listener) -> &'static str {
    match (PortRole::of_listener(listener.number), &listener.address) {
        (PortRole::Main, Address::Tcp(_)) => "--port",
        (PortRole::Main, Address::Unix { .. }) => "--sock-path",
        (PortRole::Batch, Address::Tcp(_)) => "--bp",
        (PortRole::Batch, Address::Unix { .. }) => "--bp-sock-path",
    }
}

/// A log that could not be opened.
pub fn of_log(error: &OpenError) -> String {
    let remedy = match error {
        OpenError::Geometry { found, asked } if found.workers != asked.workers => {
            return format!(
                "holds a log of --workers {}, and this is --workers {}: each has its part of it; \
                 \"format\" starts afresh",
                found.workers, asked.workers
            );
        }
        OpenError::Size { log_bytes, .. } => {
            format!("; \"size={}M\" continues it, \"format\" starts afresh", log_bytes >> 20)
        }
        OpenError::CutOff { .. } => {
            "; put back what is missing, or start afresh with \"format\"".to_owned()
        }
        OpenError::Foreign => {
            "; choose another path, or overwrite all that is there with \"format\"".to_owned()
        }
        OpenError::Version { .. } | OpenError::Geometry { .. } | OpenError::OtherParts => {
            "; \"format\" starts afresh".to_owned()
        }
        OpenError::TooSmall { .. }
        | OpenError::TooLarge { .. }
        | OpenError::Disk(_)
        | OpenError::Memory(_) => String::new(),
    };
    format!("{error}{remedy}")
}

/// How the settings of a store in memory are spelt.
#[derive(Clone, Copy, Debug)]
pub struct StoreWords {
    /// The flag that names its path.
    pub flag: &'static str,
    /// What is before the number of bytes.
    pub size: &'static str,
    /// What starts it afresh.
    pub format: &'static str,
}

impl StoreWords {
    /// Of `sunder serve`.
    pub const OF_SERVE: StoreWords =
        StoreWords { flag: "--l1", size: "size=", format: "\"format\"" };

    /// Of `sunder l1d`.
    pub const OF_L1D: StoreWords =
        StoreWords { flag: "--path", size: "--size ", format: "--format" };
}

/// A file of a store in memory that could not be used; `bytes` are what all workers were to have.
pub fn of_store(error: &StartError, bytes: u64, workers: usize, words: StoreWords) -> String {
    let StoreWords { size, format, .. } = words;
    let flag = size.trim_end();
    let remedy = match error {
        StartError::Io { .. } => String::new(),
        StartError::NoSpace { room: Room::HugePages(page_bytes), bytes } => {
            let pages = bytes / page_bytes * workers;
            let page_size = if *page_bytes == 1 << 30 { " --size 1G" } else { "" };
            format!(
                "; scripts/hugepages.sh reserve {pages}{page_size} is enough for all workers, or \
                 choose a smaller {flag}"
            )
        }
        StartError::NoSpace { room: Room::Memory, .. } => {
            format!("; choose a smaller {flag}, or make that larger (mount -o remount,size=..)")
        }
        StartError::NoSpace { room: Room::Disk, .. } => {
            format!("; choose a smaller {flag}, or delete other files there")
        }
        StartError::NoFolder => "; make it, or choose another path".to_owned(),
        StartError::Pages { .. } => format!("; choose a larger {flag}, or fewer --workers"),
        StartError::InUse => "; stop that one, or choose another path".to_owned(),
        StartError::Kind => "; choose another path".to_owned(),
        StartError::Owner { .. } => "; start as that user, or choose another path".to_owned(),
        StartError::Mode { .. } => format!(
            "; if nobody else wrote it, chmod 600 makes it private; else {format} starts afresh"
        ),
        StartError::Foreign => {
            format!("; choose another path, or overwrite all that is there with {format}")
        }
        StartError::Workers { found, .. } => {
            format!(
                ", and items are not moved between workers' files; --workers {found} continues it, \
                 {format} starts afresh"
            )
        }
        StartError::Size { found, wanted } => {
            let found = found * workers as u64;
            return format!(
                "made with {size}{}M, and this is {size}{}M ({wanted} bytes a worker); the old \
                 size continues it, {format} starts afresh",
                found >> 20,
                bytes >> 20
            );
        }
        StartError::Version { .. }
        | StartError::Damaged
        | StartError::Worker { .. }
        | StartError::Keys
        | StartError::Length { .. } => format!("; {format} starts afresh"),
    };
    format!("{error}{remedy}")
}

/// How a disk runs, with the flag that decides it.
pub fn of_disk(mode: Mode) -> String {
    let completions = match mode.completions {
        Completions::Polled => "completions polled",
        Completions::Interrupts => "completions by interrupt (no poll queues)",
        Completions::Sleeping => "completions by interrupt (--poll adaptive)",
    };
    let lack = if mode.is_registered { "" } else { ", buffers not registered (raise ulimit -l)" };
    format!("io_uring, {completions}{lack}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::networks::Networks;
    use crate::tier::ssd::Geometry;
    use std::io;

    #[cfg(feature = "dpdk")]
    #[test]
    fn every_line_about_a_device_is_one_that_names_a_way_out() {
        let text = || "cannot".to_string();
        let all = [
            NicError::Spec(SpecError::Unknown { given: "veth0".into() }),
            NicError::Spec(SpecError::Workers { given: 0 }),
            CheckError::PciMissing { address: text() }.into(),
            CheckError::NotBound { address: text(), driver: Some(text()) }.into(),
            CheckError::NotBound { address: text(), driver: None }.into(),
            CheckError::InterfaceMissing { interface: text() }.into(),
            CheckError::InterfaceDown { interface: text() }.into(),
            NicError::NoHugepages { needed_mib: 31, free_mib: 0 },
            NicError::Permission { device: text(), detail: text() },
            NicError::Environment { detail: text() },
            NicError::Probe { device: text(), detail: text() },
            NicError::LockedMemory { device: text(), detail: text() },
            NicError::Configure { device: text(), step: "starting", detail: text() },
            NicError::Pool { needed_mib: 31, huge: true, detail: text() },
            NicError::Pool { needed_mib: 31, huge: false, detail: text() },
        ];
        for error in all {
            let line = of_device(&error);
            assert!(!line.contains('\n') && !line.contains("  "), "{line:?}");
            assert!(
                ["scripts/", "--", "ip link", "root"].iter().any(|way| line.contains(way)),
                "{line:?}"
            );
        }
        let line = of_device(&NicError::NoHugepages { needed_mib: 31, free_mib: 0 });
        assert!(line.contains("reserve 16"), "{line:?}");
    }

    #[test]
    fn a_socket_that_is_taken_names_the_flag_that_chose_it() {
        let taken = |address, port: PortRole, kind: io::ErrorKind| {
            let listener = Listener {
                address,
                number: port.listener(),
                allow: Networks::default(),
                proxies: None,
            };
            of_bind(&BindError::Listen { listener, source: kind.into() })
        };
        let tcp = || Address::Tcp("127.0.0.1:80".parse().expect("an address"));
        let unix = || Address::Unix { path: "/run/s".into(), mode: 0o700 };
        let in_use = io::ErrorKind::AddrInUse;
        for (line, expected) in [
            (
                taken(tcp(), PortRole::Main, in_use),
                "127.0.0.1:80: another server is there: stop it, or choose another port with \
                 --port",
            ),
            (
                taken(tcp(), PortRole::Batch, in_use),
                "127.0.0.1:80: another server is there: stop it, or choose another port with --bp",
            ),
            (
                taken(unix(), PortRole::Main, in_use),
                "/run/s: another server is there: stop it, or choose another path with \
                 --sock-path",
            ),
            (
                taken(unix(), PortRole::Batch, in_use),
                "/run/s: another server is there: stop it, or choose another path with \
                 --bp-sock-path",
            ),
            (
                taken(tcp(), PortRole::Main, io::ErrorKind::AddrNotAvailable),
                "127.0.0.1:80: this host has no such address: choose one of its own with --bind, \
                 or let the start wait for it with --wait",
            ),
            (
                taken(tcp(), PortRole::Main, io::ErrorKind::PermissionDenied),
                "127.0.0.1:80: not permitted: choose a port of 1024 or more with --port",
            ),
        ] {
            assert_eq!(line, format!("cannot listen on {expected}"));
        }
    }

    #[test]
    fn a_log_of_other_numbers_says_which_of_them_continue_it() {
        let asked = Geometry { part_bytes: 1 << 30, segment_bytes: 8 << 20, worker: 0, workers: 2 };
        let of = |found| of_log(&OpenError::other(found, asked));
        assert_eq!(
            of(Geometry { workers: 1, ..asked }),
            "holds a log of --workers 1, and this is --workers 2: each has its part of it; \
             \"format\" starts afresh"
        );
        assert_eq!(
            of(Geometry { part_bytes: 2 << 30, ..asked }),
            "holds a log of 4096 MiB, and this is 2048 MiB; \"size=4096M\" continues it, \
             \"format\" starts afresh"
        );
        assert!(of(Geometry { segment_bytes: 4 << 20, ..asked }).ends_with("starts afresh"));
    }

    #[test]
    fn what_a_disk_runs_with_is_said() {
        let shown = |completions, is_registered| of_disk(Mode { completions, is_registered });
        for (line, expected) in [
            (shown(Completions::Interrupts, true), "completions by interrupt (no poll queues)"),
            (shown(Completions::Sleeping, true), "completions by interrupt (--poll adaptive)"),
            (
                shown(Completions::Polled, false),
                "completions polled, buffers not registered (raise ulimit -l)",
            ),
        ] {
            assert_eq!(line, format!("io_uring, {expected}"));
        }
    }
}
