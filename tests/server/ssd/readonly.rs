//! A file system that becomes read-only under a server, as ext4 does after an error, and is
//! repaired later. The log on it is then intact, but stale. Needs root, for a mount.

use super::client::Client;
use crate::support::PATIENCE;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const KEYS: usize = 500;

/// Exit status of a server that could not close its log.
const EXIT_UNFINISHED: i32 = 3;

fn run(command: &str, arguments: &[&str]) {
    let status = Command::new(command)
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .expect("it is installed");
    // e2fsck: 1 = errors were corrected.
    let is_ok = status.success() || command == "e2fsck" && status.code() == Some(1);
    assert!(is_ok, "{command} {arguments:?}: {status}; this test needs root");
}

/// A separate file system in a file; removed when dropped.
struct FileSystem {
    folder: PathBuf,
    is_mounted: bool,
}

impl FileSystem {
    fn new() -> FileSystem {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ssd-readonly-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for name in ["mounted", "state"] {
            fs::create_dir_all(folder.join(name)).expect("room");
        }
        let mut this = FileSystem { folder, is_mounted: false };
        let image = this.path("image");
        File::create(&image).expect("room").set_len(420 << 20).expect("room");
        run("mkfs.ext4", &["-q", "-F", &image]);
        this.mount();
        this
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn mount(&mut self) {
        let (image, mounted) = (self.path("image"), self.path("mounted"));
        run("mount", &["-o", "loop,errors=remount-ro", &image, &mounted]);
        self.is_mounted = true;
    }

    /// As after an error of the disk.
    fn turn_read_only(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
        let mounted = self.path("mounted");
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&mounted));
        let device =
            line.and_then(|line| line.split(' ').next()).expect("the file system is mounted");
        let name = device.rsplit('/').next().expect("a name");
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1")
            .expect("ext4 has this trigger");
    }

    fn unmount(&self) -> bool {
        let mut umount = Command::new("umount");
        umount.arg(self.path("mounted")).stderr(Stdio::null());
        umount.status().is_ok_and(|it| it.success())
    }

    fn repair(&mut self) {
        // The kernel releases a killed process's disk a moment later.
        let begun = Instant::now();
        while !self.unmount() {
            assert!(begun.elapsed() < PATIENCE, "the file system is in use");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.is_mounted = false;
        run("e2fsck", &["-fy", &self.path("image")]);
        self.mount();
    }

    fn start(&self, state: &str) -> Client {
        let log = self.path("mounted/log");
        let tier = format!("ssd,path={log},size=300M,state={}", self.path(state));
        Client::start(&["--workers", "1", "--l1", &tier])
    }

    /// A server with old values that are all on the disk.
    fn with_old_values(&self, state: &str) -> Client {
        let mut c = self.start(state);
        for i in 0..KEYS {
            assert_eq!(c.store("set", &format!("key{i}"), 0, b"old"), "STORED");
        }
        assert_eq!(c.server.terminate(), Ok(0));
        self.start(state)
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        if self.is_mounted && !self.unmount() {
            eprintln!("{} is left mounted", self.path("mounted"));
            return;
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Sets a key until the server prints `words`.
fn set_until_it_says(c: &mut Client, words: &str) {
    let begun = Instant::now();
    while !c.server.stderr().contains(words) {
        c.store("set", "key0", 0, b"new");
        assert!(begun.elapsed() < PATIENCE, "it does not print '{words}': {}", c.server.stderr());
    }
}

#[test]
fn a_read_only_file_system_never_restores_old_values() {
    let mut fs = FileSystem::new();
    for is_killed in [false, true] {
        let mut c = fs.with_old_values("state");
        fs.turn_read_only();
        for i in 0..KEYS / 2 {
            assert_eq!(c.store("set", &format!("key{i}"), 0, b"new"), "STORED");
        }
        set_until_it_says(&mut c, "takes no writes: what it holds is given up at the next start");
        let said = c.server.stderr();
        assert!(said.contains(" a write failed: Read-only file system (os error 30)"), "{said}");
        for i in 0..KEYS {
            let key = format!("key{i}");
            assert_eq!(c.store("set", &key, 0, b"newer"), "STORED");
            assert_ne!(c.get(&key), Some((0, b"old".to_vec())), "{key}");
        }
        let begun = Instant::now();
        assert_eq!(c.request("flush_all"), "OK");
        assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
        if is_killed {
            c.server.kill();
        } else {
            assert_eq!(c.server.terminate(), Ok(EXIT_UNFINISHED));
            let said = c.server.stderr();
            assert!(said.contains("could not be closed, it takes no writes: what it"), "{said}");
        }
        fs.repair();
        let mut c = fs.start("state");
        let said = c.server.stderr();
        assert!(said.contains("1 of 1 parts took no writes before the last stop"), "{said}");
        for i in 0..KEYS {
            assert_eq!(c.get(&format!("key{i}")), None, "{i}");
        }
        assert_eq!(std::fs::read_dir(fs.path("state")).expect("there").count(), 0);
        assert_eq!(c.server.terminate(), Ok(0));
    }
}

#[test]
fn without_a_place_for_the_mark_changes_fail() {
    let mut fs = FileSystem::new();
    // The mark would be lost with the log.
    let mut c = fs.with_old_values("mounted/state");
    let told = c.server.stderr();
    assert!(told.contains("no other file system can take a note"), "reported at the start: {told}");
    fs.turn_read_only();
    set_until_it_says(&mut c, "takes no writes, and there is nowhere to note it");
    for i in 1..KEYS {
        let answer = c.store("set", &format!("key{i}"), 0, b"new");
        assert!(answer.starts_with("SERVER_ERROR"), "{i}: {answer}");
        assert!(c.request(&format!("delete key{i}")).starts_with("SERVER_ERROR"), "{i}");
    }
    assert!(c.request("flush_all").starts_with("SERVER_ERROR"));
    assert_eq!(c.get("key1"), Some((0, b"old".to_vec())));
    assert_eq!(c.server.terminate(), Ok(EXIT_UNFINISHED));
    fs.repair();
    let mut c = fs.start("mounted/state");
    for i in 1..KEYS {
        assert_eq!(c.get(&format!("key{i}")), Some((0, b"old".to_vec())), "{i}: as acknowledged");
    }
    assert_eq!(c.server.terminate(), Ok(0));
}
