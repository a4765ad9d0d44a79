//! Network namespaces, veth pairs, hugepages and child processes; all removed when dropped, also
//! after a failed test.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The environment variables that tell a child its role.
pub const ROLE: &str = "SUNDER_NIC_ROLE";
pub const DEVICE: &str = "SUNDER_NIC_DEVICE";
pub const HUGE: &str = "SUNDER_NIC_HUGE";
pub const WORKERS: &str = "SUNDER_NIC_WORKERS";

/// Time-out of one step of a child.
const STEP_MAX: Duration = Duration::from_secs(60);

static LABS: AtomicUsize = AtomicUsize::new(0);

/// Two namespaces, and a lock on the test: hugepages and cores are the host's.
pub struct Lab {
    name: String,
    veths: Cell<usize>,
    _turn: File,
}

impl Lab {
    pub fn new() -> Lab {
        assert!(is_root(), "these tests create network namespaces: run them as root");
        let turn = File::create(std::env::temp_dir().join("sunder-nic-devices.lock")).unwrap();
        turn.lock().unwrap();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("sn{}-{number}", process::id());
        let lab = Lab { name, veths: Cell::new(0), _turn: turn };
        for space in ["server", "client"] {
            lab.ip(&format!("netns add {}", lab.space(space)));
            lab.ip(&format!("-n {} link set lo up", lab.space(space)));
        }
        lab
    }

    /// The full name of a namespace.
    pub fn space(&self, which: &str) -> String {
        format!("{}-{which}", self.name)
    }

    /// A file name unique to this lab.
    pub fn path(&self, file: &str) -> String {
        let path = std::env::temp_dir().join(format!("{}-{file}", self.name));
        path.to_str().unwrap().to_string()
    }

    /// Runs `ip`.
    pub fn ip(&self, arguments: &str) {
        run("ip", &arguments.split(' ').collect::<Vec<_>>());
    }

    /// A veth pair: its near end in the client's namespace with `address`, its far end in the
    /// server's without one. Checksum offload is disabled at the near end.
    pub fn veth(&self, address: &str) -> (String, String) {
        let number = self.veths.replace(self.veths.get() + 1);
        let (near, far) = (format!("near{number}"), format!("far{number}"));
        let (client, server) = (self.space("client"), self.space("server"));
        self.ip(&format!(
            "link add {near} netns {client} type veth peer name {far} netns {server}"
        ));
        self.ip(&format!("-n {client} addr add {address}/24 dev {near}"));
        self.ip(&format!("-n {client} link set {near} up"));
        self.ip(&format!("-n {server} link set {far} up"));
        let off = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];
        let command = ["netns", "exec", &client, "ethtool", "-K", &near];
        run("ip", &[&command[..], &off[..]].concat());
        (near, far)
    }

    /// A child that is not started yet.
    pub fn role(&self, role: &str) -> Role<'_> {
        Role { lab: self, variables: vec![(ROLE, role.to_string())], inside: "", prefix: &[] }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in ["server", "client"] {
            let space = self.space(space);
            let _ = Command::new("ip").args(["netns", "del", &space]).status();
        }
        let _ = fs::remove_file(self.path("memif.sock"));
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
}

/// A child that is not started yet.
pub struct Role<'a> {
    lab: &'a Lab,
    variables: Vec<(&'static str, String)>,
    inside: &'a str,
    prefix: &'static [&'static str],
}

impl<'a> Role<'a> {
    pub fn device(mut self, device: &str, huge: &str, workers: usize) -> Role<'a> {
        self.variables.push((DEVICE, device.to_string()));
        self.variables.push((HUGE, huge.to_string()));
        self.variables.push((WORKERS, workers.to_string()));
        self
    }

    /// The namespace to run in.
    pub fn inside(mut self, space: &'a str) -> Role<'a> {
        self.inside = space;
        self
    }

    /// As an unprivileged user.
    pub fn without_rights(mut self) -> Role<'a> {
        self.prefix = &["setpriv", "--reuid=65534", "--bounding-set=-all", "--inh-caps=-all"];
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.lab.space(self.inside)]).args(self.prefix);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "role", "--nocapture", "--test-threads=1"]);
        command.envs(self.variables.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs it to its end, which must be successful.
    pub fn run(self) {
        self.start().stop();
    }

    /// Starts it.
    pub fn start(self) -> Child {
        let mut command = self.command();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (send, lines) = channel();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&seen);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                all.lock().unwrap().push(line.clone());
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Child { process, lines, seen }
    }
}

/// A running child.
pub struct Child {
    process: process::Child,
    lines: Receiver<String>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Child {
    /// The next line that starts with `start`.
    pub fn expect(&mut self, start: &str) -> String {
        loop {
            match self.lines.recv_timeout(STEP_MAX) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(_) => {}
                Err(_) => panic!("no {start:?}, but {:#?}", self.seen.lock().unwrap()),
            }
        }
    }

    /// Waits until the child listens on a Unix socket at `path`.
    pub fn expect_listener(&mut self, path: &str) {
        let table = format!("/proc/{}/net/unix", self.process.id());
        // unix(7): the fourth column is flags, and 0x10000 means that the socket listens.
        let listens = |line: &str| line.ends_with(path) && line.contains(" 00010000 ");
        while !fs::read_to_string(&table).unwrap_or_default().lines().any(listens) {
            let status = self.process.try_wait().unwrap();
            assert!(status.is_none(), "it ended: {:#?}", self.seen.lock().unwrap());
            thread::yield_now();
        }
    }

    /// All lines that the child has written and will write.
    pub fn seen(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.seen)
    }

    pub fn tell(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Closes the child's input, which tells it to end, and returns its last lines.
    pub fn stop(&mut self) -> Vec<String> {
        drop(self.process.stdin.take());
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(STEP_MAX) {
                Ok(line) => lines.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(_) => panic!("it does not end: {:#?}", self.seen.lock().unwrap()),
            }
        }
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status}: {:#?}", self.seen.lock().unwrap());
        lines
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reserved hugepages of 2 MiB, released when dropped. Others may reserve theirs meanwhile.
pub struct Hugepages {
    added: usize,
}

const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

impl Hugepages {
    pub fn reserve(bytes: usize) -> Hugepages {
        let reserved = Hugepages { added: bytes.div_ceil(2 * 1024 * 1024) };
        let wanted = pages() + reserved.added;
        fs::write(PAGES, wanted.to_string()).unwrap();
        assert!(pages() >= wanted, "the host has no memory for these tests' hugepages");
        reserved
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        let _ = fs::write(PAGES, pages().saturating_sub(self.added).to_string());
    }
}

fn pages() -> usize {
    fs::read_to_string(PAGES).unwrap().trim().parse().unwrap()
}
