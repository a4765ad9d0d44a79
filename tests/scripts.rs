//! The operators' scripts, on roots made here that look like the kernel's: no test touches the
//! host.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};

static ROOTS: AtomicUsize = AtomicUsize::new(0);

/// A host that does not exist; gone when dropped.
struct Host {
    root: PathBuf,
}

/// What a script said and how it ended.
struct Run {
    out: String,
    error: String,
    status: i32,
}

impl Host {
    fn new() -> Host {
        let number = ROOTS.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("sunder-host-{}-{number}", process::id()));
        let host = Host { root };
        for dir in ["kernel/mm/hugepages", "devices/system/node/node0/hugepages"] {
            host.pages(&format!("{dir}/hugepages-2048kB"), 10, 4);
            host.pages(&format!("{dir}/hugepages-1048576kB"), 0, 0);
        }
        for driver in ["e1000e", "vfio-pci", "uio_pci_generic", "mlx5_core"] {
            fs::create_dir_all(host.sys(&format!("bus/pci/drivers/{driver}"))).unwrap();
        }
        host.device("0000:05:00.0", "0x020000", Some("e1000e"), Some("eth0"));
        host.device("0000:06:00.0", "0x020000", Some("e1000e"), Some("eth1"));
        host.device("0000:07:00.0", "0x020000", Some("vfio-pci"), None);
        host.device("0000:08:00.0", "0x020000", Some("mlx5_core"), Some("eth2"));
        host.device("0000:09:00.0", "0x010802", Some("nvme"), None);
        for (address, group) in [("0000:05:00.0", true), ("0000:06:00.0", true)] {
            let dir = host.sys(&format!("bus/pci/devices/{address}/iommu_group"));
            assert!(group && fs::create_dir(dir).is_ok());
        }
        let route = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                     eth0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n\
                     eth1 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
        fs::write(host.root.join("route"), route).unwrap();
        fs::write(host.root.join("route6"), "").unwrap();
        host
    }

    fn sys(&self, path: &str) -> PathBuf {
        self.root.join("sys").join(path)
    }

    fn pages(&self, dir: &str, reserved: usize, free: usize) {
        fs::create_dir_all(self.sys(dir)).unwrap();
        fs::write(self.sys(dir).join("nr_hugepages"), format!("{reserved}\n")).unwrap();
        fs::write(self.sys(dir).join("free_hugepages"), format!("{free}\n")).unwrap();
    }

    fn device(&self, address: &str, class: &str, driver: Option<&str>, interface: Option<&str>) {
        let dir = self.sys(&format!("bus/pci/devices/{address}"));
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in [("class", class), ("vendor", "0x8086"), ("device", "0x10d3")] {
            fs::write(dir.join(file), format!("{text}\n")).unwrap();
        }
        fs::write(dir.join("driver_override"), "(null)\n").unwrap();
        if let Some(driver) = driver {
            symlink(format!("../../drivers/{driver}"), dir.join("driver")).unwrap();
        }
        if let Some(interface) = interface {
            fs::create_dir_all(dir.join("net").join(interface)).unwrap();
        }
    }

    fn reserved(&self, dir: &str) -> String {
        fs::read_to_string(self.sys(dir).join("nr_hugepages")).unwrap().trim().to_string()
    }

    fn run(&self, script: &str, arguments: &str) -> Run {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
        let output = Command::new(path)
            .args(arguments.split_whitespace())
            .env("SUNDER_SYSFS", self.root.join("sys"))
            .env("SUNDER_ETC", self.root.join("etc"))
            .env("SUNDER_ROUTES", self.root.join("route"))
            .env("SUNDER_ROUTES6", self.root.join("route6"))
            .output()
            .unwrap();
        Run {
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap(),
        }
    }

    /// Runs a script that has to refuse: status 2, one line, with each of `words` in it.
    fn refuses(&self, script: &str, arguments: &str, words: &[&str]) {
        let run = self.run(script, arguments);
        assert_eq!(run.status, 2, "{arguments}: {}{}", run.out, run.error);
        assert_eq!(run.error.lines().count(), 1, "{arguments}: {}", run.error);
        for word in words {
            assert!(run.error.contains(word), "{arguments}: no {word:?} in {}", run.error);
        }
    }

    fn does(&self, script: &str, arguments: &str) -> Run {
        let run = self.run(script, arguments);
        assert_eq!(run.status, 0, "{arguments}: {}{}", run.out, run.error);
        run
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

const HUGE: &str = "hugepages.sh";
const BIND: &str = "bind-nic.sh";
const ALL_2M: &str = "kernel/mm/hugepages/hugepages-2048kB";
const NODE_2M: &str = "devices/system/node/node0/hugepages/hugepages-2048kB";
const ALL_1G: &str = "kernel/mm/hugepages/hugepages-1048576kB";

#[test]
fn reserving_adds_and_releasing_takes_what_is_free() {
    let host = Host::new();
    host.does(HUGE, "reserve 16");
    assert_eq!(host.reserved(ALL_2M), "26");
    host.does(HUGE, "reserve 2 --size 2M --node 0");
    assert_eq!(host.reserved(NODE_2M), "12");
    host.does(HUGE, "reserve 1 --size 1G");
    assert_eq!(host.reserved(ALL_1G), "1");
    let run = host.does(HUGE, "release");
    assert!(run.out.contains("released 4 pages of 2M; 22 are in use"), "{}", run.out);
    assert_eq!(host.reserved(ALL_2M), "22");
}

#[test]
fn a_dry_run_says_everything_and_does_nothing() {
    let host = Host::new();
    let run = host.does(HUGE, "reserve 16 --persistent --dry-run");
    assert!(run.error.contains("would write 26 to"), "{}", run.error);
    assert!(run.out.contains("vm.nr_hugepages = 26"), "{}", run.out);
    assert_eq!(host.reserved(ALL_2M), "10");
    assert!(!host.root.join("etc").exists());
    let run = host.does(HUGE, "release --dry-run");
    assert!(run.error.contains("would write 6 to"), "{}", run.error);
    assert_eq!(host.reserved(ALL_2M), "10");
}

#[test]
fn a_persistent_reservation_is_written_shown_and_forgotten() {
    let host = Host::new();
    let file = host.root.join("etc/sysctl.d/90-sunder-hugepages-2M.conf");
    host.does(HUGE, "reserve 6 --persistent");
    assert!(fs::read_to_string(&file).unwrap().ends_with("\nvm.nr_hugepages = 16\n"));
    assert!(host.does(HUGE, "show").out.contains("at boot: "));
    let run = host.does(HUGE, "release --persistent");
    assert!(run.out.contains("removed") && !file.exists(), "{}", run.out);
    let run = host.does(HUGE, "release --persistent");
    assert!(run.out.contains("does not exist"), "{}", run.out);

    let run = host.does(HUGE, "reserve 2 --size 1G --node 0 --persistent");
    assert!(run.out.contains("hugepagesz=1G hugepages=2"), "{}", run.out);
    let file = host.root.join("etc/tmpfiles.d/sunder-hugepages-1G-node0.conf");
    let line =
        "w /sys/devices/system/node/node0/hugepages/hugepages-1048576kB/nr_hugepages - - - - 2";
    assert!(fs::read_to_string(file).unwrap().contains(line));
}

#[test]
fn show_lists_sizes_and_nodes() {
    let host = Host::new();
    let run = host.does(HUGE, "show");
    let row = |words: &[&str]| {
        run.out.lines().any(|line| line.split_whitespace().eq(words.iter().copied()))
    };
    assert!(row(&["2M", "all", "10", "4", "6"]), "{}", run.out);
    assert!(row(&["2M", "0", "10", "4", "6"]), "{}", run.out);
    assert!(row(&["1G", "0", "0", "0", "0"]), "{}", run.out);
}

#[test]
fn hugepages_refuses_what_it_does_not_understand() {
    let host = Host::new();
    host.refuses(HUGE, "", &["reserve N, show or release"]);
    host.refuses(HUGE, "reserve", &["a number of pages"]);
    host.refuses(HUGE, "reserve 0", &["a number of pages"]);
    host.refuses(HUGE, "reserve 1;2", &["a number of pages"]);
    host.refuses(HUGE, "reserve 08", &["a number of pages"]);
    host.refuses(HUGE, "reserve 1 --size 4K", &["--size 4K", "2M or 1G"]);
    host.refuses(HUGE, "reserve 1 --node 7", &["--node 7", "show"]);
    host.refuses(HUGE, "reserve 1 --node ../..", &["--node ../.."]);
    host.refuses(HUGE, "show release", &["one command"]);
    host.refuses(HUGE, "--what", &["--what", "--help"]);
    fs::remove_dir_all(host.sys(ALL_1G)).unwrap();
    host.refuses(HUGE, "reserve 1 --size 1G", &["no pages of 1G", "--size"]);
    fs::remove_dir_all(host.sys("kernel/mm/hugepages")).unwrap();
    host.refuses(HUGE, "show", &["--huge off"]);
}

#[test]
fn both_scripts_help() {
    let host = Host::new();
    for script in [HUGE, BIND] {
        let run = host.does(script, "--help");
        assert!(run.out.starts_with("usage: scripts/") && run.out.contains("--dry-run"));
    }
}

#[test]
fn the_devices_are_shown_with_what_holds_them() {
    let host = Host::new();
    let run = host.does(BIND, "show");
    assert!(run.out.contains("0000:05:00.0  e1000e           8086:10d3   eth0 (default route)"));
    assert!(run.out.contains("0000:07:00.0  vfio-pci         8086:10d3   -"), "{}", run.out);
    assert!(!run.out.contains("0000:09"), "a disk: {}", run.out);
    fs::remove_dir_all(host.sys("bus/pci/devices")).unwrap();
    assert!(host.does(BIND, "show").out.contains("no PCI devices"));
}

#[test]
fn binding_names_each_step() {
    let host = Host::new();
    let run = host.does(BIND, "bind 06:00.0 --dry-run");
    let steps: Vec<_> = run.out.lines().collect();
    assert_eq!(steps.len(), 3, "{}", run.out);
    assert!(steps[0].starts_with("would write \"vfio-pci\""), "{}", run.out);
    assert!(steps[0].ends_with("0000:06:00.0/driver_override"), "{}", run.out);
    assert!(steps[1].ends_with("0000:06:00.0/driver/unbind"), "{}", run.out);
    assert!(steps[2].ends_with("bus/pci/drivers_probe"), "{}", run.out);
    let left = fs::read_to_string(host.sys("bus/pci/devices/0000:06:00.0/driver_override"));
    assert_eq!(left.unwrap(), "(null)\n");
    let run = host.does(BIND, "bind 0000:06:00.0 --driver uio_pci_generic --dry-run");
    assert!(run.out.contains("\"uio_pci_generic\""), "{}", run.out);
    fs::remove_dir(host.sys("bus/pci/drivers/vfio-pci")).unwrap();
    let run = host.does(BIND, "bind 06:00.0 --dry-run");
    assert!(run.out.contains("would run modprobe vfio-pci"), "{}", run.out);
}

#[test]
fn giving_back_lets_the_kernel_choose() {
    let host = Host::new();
    let run = host.does(BIND, "unbind 07:00.0 --dry-run");
    assert!(run.out.starts_with("would write \"\" to "), "{}", run.out);
    assert_eq!(run.out.lines().count(), 3, "{}", run.out);
    let run = host.does(BIND, "unbind 06:00.0");
    assert!(run.out.contains("with the kernel's e1000e already"), "{}", run.out);
    let run = host.does(BIND, "bind 07:00.0");
    assert!(run.out.contains("with vfio-pci already"), "{}", run.out);
}

/// The files of this host do nothing when they are written, which is a driver that refused.
#[test]
fn a_device_that_does_not_move_is_noticed() {
    let host = Host::new();
    host.refuses(BIND, "bind 06:00.0", &["with e1000e and not with vfio-pci", "dmesg"]);
    fs::remove_file(host.sys("bus/pci/devices/0000:07:00.0/driver")).unwrap();
    host.refuses(BIND, "unbind 07:00.0", &["no driver of the kernel's", "modprobe"]);
}

#[test]
fn bind_refuses_what_would_hurt() {
    let host = Host::new();
    host.refuses(BIND, "bind 05:00.0 --dry-run", &["eth0", "default route", "--force"]);
    host.does(BIND, "bind 05:00.0 --dry-run --force");
    host.refuses(BIND, "bind 08:00.0 --dry-run", &["mlx5_core", "--device 0000:08:00.0"]);
    host.refuses(BIND, "bind 09:00.0 --dry-run", &["not a network device"]);
    host.refuses(BIND, "bind 0a:00.0 --dry-run", &["no such PCI device", "show"]);
    host.refuses(BIND, "bind eth1", &["eth1", "0000:05:00.0"]);
    host.refuses(BIND, "bind ../..", &["expected a PCI address"]);
    host.refuses(BIND, "bind", &["expected a PCI address"]);
    host.refuses(BIND, "bind 06:00.0 --driver e1000e", &["vfio-pci or uio_pci_generic"]);
    host.refuses(BIND, "", &["expected show, bind or unbind"]);
    fs::remove_dir(host.sys("bus/pci/devices/0000:06:00.0/iommu_group")).unwrap();
    host.refuses(BIND, "bind 06:00.0 --dry-run", &["IOMMU", "uio_pci_generic"]);
    // A default route of IPv6 counts too.
    let route = format!("{} 00 {} 00 {} 0 0 0 0 eth1\n", "0".repeat(32), "0".repeat(32), "fe80");
    fs::write(host.root.join("route6"), route).unwrap();
    host.refuses(BIND, "bind 06:00.0 --dry-run", &["eth1", "default route"]);
}
