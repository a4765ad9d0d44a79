//! The thread that attaches clients through rings in shared memory: it listens on a Unix socket,
//! checks who connects, makes the rings and passes the daemon's end to a worker.
//!
//! It never touches the rings, and a client that sends nothing holds it up for a bounded time only.
//! It must attach nobody before all workers serve: until then their tiers may read what they keep.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Fault, ServeError};
use crate::base::limits::{RING_HANDSHAKE_US, RING_START_MS, RING_SWEEP_MS};
use crate::base::secret;
use crate::net::kernel::{Inbox, KernelSockets, SocketFile, Waker, bind_beside};
use crate::orchestrator::PortRole;
use crate::report::{Event, Topic};
use crate::tier::shm::handshake::{self, Given, Refusal};
use crate::tier::shm::{End, Place};
use crate::worker::Shared;

/// Clients of this user and of root only: whoever attaches can read and write every item.
const SOCKET_MODE: u32 = 0o600;

/// How often the thread looks whether it must end.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Why a client is refused before the workers serve.
const STARTING: &str = "it is starting";

/// Why it is refused while they serve.
const SILENT: &str = "its workers do not answer";

/// Clients that were refused.
static REFUSED: Topic = Topic::new();

/// A worker, as this thread knows it.
struct Member {
    inbox: Arc<Inbox>,
    waker: Waker,
}

/// The socket. Clients that connect wait until there is a thread.
#[derive(Debug)]
pub(super) struct Listening {
    listener: UnixListener,
    file: SocketFile,
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Attaching {
    ready: Option<Sender<()>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _file: SocketFile,
}

struct Desk {
    listener: UnixListener,
    members: Vec<Member>,
    shared: Arc<Shared>,
    stop: Arc<AtomicBool>,
    /// Gets a message when all workers serve.
    ready: Receiver<()>,
    /// Identifies the store: two stores of which the later began empty differ in it.
    generation: u64,
    next: usize,
}

impl Listening {
    /// Listens at `place`, whose folder is created if it is missing.
    ///
    /// # Errors
    /// If something else is there, or the kernel refuses.
    pub fn bind(place: &Place) -> Result<Listening, ServeError> {
        let bound = place.prepare().and_then(|()| bind_beside(&place.rings, SOCKET_MODE));
        let (listener, file) = bound.map_err(|error| cannot_listen(place, &error))?;
        Ok(Listening { listener, file })
    }

    /// Refuses clients, and attaches them to the workers of `sockets` once
    /// [`Attaching::workers_are_ready`] is called. `generation` identifies a store that was there
    /// before; None: it is new and empty.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(
        self,
        sockets: &[KernelSockets],
        shared: &Arc<Shared>,
        generation: Option<u64>,
    ) -> Result<Attaching, ServeError> {
        let member = |sockets: &KernelSockets| Member {
            inbox: Arc::clone(sockets.inbox()),
            waker: sockets.waker(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, ready) = mpsc::channel();
        let desk = Desk {
            listener: self.listener,
            members: sockets.iter().map(member).collect(),
            shared: Arc::clone(shared),
            stop: Arc::clone(&stop),
            ready,
            generation: generation.unwrap_or_else(|| u64::from_ne_bytes(secret::random())),
            next: 0,
        };
        let thread = thread::Builder::new().name("attach".into());
        let thread = thread.spawn(move || desk.run()).map_err(ServeError::Host)?;
        Ok(Attaching { ready: Some(tell), stop, thread: Some(thread), _file: self.file })
    }
}

impl Attaching {
    /// From now on clients are attached, also those that wait.
    pub fn workers_are_ready(&self) {
        if let Some(ready) = &self.ready {
            // It fails if the thread has ended.
            let _ = ready.send(());
        }
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        self.ready = None;
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Desk {
    fn run(mut self) {
        if !self.wait_for_workers() {
            return;
        }
        while !self.stop.load(Ordering::Relaxed) {
            let mut events = [PollFd::new(&self.listener, PollFlags::IN)];
            if !matches!(poll(&mut events, Some(&LOOK)), Ok(1..)) {
                continue;
            }
            let Ok((socket, _)) = self.listener.accept() else { continue };
            self.attach_or_refuse(&socket);
        }
    }

    fn attach_or_refuse(&mut self, socket: &UnixStream) {
        if let Err(Refusal(reason)) = self.attach(socket) {
            // It fails if the client has ended.
            let _ = handshake::refuse(socket, &reason);
            REFUSED.report(self.shared.clock.read(), || {
                let text = format_args!("a client was not attached: {reason}");
                Event::AttachRefused.line(text).reason("handshake")
            });
        }
    }

    /// Waits until all workers serve; false if they never do. Clients wait meanwhile, but not so
    /// long that they could take the daemon for dead.
    fn wait_for_workers(&mut self) -> bool {
        let patience = Duration::from_millis(RING_START_MS);
        loop {
            match self.ready.recv_timeout(patience) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            // The listener does not block.
            while let Ok((socket, _)) = self.listener.accept() {
                // Asked after the client has come: one that comes later than the workers are ready
                // is never refused.
                if self.ready.try_recv().is_ok() {
                    self.attach_or_refuse(&socket);
                    return true;
                }
                // It fails if the client has ended.
                let _ = handshake::refuse(&socket, STARTING);
            }
        }
    }

    fn attach(&mut self, socket: &UnixStream) -> Result<(), Refusal> {
        let failed = |error: io::Error| Refusal(format!("it cannot be attached: {error}"));
        socket.set_nonblocking(false).map_err(failed)?;
        let patience = Duration::from_micros(RING_HANDSHAKE_US);
        socket.set_read_timeout(Some(patience)).map_err(failed)?;
        handshake::check_client(socket)?;
        if !handshake::receive_request(socket)? {
            return Ok(());
        }
        let own = socket.try_clone().map_err(failed)?;
        let (end, given): (End, Given) = End::create(own, self.generation).map_err(failed)?;
        self.sweep()?;
        let member = &self.members[self.next % self.members.len()];
        self.next += 1;
        member.inbox.push(end, PortRole::Main.listener());
        member.waker.wake();
        handshake::give(socket, &given).map_err(failed)
    }

    /// Waits until every worker has dropped the attachments whose clients have ended.
    fn sweep(&self) -> Result<(), Refusal> {
        let ask = |member: &Member| {
            let sweep = member.inbox.ask_to_sweep();
            member.waker.wake();
            sweep
        };
        let sweeps: Vec<u64> = self.members.iter().map(ask).collect();
        for _ in 0..RING_SWEEP_MS {
            let mut all = self.members.iter().zip(&sweeps);
            if all.all(|(member, sweep)| member.inbox.has_swept(*sweep)) {
                return Ok(());
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        Err(Refusal(SILENT.into()))
    }
}

fn cannot_listen(place: &Place, error: &io::Error) -> ServeError {
    let path = place.rings.display();
    let is_taken = error.kind() == io::ErrorKind::AddrInUse;
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another daemon has this name ({path}); stop it, or choose another name")
        }
        io::ErrorKind::AlreadyExists => {
            format!("{path} is not a socket; remove it, or choose another name")
        }
        _ => format!("cannot listen on {path}: {error}"),
    };
    let fault = if is_taken { Fault::Passing } else { Fault::Host };
    ServeError::Tier { flag: "--name", reason, fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::net::kernel::{self, KernelConfig};

    #[test]
    fn a_client_is_refused_while_the_daemon_starts_and_waits_for_its_workers_afterwards() {
        let folder = std::env::temp_dir().join(format!("sunder-attach-{}", std::process::id()));
        let place = Place { rings: folder.join("x.rings"), clients: folder.join("x.sock") };
        let listening = Listening::bind(&place).unwrap();
        let shared = Arc::new(super::super::shared(&Config::default(), 1));
        let admission = Arc::clone(&shared.admission);
        let config = KernelConfig { listeners: Vec::new(), admission };
        let sockets = kernel::bind(&config, 1).unwrap();
        let attaching = listening.start(&sockets, &shared, None).unwrap();
        let refusal = || {
            let client = UnixStream::connect(&place.rings).unwrap();
            handshake::ask(&client).unwrap();
            handshake::receive_answer(&client).unwrap_err().0
        };
        assert_eq!(refusal(), STARTING);
        attaching.workers_are_ready();
        // This one does not run.
        assert_eq!(refusal(), SILENT);
        drop(attaching);
        assert!(!place.rings.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
