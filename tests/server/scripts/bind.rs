//! scripts/bind-nic.sh: its output, its steps, and its refusals.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::{BIND, Host};
use crate::support::project;

#[test]
fn devices_are_shown_with_their_drivers() {
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
fn unbinding_lets_the_kernel_choose_the_driver() {
    let host = Host::new();
    let run = host.does(BIND, "unbind 07:00.0 --dry-run");
    assert!(run.out.starts_with("would write \"\" to "), "{}", run.out);
    assert_eq!(run.out.lines().count(), 3, "{}", run.out);
    let run = host.does(BIND, "unbind 06:00.0");
    assert!(run.out.contains("with the kernel's e1000e already"), "{}", run.out);
    let run = host.does(BIND, "bind 07:00.0");
    assert!(run.out.contains("with vfio-pci already"), "{}", run.out);
}

/// The files of this host have no effect when they are written, like a driver that refused.
#[test]
fn a_device_that_is_not_rebound_is_reported() {
    let host = Host::new();
    host.refuses(BIND, "bind 06:00.0", &["with e1000e and not with vfio-pci", "dmesg"]);
    fs::remove_file(host.sys("bus/pci/devices/0000:07:00.0/driver")).unwrap();
    host.refuses(BIND, "unbind 07:00.0", &["no driver of the kernel's", "modprobe"]);
}

#[test]
fn bind_refuses_devices_in_use() {
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

/// Binds eth1, which is refused with these words, but not with --force.
fn is_in_use(host: &Host, words: &[&str]) {
    host.refuses(BIND, "bind 06:00.0 --dry-run", &[&["eth1", "--force"], words].concat());
    let run = host.does(BIND, "bind 06:00.0 --dry-run --force");
    assert_eq!(run.out.lines().count(), 3, "{}", run.out);
    assert!(!host.does(BIND, "show").out.contains("   eth1\n"), "it is shown as in use");
}

#[test]
fn bind_refuses_an_interface_that_the_host_uses() {
    let host = Host::new();
    assert!(host.does(BIND, "show").out.contains("   eth1\n"));
    host.write("route", "eth1 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n");
    is_in_use(&host, &["which has a route: "]);
    let host = Host::new();
    let (to, none) = ("fd000000000000000000000000000000", "0".repeat(32));
    host.write("route6", &format!("{to} 40 {none} 00 {none} 00000100 1 0 1     eth1\n"));
    is_in_use(&host, &["has a route"]);
    let host = Host::new();
    host.write("addresses", "3: eth1    inet 10.0.0.1/32 scope global eth1\n");
    is_in_use(&host, &["which has an address: "]);
    let host = Host::new();
    host.write("addresses6", "fd000000000000000000000000000002 04 40 00 82     eth1\n");
    is_in_use(&host, &["has an address"]);
}

#[test]
fn bind_refuses_what_is_under_a_bond_a_bridge_or_a_vlan() {
    let host = Host::new();
    host.write("sys/class/net/eth1/upper_bond0", "");
    is_in_use(&host, &["which is part of bond0: "]);
    // At any level.
    host.write("sys/class/net/bond0/upper_bond0.7", "");
    host.write("sys/class/net/bond0.7/upper_br0", "");
    host.write("route", "br0 00000000 0101A8C0 0003 0 0 0 00000000 0 0 0\n");
    host.write("addresses", "9: br0    inet 192.168.1.2/24 scope global br0\n");
    is_in_use(&host, &["is part of bond0", "br0, which carries the default route", "an address"]);
}

/// The same with the kernel's own data about a real bridge and a macvlan on it.
#[test]
fn the_kernel_reports_upper_interfaces_like_the_simulated_host() {
    assert!(rustix::process::geteuid().is_root(), "network namespaces: run it as root");
    let name = format!("sunder-upper-{}", std::process::id());
    let ip = |words: &str| {
        let made = Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(made.success(), "ip {words}");
    };
    ip(&format!("netns add {name}"));
    let listed = {
        let script = "
            set -e
            ip link add name eth1 type veth peer name far
            ip link add name br0 type bridge && ip link set eth1 master br0
            ip link add link br0 name over0 type macvlan
            ip address add 10.9.8.7/24 dev over0 && ip link set eth1 up
            ip link set br0 up && ip link set over0 up
            ls -d /sys/class/net/eth1/upper_* /sys/class/net/br0/upper_*
            ip -o -4 address; grep over0 /proc/net/route";
        let run = Command::new("ip").args(["netns", "exec", &name, "bash", "-c", script]).output();
        ip(&format!("netns delete {name}"));
        run.unwrap()
    };
    let said = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.status.success(), "{said}{}", String::from_utf8_lossy(&listed.stderr));
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "/sys/class/net/br0/upper_over0", "{said}");
    assert_eq!(lines[1], "/sys/class/net/eth1/upper_br0", "{said}");
    assert!(lines.iter().any(|it| it.split_whitespace().nth(1) == Some("over0")), "{said}");
    // On the host of this test, with the kernel's data.
    let host = Host::new();
    host.write("sys/class/net/eth1/upper_br0", "");
    host.write("sys/class/net/br0/upper_over0", "");
    host.write("addresses", &lines[2..lines.len() - 1].join("\n"));
    host.write("route", lines[lines.len() - 1]);
    is_in_use(&host, &["is part of br0", "over0, which has a route", "has an address"]);
}

#[test]
fn a_persistent_binding_is_a_unit_before_the_service() {
    let host = Host::new();
    let units = host.root.join("etc/systemd/system");
    let unit = units.join("sunder-nic-0000:07:00.0.service");
    let required = units.join("sunder.service.requires/sunder-nic-0000:07:00.0.service");
    let run = host.does(BIND, "bind 07:00.0 --persistent --dry-run");
    assert!(run.out.contains("would write") && !unit.exists(), "{}", run.out);
    for _ in 0..2 {
        host.does(BIND, "bind 07:00.0 --persistent");
        let text = fs::read_to_string(&unit).expect("a unit");
        let script = project().join("scripts/bind-nic.sh");
        let script = script.display();
        let start = format!("ExecStart={script} bind 0000:07:00.0 --driver vfio-pci\n");
        assert!(text.contains(&start) && text.contains("Before=sunder.service"), "{text}");
        assert_eq!(fs::read_to_string(&required).expect("a link to it"), text);
        let mut verify = Command::new("systemd-analyze");
        // Beside it is a folder of a service that is not installed.
        host.write("verified/sunder-nic.service", &text);
        let copy = host.root.join("verified/sunder-nic.service");
        let verified = verify.args(["verify", "--man=no"]).arg(copy).output();
        let verified = verified.expect("systemd is installed");
        let said = [verified.stdout, verified.stderr].concat();
        assert!(verified.status.success() && said.is_empty(), "{}", said.escape_ascii());
    }
    let run = host.run(BIND, "unbind 07:00.0 --persistent --dry-run");
    assert!(run.out.contains("would remove") && unit.exists(), "{}{}", run.out, run.error);
    let run = host.does(BIND, "unbind 06:00.0 --persistent");
    assert!(run.out.contains("nothing was to be bound at boot"), "{}", run.out);
    let held = host.sys("bus/pci/devices/0000:07:00.0/driver");
    fs::remove_file(&held).expect("a link");
    symlink("../../drivers/e1000e", &held).expect("a link");
    let run = host.does(BIND, "unbind 07:00.0 --persistent");
    assert!(run.out.contains("removed") && !unit.exists() && !required.exists(), "{}", run.out);
}
