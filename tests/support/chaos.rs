//! A memcached on a Unix socket with injected faults; or `sunder l1d`, which serves memcached's
//! clients in the same way.
//!
//! Killed and restarted on the same socket, frozen and thawed, chunk keys deleted without the
//! user's knowledge: on call, or in a random order from a seed. Ends only processes that it
//! started.

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use super::{PATIENCE, SUNDER, free_port, free_socket_path, runtime_directory};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A fault of a memcached.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Accident {
    /// SIGKILL, and a new one on the same socket after this many milliseconds.
    Kill { down_ms: u64 },
    /// SIGSTOP, and SIGCONT after this many milliseconds.
    Freeze { frozen_ms: u64 },
    /// SIGSTOP, and SIGKILL after this many milliseconds: requests in between are never executed.
    KillFrozen { frozen_ms: u64 },
    /// This many random items, chunks or metadata of keys, are deleted, as by eviction.
    LoseChunks { keys: u64 },
}

/// The number of injected faults, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accidents {
    pub kills: u64,
    pub freezes: u64,
    /// Chunk keys deleted that existed, and all attempts.
    pub chunks_deleted: u64,
    pub chunks_tried: u64,
}

impl Accidents {
    /// Total number of faults.
    pub fn all(&self) -> u64 {
        self.kills + self.freezes + self.chunks_tried
    }
}

/// See the module. Killed and reaped when dropped.
pub struct Memcached {
    child: Child,
    path: PathBuf,
    /// Of an l1d, and its flags beside those that all have.
    name: Option<String>,
    flags: Vec<String>,
    megabytes: u32,
    pub happened: Accidents,
    random: u64,
}

impl Memcached {
    /// Starts one on a free socket path and waits until it accepts.
    pub fn start(megabytes: u32, seed: u64) -> Result<Memcached, String> {
        Memcached::start_as(None, &[], megabytes, seed)
    }

    /// Starts an l1d with a name of its own and waits until it accepts.
    pub fn start_l1d(megabytes: u32, seed: u64) -> Result<Memcached, String> {
        Memcached::start_l1d_with(megabytes, seed, &[])
    }

    /// The same, with these flags.
    pub fn start_l1d_with(megabytes: u32, seed: u64, flags: &[&str]) -> Result<Memcached, String> {
        let name = format!("test-{}-{}", std::process::id(), free_port());
        Memcached::start_as(Some(name), flags, megabytes, seed)
    }

    fn start_as(
        name: Option<String>,
        flags: &[&str],
        megabytes: u32,
        seed: u64,
    ) -> Result<Memcached, String> {
        let path = free_socket_path();
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let child = spawn(&path, name.as_deref(), &flags, megabytes)?;
        let happened = Accidents::default();
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut memcached = Memcached { child, path, name, flags, megabytes, happened, random };
        memcached.wait_until_up()?;
        Ok(memcached)
    }

    /// The name of an l1d.
    pub fn name(&self) -> &str {
        self.name.as_deref().expect("an l1d")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its address in the syntax of `--l1 memcached,addr=` and the history checker.
    pub fn address(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    fn wait_until_up(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while UnixStream::connect(&self.path).is_err() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("memcached ended with {status}"));
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("memcached does not accept on {}", self.path.display()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Kills it with SIGKILL. Its socket's file stays, and refuses connections.
    pub fn kill(&mut self) -> Result<(), String> {
        self.child.kill().map_err(|error| format!("kill: {error}"))?;
        self.child.wait().map_err(|error| format!("wait: {error}"))?;
        self.happened.kills += 1;
        Ok(())
    }

    /// Stops it with SIGTERM and waits until it has ended.
    pub fn terminate(&mut self) -> Result<(), String> {
        self.signal("-TERM")?;
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            result => Err(format!("stopped: {result:?}")),
        }
    }

    /// Starts a new one on the same socket and waits until it accepts. It is empty unless it keeps
    /// items.
    pub fn restart(&mut self) -> Result<(), String> {
        // memcached does not replace the socket of another; an l1d does.
        if self.name.is_none() {
            let _ = std::fs::remove_file(&self.path);
        }
        self.child = spawn(&self.path, self.name.as_deref(), &self.flags, self.megabytes)?;
        self.wait_until_up()
    }

    /// Other flags for the next start of an l1d.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    }

    /// Stops it: it reads and answers nothing, and the kernel queues everything.
    pub fn freeze(&mut self) -> Result<(), String> {
        self.happened.freezes += 1;
        self.signal("-STOP")?;
        let start = Instant::now();
        while !self.is_frozen() {
            if start.elapsed() > PATIENCE {
                return Err("it does not stop".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether none of its threads runs any more: the signal is not obeyed at once.
    fn is_frozen(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let is_stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = task.and_then(|task| std::fs::read_to_string(task.path().join("stat")));
            stat.is_ok_and(|stat| {
                stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
            })
        };
        tasks.is_ok_and(|mut tasks| tasks.all(is_stopped))
    }

    /// Continues it, with everything that was sent to it meanwhile.
    pub fn thaw(&mut self) -> Result<(), String> {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> Result<(), String> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            result => Err(format!("kill {signal}: {result:?}")),
        }
    }

    /// Deletes keys over a separate connection; returns how many existed.
    pub fn delete(&mut self, keys: &[String]) -> Result<u64, String> {
        let run = || -> std::io::Result<u64> {
            let stream = UnixStream::connect(&self.path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut stream = BufReader::new(stream);
            let request: String = keys.iter().map(|key| format!("delete {key}\r\n")).collect();
            stream.get_mut().write_all(request.as_bytes())?;
            let mut deleted = 0;
            for _ in keys {
                let mut line = String::new();
                stream.read_line(&mut line)?;
                deleted += u64::from(line == "DELETED\r\n");
            }
            Ok(deleted)
        };
        let deleted = run().map_err(|error| format!("delete: {error}"))?;
        self.happened.chunks_deleted += deleted;
        self.happened.chunks_tried += keys.len() as u64;
        Ok(deleted)
    }

    /// Injects one fault, from its start to its end.
    pub fn inject(&mut self, accident: Accident, keys: &[String]) -> Result<(), String> {
        match accident {
            Accident::Kill { down_ms } => {
                self.kill()?;
                std::thread::sleep(Duration::from_millis(down_ms));
                self.restart()
            }
            Accident::Freeze { frozen_ms } => {
                self.freeze()?;
                std::thread::sleep(Duration::from_millis(frozen_ms));
                self.thaw()
            }
            Accident::KillFrozen { frozen_ms } => {
                self.freeze()?;
                std::thread::sleep(Duration::from_millis(frozen_ms));
                self.kill()?;
                self.restart()
            }
            Accident::LoseChunks { keys: count } => {
                let chunks: Vec<String> = (0..count)
                    .map(|_| {
                        let key = &keys[self.below(keys.len() as u64) as usize];
                        // The first chunks exist most often; the metadata is one of all, and so is
                        // the item itself if it has no chunks.
                        match self.below(7) {
                            6 => key.clone(),
                            0 => format!("{key}-meta"),
                            chunk => format!("{key}-{}", (chunk - 1) * self.below(4)),
                        }
                    })
                    .collect();
                self.delete(&chunks).map(|_| ())
            }
        }
    }

    /// Injects faults, one after another, until `is_over`. `pause`: the longest time between two.
    /// `keys`: the clients' keys.
    pub fn inject_until(
        &mut self,
        is_over: &AtomicBool,
        accidents: &[Accident],
        pause: Duration,
        keys: &[String],
    ) -> Result<(), String> {
        while !is_over.load(Relaxed) {
            let accident = accidents[self.below(accidents.len() as u64) as usize];
            self.inject(accident, keys)?;
            let pause_ms = self.below(pause.as_millis() as u64 + 1);
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
        Ok(())
    }

    /// xorshift64: below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16) % end
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        // SIGKILL also ends a frozen process. All of these fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
        if let Some(name) = &self.name {
            let _ = std::fs::remove_file(runtime_directory().join(format!("{name}.rings")));
            // It stays while another test has a socket there.
            let _ = std::fs::remove_dir(runtime_directory());
        }
    }
}

fn spawn(
    path: &Path,
    name: Option<&str>,
    flags: &[String],
    megabytes: u32,
) -> Result<Child, String> {
    let mut command = match name {
        None => {
            let mut command = Command::new("memcached");
            command.args(["-u", "root", "-t", "1", "-m", &megabytes.to_string(), "-s"]).arg(path);
            command
        }
        Some(name) => {
            let mut command = Command::new(SUNDER);
            command.env("RUNTIME_DIRECTORY", runtime_directory());
            command.args(["l1d", "--name", name, "--size", &format!("{megabytes}M")]);
            command.arg("--sock-path").arg(path).args(flags);
            command
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| format!("start {name:?}: {error}"))
}
