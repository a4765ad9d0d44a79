//! A first tier that outlives the server, in memory or in a memcached: stopped, killed, started
//! with other flags, and beside an SSD that is used without it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::ssd::client::{Client, value};
use crate::support::chaos::Memcached;
use crate::support::{free_port, run_sunder};
use sunder::base::random::mix;

/// Files in memory, and one on a disk; removed when dropped.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Place {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = format!("/dev/shm/sunder-kept-{}-{number}", std::process::id());
        fs::create_dir(&folder).expect("/dev/shm");
        Place(folder.into())
    }

    /// A path in memory.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The words of a first tier of that size.
    pub fn l1(&self, size: &str, more: &str) -> String {
        format!("memory,size={size},path={}{more}", self.0.join("cache").display())
    }

    /// The words of an SSD.
    pub fn l2(&self) -> String {
        let name = self.0.file_name().and_then(|name| name.to_str()).expect("a name");
        format!("ssd,path={}/{name},size=600M,flush=20", env!("CARGO_TARGET_TMPDIR"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("it is ours");
        // There may be no log.
        let name = self.0.file_name().and_then(|name| name.to_str()).expect("a name");
        let _ = fs::remove_file(format!("{}/{name}", env!("CARGO_TARGET_TMPDIR")));
    }
}

fn start(l1: &str, more: &[&str]) -> Client {
    Client::start(&[&["--workers", "2", "--l1", l1][..], more].concat())
}

/// The line that says what the first tier holds.
fn said(client: &Client) -> String {
    let said = client.server.stderr();
    let line = said.lines().find(|line| line.contains(": L1 ")).unwrap_or_else(|| panic!("{said}"));
    line.to_owned()
}

fn bytes(i: u64) -> Vec<u8> {
    value(i, [200_000, 3, 100, 2_000][(mix(i) % 40).min(3) as usize])
}

const ITEMS: u64 = 1_000;
const WORKERS: usize = 2;

fn set_all(client: &mut Client) {
    for i in 0..ITEMS {
        assert_eq!(client.store("set", &format!("k{i}"), i as u32, &bytes(i)), "STORED");
    }
}

fn assert_all(client: &mut Client) {
    for i in 0..ITEMS {
        assert!(client.get(&format!("k{i}")) == Some((i as u32, bytes(i))), "item {i}");
    }
}

#[test]
fn items_are_there_after_a_stop_and_after_a_kill() {
    let place = Place::new();
    let l1 = place.l1("512M", "");
    let mut client = start(&l1, &[]);
    assert!(said(&client).contains("L1 is new, 512 MiB"), "{}", said(&client));
    set_all(&mut client);
    assert_eq!(client.store("set", "n", 0, b"41"), "STORED");
    assert_eq!(client.request("incr n 1"), "42");
    assert_eq!(client.request("set later 0 1000 1\r\nx"), "STORED");
    assert_eq!(client.request("delete k0"), "DELETED");
    assert_eq!(client.store("set", "k0", 0, &bytes(0)), "STORED");
    assert_eq!(client.server.terminate(), Ok(0));
    let mut client = start(&l1, &[]);
    assert!(said(&client).contains("L1 recovered 1002 items in"), "{}", said(&client));
    assert_all(&mut client);
    assert_eq!(client.stat("curr_items").expect("stats"), ITEMS + 2);
    assert_eq!(client.request("incr n 1"), "43");
    client.server.kill();
    let mut client = start(&l1, &[]);
    assert!(said(&client).contains(", without a stop before, in"), "{}", said(&client));
    assert_all(&mut client);
    assert_eq!(client.request("incr n 1"), "44");
    assert_eq!(client.request("flush_all"), "OK");
    client.server.kill();
    let mut client = start(&l1, &[]);
    assert_eq!(client.get("k1"), None);
    let mut client = {
        drop(client);
        start(&place.l1("512M", ",format"), &[])
    };
    assert!(said(&client).contains("L1 starts empty: as asked for"), "{}", said(&client));
    assert_eq!(client.get("n"), None);
}

#[test]
fn kills_in_a_storm_of_sets_leave_no_wrong_value() {
    const KEYS: u64 = 400;
    let place = Place::new();
    let l1 = place.l1("64M", "");
    // For each key: what was answered last, and what was sent since.
    let mut told: Vec<(Option<u64>, Vec<u64>)> = vec![(None, Vec::new()); KEYS as usize];
    let mut version = 0;
    for round in 0..5 {
        let mut client = start(&l1, &[]);
        let mut lost = 0_usize;
        for key in 0..KEYS {
            let found = client.get(&format!("k{key}")).map(|(_, bytes)| bytes);
            let (last, since) = &mut told[key as usize];
            let may = last.iter().chain(since.iter()).find(|&&it| found == Some(bytes(it)));
            assert_eq!(found.is_some(), may.is_some(), "a wrong value of k{key} in round {round}");
            if found.is_none() && last.is_some() {
                assert!(!since.is_empty(), "k{key} is lost in round {round}, and was not changed");
                lost += 1;
            }
            (*last, *since) = (may.copied(), Vec::new());
        }
        // The item that a worker was replacing when it was killed.
        assert!(lost <= WORKERS, "{lost} items are lost in round {round}");
        let batches = 20 + mix(round) % 60;
        for batch in 0..batches {
            let mut requests = Vec::new();
            let mut keys = Vec::new();
            for _ in 0..40 {
                version += 1;
                let key = mix(version) % KEYS;
                let bytes = bytes(version);
                requests.extend(format!("set k{key} 0 0 {}\r\n", bytes.len()).as_bytes());
                requests.extend([&bytes[..], b"\r\n"].concat());
                told[key as usize].1.push(version);
                keys.push((key, version));
            }
            client.send(&requests).expect("it reads");
            if batch + 1 == batches {
                client.server.kill();
                break;
            }
            for (key, version) in keys {
                assert_eq!(client.line().expect("it answers"), "STORED");
                told[key as usize] = (Some(version), Vec::new());
            }
        }
    }
}

#[test]
fn what_the_ssd_replaced_meanwhile_is_not_served() {
    let place = Place::new();
    let (l1, l2) = (place.l1("64M", ""), place.l2());
    let mut client = start(&l1, &["--l2", &l2]);
    assert_eq!(client.store("set", "both", 0, b"old"), "STORED");
    assert_eq!(client.server.terminate(), Ok(0));
    let mut client = start(&l1, &["--l2", &l2]);
    assert!(said(&client).contains("L1 recovered 1 item in"), "{}", said(&client));
    assert_eq!(client.get("both"), Some((0, b"old".to_vec())));
    client.server.kill();
    // The log goes on alone.
    let mut client = start("memory,size=64M", &["--l2", &l2]);
    assert_eq!(client.store("set", "both", 0, b"new"), "STORED");
    assert_eq!(client.server.terminate(), Ok(0));
    let mut client = start(&l1, &["--l2", &l2]);
    assert!(said(&client).contains("L1 starts empty: the SSD"), "{}", said(&client));
    assert_eq!(client.get("both"), Some((0, b"new".to_vec())));
    client.server.kill();
    let mut client = start(&l1, &["--l2", &l2]);
    assert!(said(&client).contains("without a stop before"), "{}", said(&client));
    assert_eq!(client.get("both"), Some((0, b"new".to_vec())));
}

/// kill -9 between a change of L2 and that of L1. What is read afterwards is never older than what
/// was answered before, nor than what L2 has alone.
#[test]
fn killed_in_a_storm_before_an_ssd_l1_has_nothing_that_was_replaced() {
    const KEYS: u64 = 300;
    let place = Place::new();
    // Written at once, so that L2 is seldom behind.
    let (l1, l2) = (place.l1("128M", ""), place.l2().replace("flush=20", "flush=1"));
    let mut version = 0;
    // What each key was set to since it was read last: all, and how many of them were answered.
    let mut told: Vec<(Vec<u64>, usize)> = vec![(Vec::new(), 0); KEYS as usize];
    for round in 0..6 {
        let mut client = start(&l1, &["--l2", &l2]);
        storm(&mut client, &mut told, &mut version, round);
        drop(client);
        let mut client = start(&l1, &["--l2", &l2]);
        assert!(said(&client).contains("without a stop before"), "{}", said(&client));
        let mut behind = 0;
        let both: Vec<_> = (0..KEYS)
            .map(|key| {
                let (versions, answered) = &told[key as usize];
                let at = place_of(&mut client, key, versions);
                // One that was being replaced in L1, and is there in L2 as far as it was written.
                behind += usize::from(at < *answered);
                assert!(at >= *answered || versions.len() > *answered, "k{key} in round {round}");
                at
            })
            .collect();
        assert!(behind <= WORKERS, "{behind} are older than what was answered, in round {round}");
        client.server.kill();
        let mut client = start("memory,size=64M", &["--l2", &l2]);
        for key in 0..KEYS {
            let (versions, answered) = &mut told[key as usize];
            let at = place_of(&mut client, key, versions);
            let both = both[key as usize];
            assert!(at <= both, "L1 had {both} of k{key}, and L2 {at}, in round {round}");
            *versions = at.checked_sub(1).map(|at| versions[at]).into_iter().collect();
            *answered = versions.len();
        }
        assert_eq!(client.server.terminate(), Ok(0));
    }
}

/// The value of a key as a place in what it was set to, from 1 on; 0: it has none.
fn place_of(client: &mut Client, key: u64, versions: &[u64]) -> usize {
    let Some((_, found)) = client.get(&format!("k{key}")) else { return 0 };
    let at = versions.iter().rposition(|&version| bytes(version) == found);
    at.unwrap_or_else(|| panic!("a wrong value of k{key}")) + 1
}

/// Sets until the server is killed with some of them outstanding.
fn storm(client: &mut Client, told: &mut [(Vec<u64>, usize)], version: &mut u64, round: u64) {
    let batches = 20 + mix(round) % 60;
    for batch in 1..=batches {
        let mut requests = Vec::new();
        let mut changed = Vec::new();
        for _ in 0..40 {
            *version += 1;
            let (key, bytes) = (mix(*version) % told.len() as u64, bytes(*version));
            requests.extend(format!("set k{key} 0 0 {}\r\n", bytes.len()).as_bytes());
            requests.extend([&bytes[..], b"\r\n"].concat());
            told[key as usize].0.push(*version);
            changed.push(key as usize);
        }
        client.send(&requests).expect("it reads");
        if batch == batches {
            return client.server.kill();
        }
        for key in changed {
            assert_eq!(client.line().expect("it answers"), "STORED");
            told[key].1 = told[key].0.len();
        }
    }
}

/// kill -9 between the two tiers of a set leaves the older item in L1.
#[test]
fn a_memcached_before_an_l2_is_emptied_at_the_start_if_asked_to() {
    let [l1, l2] = [1, 2].map(|seed| Memcached::start(64, seed).expect("it starts"));
    let say = |memcached: &Memcached, request: &str| {
        let mut stream = UnixStream::connect(memcached.path()).expect("it accepts");
        stream.write_all(format!("{request}\r\nquit\r\n").as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    };
    assert_eq!(say(&l1, "set key 0 0 3\r\nold"), "STORED\r\n");
    assert_eq!(say(&l2, "set key 0 0 3\r\nnew"), "STORED\r\n");
    let l2 = format!("memcached,addr={}", l2.address());
    let batch_port = free_port().to_string();
    let flags = ["--l2", &l2, "--bp", &batch_port];
    let mut client = start(&format!("memcached,addr={}", l1.address()), &flags);
    assert_eq!(client.get("key"), Some((0, b"old".to_vec())), "only if asked to");
    drop(client);
    let mut client = start(&format!("memcached,addr={},start=empty", l1.address()), &flags);
    let begun = Instant::now();
    while say(&l1, "get key") != "VALUE key 0 3\r\nnew\r\nEND\r\n" {
        assert!(begun.elapsed() < Duration::from_secs(60), "L1 gets L2's");
        assert_eq!(client.get("key"), Some((0, b"new".to_vec())));
        std::thread::sleep(Duration::from_millis(10));
    }
    let told = client.server.stderr();
    assert!(told.contains("was emptied, and is used now"), "{told}");
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    let place = Place::new();
    let l1 = place.l1("64M", "");
    let refused = |flags: &[&str], status: i32, words: &[&str]| {
        let port = free_port().to_string();
        let ended = run_sunder(&[&["serve", "-p", &port][..], flags].concat()).expect("it ends");
        let line = ended.stderr.trim_end();
        assert_eq!(ended.status, status, "{flags:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{flags:?}: {line}");
        for word in words {
            assert!(line.contains(word), "{flags:?} does not print '{word}': {line}");
        }
    };
    let mut client = start(&l1, &[]);
    assert_eq!(client.store("set", "k", 0, b"v"), "STORED");
    let name = place.0.join("cache.0");
    let name = name.to_str().expect("UTF-8");
    let any = name.trim_end_matches('0');
    refused(&["--workers", "2", "--l1", &l1], 75, &["another process uses it", any]);
    assert_eq!(client.server.terminate(), Ok(0));
    refused(&["--workers", "1", "--l1", &l1], 2, &[any, "--workers 2", "\"format\""]);
    let larger = place.l1("128M", "");
    refused(&["--workers", "2", "--l1", &larger], 2, &["size=64M", "size=128M", "\"format\""]);
    let memcached = ["--workers", "2", "--l1", &l1, "--l2", "memcached,addr=127.0.0.1:1"];
    refused(&memcached, 2, &["--l1", "--l2 ssd"]);
    refused(&["--l1", "memory,path=cache"], 2, &["path=cache", "absolute"]);
    refused(&["--l1", "memory,huge=off"], 2, &["path=PATH"]);
    let none = "memory,path=/dev/shm/none/cache";
    refused(&["--l1", none], 75, &["--l1", "/dev/shm/none/cache.", "its folder does not exist"]);
    let link = place.0.join("link.0");
    std::os::unix::fs::symlink(name, link).expect("a link");
    let linked = format!("memory,path={}", place.0.join("link").display());
    refused(&["--workers", "1", "--l1", &linked], 1, &["link.0", "not a regular file"]);
    std::os::unix::fs::chown(name, Some(65534), None).expect("this runs as root");
    refused(&["--workers", "2", "--l1", &l1], 1, &[name, "it belongs to user 65534"]);
    std::os::unix::fs::chown(name, Some(0), None).expect("this runs as root");
    fs::set_permissions(name, fs::Permissions::from_mode(0o640)).expect("ours");
    refused(&["--workers", "2", "--l1", &l1], 1, &[name, "mode 640", "chmod 600"]);
    fs::set_permissions(name, fs::Permissions::from_mode(0o600)).expect("ours");
    fs::write(name, b"what somebody wrote").expect("a file");
    refused(&["--workers", "2", "--l1", &l1], 1, &[name, "not a store", "\"format\""]);
    assert_eq!(fs::read(name).expect("a file"), b"what somebody wrote");
    let mut client = start(&place.l1("64M", ",format"), &[]);
    assert_eq!(client.get("k"), None);
}

/// What `script` prints, which has mounts of its own, and in which `try SIZE` starts sunder with
/// files of that size in the folder `here`; what that says to the operator is among it.
fn tried(script: &str) -> Vec<String> {
    let place = Place::new();
    let start = format!(
        "cd {}; mkdir here; at=$PWD/here; sunder={}; port={}; \
         try() {{ \
           timeout 20 $sunder serve -p $port --workers 2 --max-item-size 1K \
             --l1 memory,size=$1,path=$at/cache 2>&1 | sed '/: version /d'; \
           ls here; \
         }}; {script}",
        place.0.display(),
        env!("CARGO_BIN_EXE_sunder"),
        free_port()
    );
    let ended = Command::new("unshare").args(["--mount", "sh", "-ec", &start]).output();
    let ended = ended.expect("unshare");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "this runs as root: {stderr}");
    String::from_utf8_lossy(&ended.stdout).lines().map(str::to_owned).collect()
}

fn assert_refused(script: &str, words: &[&str]) {
    let lines = tried(script);
    let [line] = &lines[..] else { panic!("{script}: one line, and no file is left: {lines:?}") };
    for word in words {
        assert!(line.contains(word), "{script} does not print '{word}': {line}");
    }
}

#[test]
fn a_file_system_without_room_is_said_and_nothing_is_left_there() {
    // There is room for the file of one worker.
    let memory = "mount -t tmpfs -o size=40M none here";
    let words = ["here/cache.", "no room for 32 MiB", "smaller size=", "remount,size="];
    assert_refused(&format!("{memory}; try 64M"), &words);
    let huge = "mount -t hugetlbfs -o pagesize=2M,size=2M none here";
    let words = ["16 huge pages of 2 MiB", "scripts/hugepages.sh reserve 32", "smaller size="];
    assert_refused(&format!("{huge}; try 64M"), &words);
    let words = ["pages have 2 MiB", "larger size=", "fewer --workers"];
    assert_refused(&format!("{huge}; try 2M"), &words);
    let disk = "truncate -s 64M disk; mkfs.ext4 -q disk; mount -o loop disk here; rmdir here/*";
    let words = ["no room for 48 MiB", "smaller size=", "delete other files"];
    assert_refused(&format!("{disk}; try 96M"), &words);
}

#[test]
fn a_folder_without_rights_is_said() {
    assert_refused(
        "mount -t tmpfs -o ro none here; try 8M",
        &["here/cache.", "Read-only file system"],
    );
    // Root without its privilege to open everything.
    let words = ["here/cache.", "Permission denied"];
    let script = "chown 65534 here; chmod 700 here; \
                  setpriv --bounding-set=-dac_override,-dac_read_search \
                    timeout 20 $sunder serve -p $port --l1 memory,path=$at/cache 2>&1 || true";
    assert_refused(script, &words);
}
