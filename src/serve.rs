//! Puts a server together as its [`Config`] says, runs it, and takes it apart.
//!
//! Whatever can be wrong with the host is found before the first client is: ports are bound, the
//! device is open and memory is there when the line `sunder: ready` is printed.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread;

use rustix::thread::CpuSet;

use crate::clock::Clock;
use crate::config::{Config, L1, Poll};
use crate::connection::Connection;
use crate::mailbox::Mailbox;
use crate::net::Transport;
use crate::net::kernel::{self, Kernel};
use crate::orchestrator::l1_only::L1Only;
use crate::protocol::Limits;
use crate::tier::memory::{self, Memory};
use crate::worker::{self, Idle, Settings, Shared};

/// Why a server could not start, or had to stop. Shown as one line.
#[derive(Debug)]
pub enum ServeError {
    /// A kernel socket.
    Bind(kernel::BindError),
    /// The device.
    #[cfg(feature = "dpdk")]
    Device(crate::net::nic::NicError),
    /// A device was asked for, and this build has none.
    NoDevices,
    /// The stack.
    #[cfg(feature = "dpdk")]
    Stack(crate::net::tcp::ConfigError),
    /// Memory for L1.
    L1 {
        /// How much, for all workers together.
        bytes: u64,
        /// The kernel's reason.
        source: io::Error,
    },
    /// L1 divided among the workers is outside of what one can have.
    L1Part {
        /// Bytes for each worker.
        bytes: u64,
    },
    /// A core that the host does not have, or that we may not use.
    Core(usize),
    /// The limit on open files does not allow so many connections.
    Files {
        /// Connections asked for.
        connections: usize,
        /// The limit on open files.
        limit: u64,
    },
    /// A thread or a signal handler could not be had.
    Host(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Bind(error) => write!(f, "{error}"),
            #[cfg(feature = "dpdk")]
            ServeError::Device(error) => write!(f, "{error}"),
            #[cfg(feature = "dpdk")]
            ServeError::Stack(error) => write!(f, "--address, --max-connections: {error}"),
            ServeError::NoDevices => f.write_str(
                "--device: this build has no DPDK; build it with libdpdk-dev installed and \
                 without --no-default-features",
            ),
            ServeError::L1 { bytes, source } => {
                write!(f, "--l1: cannot map {bytes} bytes: {source}; choose a smaller size")
            }
            ServeError::L1Part { bytes } => write!(
                f,
                "--l1: each worker would have {bytes} bytes, and one can have {} to {}; choose \
                 another size or number of workers",
                memory::BYTES_MIN,
                memory::BYTES_MAX
            ),
            ServeError::Core(core) => {
                write!(f, "--cores: core {core} is not one that this process may run on")
            }
            ServeError::Files { connections, limit } => write!(
                f,
                "--max-connections: {connections} connections need more open files than the \
                 limit of {limit}; raise it (ulimit -n) or choose fewer"
            ),
            ServeError::Host(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// Serves until SIGINT, SIGTERM or an obeyed `shutdown`.
///
/// # Errors
/// Why it could not start.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    let allowed = allowed_cores().map_err(ServeError::Host)?;
    if let Some(&core) = config.cores.iter().find(|core| !allowed.contains(core)) {
        return Err(ServeError::Core(core));
    }
    let workers = match (config.cores.len(), config.workers) {
        (0, Some(workers)) => workers,
        (0, None) => allowed.len().min(crate::limits::WORKERS_MAX),
        (cores, _) => cores,
    };
    let L1::Memory { bytes } = config.l1;
    let part = bytes / workers as u64;
    if !(memory::BYTES_MIN as u64..=memory::BYTES_MAX as u64).contains(&part) {
        return Err(ServeError::L1Part { bytes: part });
    }
    warn_of_small_l1(config, workers);
    let shared = Arc::new(shared(config, workers));
    // As memcached: a terminal that goes away does not empty the cache.
    let ignored = Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGHUP, ignored).map_err(ServeError::Host)?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&shared.stop)).map_err(ServeError::Host)?;
    }
    let pins = pins(config, workers, &allowed);
    match &config.device {
        None => serve_kernel(config, &shared, &pins),
        #[cfg(feature = "dpdk")]
        Some(device) => device::serve(config, device, &shared, &pins),
        #[cfg(not(feature = "dpdk"))]
        Some(_) => Err(ServeError::NoDevices),
    }
}

fn shared(config: &Config, workers: usize) -> Shared {
    let limits = Limits {
        item_bytes_max: config.item_bytes_max,
        shutdown: config.is_shutdown_enabled,
        flush: config.is_flush_enabled,
    };
    let L1::Memory { bytes } = config.l1;
    let settings = Settings {
        l1_bytes: bytes,
        connections_max: config.connections_max as u64,
        port: config.port,
        bind: listen_address(config),
        socket_path: config
            .socket_path
            .as_ref()
            .map_or(String::new(), |path| path.display().to_string()),
        idle_timeout_s: config.idle_timeout_s,
    };
    Shared::new(Clock::start(), limits, settings, workers)
}

/// Where clients reach the server, as `stats` tells it.
fn listen_address(config: &Config) -> String {
    match &config.device {
        None => config.bind.to_string(),
        Some(_) => {
            let own: Vec<_> =
                config.addresses.iter().map(|cidr| cidr.address.to_string()).collect();
            own.join(",")
        }
    }
}

/// Says so if the largest item cannot be kept: each worker has its own part of L1.
fn warn_of_small_l1(config: &Config, workers: usize) {
    let L1::Memory { bytes } = config.l1;
    let part = bytes / workers as u64;
    if 2 * config.item_bytes_max as u64 > part {
        eprintln!(
            "sunder: --l1: each of {workers} workers keeps {part} bytes, too little for items of \
             --max-item-size ({} bytes); choose a larger size or fewer workers",
            config.item_bytes_max
        );
    }
}

/// One worker's part of L1. Called on its own thread, so that its memory is near its core.
fn tier(config: &Config, shared: &Shared, worker: usize) -> Result<Memory, ServeError> {
    let L1::Memory { bytes } = config.l1;
    let workers = shared.stats.len();
    Memory::new(memory::Config {
        bytes: bytes as usize / workers,
        item_bytes_max: config.item_bytes_max,
        worker,
        workers,
        stats: Arc::clone(&shared.stats[worker]),
    })
    .map_err(|source| ServeError::L1 { bytes, source })
}

/// The cores that this process may run on.
fn allowed_cores() -> io::Result<Vec<usize>> {
    let set = rustix::thread::sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// The core of each worker; None = wherever the kernel likes. Workers that poll are pinned, for a
/// core that two of them share serves neither.
fn pins(config: &Config, workers: usize, allowed: &[usize]) -> Vec<Option<usize>> {
    if !config.cores.is_empty() {
        return config.cores.iter().copied().map(Some).collect();
    }
    let is_pinned = config.poll() == Poll::Busy && workers <= allowed.len();
    (0..workers).map(|worker| is_pinned.then(|| allowed[worker])).collect()
}

/// Runs the calling thread on one core from here on.
fn pin(core: Option<usize>) {
    let Some(core) = core else { return };
    let mut set = CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).expect("a core that was found allowed");
}

fn idle(config: &Config, turns: u32) -> Idle {
    match config.poll() {
        Poll::Busy => Idle::Poll,
        Poll::Adaptive => Idle::SleepAfter(turns),
    }
}

/// Descriptors that are not connections: listeners, epoll, standard streams, the device's.
const FILES_RESERVED: u64 = 64;

/// Allows as many open files as there may be connections.
fn raise_file_limit(connections: usize) -> Result<(), ServeError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let wanted = connections as u64 + FILES_RESERVED;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
        .map_err(|_| ServeError::Files { connections, limit: limit.maximum.unwrap_or(u64::MAX) })
}

fn serve_kernel(
    config: &Config,
    shared: &Arc<Shared>,
    pins: &[Option<usize>],
) -> Result<(), ServeError> {
    raise_file_limit(config.connections_max)?;
    let (address, flag) = match &config.socket_path {
        Some(path) => {
            let mode = SOCKET_MODE;
            (kernel::Address::Unix { path: path.clone(), mode }, "--sock-path")
        }
        None => (kernel::Address::Tcp(SocketAddr::new(config.bind, config.port)), "--port"),
    };
    let place = address.to_string();
    let bind = kernel::Config {
        listeners: vec![kernel::Listener { address, flag }],
        connections_max: config.connections_max,
    };
    let sockets = kernel::bind(&bind, pins.len()).map_err(ServeError::Bind)?;
    let mailboxes = Mailbox::mesh(pins.len());
    for (mailbox, sockets) in mailboxes.iter().zip(&sockets) {
        let waker = sockets.waker();
        mailbox.doorbell().connect(Box::new(move || waker.wake()));
    }
    let crew = Crew { config, shared, pins, place: &place, idle: idle(config, 0), parks: false };
    crew.run(mailboxes, sockets, |sockets, worker| {
        Ok(Kernel::new(sockets, Arc::clone(&shared.stats[worker])))
    })
}

/// Permissions of the Unix socket, as memcached's `-a` has them by default.
const SOCKET_MODE: u32 = 0o700;

/// The workers of one server, from start to end.
struct Crew<'c> {
    config: &'c Config,
    shared: &'c Arc<Shared>,
    pins: &'c [Option<usize>],
    /// Where clients reach the server.
    place: &'c str,
    idle: Idle,
    /// Workers sleep as threads do, not in their transport.
    parks: bool,
}

impl Crew<'_> {
    /// Runs a worker on a thread of its own for each of `parts`, which `open` makes a transport of;
    /// says that the server is ready when all are, and waits until all have ended.
    fn run<P: Send, T: Transport<Connection>>(
        &self,
        mailboxes: Vec<Mailbox>,
        parts: Vec<P>,
        open: impl Fn(P, usize) -> Result<T, ServeError> + Sync,
    ) -> Result<(), ServeError> {
        let open = &open;
        thread::scope(|scope| {
            let (reports, started) = mpsc::channel();
            for (mailbox, part) in mailboxes.into_iter().zip(parts) {
                let reports = reports.clone();
                let name = format!("worker-{}", mailbox.worker());
                let run = move || self.work(mailbox, part, open, &reports);
                if let Err(error) = thread::Builder::new().name(name).spawn_scoped(scope, run) {
                    self.shared.stop.store(true, Ordering::Relaxed);
                    return Err(ServeError::Host(error));
                }
            }
            drop(reports);
            let result = started.iter().take(self.pins.len()).collect::<Result<(), _>>();
            match result {
                Ok(()) => self.announce(),
                Err(_) => self.shared.stop.store(true, Ordering::Relaxed),
            }
            result
        })
    }

    fn work<P, T: Transport<Connection>>(
        &self,
        mailbox: Mailbox,
        part: P,
        open: impl Fn(P, usize) -> Result<T, ServeError>,
        reports: &mpsc::Sender<Result<(), ServeError>>,
    ) {
        let worker = mailbox.worker();
        pin(self.pins[worker]);
        if self.parks {
            let this = thread::current();
            mailbox.doorbell().connect(Box::new(move || this.unpark()));
        }
        let parts = tier(self.config, self.shared, worker)
            .and_then(|tier| Ok((L1Only::new(tier), open(part, worker)?)));
        let (parts, report) = match parts {
            Ok(parts) => (Some(parts), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Nobody listens any more if another worker has failed before.
        let _ = reports.send(report);
        if let Some((orchestrator, mut transport)) = parts {
            worker::run(self.shared, mailbox, &mut transport, &orchestrator, self.idle);
        }
    }

    fn announce(&self) {
        let workers = self.pins.len();
        let plural = if workers == 1 { "" } else { "s" };
        eprintln!("sunder: ready on {}, {workers} worker{plural}", self.place);
    }
}

/// Serving on a DPDK device.
#[cfg(feature = "dpdk")]
mod device {
    use super::*;
    use crate::config::Huge;
    use crate::net::Admission;
    use crate::net::nic;
    use crate::net::tcp::fault::FaultyPort;
    use crate::net::tcp::{self, Stack};
    use crate::secret;

    /// Empty turns before a worker that may sleep does: about as long as a sleep takes.
    const IDLE_TURNS: u32 = 64;

    pub fn serve(
        config: &Config,
        device: &str,
        shared: &Arc<Shared>,
        pins: &[Option<usize>],
    ) -> Result<(), ServeError> {
        let huge = match config.huge {
            Huge::Auto => nic::Huge::Auto,
            Huge::Off => nic::Huge::Off,
        };
        let request = nic::Config { device: device.to_owned(), workers: pins.len(), huge };
        let mut nic = nic::open(&request, &shared.stats).map_err(ServeError::Device)?;
        if !nic.is_link_up() {
            eprintln!("sunder: the link of {device} is down; serving when it comes up");
        }
        let ports = (0..pins.len()).map(|worker| nic.take_port(worker)).collect();
        let stack = stack(config);
        let address = SocketAddr::new(config.addresses[0].address, config.port);
        let place = format!("{address}, {device}");
        let idle = idle(config, IDLE_TURNS);
        let crew = Crew { config, shared, pins, place: &place, idle, parks: true };
        let mailboxes = Mailbox::mesh(pins.len());
        let open = |worker: usize| (Arc::clone(&shared.stats[worker]), shared.clock.read());
        match config.faults {
            None => crew.run(mailboxes, ports, |port, worker| {
                let (stats, now) = open(worker);
                Stack::new(port, &stack, stats, now).map_err(ServeError::Stack)
            }),
            Some(faults) => crew.run(mailboxes, ports, |port, worker| {
                let (stats, now) = open(worker);
                let port = FaultyPort::new(port, faults);
                Stack::new(port, &stack, stats, now).map_err(ServeError::Stack)
            }),
        }
    }

    fn stack(config: &Config) -> tcp::Config {
        tcp::Config {
            addresses: config
                .addresses
                .iter()
                .map(|cidr| tcp::Cidr { address: cidr.address, prefix_bits: cidr.prefix_bits })
                .collect(),
            gateways: config.gateways.clone(),
            ports: vec![config.port],
            connections_max: config.connections_max,
            admission: Arc::new(Admission::new(config.connections_max)),
            // The connections see to it, over either transport.
            idle_timeout_us: 0,
            secret: secret::random(),
        }
    }
}
