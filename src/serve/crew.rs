//! The workers of one server, from start to end: each on a thread of its own, where its transport
//! and its tiers are made, so that their memory is near its core. It must never say that a server
//! is ready before all of them are.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;

use super::part::Opened;
use super::user::User;
use super::{Part, ServeError, pin};
use crate::base::console::version;
use crate::config::{Config, Poll, show_size};
use crate::connection::Connection;
use crate::mailbox::Mailbox;
use crate::net::Transport;
use crate::orchestrator::Orchestrator;
use crate::report::{self, Event, Line};
use crate::worker::{self, Idle, Shared};

/// What a server is to be, whatever carries its connections.
pub(super) struct Plan<'p, C> {
    pub config: &'p Config,
    pub shared: &'p Arc<Shared>,
    pub pins: &'p [Option<usize>],
    /// Its tiers, in words.
    pub tiers: &'p str,
    /// What was opened for all workers.
    pub opened: &'p Opened<'p>,
    /// Who serves, if not who starts it.
    pub user: Option<&'p User>,
    /// Makes a worker's orchestrator with its tiers.
    pub compose: &'p C,
    /// Another process may take over from this one.
    pub is_offered: bool,
}

/// The workers of one server, from start to end.
pub(super) struct Crew<'c, C> {
    pub plan: &'c Plan<'c, C>,
    /// Where clients reach the server.
    pub place: &'c str,
    pub idle: Idle,
    /// Workers sleep as threads do, not in their transport.
    pub parks: bool,
    /// Workers whose tiers could not be closed.
    pub unfinished: AtomicUsize,
    /// Where workers wait for the user that serves.
    pub gate: Gate,
}

/// Closed until what root alone may do is done.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    fn wait(&self) {
        let is_open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(is_open, |is_open| !*is_open));
    }
}

/// Opens it however the start ends: nobody waits for ever.
struct Opening<'g>(&'g Gate);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl<O, C> Crew<'_, C>
where
    O: Orchestrator,
    C: Fn(&Part<'_>) -> Result<O, ServeError> + Sync,
{
    /// Runs a worker on a thread of its own for each of `parts`, which `open` makes a transport of;
    /// says that the server is ready when all are, also to `ready`, and waits until all have ended.
    pub fn run<P: Send, T: Transport<Connection>>(
        &self,
        mailboxes: Vec<Mailbox>,
        parts: Vec<P>,
        open: impl Fn(P, usize) -> Result<T, ServeError> + Sync,
        ready: impl FnOnce(),
    ) -> Result<(), ServeError> {
        let open = &open;
        let result = thread::scope(|scope| {
            let (reports, started) = mpsc::channel();
            let _opening = Opening(&self.gate);
            for (mailbox, part) in mailboxes.into_iter().zip(parts) {
                let reports = reports.clone();
                let name = format!("worker-{}", mailbox.worker());
                let run = move || self.work(mailbox, part, open, &reports);
                if let Err(error) = thread::Builder::new().name(name).spawn_scoped(scope, run) {
                    self.plan.shared.stop.store(true, Ordering::Relaxed);
                    return Err(ServeError::Host(error));
                }
            }
            drop(reports);
            let result = started.iter().take(self.plan.pins.len()).collect::<Result<(), _>>();
            let result = result.and_then(|()| {
                // Before the user changes: who takes over looks at who has begun to offer that.
                ready();
                self.plan.user.map_or(Ok(()), |user| self.become_user(user))
            });
            match result {
                Ok(()) => self.announce(),
                Err(_) => self.plan.shared.stop.store(true, Ordering::Relaxed),
            }
            result
        });
        match self.unfinished.load(Ordering::Relaxed) {
            0 => result,
            workers => result.and(Err(ServeError::Unfinished { workers })),
        }
    }

    fn work<P, T: Transport<Connection>>(
        &self,
        mailbox: Mailbox,
        part: P,
        open: impl Fn(P, usize) -> Result<T, ServeError>,
        reports: &mpsc::Sender<Result<(), ServeError>>,
    ) {
        let worker = mailbox.worker();
        let Plan { config, shared, pins, opened, compose, .. } = self.plan;
        pin(pins[worker]);
        report::tell(of_worker(worker, pins[worker]));
        if self.parks {
            let this = thread::current();
            mailbox.doorbell().connect(Box::new(move || this.unpark()));
        }
        let parts = open(part, worker).and_then(|transport| {
            let readiness = transport.readiness().map_err(ServeError::Host)?;
            let part = Part { config, shared, opened, worker, readiness };
            Ok((compose(&part)?, transport))
        });
        let (parts, report) = match parts {
            Ok(parts) => (Some(parts), Ok(())),
            Err(error) => (None, Err(error)),
        };
        // Nobody listens any more if another worker has failed before.
        let _ = reports.send(report);
        if self.plan.user.is_some() {
            self.gate.wait();
        }
        if let Some((orchestrator, mut transport)) = parts {
            worker::run(shared, mailbox, &mut transport, &orchestrator, self.idle);
            if !orchestrator.finish(&shared.clock) {
                self.unfinished.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// All is open, and no client is served yet.
    fn become_user(&self, user: &User) -> Result<(), ServeError> {
        let Config { socket_path, batch_socket_path, .. } = self.plan.config;
        for path in socket_path.iter().chain(batch_socket_path) {
            user.give(path)?;
        }
        user.become_it()
    }

    fn announce(&self) {
        let workers = self.plan.pins.len();
        let plural = if workers == 1 { "" } else { "s" };
        report::tell(Event::Start.line(self.plan));
        let text = format_args!("ready on {}, {workers} worker{plural}", self.place);
        let listeners = self.plan.shared.settings.listeners.join(",");
        report::tell(Event::Ready.line(text).address(listeners).count(workers as u64));
        self.plan.shared.is_ready.store(true, Ordering::Release);
    }
}

impl<C> Plan<'_, C> {
    /// Where settings come from, and who may use the server, as far as something says so.
    fn write_access(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Config { allow, proxies, rights, batch_rights, auth_file, admin, reread, .. } =
            self.config;
        if !allow.is_everyone() {
            write!(f, " --allow {allow}")?;
        }
        if let Some(proxies) = proxies {
            write!(f, " --proxy-protocol {proxies}")?;
        }
        if rights.is_limited() {
            write!(f, " --rights {rights}")?;
        }
        if let Some(rights) = batch_rights {
            write!(f, " --bp-rights {rights}")?;
        }
        if let Some(path) = auth_file {
            write!(f, " --auth-file {}", path.display())?;
        }
        if let Some(user) = self.user {
            write!(f, " --user {}", user.name())?;
        }
        if let Some(address) = admin {
            write!(f, " --admin {address}")?;
        }
        match reread {
            Some(file) => write!(f, " --config {}", file.path().display()),
            None => Ok(()),
        }
    }
}

fn of_worker(worker: usize, core: Option<usize>) -> Line {
    let place = core.map_or("where the kernel likes".to_owned(), |core| format!("on core {core}"));
    Event::Worker.line(format_args!("worker {worker} runs {place}")).worker(worker)
}

/// What runs with what, in a line.
impl<C> fmt::Display for Plan<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { config, shared, pins, tiers, .. } = self;
        let poll = match config.poll() {
            Poll::Busy => "busy",
            Poll::Adaptive => "adaptive",
        };
        let idle_timeout_s = config.idle_timeout_s;
        write!(f, "version {}, process {}: {tiers}", version(), std::process::id())?;
        write!(f, " --max-item-size {}", show_size(config.item_bytes_max as u64))?;
        write!(f, " --max-connections {}", shared.admission.max())?;
        write!(f, " --idle-timeout {idle_timeout_s} --poll {poll}")?;
        self.write_access(f)?;
        if pins.iter().any(Option::is_some) {
            let cores: Vec<_> = pins.iter().flatten().map(ToString::to_string).collect();
            write!(f, " --cores {}", cores.join(","))?;
        }
        Ok(())
    }
}
