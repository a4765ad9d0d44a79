//! memcached processes, scripted servers, and the tier with a clock.

use std::cell::Cell;
use std::fs::DirEntry;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use sunder::base::buffer::{Chain, Key};
use sunder::base::clock::{Clock, Expiry, Now};
use sunder::base::stats::{Counter, WorkerStats};
use sunder::tier::link::{Address, LinkConfig, OpenError};
use sunder::tier::memcached::plain::Plain;
use sunder::tier::{Outcome, Store, StoreMode, Tier};

use crate::common::task::Task;

/// Time-out of all steps. Reached only when something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The time-out of links in tests about time, in microseconds.
pub const HELD_TIMEOUT_US: u64 = 60_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The test's own folder, removed with its contents.
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

/// The address of a test's memcached.
enum Endpoint {
    Path(PathBuf),
    Port(u16),
}

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

impl Endpoint {
    fn connect(&self) -> io::Result<Box<dyn Both>> {
        Ok(match self {
            Endpoint::Path(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
            Endpoint::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Box::new(stream)
            }
        })
    }
}

/// A memcached, ended when dropped.
pub struct Memcached {
    child: Child,
    endpoint: Endpoint,
    arguments: Vec<String>,
}

impl Memcached {
    /// On a Unix socket.
    pub fn start(path: &Path, arguments: &[&str]) -> Memcached {
        Memcached::start_at(Endpoint::Path(path.to_owned()), arguments)
    }

    /// On a port of the loopback.
    pub fn start_on_port() -> Memcached {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        drop(listener);
        Memcached::start_at(Endpoint::Port(port), &[])
    }

    fn start_at(endpoint: Endpoint, arguments: &[&str]) -> Memcached {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let child = Memcached::spawn(&endpoint, &arguments);
        Memcached { child, endpoint, arguments }
    }

    /// The address as a link parses it.
    pub fn address(&self) -> String {
        match &self.endpoint {
            Endpoint::Path(path) => format!("unix:{}", path.display()),
            Endpoint::Port(port) => format!("127.0.0.1:{port}"),
        }
    }

    fn spawn(endpoint: &Endpoint, arguments: &Vec<String>) -> Child {
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-U", "0", "-m", "64", "-t", "1"]).args(arguments);
        match endpoint {
            Endpoint::Path(path) => {
                // The socket of a killed one would be taken for the new one's.
                let _ = std::fs::remove_file(path);
                command.arg("-s").arg(path);
            }
            Endpoint::Port(port) => {
                command.args(["-l", "127.0.0.1", "-p", &port.to_string()]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("memcached is installed");
        let start = Instant::now();
        while endpoint.connect().is_err() {
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
        self.child = Memcached::spawn(&self.endpoint, &self.arguments);
    }

    /// Stops it; it does nothing more when this returns.
    pub fn freeze(&self) {
        self.signal("-STOP");
        let threads = format!("/proc/{}/task", self.child.id());
        let is_stopped = |thread: io::Result<DirEntry>| {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            io::Result::Ok(stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
        };
        let start = Instant::now();
        while !std::fs::read_dir(&threads)
            .expect("it runs")
            .all(|thread| is_stopped(thread).unwrap_or(true))
        {
            assert!(start.elapsed() < PATIENCE, "it stops");
            std::thread::yield_now();
        }
    }

    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().expect("kill");
        assert!(status.success());
    }

    /// Sends `request` on a new connection and returns the answer up to `until`.
    pub fn request(&self, request: &str, until: &str) -> String {
        let mut stream = self.endpoint.connect().expect("it listens");
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

/// A tier with a clock.
pub struct Fixture {
    pub tier: Plain,
    pub stats: Arc<WorkerStats>,
    clock: Clock,
    /// Added to the clock, for tests of time-outs.
    pub ahead_us: Cell<u64>,
    held: Cell<Option<Now>>,
}

impl Fixture {
    pub fn open(path: &Path) -> Fixture {
        Fixture::try_open(path).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_open(path: &Path) -> Result<Fixture, OpenError> {
        Fixture::open_with(Address::Unix(path.to_owned()), 2_000_000)
    }

    /// With a time-out of [`HELD_TIMEOUT_US`], and a stopped clock.
    pub fn open_held(path: &Path) -> Fixture {
        let fixture = Fixture::open_with(Address::Unix(path.to_owned()), HELD_TIMEOUT_US);
        let fixture = fixture.unwrap_or_else(|error| panic!("{error}"));
        fixture.hold_clock();
        fixture.tier.turn(fixture.now());
        fixture
    }

    pub fn open_with(address: Address, timeout_us: u64) -> Result<Fixture, OpenError> {
        Fixture::open_as(|config| LinkConfig { timeout_us, ..config }, address)
    }

    /// With what `change` makes of the default settings.
    pub fn open_as(
        change: impl FnOnce(LinkConfig) -> LinkConfig,
        address: Address,
    ) -> Result<Fixture, OpenError> {
        let clock = Clock::start();
        let stats = Arc::new(WorkerStats::default());
        let config = change(LinkConfig::new(address, Arc::clone(&stats)));
        let tier = Plain::open(config, clock.read())?;
        // As a worker does before the first request of a turn; opening may have taken long.
        tier.turn(clock.read());
        Ok(Fixture { tier, stats, clock, ahead_us: Cell::new(0), held: Cell::new(None) })
    }

    pub fn now(&self) -> Now {
        let now = self.held.get().unwrap_or_else(|| self.clock.read());
        let ahead_us = self.ahead_us.get();
        Now {
            uptime_us: now.uptime_us + ahead_us,
            unix_s: now.unix_s + (ahead_us / 1_000_000) as u32,
        }
    }

    /// From now on time passes only with `ahead_us`.
    pub fn hold_clock(&self) {
        self.held.set(Some(self.clock.read()));
    }

    /// Lets this much time pass, one turn per millisecond.
    pub fn pass_ms<T>(&self, milliseconds: u64, tasks: &mut [Task<'_, T>]) {
        for _ in 0..milliseconds {
            self.ahead_us.set(self.ahead_us.get() + 1000);
            self.turn(tasks);
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

    /// All concurrently, as one batch of a turn.
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
            assert!(start.elapsed() < PATIENCE, "the link recovers: {:?}", self.tier);
            self.turn::<()>(&mut []);
        }
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.stats.get(counter)
    }

    // Operations that are begun without waiting.

    pub fn begin_get(&self, name: &[u8]) -> Task<'_, Outcome<Chain>> {
        let (now, key) = (self.now(), key(name));
        Task::new(async move { self.tier.get(&key, now).await })
    }

    pub fn begin_set(&self, name: &[u8], value: &[u8]) -> Task<'_, Outcome<Chain>> {
        let (now, key, value) = (self.now(), key(name), Chain::from_slice(value));
        let store = Store { mode: StoreMode::Set, flags: 0, expiry: Expiry::NEVER, cas: 0 };
        Task::new(async move { self.tier.store(&key, store, &value, now).await })
    }

    /// The outcome shows only that it has finished.
    pub fn begin_invalidate(&self, name: &[u8]) -> Task<'_, Outcome<Chain>> {
        let (now, key) = (self.now(), key(name));
        Task::new(async move {
            self.tier.invalidate(&key, now).await;
            Outcome::Deleted
        })
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

/// An outcome in words: without the cas, times as seconds from now.
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

/// A server driven by the test byte by byte. Connections that were greeted are returned.
pub struct Scripted {
    pub folder: Folder,
    greeted: Receiver<UnixStream>,
}

impl Scripted {
    /// Greets each connection as memcached does.
    pub fn start() -> Scripted {
        Scripted::start_with(|mut stream| greet(&mut stream).then_some(stream))
    }

    /// Greets only the first; the test must greet the others.
    pub fn start_greeting_once() -> Scripted {
        let mut is_first = true;
        Scripted::start_with(move |mut stream| {
            let greeted = !std::mem::take(&mut is_first) || greet(&mut stream);
            greeted.then_some(stream)
        })
    }

    /// Calls `greet` with each connection; those that it returns are passed to the test.
    pub fn start_with(
        mut greet: impl FnMut(UnixStream) -> Option<UnixStream> + Send + 'static,
    ) -> Scripted {
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.socket()).expect("a socket in a new folder");
        let (give, greeted) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                if let Some(stream) = greet(stream)
                    && give.send(stream).is_err()
                {
                    return;
                }
            }
        });
        Scripted { folder, greeted }
    }

    /// The next greeted connection, if there is one.
    pub fn try_accept(&self) -> Option<UnixStream> {
        self.greeted.try_recv().ok()
    }

    /// The next greeted connection; time passes until there is one.
    pub fn accept(&self, fixture: &Fixture) -> UnixStream {
        let start = Instant::now();
        loop {
            fixture.pass_ms::<()>(1, &mut []);
            if let Ok(stream) = self.greeted.try_recv() {
                return stream;
            }
            assert!(start.elapsed() < PATIENCE, "the link connects: {:?}", fixture.tier);
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Reads from a link up to and including `text`. None: it closed before.
pub fn receive(stream: &mut UnixStream, text: &str) -> Option<String> {
    let mut received = Vec::new();
    let mut byte = [0];
    while !received.ends_with(text.as_bytes()) {
        match stream.read(&mut byte) {
            Ok(1) => received.push(byte[0]),
            Ok(_) => return None,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&received)),
        }
    }
    Some(String::from_utf8_lossy(&received).into_owned())
}

/// Greets like memcached. False: the link closed before.
pub fn greet(stream: &mut UnixStream) -> bool {
    receive(stream, "version\r\nmn\r\n").is_some()
        && stream.write_all(b"VERSION 1.6.18\r\nMN\r\n").is_ok()
}

/// Closes a connection at once: while another test starts a process, that has a copy of every
/// descriptor, and dropping ours alone would close it only later.
pub fn close(stream: UnixStream) {
    // It may be closed by the other side already.
    let _ = stream.shutdown(std::net::Shutdown::Both);
}
