//! memcached processes, scripted servers, and an executor that polls what was woken.

use std::cell::Cell;
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use sunder::buffer::{Chain, Key};
use sunder::clock::{Clock, Expiry, Now};
use sunder::stats::{Counter, WorkerStats};
use sunder::tier::memcached::link::{Address, Config, OpenError};
use sunder::tier::memcached::plain::Plain;
use sunder::tier::{Outcome, Store, StoreMode, Tier};

/// How long anything may take before a test gives up. Reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A folder of the test's own, removed with what is in it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sunder-link-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder for temporary files");
        Folder(path)
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("socket")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A memcached on a Unix socket, ended when dropped.
pub struct Memcached {
    child: Child,
    path: PathBuf,
    arguments: Vec<String>,
}

impl Memcached {
    pub fn start(path: &Path, arguments: &[&str]) -> Memcached {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let child = Memcached::spawn(path, &arguments);
        Memcached { child, path: path.to_owned(), arguments }
    }

    fn spawn(path: &Path, arguments: &Vec<String>) -> Child {
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-m", "64", "-t", "1", "-s"]).arg(path).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("memcached is installed");
        let start = Instant::now();
        while UnixStream::connect(path).is_err() {
            assert!(start.elapsed() < PATIENCE, "memcached listens");
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }

    pub fn start_again(&mut self) {
        self.child = Memcached::spawn(&self.path, &self.arguments);
    }

    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().expect("kill");
        assert!(status.success());
    }

    /// What it answers to `request` on a connection of its own; `until` ends the answer.
    pub fn ask(&self, request: &str, until: &str) -> String {
        let mut stream = UnixStream::connect(&self.path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !answer.ends_with(until.as_bytes()) {
            let n = stream.read(&mut buffer).expect("it answers");
            assert!(n > 0, "it answers");
            answer.extend_from_slice(&buffer[..n]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Flag>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A future with the waker that it was given, polled only when that was called.
pub struct Task<'f, T> {
    future: Pin<Box<dyn Future<Output = T> + 'f>>,
    flag: Arc<Flag>,
    pub output: Option<T>,
}

impl<'f, T> Task<'f, T> {
    pub fn new(future: impl Future<Output = T> + 'f) -> Task<'f, T> {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let mut task = Task { future: Box::pin(future), flag, output: None };
        task.poll();
        task
    }

    pub fn poll(&mut self) {
        if self.output.is_none() && self.flag.0.swap(false, Ordering::SeqCst) {
            let waker = Waker::from(Arc::clone(&self.flag));
            let polled = self.future.as_mut().poll(&mut Context::from_waker(&waker));
            if let Poll::Ready(output) = polled {
                self.output = Some(output);
            }
        }
    }
}

/// A tier with a clock.
pub struct Fixture {
    pub tier: Plain,
    pub stats: Arc<WorkerStats>,
    clock: Clock,
    /// Added to the clock, for tests about time.
    pub ahead_us: Cell<u64>,
}

impl Fixture {
    pub fn open(path: &Path) -> Fixture {
        Fixture::try_open(path).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_open(path: &Path) -> Result<Fixture, OpenError> {
        Fixture::open_with(path, 2_000_000)
    }

    pub fn open_with(path: &Path, timeout_us: u64) -> Result<Fixture, OpenError> {
        let clock = Clock::start();
        let stats = Arc::new(WorkerStats::default());
        let address = Address::Unix(path.to_owned());
        let config = Config { timeout_us, ..Config::new(address, Arc::clone(&stats)) };
        let tier = Plain::open(config, clock.read())?;
        Ok(Fixture { tier, stats, clock, ahead_us: Cell::new(0) })
    }

    pub fn now(&self) -> Now {
        let now = self.clock.read();
        let ahead_us = self.ahead_us.get();
        Now {
            uptime_us: now.uptime_us + ahead_us,
            unix_s: now.unix_s + (ahead_us / 1_000_000) as u32,
        }
    }

    /// One turn of a worker that has these tasks.
    pub fn turn<T>(&self, tasks: &mut [Task<'_, T>]) {
        let now = self.now();
        self.tier.turn(now);
        tasks.iter_mut().for_each(Task::poll);
        self.tier.flush(now);
    }

    pub fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.run_all([future]).pop().expect("one")
    }

    /// All at once, as one batch of a turn.
    pub fn run_all<T>(&self, futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
        let mut tasks: Vec<_> = futures.into_iter().map(Task::new).collect();
        self.finish(&mut tasks);
        tasks.into_iter().map(|task| task.output.expect("finished")).collect()
    }

    pub fn finish<T>(&self, tasks: &mut [Task<'_, T>]) {
        let start = Instant::now();
        self.tier.flush(self.now());
        while tasks.iter().any(|task| task.output.is_none()) {
            assert!(start.elapsed() < PATIENCE, "an operation ends: {:?}", self.tier);
            self.turn(tasks);
        }
    }

    /// Turns until the link serves.
    pub fn wait_until_up(&self) {
        let start = Instant::now();
        while !self.tier.link().is_up() {
            assert!(start.elapsed() < PATIENCE, "the link comes back: {:?}", self.tier);
            self.turn::<()>(&mut []);
        }
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    // Short forms of operations.

    pub fn set(&self, name: &[u8], value: &[u8]) -> Outcome<Chain> {
        self.store(StoreMode::Set, name, value, 0, 0, Expiry::NEVER)
    }

    pub fn store(
        &self,
        mode: StoreMode,
        name: &[u8],
        value: &[u8],
        flags: u32,
        cas: u64,
        expiry: Expiry,
    ) -> Outcome<Chain> {
        let store = Store { mode, flags, expiry, cas };
        let value = Chain::from_slice(value);
        self.run(self.tier.store(&key(name), store, &value, self.now()))
    }

    pub fn get(&self, name: &[u8]) -> Outcome<Chain> {
        self.run(self.tier.get_with_expiry(&key(name), self.now()))
    }
}

pub fn key(name: &[u8]) -> Key {
    Key::new(name).expect("short enough")
}

/// An outcome in words: the cas left out, times as seconds from now.
pub fn words(outcome: &Outcome<Chain>, now: Now) -> String {
    match outcome {
        Outcome::Hit(hit) => {
            let value = hit.value.to_vec();
            let left_s = match hit.expiry {
                Expiry::NEVER => -1,
                expiry => i64::from(expiry.unix_s()) - i64::from(now.unix_s),
            };
            format!("hit {} {left_s} {}", hit.flags, value.escape_ascii())
        }
        Outcome::Number { value, .. } => format!("number {value}"),
        Outcome::Stored { .. } => "stored".into(),
        Outcome::Touched { .. } => "touched".into(),
        other => format!("{other:?}"),
    }
}

/// A server that does what `serve` does with each connection, in its own thread.
pub struct Script {
    pub folder: Folder,
}

impl Script {
    pub fn start(mut serve: impl FnMut(usize, UnixStream) + Send + 'static) -> Script {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.socket()).expect("a socket in a new folder");
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                serve(number, stream);
            }
        });
        Script { folder }
    }
}

/// Reads from a link's connection until it has said `text`.
pub fn hear(stream: &mut UnixStream, text: &str) -> String {
    let mut heard = Vec::new();
    let mut byte = [0];
    while !heard.ends_with(text.as_bytes()) {
        match stream.read(&mut byte) {
            Ok(1) => heard.push(byte[0]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&heard)),
        }
    }
    String::from_utf8_lossy(&heard).into_owned()
}

/// Greets as memcached does.
pub fn greet(stream: &mut UnixStream) {
    hear(stream, "version\r\nmn\r\n");
    stream.write_all(b"VERSION 1.6.18\r\nMN\r\n").expect("the link reads");
}
