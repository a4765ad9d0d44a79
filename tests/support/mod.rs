//! Processes that a test starts, watches and ends. Shared by the test binaries; each uses a part.
//!
//! A process is ended by the handle that started it, never by name. Nothing here asserts, except
//! `client`.

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub mod chaos;
pub mod client;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The binary under test.
pub const SUNDER: &str = env!("CARGO_BIN_EXE_sunder");

/// Time-out for a process to start serving, or to end. Reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A port that is free now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A path for a Unix socket that does not exist yet.
pub fn free_socket_path() -> PathBuf {
    let name = format!("sunder-test-{}-{}.sock", std::process::id(), free_port());
    std::env::temp_dir().join(name)
}

/// Where an l1d of this process has its socket for attachments, and sunder looks for it.
pub fn runtime_directory() -> PathBuf {
    std::env::temp_dir().join(format!("sunder-run-{}", std::process::id()))
}

/// A server that a test started; killed and reaped when dropped.
pub struct Server {
    child: Child,
    what: String,
    stderr: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Server {
    /// Starts `sunder serve ARGS` and waits for its line `sunder: ready`.
    pub fn sunder(args: &[&str]) -> Result<Server, String> {
        let mut command = Command::new(SUNDER);
        command.arg("serve").args(args).env("RUNTIME_DIRECTORY", runtime_directory());
        let mut server = Server::start(command)?;
        server.wait_for_line("sunder: ready")?;
        Ok(server)
    }

    /// Starts memcached with one thread on a loopback port and waits until it accepts.
    pub fn memcached() -> Result<(Server, SocketAddr), String> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-U", "0", "-l", "127.0.0.1", "-m", "64", "-t", "1"]);
        command.args(["-p", &address.port().to_string()]);
        let mut server = Server::start(command)?;
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            server.check_alive()?;
            if start.elapsed() > PATIENCE {
                return Err(format!("{} does not accept on {address}", server.what));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok((server, address))
    }

    /// Starts memcached with one thread on a Unix socket and waits until it accepts.
    pub fn memcached_at(path: &Path, megabytes: usize) -> Result<Server, String> {
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-t", "1", "-m", &megabytes.to_string(), "-s"]).arg(path);
        let mut server = Server::start(command)?;
        let start = Instant::now();
        while UnixStream::connect(path).is_err() {
            server.check_alive()?;
            if start.elapsed() > PATIENCE {
                return Err(format!("{} does not accept on {}", server.what, path.display()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(server)
    }

    /// Starts `command`; its stderr is kept.
    pub fn start(mut command: Command) -> Result<Server, String> {
        let what = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("start {what}: {error}"))?;
        let stderr = Arc::new(Mutex::new(String::new()));
        let pipe = child.stderr.take().expect("stderr is piped");
        let sink = Arc::clone(&stderr);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut sink = sink.lock().expect("only this thread and readers");
                sink.push_str(&line);
                sink.push('\n');
            }
        });
        Ok(Server { child, what, stderr, reader })
    }

    /// Waits until stderr has a line with this start.
    pub fn wait_for_line(&mut self, start_of_line: &str) -> Result<(), String> {
        self.wait_for(&|said| said.lines().any(|line| line.starts_with(start_of_line)))
            .map_err(|error| format!("{error}: no line '{start_of_line}'"))
    }

    /// Waits until stderr is as it should be.
    pub fn wait_for(&mut self, is_so: &dyn Fn(&str) -> bool) -> Result<(), String> {
        let start = Instant::now();
        while !is_so(&self.stderr()) {
            self.check_alive()?;
            if start.elapsed() > PATIENCE {
                return Err(format!("{} said only: {}", self.what, self.stderr().trim_end()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a process");
        kill_process(pid, signal).expect("it is ours");
    }

    fn check_alive(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(format!("{} ended with {status}: {}", self.what, self.stderr().trim_end()))
            }
            Err(error) => Err(format!("{}: {error}", self.what)),
        }
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        self.check_alive().is_ok()
    }

    /// Its stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("the reader does not panic").clone()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(path).expect("the process lives").count()
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("the process lives");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("digits");
        kib * 1024
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits for the end; the exit status, or -1 for a death by signal.
    pub fn terminate(&mut self) -> Result<i32, String> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        sent.map_err(|error| format!("kill: {error}"))?;
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    // Its last lines may still be on their way.
                    while !self.reader.is_finished() && start.elapsed() < PATIENCE {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    return Ok(status.code().unwrap_or(-1));
                }
                Ok(None) if start.elapsed() > PATIENCE => {
                    return Err(format!("{} ignores SIGTERM", self.what));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The result of a command.
pub struct Ended {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `sunder ARGS` to its end; kills it and returns an error if it does not end.
pub fn run_sunder(args: &[&str]) -> Result<Ended, String> {
    let mut command = Command::new(SUNDER);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            break status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("sunder {} did not end", args.join(" ")));
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut stdout = String::new();
    let mut stderr = String::new();
    let read = |pipe: &mut dyn Read, to: &mut String| pipe.read_to_string(to).map(|_| ());
    read(&mut child.stdout.take().expect("piped"), &mut stdout).map_err(|e| e.to_string())?;
    read(&mut child.stderr.take().expect("piped"), &mut stderr).map_err(|e| e.to_string())?;
    Ok(Ended { status: status.code().unwrap_or(-1), stdout, stderr })
}

/// The project's root.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
