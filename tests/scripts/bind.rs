//! scripts/bind-nic.sh: what it shows, does step by step, and refuses.

use std::fs;

use crate::{BIND, Host};

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
