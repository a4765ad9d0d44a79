//! Failed starts: one line that names the error, nothing on stdout, and an exit status that says
//! who can fix it.

use crate::support::chaos::Memcached;
use crate::support::{Server, free_port, run_sunder};
use std::net::TcpListener;

/// Runs `sunder ARGS`, a wrong command line; its one line on stderr must contain all `words`.
fn refused(args: &[&str], words: &[&str]) {
    failed(args, WORDS, words);
}

/// Exit statuses: wrong command line, a problem of the host, or a temporary one.
const WORDS: i32 = 2;
const HOST: i32 = 1;
const PASSING: i32 = 75;

fn failed(args: &[&str], status: i32, words: &[&str]) {
    let ended = run_sunder(args).expect("sunder runs and ends");
    let line = ended.stderr.trim_end();
    assert_eq!(ended.status, status, "{args:?}: {line}");
    assert_eq!(ended.stdout, "", "{args:?}: stdout");
    assert_eq!(line.lines().count(), 1, "{args:?} does not print exactly one line:\n{line}");
    for word in words {
        assert!(line.contains(word), "{args:?} does not print '{word}': {line}");
    }
}

#[test]
fn unknown_flag() {
    refused(&["serve", "--no-such-flag"], &["--no-such-flag"]);
    refused(&["serve", "-x"], &["-x"]);
}

#[test]
fn unknown_command() {
    refused(&["no-such-command"], &["no-such-command"]);
    refused(&["serve", "stray-word"], &["stray-word"]);
    refused(&[], &["requires a subcommand", "serve"]);
    refused(&["-p", "25000"], &["-p", "sunder serve -p 25000"]);
}

#[test]
fn flag_without_value() {
    refused(&["serve", "--workers"], &["--workers"]);
    refused(&["serve", "-p"], &["-p"]);
    refused(&["serve", "--device"], &["--device"]);
}

#[test]
fn invalid_values() {
    refused(&["serve", "--workers", "none"], &["--workers", "none"]);
    refused(&["serve", "--workers", "0"], &["--workers", "0"]);
    refused(&["serve", "--workers", "100000"], &["--workers", "100000"]);
    refused(&["serve", "-p", "65536"], &["-p", "65536"]);
    refused(&["serve", "-p", "-1"], &["-p", "-1"]);
    refused(&["serve", "--poll", "sometimes"], &["--poll", "sometimes"]);
    refused(&["serve", "--huge", "maybe"], &["--huge", "maybe"]);
    refused(&["serve", "--bind", "nowhere"], &["--bind", "nowhere"]);
    refused(&["serve", "--max-item-size", "huge"], &["--max-item-size", "huge"]);
    refused(&["serve", "--max-item-size", "1"], &["--max-item-size", "1"]);
    refused(&["serve", "--max-item-size", "99999999999G"], &["--max-item-size"]);
    refused(&["serve", "--max-connections", "0"], &["--max-connections", "0"]);
    refused(&["serve", "--l1", "tape"], &["--l1", "tape"]);
    refused(&["serve", "--l1", "memory,size=none"], &["--l1", "none"]);
    refused(&["serve", "--l1", "memory,colour=red"], &["--l1", "colour"]);
}

#[test]
fn an_l1_too_small_for_the_workers() {
    let l1 = ["serve", "--workers", "2", "--l1", "memory,size=100G"];
    refused(&l1, &["--l1", "50 GiB"]);
}

#[test]
fn an_l1_that_the_host_has_no_memory_for() {
    // Of 64 workers each may have 32 GiB.
    let l1 = ["serve", "--workers", "64", "--l1", "memory,size=2000G"];
    refused(&l1, &["--l1", "2 TiB", "available", "choose a smaller size"]);
}

#[test]
fn an_l2_that_is_no_rend() {
    let memcached = Memcached::start(64, 1).expect("it serves");
    let path = memcached.path().to_str().expect("it is text");
    let words = ["--l2", path, "GETE", "memcached,addr="];
    let bind = ["--bind", "127.0.0.1"];
    refused(&[&["serve", "--l2-enabled", "--l2-sock", path][..], &bind].concat(), &words);
}

#[test]
fn taken_port() {
    let port = free_port();
    let _holder = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let text = port.to_string();
    failed(&["serve", "-p", &text], PASSING, &[&text, "-p"]);
}

#[test]
fn port_that_another_sunder_serves() {
    let text = free_port().to_string();
    let _first = Server::sunder(&["-p", &text, "--workers", "1"]).expect("the first one serves");
    failed(&["serve", "-p", &text, "--workers", "1"], PASSING, &[&text, "-p"]);
}

#[test]
fn address_of_another_host() {
    // TEST-NET-1 (RFC 5737): no host has it. Binding sends nothing.
    let words = ["--bind", "192.0.2.1", "no such address", "--wait"];
    for flag in ["--bind", "--listen", "-l"] {
        failed(&["serve", flag, "192.0.2.1"], PASSING, &words);
    }
    let l2 = Memcached::start(64, 1).expect("it serves");
    let l2 = format!("memcached,addr=unix:{}", l2.path().display());
    let (main, batch) = (free_port().to_string(), free_port().to_string());
    let ports = ["serve", "-l", "192.0.2.1", "-p", &main, "--bp", &batch, "--l2", &l2];
    failed(&ports, PASSING, &words);
}

#[test]
fn a_folder_that_is_not_there_may_come() {
    let path = "/no-such-directory/sunder.sock";
    let words = ["cannot listen", path, "folder does not exist: create it", "--sock-path"];
    failed(&["serve", "--use-domain-socket", "--sock-path", path], PASSING, &words);
    failed(&["serve", "-s", path], PASSING, &words);
    for size in ["", ",size=600M"] {
        let tier = format!("ssd,path=/no-such-directory/log{size}");
        let words = ["--l1", "/no-such-directory/log", "folder does not exist", "mounted?"];
        failed(&["serve", "--l1", &tier], PASSING, &words);
    }
}

#[test]
fn impossible_socket_path() {
    let path = "/dev/null/sunder.sock";
    failed(&["serve", "--use-domain-socket", "--sock-path", path], HOST, &["--sock-path", path]);
}

#[test]
fn a_limit_that_allows_no_connection() {
    let serve = "ulimit -n 64; exec \"$0\" serve --max-connections 1 -p 1";
    let mut command = std::process::Command::new("bash");
    // Root may raise the limit, unless that capability is removed.
    let as_nobody_special = "if [ \"$(id -u)\" = 0 ]; then set -- setpriv --inh-caps=-sys_resource \
                             --bounding-set=-sys_resource \"$@\"; fi; exec \"$@\"";
    command.args(["-c", as_nobody_special, "bash", "bash", "-c", serve, crate::support::SUNDER]);
    let ended = command.output().expect("bash runs");
    let line = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(HOST), "{line}");
    assert!(line.contains("1 connection and sunder itself") && line.contains("raise"), "{line}");
    assert!(!line.contains("fewer"), "{line}");
}

#[test]
fn terminates_with_status_0() {
    let text = free_port().to_string();
    let mut server = Server::sunder(&["-p", &text]).expect("it serves");
    assert_eq!(server.terminate().expect("it ends"), 0);
}

#[cfg(feature = "dpdk")]
mod device {
    use super::refused;

    const DEVICE: &str = "net_af_packet0,iface=sunder-none";

    #[test]
    fn address_missing() {
        refused(&["serve", "--device", DEVICE], &["--address"]);
    }

    #[test]
    fn invalid_address() {
        let with = |address| ["serve", "--device", DEVICE, "--address", address];
        refused(&with("10.0.0.1"), &["--address", "10.0.0.1"]);
        refused(&with("10.0.0.1/33"), &["--address", "10.0.0.1/33"]);
        refused(&with("10.0.0/8"), &["--address", "10.0.0/8"]);
        refused(&with("fd77::1/129"), &["--address", "fd77::1/129"]);
    }

    #[test]
    fn workers_that_all_fail() {
        let mut args = vec!["serve", "--huge", "off", "--device", "net_null0", "--workers", "2"];
        let addresses: Vec<String> = (1..=9).map(|n| format!("10.0.0.{n}/24")).collect();
        addresses.iter().for_each(|address| args.extend(["--address", address]));
        for _ in 0..5 {
            refused(&args, &["--address"]);
        }
    }

    #[test]
    fn no_such_interface() {
        let args = ["serve", "--device", DEVICE, "--address", "10.0.0.1/24", "--huge", "off"];
        refused(&args, &["--device", "sunder-none"]);
    }

    #[test]
    fn no_such_driver() {
        let args =
            ["serve", "--device", "net_nothing0", "--address", "10.0.0.1/24", "--huge", "off"];
        refused(&args, &["--device", "net_nothing0"]);
    }

    #[test]
    fn no_such_pci_device() {
        let args =
            ["serve", "--device", "ffff:ff:1f.7", "--address", "10.0.0.1/24", "--huge", "off"];
        refused(&args, &["--device", "ffff:ff:1f.7"]);
    }
}
