//! Puts a server together as its [`Config`] says, runs it, and takes it apart.
//!
//! Whatever can be wrong with the host is found before the first client is: ports are bound, the
//! device is open and memory is there when the line `sunder: ready` is printed.

mod attach;
mod crew;
#[cfg(feature = "dpdk")]
mod device;
mod error;
mod handle;
mod host;
mod inspect;
mod kept;
mod kernel;
mod notify;
mod part;
mod patience;
mod reload;
mod ssd;
mod successor;
mod takeover;
pub(crate) mod trial;
mod user;
#[cfg(feature = "dpdk")]
mod watch;

pub use crate::report::LogError;
pub use error::{Fault, ServeError};
pub use handle::Handle;
pub use inspect::check_log;
pub use part::{Level, Part};

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rapidhash::v3::RapidSecrets;
use rustix::thread::CpuSet;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use crate::admin::{self, View};
use crate::base::clock::Clock;
use crate::base::credentials::{Credentials, CredentialsError};
use crate::base::rights::LiveRights;
use crate::base::stats::DeviceStats;
use crate::config::{Batch, Bind, Config, L1, L2, Link, Poll, device_name};
use crate::net::kernel::Inherited;
use crate::net::{Admission, EndAddress};
use crate::orchestrator::l1_l2::L1L2;
use crate::orchestrator::l1_only::L1Only;
use crate::orchestrator::{Orchestrator, PortRole};
use crate::protocol::Limits;
use crate::remedies;
use crate::report::{self, Event, Reporter};
use crate::tier::remote::Remote;
use crate::tier::rend::Rend;
use crate::tier::rend::probe::{ProbeError, Server as RendServer};
use crate::worker::{Cause, Idle, Logins, Settings, Shared};
use crew::Plan;
use kept::Files;
pub(crate) use kernel::listens_at;
use notify::Notifier;
use patience::Patience;
use reload::Reload;
use ssd::Source;
use user::User;

/// Serves with the tiers that `config` names, until SIGINT, SIGTERM or an obeyed `shutdown`. The
/// signals of the process are the server's from here on.
///
/// # Errors
/// Why it could not start.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    report::set_level(config.log_level);
    let _reporter = reporter(config)?;
    for note in &config.notes {
        report::tell(Event::NoEffect.line(note));
    }
    let mut server = Server::new(config)?;
    if let L1::Memory { bytes, .. } = config.l1 {
        part::memory_share(bytes, server.workers())?;
    }
    server.tiers = format!("--l1 {} --l2 {}", config.l1, config.l2);
    let server = server.until_signals()?;
    let _told = Notifier::start(server.handle()).map_err(ServeError::Host)?;
    let l1 = |part: &Part<'_>| match &config.l1 {
        L1::Memcached(l1) => part.memcached(Level::L1, l1),
        L1::Shm(link) => part.shm(link).map(Remote::Rend),
        L1::Ssd(_) => part.ssd().map(|tier| Remote::Ssd(Box::new(tier))),
        L1::Memory { .. } => unreachable!("it is made where its type is known"),
    };
    let l2 = |part: &Part<'_>| match &config.l2 {
        L2::Memcached(l2) => part.memcached(Level::L2, l2),
        L2::Rend(_) => part.rend().map(Remote::Rend),
        L2::Ssd(_) => part.ssd().map(|tier| Remote::Ssd(Box::new(tier))),
        L2::None => unreachable!("there is an L2"),
    };
    match (&config.l1, &config.l2) {
        (&L1::Memory { bytes, .. }, L2::None) => {
            server.run(|part| Ok(L1Only::new(part.kept_memory(bytes, None)?)))
        }
        (_, L2::None) => server.run(|part| Ok(L1Only::new(l1(part)?))),
        (&L1::Memory { bytes, .. }, _) => server.run(|part| {
            let l2 = l2(part)?;
            let log = match &l2 {
                Remote::Ssd(ssd) => Some(ssd.name_and_starts()),
                _ => None,
            };
            let l1 = part.kept_memory(bytes, log)?;
            Ok(L1L2::new(l1, l2, Arc::clone(part.stats())))
        }),
        _ => server.run(|part| Ok(L1L2::new(l1(part)?, l2(part)?, Arc::clone(part.stats())))),
    }
}

/// Serves with an orchestrator of the caller's: [`Server::run`] without signals.
///
/// # Errors
/// As [`Server::run`].
pub fn serve_with<O: Orchestrator>(
    config: &Config,
    compose: impl Fn(&Part<'_>) -> Result<O, ServeError> + Sync,
) -> Result<(), ServeError> {
    Server::new(config)?.run(compose)
}

/// A server that is about to be run.
#[derive(Debug)]
pub struct Server<'c> {
    config: &'c Config,
    shared: Shared,
    pins: Vec<Option<usize>>,
    /// Its tiers, for the line that says what runs.
    tiers: String,
    /// Another process may take over from this one.
    is_offered: bool,
    /// Who serves, if not who starts it.
    user: Option<User>,
}

impl<'c> Server<'c> {
    /// A server of which nothing is opened yet.
    ///
    /// # Errors
    /// The config names a core that this process may not run on, a file of users that cannot be
    /// used, or a user that this process cannot become.
    pub fn new(config: &'c Config) -> Result<Server<'c>, ServeError> {
        let pins = pins(config, &allowed_cores()?)?;
        let workers = pins.len();
        let tiers = "tiers of its program's own".to_owned();
        let user = config.user.as_deref().map(User::find).transpose()?.flatten();
        let mut shared = shared(config, workers);
        if let Some(path) = &config.auth_file {
            let (users, at_once) = (users(path)?, config.login_attempts);
            let logins = Logins::new(users, at_once, shared.clock, workers, remedies::OF_LOGINS);
            logins.start_verifier().map_err(ServeError::Host)?;
            shared.logins = Some(Arc::new(logins));
        }
        Ok(Server { config, shared, pins, tiers, is_offered: false, user })
    }

    /// How many workers it will have.
    pub fn workers(&self) -> usize {
        self.pins.len()
    }

    /// Has SIGINT and SIGTERM end the server, SIGHUP have it read its files again, SIGUSR2 start
    /// the process that takes over, and SIGUSR1 do nothing. That is for the whole process, and for
    /// as long as it lives: only a program that leaves them to the server asks for it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn until_signals(mut self) -> Result<Server<'c>, ServeError> {
        use signal_hook::flag::{register, register_usize};
        // A terminal that goes away does not empty the cache, nor a tool that means another daemon.
        for signal in [SIGHUP, SIGUSR1, SIGUSR2] {
            register(signal, Arc::default()).map_err(ServeError::Host)?;
        }
        Reload::new(self.config, &self.shared).on_hangup().map_err(ServeError::Host)?;
        successor::on_signal(self.config, Arc::clone(&self.shared.hurry))
            .map_err(ServeError::Host)?;
        for signal in [SIGINT, SIGTERM] {
            // The cause is there before a worker sees that there is one.
            let cause = Arc::clone(&self.shared.stop_cause);
            register_usize(signal, cause, signal as usize).map_err(ServeError::Host)?;
            register(signal, Arc::clone(&self.shared.stop)).map_err(ServeError::Host)?;
        }
        self.is_offered = true;
        Ok(self)
    }

    /// What other threads may know of it and tell it, before it runs and while it does.
    pub fn handle(&self) -> Handle {
        Handle::new(&self.shared)
    }

    /// Serves until a stop is requested. `compose` makes each worker's orchestrator, on the
    /// worker's own thread, of tiers that its [`Part`] gives. Of the tiers that the config names
    /// only an SSD and a Rend-based server are opened, for [`Part::ssd`] and [`Part::rend`].
    ///
    /// # Errors
    /// Why it could not start, and those of `compose`.
    pub fn run<O: Orchestrator>(
        self,
        compose: impl Fn(&Part<'_>) -> Result<O, ServeError> + Sync,
    ) -> Result<(), ServeError> {
        let _reporter = reporter(self.config)?;
        let cause = Arc::clone(&self.shared.stop_cause);
        match self.run_to_the_end(&compose) {
            Err(ServeError::Stopped) => {
                if let Some(cause) = Cause::read(&cause) {
                    let text = format_args!("stopping: {cause}, before it served");
                    report::tell(Event::Stopping.line(text));
                }
                Ok(())
            }
            result => result,
        }
    }

    fn run_to_the_end<O: Orchestrator>(
        self,
        compose: &(impl Fn(&Part<'_>) -> Result<O, ServeError> + Sync),
    ) -> Result<(), ServeError> {
        let Server { config, mut shared, pins, tiers, is_offered, user } = self;
        report::set_level(config.log_level);
        report::set_verbosity(config.verbosity);
        shared.limits.meta = O::HAS_META;
        if !config.has_devices() {
            shared.admission.limit(kernel::files_for(config.connections_max)?);
        }
        // What the other process had open may be busy for a moment.
        let wait_s = if config.is_takeover { config.wait_s.max(TAKEOVER_S) } else { config.wait_s };
        let patience = Patience::new(wait_s, Arc::clone(&shared.stop));
        let rend = patience.until(|| probe(&config.l2))?;
        let mut inherited = match config.is_takeover {
            true => take_over(config, pins.len(), &shared.stop)?,
            false => Inherited::default(),
        };
        let source = patience.until(|| Source::open(config, pins.len()))?;
        if let Some(source) = &source {
            // Which worker owns a key outlives the process.
            shared.key_secrets = RapidSecrets::seed(source.key_seed());
        }
        let key_seed = source.as_ref().map(Source::key_seed);
        let files = patience.until(|| Files::open(config, pins.len(), key_seed))?;
        if let Some(files) = &files {
            shared.key_secrets = RapidSecrets::seed(files.key_seed());
        }
        let admin = patience.until(|| bind_admin(config, &mut inherited))?;
        let spare = admin.as_ref().map(TcpListener::try_clone).transpose();
        let opened = part::Opened {
            patience,
            rend,
            source,
            files,
            inherited: Mutex::new(inherited),
            admin: spare.map_err(ServeError::Host)?,
        };
        shared.sample_rate.store(config.sample_rate, Ordering::Relaxed);
        shared.idle_timeout_s.store(config.idle_timeout_s, Ordering::Relaxed);
        let shared = &Arc::new(shared);
        let view = View::new(Arc::clone(shared), config.l1.to_string(), config.l2.to_string());
        let _admin = admin::start(view, admin, free_cores(&pins)).map_err(ServeError::Host)?;
        let (pins, tiers, opened, user) = (&pins, &tiers, &opened, user.as_ref());
        let plan = Plan { config, shared, pins, tiers, opened, compose, is_offered, user };
        if !config.has_devices() {
            return kernel::serve(&plan);
        }
        #[cfg(feature = "dpdk")]
        return device::serve(&plan);
        #[cfg(not(feature = "dpdk"))]
        return Err(ServeError::NoDevices);
    }
}

/// Writes lines as a config says, for as long as this is kept.
///
/// # Errors
/// They cannot be written there.
pub(crate) fn reporter(config: &Config) -> Result<Reporter, ServeError> {
    Reporter::start(config.log_format, &config.log_to).map_err(ServeError::Log)
}

/// Seconds that a start waits at least for what the process that it replaces had open.
const TAKEOVER_S: u64 = 5;

/// Takes the listening sockets of the server that runs with the same first address, and waits for
/// its end. Nothing if there is none. It is told to end only if this process would start then, as
/// far as that can be known.
///
/// # Errors
/// It does not give them, or this process would not start; or a stop was requested meanwhile.
fn take_over(
    config: &Config,
    workers: usize,
    stop: &Arc<AtomicBool>,
) -> Result<Inherited, ServeError> {
    let ordinary = || {
        let text = "--takeover: no sunder serves there; this is an ordinary start";
        report::tell(Event::Takeover.line(text));
        Ok(Inherited::default())
    };
    let Some(old) = takeover::ask(config)? else { return ordinary() };
    let (pid, inherited) = (old.pid(), old.into_inherited());
    let patience = Patience::new(config.wait_s, Arc::clone(stop));
    patience.until(|| trial::beside(config, workers, &inherited)).inspect_err(|_| {
        let text = format_args!("--takeover: process {pid} goes on: see below");
        report::tell(Event::Takeover.line(text));
    })?;
    // Once more: it does not wait as long as a trial may last.
    match takeover::ask(config)? {
        Some(old) => old.end(stop),
        None => ordinary(),
    }
}

/// Opens the admin port, or takes that of the process that this one replaces.
fn bind_admin(
    config: &Config,
    inherited: &mut Inherited,
) -> Result<Option<TcpListener>, ServeError> {
    let mut bind = |address| match inherited.take_tcp(address).pop() {
        Some(socket) => Ok(socket.into()),
        None => admin::bind(address).map_err(|source| ServeError::Admin { address, source }),
    };
    config.admin.map(&mut bind).transpose()
}

/// The cores on which no worker is pinned; none if none is.
fn free_cores(pins: &[Option<usize>]) -> Vec<usize> {
    if pins.iter().all(Option::is_none) {
        return Vec::new();
    }
    let allowed = allowed_cores().unwrap_or_default();
    allowed.into_iter().filter(|core| !pins.contains(&Some(*core))).collect()
}

/// Asks a Rend-based L2 what it can do, once for all workers.
fn probe(l2: &L2) -> Result<Option<RendServer>, ServeError> {
    let L2::Rend(link) = l2 else { return Ok(None) };
    let server = ask(link)?;
    if let Some(lack) = Rend::lacks(server) {
        report::tell(Event::Limited.line(format_args!("--l2: {lack}")).tier("L2"));
    }
    Ok(Some(server))
}

/// What the Rend-based server at the end of a link can do.
fn ask(link: &Link) -> Result<RendServer, ServeError> {
    Rend::probe(&link.address, Clock::start().read()).map_err(|error| {
        let reason = format!("Rend-based server at {}: {error}", link.address);
        let fault = match error {
            ProbeError::Lost(_) => Fault::Passing,
            // Another kind of server than the flag says.
            ProbeError::NotBinary | ProbeError::NoGete => Fault::Words,
            _ => Fault::Host,
        };
        ServeError::Tier { flag: "--l2", reason, fault }
    })
}

/// Who may log in.
fn users(path: &Path) -> Result<Credentials, ServeError> {
    Credentials::read(path).map_err(|error| {
        let fault = match error {
            CredentialsError::Unreadable(_) => Fault::Host,
            _ => Fault::Words,
        };
        ServeError::AuthFile { reason: format!("{}: {error}", path.display()), fault }
    })
}

fn shared(config: &Config, workers: usize) -> Shared {
    let limits = Limits {
        item_bytes_max: config.item_bytes_max,
        shutdown: config.is_shutdown_enabled,
        flush: config.is_flush_enabled,
        dump: config.is_dump_enabled,
        watch: config.is_watch_enabled,
        // What the tiers say, once they are known.
        ..Limits::DEFAULT
    };
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let own = own_addresses(config);
    let settings = Settings {
        port: config.port,
        bind: own.join(","),
        listeners: listeners(config),
        socket_path: config.socket_path.as_ref().map_or(String::new(), path),
    };
    let mut shared = Shared::new(Clock::start(), limits, settings, workers);
    shared.drain_us = config.drain_s * 1_000_000;
    let ports = [PortRole::Main, PortRole::Batch];
    shared.rights = ports.map(|port| Arc::new(LiveRights::new(config.rights(port))));
    let admission = Admission::new(config.connections_max, remedies::OF_CONNECTIONS);
    shared.admission = Arc::new(admission);
    shared.bindings = ports.map(|port| config.binding(port));
    let device = |given: &String| DeviceStats::new(given, device_name(given));
    shared.devices = config.devices.iter().map(device).collect();
    shared
}

/// The addresses that ports are open on, as `stats settings` reports them.
fn own_addresses(config: &Config) -> Vec<String> {
    if config.has_devices() {
        return config.addresses.iter().map(|own| own.cidr.address.to_string()).collect();
    }
    config.binds.iter().map(ToString::to_string).collect()
}

/// Where clients of a port find it.
fn addresses_of(config: &Config, role: PortRole, port: u16) -> Vec<SocketAddr> {
    if config.has_devices() {
        let own = config.addresses.iter();
        return own.map(|own| SocketAddr::new(own.cidr.address, port)).collect();
    }
    let of_role = |bind: &Bind| match role {
        PortRole::Main => bind.address(port),
        PortRole::Batch => SocketAddr::new(bind.ip, port),
    };
    let mut all: Vec<SocketAddr> = Vec::with_capacity(config.binds.len());
    for address in config.binds.iter().map(of_role) {
        // The batch port is open once at an address that has several main ports.
        if !all.contains(&address) {
            all.push(address);
        }
    }
    all
}

/// Where clients reach the server, as `stats conns` reports it.
fn listeners(config: &Config) -> Vec<String> {
    let at = |role: PortRole, port: u16| {
        let all = addresses_of(config, role, port).into_iter();
        all.map(|address| EndAddress::Tcp(address).to_string())
    };
    let unix = |path: &Path| EndAddress::Unix(Some(path.to_owned())).to_string();
    let mut all: Vec<String> = match &config.socket_path {
        Some(path) => vec![unix(path)],
        None => at(PortRole::Main, config.port).collect(),
    };
    match config.batch() {
        Some(Batch::Port(port)) => all.extend(at(PortRole::Batch, port)),
        Some(Batch::Socket(path)) => all.push(unix(path)),
        None => {}
    }
    all
}

/// Where clients attach, for the line that says that the server is ready.
fn attach_place(config: &Config) -> String {
    let place = config.attach.as_ref();
    place.map_or(String::new(), |place| format!(", rings {}", place.rings.display()))
}

/// Where batch jobs come in, for the line that says that the server is ready.
fn batch_place(config: &Config) -> String {
    match config.batch() {
        Some(Batch::Port(port)) => format!(", batch port {port}"),
        Some(Batch::Socket(path)) => format!(", batch socket {}", path.display()),
        None => String::new(),
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
        (0, None) => allowed.len().min(crate::base::limits::WORKERS_MAX),
        (cores, _) => cores,
    }
}

/// The core of each worker; None = wherever the kernel likes. Workers that poll are pinned, for a
/// core that two of them share serves neither. `allowed`: the cores that this process may run on.
///
/// # Errors
/// The config names a core that is not one of them.
fn pins(config: &Config, allowed: &[usize]) -> Result<Vec<Option<usize>>, ServeError> {
    if let Some(&core) = config.cores.iter().find(|core| !allowed.contains(core)) {
        return Err(ServeError::Core(core));
    }
    if !config.cores.is_empty() {
        return Ok(config.cores.iter().copied().map(Some).collect());
    }
    let workers = workers(config, allowed);
    let is_pinned = config.poll() == Poll::Busy && workers <= allowed.len();
    Ok((0..workers).map(|worker| is_pinned.then(|| allowed[worker])).collect())
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
