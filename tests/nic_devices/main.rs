//! Real devices: frames in and out of each driver, with the kernel's own stack or a second process.
//! Needs root, and hugepages that can be reserved; fails without, and never skips.
//!
//! DPDK starts once per process, so each device is opened by a child: this binary, run again with a
//! role (`roles.rs`), or `sunder bench` (`bench.rs`). Traffic stays in network namespaces created
//! here (`lab.rs`).

mod bench;
mod lab;
mod roles;

use lab::{Child, Hugepages, Lab};
use sunder::net::nic::{Huge, memory_bytes};

const CLIENT: &str = "10.77.0.1";

/// Where a device's memory is, and the pages reserved for it.
fn memory(huge: bool) -> (&'static str, Option<Hugepages>) {
    match huge {
        true => ("auto", Some(Hugepages::reserve(memory_bytes(1, 2, Huge::Auto)))),
        false => ("off", None),
    }
}

/// Runs the kernel's clients with an echo at the far end of a veth pair.
fn over_veth(driver: &str, huge: bool, workers: usize) {
    let lab = Lab::new();
    let (huge, _pages) = memory(huge);
    let (near, far) = lab.veth(CLIENT);
    let device = format!("{driver}0,iface={far}");
    let mut echo = lab.role("echo").device(&device, huge, workers).inside("server").start();
    echo.expect("ready");
    lab.role("client").inside("client").run();
    finish(echo, workers);
    drop(near);
}

/// Ends an echo and checks its report.
fn finish(mut echo: Child, workers: usize) {
    let report = echo.stop();
    let ports = |worker: usize| -> Vec<u16> {
        let key = format!("worker {worker} ports ");
        let line = report.iter().find_map(|line| line.strip_prefix(&key));
        let line = line.unwrap_or_else(|| panic!("no ports of worker {worker} in {report:?}"));
        line.split_whitespace().map(|port| port.parse().unwrap()).collect()
    };
    let all: Vec<Vec<u16>> = (0..workers).map(ports).collect();
    let mut union: Vec<u16> = all.concat();
    assert!(all.iter().all(|ports| !ports.is_empty()), "a worker saw no flow: {all:?}");
    union.sort_unstable();
    let expected: Vec<u16> = roles::client_ports().collect();
    assert_eq!(union, expected, "each flow at one worker, and none lost: {all:?}");
}

#[test]
fn af_packet_with_hugepages() {
    over_veth("net_af_packet", true, 1);
}

#[test]
fn af_packet_without_hugepages() {
    over_veth("net_af_packet", false, 1);
}

#[test]
fn af_packet_steers_flows_to_two_workers() {
    over_veth("net_af_packet", false, 2);
}

#[test]
fn af_xdp_with_hugepages() {
    over_veth("net_af_xdp", true, 1);
}

#[test]
fn af_xdp_without_hugepages_and_two_workers() {
    over_veth("net_af_xdp", false, 2);
}

fn over_tap(huge: bool, workers: usize) {
    let lab = Lab::new();
    let (huge, _pages) = memory(huge);
    let device = "net_tap0,iface=stap0";
    let mut echo = lab.role("echo").device(device, huge, workers).inside("server").start();
    echo.expect("ready");
    lab.ip(&format!("-n {} addr add {CLIENT}/24 dev stap0", lab.space("server")));
    lab.ip(&format!("-n {} link set stap0 up", lab.space("server")));
    lab.role("client").inside("server").run();
    let report = finish_with_report(echo, workers);
    // The driver computes checksums in software, but it is its own code: offloads were used.
    let good = report.iter().find_map(|line| line.strip_prefix("checksums good "));
    assert_ne!(good, Some("0"), "{report:?}");
    assert!(report.iter().any(|line| line == "tx checksum true"), "{report:?}");
}

fn finish_with_report(echo: Child, workers: usize) -> Vec<String> {
    let seen = echo.seen();
    finish(echo, workers);
    seen.lock().unwrap().clone()
}

#[test]
fn tap_with_hugepages() {
    over_tap(true, 1);
}

#[test]
fn tap_without_hugepages_and_two_workers() {
    over_tap(false, 2);
}

/// Two processes with a ring between them. The first does not read its end until the second has
/// filled it: waiting frames are counted, kept, and delivered. At the end one stops reading, sees
/// the other leave, and leaves: the driver unmaps the ring during a burst (see `net::nic`).
fn over_memif(huge: bool) {
    let lab = Lab::new();
    let (huge, _pages) = match huge {
        true => ("auto", Some(Hugepages::reserve(2 * memory_bytes(1, 1, Huge::Auto)))),
        false => ("off", None),
    };
    let socket = lab.path("memif.sock");
    let device = |role: &str| format!("net_memif0,role={role},socket={socket},socket-abstract=no");
    let server = device("server");
    let mut echo = lab.role("held-echo").device(&server, huge, 1).inside("server").start();
    echo.expect_listener(&socket);
    let mut flood = lab.role("flood").device(&device("client"), huge, 1).inside("server").start();
    flood.expect("full");
    echo.tell("go");
    flood.tell("go");
    flood.expect("all back");
    echo.tell("rest");
    echo.expect("resting");
    flood.tell("leave");
    flood.stop();
    echo.expect("alone");
    echo.stop();
}

#[test]
fn memif_with_hugepages_keeps_frames_that_the_peer_does_not_accept() {
    over_memif(true);
}

#[test]
fn memif_without_hugepages_keeps_frames_that_the_peer_does_not_accept() {
    over_memif(false);
}

#[test]
fn a_device_that_hashes_has_a_queue_pair_for_each_worker() {
    let lab = Lab::new();
    let mut child = lab.role("queues").device("net_null0", "off", 3).inside("server").start();
    child.expect("queues used");
    child.stop();
}

/// Wrong devices, each with the line that an operator sees.
#[test]
fn refusals_name_a_remedy() {
    let lab = Lab::new();
    let (_near, far) = lab.veth(CLIENT);
    lab.ip(&format!("-n {} link set {far} down", lab.space("server")));
    // The last requires more hugepages than a host has reserved: 1.1 GiB.
    for (device, huge, workers, expected) in [
        ("net_af_packet0,iface=absent0", "off", 1, "iface=absent0"),
        ("net_af_packet0,iface=far0", "off", 1, "ip link set far0 up"),
        ("net_nosuch0", "off", 1, "the driver does not accept it"),
        ("net_memif0,role=nobody", "off", 1, "the driver does not accept it"),
        ("0000:ff:1f.7", "off", 1, "scripts/bind-nic.sh show"),
        ("net_ring0", "auto", 64, "scripts/hugepages.sh reserve"),
    ] {
        let mut child = lab.role("refused").device(device, huge, workers).inside("server").start();
        let line = child.expect("error ");
        assert!(line.contains(expected), "{device}: {line}");
        child.stop();
    }
}

/// A process without privileges gets an error. `setpriv` removes them.
#[test]
fn without_privileges_it_reports_an_error() {
    let lab = Lab::new();
    let (near, far) = lab.veth(CLIENT);
    let device = format!("net_af_packet0,iface={far}");
    let role = lab.role("refused").device(&device, "off", 1).inside("server").without_rights();
    let mut child = role.start();
    let line = child.expect("error ");
    assert!(line.contains("not permitted"), "{line}");
    child.stop();
    drop(near);
}

/// A child's role. Without a role it checks that an unknown one is refused.
#[test]
fn role() {
    match std::env::var(lab::ROLE) {
        Ok(role) => roles::play(&role),
        Err(_) => {
            let refused = std::panic::catch_unwind(|| roles::play("no such role"));
            assert!(refused.is_err());
        }
    }
}
