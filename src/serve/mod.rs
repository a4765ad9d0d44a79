//! Puts a server together as its [`Config`] says, runs it, and takes it apart.
//!
//! Whatever can be wrong with the host is found before the first client is: ports are bound, the
//! device is open and memory is there when the line `sunder: ready` is printed.

mod crew;
#[cfg(feature = "dpdk")]
mod device;
mod error;
mod part;
mod ssd;

pub use error::ServeError;
pub use part::Part;

use std::net::SocketAddr;
use std::sync::Arc;

use rapidhash::v3::RapidSecrets;
use rustix::thread::CpuSet;

use crate::clock::Clock;
use crate::config::{Config, L1, L2, Poll};
use crate::console::complain;
use crate::mailbox::Mailbox;
use crate::net::kernel::{self, Kernel};
use crate::orchestrator::Orchestrator;
use crate::orchestrator::both::L1L2;
use crate::orchestrator::l1_only::L1Only;
use crate::protocol::Limits;
use crate::report::Reporter;
use crate::tier::memory;
use crate::tier::remote::Remote;
use crate::tier::rend::Rend;
use crate::tier::rend::probe::Server;
use crate::worker::{Idle, Settings, Shared};
use crew::Crew;
use ssd::Source;

/// Serves with the tiers that `config` names, until SIGINT, SIGTERM or an obeyed `shutdown`.
///
/// # Errors
/// Why it could not start.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    let _reporter = Reporter::start().map_err(ServeError::Host)?;
    for note in &config.notes {
        complain(format_args!("sunder: {note}"));
    }
    let l2_server = probe(&config.l2)?;
    let source = Source::open(config, workers(config, &allowed_cores()?))?;
    let source = source.as_ref();
    let seed = source.map(Source::key_seed);
    let ssd = |part: &Part<'_>| match source {
        Some(source) => source.tier(part).map(|tier| Remote::Ssd(Box::new(tier))),
        None => unreachable!("it is opened where there is one"),
    };
    let l2 = |part: &Part<'_>| match config.l2 {
        L2::Ssd(_) => ssd(part),
        _ => part.l2(l2_server),
    };
    let l1 = |part: &Part<'_>| match &config.l1 {
        L1::Memcached(l1) => part.memcached("--l1", l1),
        _ => ssd(part),
    };
    match (&config.l1, &config.l2) {
        (&L1::Memory { bytes }, L2::None) => {
            serve_seeded(config, seed, |part| Ok(L1Only::new(part.memory(bytes)?)))
        }
        (_, L2::None) => serve_seeded(config, seed, |part| Ok(L1Only::new(l1(part)?))),
        (&L1::Memory { bytes }, _) => serve_seeded(config, seed, |part| {
            Ok(L1L2::new(part.memory(bytes)?, l2(part)?, Arc::clone(part.stats())))
        }),
        _ => serve_seeded(config, seed, |part| {
            Ok(L1L2::new(l1(part)?, l2(part)?, Arc::clone(part.stats())))
        }),
    }
}

/// Asks a Rend-based L2 what it can do, once for all workers.
fn probe(l2: &L2) -> Result<Option<Server>, ServeError> {
    let L2::Rend(link) = l2 else { return Ok(None) };
    let server =
        Rend::probe(&link.address, Clock::start().read()).map_err(|error| ServeError::Tier {
            flag: "--l2",
            reason: format!("Rend-based server at {}: {error}", link.address),
        })?;
    if let Some(lack) = Rend::lacks(server) {
        complain(format_args!("sunder: --l2: {lack}"));
    }
    Ok(Some(server))
}

/// Serves with an orchestrator of the caller's: `compose` makes each worker's, on the worker's own
/// thread. The tiers that `config` names are not looked at.
///
/// # Errors
/// As [`serve`], and those of `compose`.
pub fn serve_with<O: Orchestrator>(
    config: &Config,
    compose: impl Fn(&Part<'_>) -> Result<O, ServeError> + Sync,
) -> Result<(), ServeError> {
    serve_seeded(config, None, compose)
}

/// As [`serve_with`]; `key_seed` says which worker owns a key, where that outlives the process.
fn serve_seeded<O: Orchestrator>(
    config: &Config,
    key_seed: Option<u64>,
    compose: impl Fn(&Part<'_>) -> Result<O, ServeError> + Sync,
) -> Result<(), ServeError> {
    let allowed = allowed_cores()?;
    if let Some(&core) = config.cores.iter().find(|core| !allowed.contains(core)) {
        return Err(ServeError::Core(core));
    }
    let workers = workers(config, &allowed);
    check_l1(config, workers)?;
    let mut shared = shared(config, workers);
    if let Some(seed) = key_seed {
        shared.key_secrets = RapidSecrets::seed(seed);
    }
    let shared = Arc::new(shared);
    // As memcached: a terminal that goes away does not empty the cache.
    let ignored = Arc::default();
    signal_hook::flag::register(signal_hook::consts::SIGHUP, ignored).map_err(ServeError::Host)?;
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&shared.stop)).map_err(ServeError::Host)?;
    }
    let pins = pins(config, workers, &allowed);
    match &config.device {
        None => serve_kernel(config, &shared, &pins, &compose),
        #[cfg(feature = "dpdk")]
        Some(device) => device::serve(config, device, &shared, &pins, &compose),
        #[cfg(not(feature = "dpdk"))]
        Some(_) => Err(ServeError::NoDevices),
    }
}

/// Finds before anything is opened what is wrong with an L1 in memory: each worker has its own part
/// of it. Says so if the largest item cannot be kept in that.
fn check_l1(config: &Config, workers: usize) -> Result<(), ServeError> {
    let L1::Memory { bytes } = config.l1 else { return Ok(()) };
    let part = bytes / workers as u64;
    if !(memory::BYTES_MIN as u64..=memory::BYTES_MAX as u64).contains(&part) {
        return Err(ServeError::L1Part { bytes: part });
    }
    if 2 * config.item_bytes_max as u64 > part {
        complain(format_args!(
            "sunder: --l1: each of {workers} workers keeps {part} bytes, too little for items of \
             --max-item-size ({} bytes); choose a larger size or fewer workers",
            config.item_bytes_max
        ));
    }
    Ok(())
}

fn shared(config: &Config, workers: usize) -> Shared {
    let limits = Limits {
        item_bytes_max: config.item_bytes_max,
        shutdown: config.is_shutdown_enabled,
        flush: config.is_flush_enabled,
    };
    let settings = Settings {
        l1_bytes: match config.l1 {
            L1::Memory { bytes } => bytes,
            L1::Memcached(_) | L1::Ssd(_) => 0,
        },
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

/// The cores that this process may run on.
fn allowed_cores() -> Result<Vec<usize>, ServeError> {
    let set =
        rustix::thread::sched_getaffinity(None).map_err(|errno| ServeError::Host(errno.into()))?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// How many workers there are to be.
fn workers(config: &Config, allowed: &[usize]) -> usize {
    match (config.cores.len(), config.workers) {
        (0, Some(workers)) => workers,
        (0, None) => allowed.len().min(crate::limits::WORKERS_MAX),
        (cores, _) => cores,
    }
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

fn serve_kernel<O: Orchestrator>(
    config: &Config,
    shared: &Arc<Shared>,
    pins: &[Option<usize>],
    compose: &(impl Fn(&Part<'_>) -> Result<O, ServeError> + Sync),
) -> Result<(), ServeError> {
    raise_file_limit(config.connections_max)?;
    let tcp = |port| kernel::Address::Tcp(SocketAddr::new(config.bind, port));
    let (address, flag) = match &config.socket_path {
        Some(path) => {
            let mode = SOCKET_MODE;
            (kernel::Address::Unix { path: path.clone(), mode }, "--sock-path")
        }
        None => (tcp(config.port), "--port"),
    };
    let place = place(&address.to_string(), config);
    let mut listeners = vec![kernel::Listener { address, flag }];
    if config.has_batch_port() {
        listeners.push(kernel::Listener { address: tcp(config.batch_port), flag: "--bp" });
    }
    let bind = kernel::Config { listeners, connections_max: config.connections_max };
    let sockets = kernel::bind(&bind, pins.len()).map_err(ServeError::Bind)?;
    let mailboxes = Mailbox::mesh(pins.len());
    for (mailbox, sockets) in mailboxes.iter().zip(&sockets) {
        let waker = sockets.waker();
        mailbox.doorbell().connect(Box::new(move || waker.wake()));
    }
    let idle = idle(config, 0);
    let unfinished = Default::default();
    let crew =
        Crew { config, shared, pins, place: &place, idle, parks: false, compose, unfinished };
    crew.run(mailboxes, sockets, |sockets, worker| {
        Ok(Kernel::new(sockets, Arc::clone(&shared.stats[worker])))
    })
}

/// Where clients reach the server, for the line that says that it is ready.
fn place(main: &str, config: &Config) -> String {
    if config.has_batch_port() {
        format!("{main}, batch port {}", config.batch_port)
    } else {
        main.to_owned()
    }
}

/// Permissions of the Unix socket, as memcached's `-a` has them by default.
const SOCKET_MODE: u32 = 0o700;
