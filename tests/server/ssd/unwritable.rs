//! A server whose file system becomes read-only or is frozen: it neither spins nor hangs.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::LogFile;
use super::client::Client;
use crate::support::PATIENCE;

fn run(name: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(name).args(arguments).output().expect("scripts/setup.sh installs it");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// ext4 on a loop device; thawed, unmounted and removed when dropped.
pub struct Disk {
    _image: LogFile,
    device: String,
    folder: PathBuf,
    /// Where the server marks its log.
    state: PathBuf,
}

impl Disk {
    pub fn new() -> Disk {
        assert!(rustix::process::geteuid().is_root(), "loop devices: run it as root");
        let image = LogFile::new();
        File::create(&image.0).and_then(|file| file.set_len(500 << 20)).expect("a file");
        let device = run("losetup", &["-f", "--show", image.text()]).expect("a loop device");
        run("mkfs.ext4", &["-q", &device]).expect("a file system");
        let folder = image.0.with_extension("mounted");
        let state = image.0.with_extension("state");
        for folder in [&folder, &state] {
            fs::create_dir(folder).expect("room");
        }
        let disk = Disk { _image: image, device, folder, state };
        run("mount", &["-o", "errors=remount-ro", &disk.device, disk.on()]).expect("mounted");
        disk
    }

    pub fn on(&self) -> &str {
        self.folder.to_str().expect("text")
    }

    pub fn state(&self) -> &str {
        self.state.to_str().expect("text")
    }

    /// What ext4 does when it detects corruption.
    pub fn fail(&self) {
        let name = self.device.trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1")
            .expect("ext4 has this trigger");
    }

    fn freeze(&self) {
        run("fsfreeze", &["-f", self.on()]).expect("it freezes");
    }

    fn thaw(&self) {
        // It fails if the file system is not frozen.
        let _ = run("fsfreeze", &["-u", self.on()]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        let start = Instant::now();
        // Writes in flight when its process ended finish soon.
        while run("umount", &[self.on()]).is_none() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = run("losetup", &["-d", &self.device]);
        let _ = fs::remove_dir(&self.folder);
        let _ = fs::remove_dir_all(&self.state);
    }
}

/// A process's state, and its CPU time so far, as in proc_pid_stat(5).
fn cpu(pid: u32) -> (char, Duration) {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("not reaped");
    let (_, rest) = text.rsplit_once(") ").expect("a name in parentheses");
    let words: Vec<&str> = rest.split(' ').collect();
    let ticks: u64 = words[11..13].iter().map(|it| it.parse::<u64>().expect("ticks")).sum();
    (words[0].chars().next().expect("a letter"), Duration::from_millis(10 * ticks))
}

/// A server with some items on the disk, and others that it cannot write.
fn with_unwritten(disk: &Disk, break_it: fn(&Disk)) -> Client {
    let state = disk.state.display();
    let tier = format!("ssd,path={}/log,size=300M,state={state}", disk.on());
    let mut c = Client::start(&["--workers", "1", "--l1", "memory", "--l2", &tier]);
    let mut store = |from: u32| {
        for number in from..from + 2000 {
            let answer = c.store("set", &format!("key-{number}"), 0, &[b'x'; 4000]);
            assert!(["STORED", "NOT_STORED"].contains(&answer.as_str()) || from > 0);
        }
    };
    store(0);
    break_it(disk);
    store(2000);
    c
}

/// Ends it; returns the duration, and the CPU time. The kernel keeps an ended process until its
/// writes are finished, which is after the thaw.
fn stop(mut c: Client, disk: &Disk) -> (Duration, Duration) {
    let (pid, start) = (c.server.pid(), Instant::now());
    let (_, before) = cpu(pid);
    run("kill", &["-TERM", &pid.to_string()]).expect("it is there");
    let used = loop {
        match cpu(pid) {
            ('Z', used) => break used,
            _ => assert!(start.elapsed() < 2 * PATIENCE, "it stays"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = start.elapsed();
    println!("it ended within {took:?}, with {:?} of CPU time", used - before);
    disk.thaw();
    // It could not close its log.
    assert_eq!(c.server.terminate(), Ok(3), "{}", c.server.stderr());
    (took, used - before)
}

#[test]
fn a_disk_that_accepts_no_writes_uses_no_cpu_and_delays_no_client() {
    let disk = Disk::new();
    let mut c = with_unwritten(&disk, Disk::fail);
    let start = Instant::now();
    while c.stat("ssd_write_errors").expect("it answers") == 0 {
        assert!(start.elapsed() < PATIENCE, "nothing fails");
    }
    let (_, before) = cpu(c.server.pid());
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu(c.server.pid()).1 - before;
    assert!(used <= Duration::from_millis(100), "{used:?} in two idle seconds");
    let (took, used) = stop(c, &disk);
    assert!(took < Duration::from_secs(8), "it took {took:?}");
    assert!(used < Duration::from_millis(700), "{used:?} for nothing, within {took:?}");
}

#[test]
fn a_frozen_disk_delays_no_client() {
    let disk = Disk::new();
    let c = with_unwritten(&disk, Disk::freeze);
    let (took, used) = stop(c, &disk);
    assert!(took < Duration::from_secs(12), "it took {took:?}");
    assert!(used < Duration::from_millis(700), "{used:?} for nothing, within {took:?}");
}
