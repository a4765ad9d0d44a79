//! Hosts that are made up: good ones, ones that lack something, and ones that lie.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::host::{Host, PathLook, System, ThisHost, cores_of, list_of};
use super::{Finding, Verdict, examine, fix, json, starts, text};
use crate::config::{self, Config, Huge, Poll};
#[cfg(feature = "dpdk")]
use crate::net::nic::DRIVER_FILES;
use crate::serve::trial::DiskLook;
use crate::serve::{Fault, Level, ServeError};
use crate::tier::ssd::disk::ring::{Completions, Mode};

/// A folder with files of /sys and /proc; removed when dropped.
struct Made {
    root: PathBuf,
    calls: Calls,
}

/// What the kernel says there.
struct Calls {
    cores: usize,
    memlock: Option<u64>,
    /// Why there is no io_uring.
    no_rings: Option<&'static str>,
    /// Why the SSD is refused.
    no_disk: Option<&'static str>,
    path: PathLook,
}

impl System for Calls {
    fn cores(&self) -> io::Result<Vec<usize>> {
        Ok((0..self.cores).collect())
    }

    fn rings(&self) -> Result<(), String> {
        self.no_rings.map_or(Ok(()), |reason| Err(reason.to_owned()))
    }

    fn memlock(&self) -> Option<u64> {
        self.memlock
    }

    fn path(&self, _: &Path) -> Option<PathLook> {
        Some(self.path.clone())
    }

    fn mapping(&self, _: &Config) -> Result<(), ServeError> {
        Ok(())
    }

    fn users(&self, _: &Config) -> Result<(), ServeError> {
        Ok(())
    }

    fn log(&self, _: &Config) -> Result<(), ServeError> {
        Ok(())
    }

    fn connections(&self, _: &Config) -> Result<Option<String>, ServeError> {
        Ok(None)
    }

    fn listeners(&self, _: &Config) -> Result<(), ServeError> {
        Ok(())
    }

    fn admin(&self, _: &Config) -> Result<(), ServeError> {
        Ok(())
    }

    fn disk(&self, _: &Config, workers: usize) -> Result<Option<DiskLook>, ServeError> {
        if let Some(reason) = self.no_disk {
            let (flag, reason) = ("--l2", reason.to_owned());
            return Err(ServeError::Tier { flag, reason, fault: Fault::Host });
        }
        let mode = Mode { completions: Completions::Polled, is_registered: true };
        let buffer_bytes = workers as u64 * (48 << 20);
        Ok(Some(DiskLook { mode: Some(mode), buffer_bytes, ..DiskLook::default() }))
    }

    fn files(&self, _: &Config, _: usize) -> Result<(), ServeError> {
        Ok(())
    }

    fn server(&self, _: &Config, _: Level) -> Result<Option<&'static str>, ServeError> {
        Ok(None)
    }

    fn user(&self, _: &Config) -> Result<(), ServeError> {
        Ok(())
    }

    fn is_taken_over(&self) -> bool {
        false
    }
}

/// The NIC of the good host, on node 1, to which cores 2 and 3 belong.
const NIC: &str = "0000:81:00.0";

/// Flags with which the good host has nothing to mend.
const ON_NIC: &str = "--device 0000:81:00.0 --address 10.0.0.5/24 --cores 2-3";
const ON_SSD: &str = "--l2 ssd,path=/srv/log,size=1G --cores 2-3 --poll busy";

const CPU_FLAGS: &str = "flags\t: fpu pni ssse3 sse4_1 sse4_2 popcnt avx avx2 fma bmi1 bmi2 abm \
                         movbe avx512f";

impl Made {
    /// Four cores on two nodes, 16 GiB, a NIC bound to vfio-pci, an NVMe disk with poll queues.
    fn good() -> Made {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sunder-doctor-{}-{number}", std::process::id());
        let path = PathLook {
            mode: 0o600,
            file_system: "ext4".into(),
            free_bytes: 1 << 40,
            device: (259, 0),
            is_device: false,
            direct_align: Some(512),
        };
        let calls = Calls { cores: 4, memlock: None, no_rings: None, no_disk: None, path };
        let made = Made { root: std::env::temp_dir().join(name), calls };
        let kib = 16 << 20;
        let meminfo = format!(
            "MemTotal: {kib} kB\nMemFree: {kib} kB\nMemAvailable: {kib} kB\nSwapTotal: 0 kB\n"
        );
        for (path, text) in [
            ("proc/cpuinfo", CPU_FLAGS),
            ("proc/meminfo", &meminfo),
            ("proc/cmdline", "quiet intel_iommu=on iommu=pt"),
            ("proc/self/status", "CapEff:\t000001ffffffffff"),
            ("proc/interrupts", "  CPU0 CPU1 CPU2 CPU3\n 24: 9 0 0 0 PCI-MSI eth0\nNMI: 1 1 1 1\n"),
            ("proc/net/route", "Iface Destination\neth0 00000000 0101A8C0 0003\n"),
            ("proc/sys/net/core/somaxconn", "4096"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "2048"),
            ("proc/sys/kernel/io_uring_disabled", "0"),
            ("run/chrony/chronyd.pid", "1"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
            ("sys/devices/system/cpu/isolated", "2-3"),
            ("sys/devices/system/cpu/nohz_full", "2-3"),
            ("sys/devices/system/node/node0/cpulist", "0-1"),
            ("sys/devices/system/node/node1/cpulist", "2-3"),
            ("sys/dev/block/259:0/queue/rotational", "0"),
            ("sys/dev/block/259:0/queue/discard_max_bytes", "1048576"),
        ] {
            made.write(path, text);
        }
        for core in 0..4 {
            let path = format!("sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
            made.write(&path, "performance");
        }
        made.pages("sys/kernel/mm", 64);
        made.pages("sys/devices/system/node/node1", 64);
        made.nic("vfio-pci", 1);
        made
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).expect("it is there")
    }

    fn pages(&self, at: &str, free: usize) {
        for name in ["nr_hugepages", "free_hugepages"] {
            self.write(&format!("{at}/hugepages/hugepages-2048kB/{name}"), free.to_string());
        }
    }

    fn nic(&self, driver: &str, node: i32) {
        let folder = format!("sys/bus/pci/devices/{NIC}");
        let _ = fs::remove_dir_all(self.root.join(&folder));
        self.write(&format!("{folder}/numa_node"), node.to_string());
        let link = |to: &str, name: &str| {
            symlink(to, self.root.join(&folder).join(name)).expect("linked");
        };
        link(&format!("../../drivers/{driver}"), "driver");
        link("../../../kernel/iommu_groups/14", "iommu_group");
    }

    fn host(&self) -> Host<'_> {
        Host::new(self.root.clone(), &self.calls)
    }

    fn look(&self, flags: &str) -> Vec<Finding> {
        examine(&config(flags), &self.host())
    }

    /// What is said of one check.
    fn finding(&self, flags: &str, check: &str) -> Finding {
        let all = self.look(flags);
        let found = all.iter().find(|finding| finding.check == check);
        found.unwrap_or_else(|| panic!("no {check} in\n{}", text(&all, usize::MAX))).clone()
    }

    /// Whether one check ends so, with these words in what was found and in what mends it.
    fn says(&self, flags: &str, check: &str, verdict: Verdict, words: &[&str]) {
        let finding = self.finding(flags, check);
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        let said = format!("{} {}", finding.found, finding.mend.clone().unwrap_or_default());
        for word in words {
            assert!(said.contains(word), "no {word:?} in {said}");
        }
        assert_eq!(starts(&self.look(flags)), verdict != Verdict::Error, "{finding:?}");
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// What flags of `sunder serve` say.
fn config(flags: &str) -> Config {
    let mut config = Config::default();
    let words: Vec<_> = flags.split_whitespace().collect();
    for pair in words.chunks(2) {
        let &[flag, value] = pair else { panic!("{flags}: a flag without a value") };
        match flag {
            "--device" => config.devices.push(value.to_owned()),
            "--address" => config.addresses = vec![config::cidr(value).expect("an address").into()],
            "--cores" => config.cores = config::cores(value).expect("cores"),
            "--workers" => config.workers = Some(config::workers(value).expect("a number")),
            "--poll" => config.poll = Some(Poll::Busy),
            "--huge" => config.huge = Huge::Off,
            "--l1" => config.l1 = config::l1(value).expect("a tier"),
            "--l2" => config.l2 = config::l2(value).expect("a tier"),
            _ => panic!("{flag}"),
        }
    }
    config
}

#[test]
fn a_good_host_has_nothing_to_mend() {
    let made = Made::good();
    let device = if cfg!(feature = "dpdk") { ON_NIC } else { "" };
    for flags in [device, ON_SSD, "--cores 2-3"] {
        let all = made.look(flags);
        let wrong = |it: &&Finding| matches!(it.verdict, Verdict::Warning | Verdict::Error);
        let wrong: Vec<_> = all.iter().filter(wrong).collect();
        assert!(wrong.is_empty(), "{flags}: {wrong:?}");
        assert!(all.len() >= 10 && all.iter().all(|it| it.mend.is_none()), "{flags}: {all:?}");
        assert!(text(&all, 80).ends_with("sunder serve would start; 0 warnings\n"));
    }
}

#[cfg(feature = "dpdk")]
#[test]
fn a_nic_on_the_wrong_node_names_the_cores_near_it() {
    let made = Made::good();
    made.nic("vfio-pci", 0);
    made.says(ON_NIC, "NUMA", Verdict::Warning, &["node 0", "(2-3)", "--cores 0-1"]);
    let near = ON_NIC.replace("2-3", "0-1");
    made.says(&near, "NUMA", Verdict::Ok, &["node 0"]);
}

#[cfg(feature = "dpdk")]
#[test]
fn a_nic_of_the_kernels_is_bound_only_if_the_host_does_not_use_it() {
    let made = Made::good();
    made.nic("ixgbe", 1);
    made.write(&format!("sys/bus/pci/devices/{NIC}/net/eth1/mtu"), "1500");
    let bind = format!("scripts/bind-nic.sh bind {NIC} --driver vfio-pci");
    made.says(ON_NIC, "device", Verdict::Error, &["ixgbe holds it", &bind]);
    let addresses = "fe800000000000000000000000000001 03 40 20 80 eth1\n";
    made.write("proc/net/if_inet6", addresses);
    assert_eq!(made.finding(ON_NIC, "device").mend, Some(bind));
    for (path, text, why) in [
        ("proc/net/if_inet6", "fd000000000000000000000000000002 04 40 00 82 eth1\n", "an address"),
        ("proc/net/route", "Iface\neth1 0001A8C0 00000000 0001\n", "an address"),
        ("proc/net/route", "Iface\neth1 00000000 0101A8C0 0003\n", "the default route"),
    ] {
        made.write(path, text);
        let finding = made.finding(ON_NIC, "device");
        assert!(finding.found.contains(&format!("eth1 has {why}")), "{finding:?}");
        let mend = finding.mend.expect("another NIC");
        assert!(!mend.contains(" bind ") && finding.steps.is_empty(), "{mend}");
    }
    made.write("proc/net/if_inet6", "");
}

#[cfg(feature = "dpdk")]
#[test]
fn missing_hugepages_are_counted_as_a_start_counts_them_and_reserved() {
    let made = Made::good();
    made.pages("sys/kernel/mm", 0);
    made.says(ON_NIC, "hugepages", Verdict::Error, &["46 MiB", "reserve 23"]);
    made.says(&format!("{ON_NIC} --huge off"), "hugepages", Verdict::Warning, &["4 KiB"]);
    made.pages("sys/kernel/mm", 64);
    made.pages("sys/devices/system/node/node1", 3);
    let words = ["3 of 23 pages", "node 1", "reserve 23 --node 1"];
    made.says(ON_NIC, "hugepages", Verdict::Warning, &words);
}

#[cfg(feature = "dpdk")]
#[test]
fn a_device_needs_its_group_its_locked_memory_and_its_capability() {
    let mut made = Made::good();
    made.write("proc/self/status", "CapEff:\t0000000000000000");
    made.calls.memlock = Some(8 << 20);
    made.says(ON_NIC, "memlock", Verdict::Error, &["8 MiB of", "ulimit -l unlimited"]);
    made.calls.memlock = None;
    assert!(starts(&made.look(ON_NIC)));
    fs::remove_file(made.root.join(format!("sys/bus/pci/devices/{NIC}/iommu_group"))).unwrap();
    made.says(ON_NIC, "IOMMU", Verdict::Error, &["no group", "intel_iommu=on"]);
    made.write("sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y");
    made.says(ON_NIC, "IOMMU", Verdict::Warning, &["all memory"]);
    let on_lo = "--device net_af_packet0,iface=lo --address 10.0.0.5/24 --huge off --cores 2";
    made.says(on_lo, "permission", Verdict::Error, &["CAP_NET_RAW is missing", "run as root"]);
}

#[cfg(feature = "dpdk")]
#[test]
fn a_driver_of_dpdk_that_is_not_installed_is_missed() {
    let made = Made::good();
    let flags = "--device net_af_packet0,iface=lo --address 10.0.0.5/24 --cores 2-3";
    made.says(flags, "driver", Verdict::Unknown, &["was not found"]);
    let folder = "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0";
    made.write(&format!("{folder}/{DRIVER_FILES}net_tap.so.23"), "");
    made.says(flags, "driver", Verdict::Error, &["net_af_packet.so is not in"]);
    made.write(&format!("{folder}/{DRIVER_FILES}net_af_packet.so.23"), "");
    made.says(flags, "driver", Verdict::Ok, &["installed"]);
}

#[test]
fn an_ssd_that_cannot_be_used_is_refused_in_the_starts_words() {
    let mut made = Made::good();
    made.calls.no_disk = Some("/srv/log: its file system has no direct I/O (O_DIRECT)");
    made.calls.path.file_system = "tmpfs".into();
    made.says(ON_SSD, "ssd", Verdict::Error, &["--l2: /srv/log", "no direct I/O"]);
    made.calls.no_disk = None;
    made.says(ON_SSD, "file system", Verdict::Warning, &["tmpfs", "no disk"]);
    made.write("sys/dev/block/259:0/queue/rotational", "1");
    made.says(ON_SSD, "disk", Verdict::Warning, &["rotational"]);
}

#[test]
fn rings_that_are_forbidden_are_allowed_by_a_setting_or_a_filter() {
    let mut made = Made::good();
    made.calls.no_rings = Some("setting up io_uring: Operation not permitted; allow it");
    let finding = made.finding(ON_SSD, "io_uring");
    assert_eq!((finding.verdict, finding.mend), (Verdict::Error, None), "a filter forbids them");
    made.write("proc/sys/kernel/io_uring_disabled", "2\n");
    let words = ["not permitted", "sysctl -w kernel.io_uring_disabled=0"];
    made.says(ON_SSD, "io_uring", Verdict::Error, &words);
    assert!(starts(&made.look("")), "nothing needs one");
}

#[test]
fn too_little_locked_memory_slows_an_ssd() {
    let mut made = Made::good();
    made.calls.memlock = Some(8 << 20);
    made.says(ON_SSD, "memlock", Verdict::Ok, &["enough"]);
    made.write("proc/self/status", "CapEff:\t0000000000000000");
    made.says(ON_SSD, "memlock", Verdict::Warning, &["8 MiB", "96 MiB", "ulimit -l"]);
}

#[test]
fn memory_is_what_a_start_says_it_is() {
    let made = Made::good();
    made.says("--l1 memory,size=20G", "memory", Verdict::Error, &["20 GiB", "available"]);
    made.says("--l1 memory,size=140G", "memory", Verdict::Error, &["each worker would have"]);
    made.write("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 1048576 kB\nSwapTotal: 9 kB");
    made.says("--l1 memory,size=4G", "memory", Verdict::Warning, &["1 GiB are available"]);
    made.says("--l1 memory,size=4G", "swap", Verdict::Warning, &["swapoff -a"]);
    made.says("--cores 2-7", "cores", Verdict::Error, &["--cores: core 4"]);
}

#[test]
fn what_slows_workers_is_named_with_its_cores() {
    let made = Made::good();
    let flags = "--poll busy --cores 1-2";
    made.says(flags, "isolation", Verdict::Warning, &["cores 1-2", "isolcpus=1-2 nohz_full=1-2"]);
    made.says("--poll busy --cores 2-3", "interrupts", Verdict::Ok, &["2-3"]);
    let words = ["eth0", "echo 1-3 >/proc/irq/24/smp_affinity_list"];
    made.says("--poll busy --cores 0", "interrupts", Verdict::Warning, &words);
    made.says("--workers 5", "cores", Verdict::Warning, &["5 workers on 4 cores"]);
    made.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet");
    made.says("", "clock", Verdict::Warning, &["hpet", "dmesg"]);
    made.write("proc/cpuinfo", "flags : fpu sse2");
    let verdict = made.finding("", "cpu").verdict;
    assert!(verdict == Verdict::Warning || verdict == Verdict::Error, "{verdict:?}");
    made.write("proc/sys/net/ipv4/ip_local_port_range", "10000 60000");
    made.says("", "port", Verdict::Warning, &["11211", "ip_local_reserved_ports=11211"]);
    made.write("proc/sys/net/ipv4/ip_local_reserved_ports", "11200-11220");
    assert!(made.look("").iter().all(|finding| finding.check != "port"));
}

#[test]
fn a_fix_writes_to_the_kernels_files_and_nothing_else() {
    let made = Made::good();
    let governor = "sys/devices/system/cpu/cpu3/cpufreq/scaling_governor";
    let thp = "sys/kernel/mm/transparent_hugepage/enabled";
    let queue = "proc/sys/net/core/somaxconn";
    made.write(governor, "powersave");
    made.write(thp, "always madvise [never]");
    made.write(queue, "128");
    let words = ["powersave of cores 3", "echo performance >/sys/devices/system/cpu/cpu3/"];
    made.says("--cores 2-3", "frequency", Verdict::Warning, &words);
    made.says("", "backlog", Verdict::Warning, &["sysctl -w net.core.somaxconn=1024"]);
    let all = made.look("--cores 2-3");
    fix::apply(&all, &made.host());
    assert_eq!(made.read(governor), "performance");
    assert_eq!((made.read(thp).as_str(), made.read(queue).as_str()), ("madvise", "1024"));
    let after = made.look("--cores 2-3");
    let again: Vec<_> = after.iter().flat_map(|finding| &finding.steps).collect();
    // The made-up file says what was written to it, and not what was chosen by that.
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(made.finding("", "huge pages").verdict, Verdict::Unknown);
}

#[test]
fn what_cannot_be_read_is_unknown_and_stops_nothing() {
    let made = Made::good();
    fs::remove_dir_all(made.root.join("sys")).unwrap();
    fs::remove_dir_all(made.root.join("proc")).unwrap();
    for flags in ["", ON_SSD] {
        let all = made.look(flags);
        assert!(starts(&all), "{all:?}");
        assert!(all.iter().filter(|it| it.verdict == Verdict::Unknown).count() >= 5, "{all:?}");
    }
}

/// All files of the host, one after another.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        match entry.file_type().expect("a type").is_dir() {
            true => files_below(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

#[test]
fn hostile_files_are_read_with_bounds_and_without_panics() {
    let long = vec![b'9'; 10 << 20];
    let lines =
        "9: ".repeat(100_000) + "\n-1-: \u{0}\u{1b}[31m 99999999999999999999 4294967295-0\n";
    let contents: [&[u8]; 6] =
        [b"", b"\xff\xfe\x00\x80", &long, b"-1", b"18446744073709551615", lines.as_bytes()];
    let device = if cfg!(feature = "dpdk") { ON_NIC } else { "" };
    for content in contents {
        let made = Made::good();
        let mut files = Vec::new();
        files_below(&made.root, &mut files);
        for file in files.iter().filter(|file| !file.is_symlink()) {
            fs::write(file, content).expect("written");
        }
        for flags in [device, ON_SSD] {
            let all = made.look(flags);
            let shown = text(&all, 80);
            assert!(shown.len() < 64 << 10, "{} bytes", shown.len());
            assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
            let parsed: serde_json::Value = serde_json::from_str(&json(&all)).expect("JSON");
            assert_eq!(parsed["findings"].as_array().map(Vec::len), Some(all.len()));
        }
    }
}

#[test]
fn links_that_lead_in_circles_and_folders_for_files_are_unknown() {
    let made = Made::good();
    let mut files = Vec::new();
    files_below(&made.root, &mut files);
    for (i, file) in files.iter().enumerate() {
        fs::remove_file(file).expect("removed");
        match i % 2 {
            0 => symlink(file, file).expect("linked"),
            _ => fs::create_dir(file).expect("made"),
        }
    }
    assert!(starts(&made.look(ON_SSD)));
    assert!(made.look(ON_NIC).iter().any(|it| it.verdict == Verdict::Unknown));
}

#[test]
fn lists_of_cores_are_read_and_written() {
    for (list, cores) in [("0,2-3", vec![0, 2, 3]), ("", vec![]), ("x,5-4,1", vec![1])] {
        assert_eq!(cores_of(list), cores);
    }
    assert!(cores_of("0-99999999999999").len() <= 1024);
    assert_eq!(list_of(&[5, 0, 1, 2, 7, 8]), "0-2,5,7-8");
}

#[test]
fn this_host_is_looked_at() {
    let all = examine(&config("--workers 1"), &Host::new("/".into(), &ThisHost::default()));
    assert!(all.iter().any(|finding| finding.check == "memory"), "{all:?}");
}
