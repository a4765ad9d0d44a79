//! The scripts: the operators' ones on simulated roots that look like the kernel's, so that no test
//! touches the host; all of them in a checkout whose path would be executed if evaluated.

mod bind;
mod hugepages;
mod install;
mod paths;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};

static ROOTS: AtomicUsize = AtomicUsize::new(0);

/// A simulated host; removed when dropped.
struct Host {
    root: PathBuf,
}

/// The output of a script and its exit status.
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
                     eth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
        host.write("route", route);
        host.write("addresses", "2: eth0    inet 192.168.1.2/24 brd 192.168.1.255 scope global\n");
        // The link-local address and its routes, which every interface has that is up.
        let link = "fe800000000000000000000000000000";
        let all = "ff000000000000000000000000000000";
        let none = "0".repeat(32);
        let route = |to| format!("{to} 40 {none} 00 {none} 00000100 1 0 1     eth1\n");
        host.write("route6", &(route(link) + &route(all)));
        host.write("addresses6", "fe8000000000000000fc00fffe000001 03 40 20 80     eth1\n");
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
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
            .env("SUNDER_ADDRESSES4", self.root.join("addresses"))
            .env("SUNDER_ADDRESSES6", self.root.join("addresses6"))
            .env("SUNDER_RUN", self.root.join("run"))
            .env("SUNDER_LIB", self.root.join("usr/lib"))
            .output()
            .unwrap();
        Run {
            out: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap(),
        }
    }

    /// Runs a script that must refuse: status 2, one line, with each of `words` in it.
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

#[test]
fn both_scripts_help() {
    let host = Host::new();
    for script in [HUGE, BIND] {
        let run = host.does(script, "--help");
        assert!(run.out.starts_with("usage: scripts/") && run.out.contains("--dry-run"));
    }
}
