//! `sunder doctor` on this very host: what it says of a configuration is what `sunder serve` does
//! with it, and looking leaves nothing behind.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::kept::Place;
use crate::support::{Server, free_port, free_socket_path, run_sunder};

const STARTS: i32 = 0;
const REFUSED: i32 = 1;

/// A file below `target`; removed when dropped.
struct Scrap(PathBuf);

impl Scrap {
    fn new(name: &str) -> Scrap {
        let name = format!("doctor-{}-{name}", std::process::id());
        Scrap(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    fn with(name: &str, text: &str) -> Scrap {
        let scrap = Scrap::new(name);
        fs::write(&scrap.0, text).expect("written");
        scrap
    }

    fn text(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        // A test that makes none has none.
        let _ = fs::remove_file(&self.0);
    }
}

/// What `sunder doctor FLAGS` says.
fn verdict(flags: &str) -> (i32, String) {
    let words: Vec<_> = ["doctor"].into_iter().chain(flags.split_whitespace()).collect();
    let ended = run_sunder(&words).expect("it ends");
    assert_eq!(ended.stderr, "", "{flags}");
    (ended.status, ended.stdout)
}

/// Whether both say so of these flags. What was started is returned.
fn agree(flags: &str, status: i32) -> Option<Server> {
    let (said, text) = verdict(flags);
    let started = Server::sunder(&flags.split_whitespace().collect::<Vec<_>>());
    let why = started.as_ref().err().cloned().unwrap_or_default();
    assert_eq!(started.is_ok(), status == STARTS, "serve {flags}: {why}");
    assert_eq!(said, status, "doctor {flags}, and serve: {why}\n{text}");
    if status == REFUSED {
        // In the start's own words, of whichever worker's file it has met first.
        let why = why.replace("cache.1:", "cache.0:");
        let errors = text.lines().filter_map(|line| line.strip_prefix("error"));
        let mut errors = errors.filter_map(|line| Some(line.split_once(" --")?.1));
        assert!(errors.any(|line| why.contains(line)) || !why.contains(" --"), "{why}\n{text}");
    }
    started.ok()
}

fn port() -> String {
    format!("-p {}", free_port())
}

#[test]
fn ports_and_sockets() {
    drop(agree(&port(), STARTS));
    let taken = free_port();
    let holder = TcpListener::bind(("127.0.0.1", taken)).expect("the port is free");
    agree(&format!("-p {taken}"), REFUSED);
    agree(&format!("-p {taken} --workers 1"), REFUSED);
    drop(holder);
    let both = format!("-p {taken} --bind ::,127.0.0.1 --workers 2");
    let served = agree(&both, STARTS);
    assert_eq!(verdict(&both).0, REFUSED, "it is there now");
    drop(served);
    agree(&format!("{} --bind 192.0.2.1", port()), REFUSED);
    let admin = free_port();
    let served = agree(&format!("{} --admin 127.0.0.1:{admin}", port()), STARTS);
    agree(&format!("{} --admin 127.0.0.1:{admin}", port()), REFUSED);
    drop(served);
    agree(&format!("{} --admin 192.0.2.1:{admin}", port()), REFUSED);
    let path = free_socket_path();
    let at = |path: &Path| format!("--use-domain-socket --sock-path {}", path.display());
    assert_eq!(verdict(&at(&path)).0, STARTS);
    assert!(!path.exists(), "looking made a socket");
    let served = agree(&at(&path), STARTS);
    assert_eq!(verdict(&at(&path)).0, REFUSED, "it is there now");
    drop(served);
    // What a killed server left is replaced.
    assert!(path.exists());
    drop(agree(&at(&path), STARTS));
    let _ = fs::remove_file(&path);
    fs::write(&path, "").expect("written");
    agree(&at(&path), REFUSED);
    fs::remove_file(&path).expect("removed");
    agree(&at(Path::new("/nowhere/socket")), REFUSED);
}

#[test]
fn what_is_taken_over_is_not_missing() {
    let place = Place::new();
    let flags = format!("{} --admin 127.0.0.1:{} --workers 1", port(), free_port());
    let flags = format!("{flags} --l1 {}", place.l1("64M", ""));
    let takeover = format!("{flags} --takeover");
    let mut first = agree(&flags, STARTS).expect("it serves");
    assert_eq!(verdict(&flags).0, REFUSED);
    let (status, text) = verdict(&takeover);
    assert_eq!(status, STARTS, "{text}");
    // What that server has not is not given up by it.
    let other = TcpListener::bind("127.0.0.2:0").expect("a port");
    let taken = other.local_addr().expect("bound");
    for wrong in [
        takeover.replace("64M", "128M"),
        format!("{} --admin {taken}", takeover.split(" --admin ").next().expect("all of it"))
            + " --takeover --workers 1",
        format!("{takeover} --user nobody7"),
    ] {
        assert_eq!(verdict(&wrong).0, REFUSED, "{wrong}");
    }
    assert!(first.is_alive(), "looking ended it");
    let next = Server::sunder(&takeover.split_whitespace().collect::<Vec<_>>());
    drop((next.expect("it takes over"), first));
}

#[test]
fn memory_cores_and_users() {
    agree(&format!("{} --workers 2 --l1 memory,size=100G", port()), REFUSED);
    agree(&format!("{} --workers 64 --l1 memory,size=2000G", port()), REFUSED);
    agree(&format!("{} --cores 1023", port()), REFUSED);
    drop(agree(&format!("{} --workers 3 --poll busy", port()), STARTS));
    agree(&format!("{} --auth-file /nowhere", port()), REFUSED);
    let users = Scrap::with("users", "alice\n");
    agree(&format!("{} --auth-file {}", port(), users.text()), REFUSED);
    fs::write(&users.0, "alice:secret\n").expect("written");
    drop(agree(&format!("{} --auth-file {}", port(), users.text()), STARTS));
    let config = Scrap::with("toml", &format!("port = {}\nworkers = 1\n", free_port()));
    drop(agree(&format!("--config {}", config.text()), STARTS));
}

#[test]
fn files_of_memory() {
    let place = Place::new();
    let with = |size: &str, more: &str| format!("{} --l1 {} {more}", port(), place.l1(size, ""));
    assert_eq!(verdict(&with("64M", "--workers 2")).0, STARTS);
    assert!(!Path::new(&place.path("cache.0")).exists(), "looking made a file");
    let served = agree(&with("64M", "--workers 2"), STARTS);
    assert_eq!(verdict(&with("64M", "--workers 2")).0, REFUSED, "it is in use");
    drop(served);
    agree(&with("64M", "--workers 1"), REFUSED);
    agree(&with("32M", "--workers 2"), REFUSED);
    drop(agree(&with("64M", "--workers 2"), STARTS));
    let l1 = place.l1("32M", ",format");
    let l2 = format!("{} --workers 1 --l1 {l1} --l2 memcached,addr=unix:/nowhere", port());
    agree(&l2, REFUSED);
    assert!(Path::new(&place.path("cache.1")).exists(), "looking removed a file");
    drop(agree(&format!("{} --workers 1 --l1 {l1}", port()), STARTS));
    agree(&format!("{} --l1 memory,size=64M,path=/nowhere/cache", port()), REFUSED);
}

#[test]
fn a_disk() {
    let log = Scrap::new("log");
    let with = |more: &str, workers: usize| {
        let bp = free_port();
        format!("{} --bp {bp} --workers {workers} --l2 ssd,path={}{more}", port(), log.text())
    };
    agree(&with("", 1), REFUSED);
    agree(&with(",size=64M", 1), REFUSED);
    agree(&with(",size=900T", 1), REFUSED);
    assert_eq!(verdict(&with(",size=600M", 2)).0, STARTS);
    assert!(!log.0.exists(), "looking made a file");
    let served = agree(&with(",size=600M", 2), STARTS);
    assert_eq!(verdict(&with(",size=600M", 2)).0, REFUSED, "it is in use");
    drop(served);
    agree(&with(",size=600M", 1), REFUSED);
    agree(&with(",size=900M", 2), REFUSED);
    assert_eq!(fs::metadata(&log.0).expect("a file").len(), 600 << 20, "looking made it longer");
    drop(agree(&with("", 2), STARTS));
    drop(agree(&with(",size=600M,format", 1), STARTS));
    let foreign = Scrap::with("foreign", &"somebody's\n".repeat(10_000));
    let l2 = format!("ssd,path={},size=600M", foreign.text());
    agree(&format!("{} --workers 1 --l2 {l2}", port()), REFUSED);
    agree(&format!("{} --workers 1 --l1 ssd,path=/,size=600M", port()), REFUSED);
}

#[test]
fn servers_of_tiers() {
    let path = free_socket_path();
    let with = |words: &str| format!("{} --bp {} --workers 1 {words}", port(), free_port());
    let addr = format!("addr=unix:{}", path.display());
    agree(&with(&format!("--l2 memcached,{addr}")), REFUSED);
    agree(&with(&format!("--l1 memcached,{addr}")), REFUSED);
    agree(&with(&format!("--l2 rend,{addr}")), REFUSED);
    agree(&with("--l1 shm,name=no-such-daemon"), REFUSED);
    let memcached = Server::memcached_at(&path, 64).expect("it serves");
    drop(agree(&with(&format!("--l2 memcached,{addr}")), STARTS));
    drop(agree(&with(&format!("--l1 memcached,{addr},start=empty,layout=chunked")), STARTS));
    agree(&with(&format!("--l2 rend,{addr}")), REFUSED);
    drop(memcached);
    let _ = fs::remove_file(&path);
}

#[test]
fn devices() {
    let with = |device: &str| format!("--device {device} --address 10.0.0.5/24 --workers 1");
    agree(&with("net_af_packet0,iface=no-such-one"), REFUSED);
    agree(&with("ffff:ff:1f.7"), REFUSED);
    agree(&with("eth0"), REFUSED);
    // DPDK has other words for it.
    let flags = with("net_no_such_driver0 --huge off");
    let (status, text) = verdict(&flags);
    assert_eq!(status, REFUSED, "{text}");
    assert!(Server::sunder(&flags.split_whitespace().collect::<Vec<_>>()).is_err());
}

#[test]
fn wrong_flags_are_those_of_serve_and_json_is_for_machines() {
    let ended = run_sunder(&["doctor", "--l1", "tape"]).expect("it ends");
    assert_eq!((ended.status, ended.stdout.as_str()), (2, ""));
    assert!(ended.stderr.contains("--l1") && ended.stderr.contains("tape"), "{}", ended.stderr);
    let port = free_port().to_string();
    for place in [["doctor", "--json", "-p", &port], ["doctor", "-p", &port, "--json"]] {
        let ended = run_sunder(&place).expect("it ends");
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert_eq!(report["starts"], true, "{}", ended.stdout);
        let findings = report["findings"].as_array().expect("a list");
        assert!(findings.iter().all(|it| it["check"].is_string() && it["found"].is_string()));
    }
}
