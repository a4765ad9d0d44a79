//! How a server is replaced by the next without a refused connection (`--takeover`).
//!
//! The one that serves waits at a Unix socket with an abstract name (unix(7)), made of its first
//! address. The next one asks there for the listening sockets. Once it has them, the old one stops
//! accepting, answers what has arrived, closes its tiers and ends; what connects meanwhile waits in
//! the sockets' queues. Only then the next one opens its tiers and accepts: the two never serve at
//! the same time, so no client sees two contents. Only a process of the same user, or root, is
//! given anything.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::{Fault, ServeError, listeners, notify};
use crate::base::clock::Clock;
use crate::config::Config;
use crate::net::kernel::{Inherited, Spares};
use crate::report::{self, Event, Topic};
use crate::worker::{Cause, Shared};

/// The word for the old process to end.
const STOP: &[u8; 5] = b"stop\n";

/// How long each step may take, and how often it is told that the old process has not ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked at whether this start is to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Between two attempts to listen where the old process, which ends, still does.
const NAP: Duration = Duration::from_millis(20);
const NAPS: usize = 100;

/// The name of the place where a server with this configuration can be asked; None: it cannot,
/// because its first address is too long.
fn name(config: &Config) -> Option<SocketAddr> {
    SocketAddr::from_abstract_name(name_text(config)?).ok()
}

fn name_text(config: &Config) -> Option<String> {
    let first = listeners(config).into_iter().next()?;
    Some(format!("sunder-takeover-{first}"))
}

/// Whether the process at the other end is of this user, or root.
fn is_trusted(stream: &UnixStream) -> bool {
    socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == geteuid())
}

fn failed(what: impl fmt::Display) -> ServeError {
    ServeError::Takeover { reason: what.to_string(), fault: Fault::Host }
}

fn later(what: impl fmt::Display) -> ServeError {
    ServeError::Takeover { reason: what.to_string(), fault: Fault::Passing }
}

/// The server that runs with the same first address, which goes on until it is told to end.
#[derive(Debug)]
pub(super) struct Old {
    stream: UnixStream,
    pid: i32,
    inherited: Inherited,
}

/// Asks for the listening sockets of the server that runs with the same first address. None if
/// there is none.
///
/// # Errors
/// It does not give them.
pub(super) fn ask(config: &Config) -> Result<Option<Old>, ServeError> {
    let Some(name) = name(config) else { return Ok(None) };
    let stream = match UnixStream::connect_addr(&name) {
        Ok(stream) => stream,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let peer = socket_peercred(&stream).map_err(|error| failed(io::Error::from(error)))?;
    let (pid, uid) = (peer.pid.as_raw_nonzero().get(), peer.uid.as_raw());
    if !is_trusted(&stream) {
        // Anybody can take the name while no sunder runs. Whoever has the port is found by that.
        let text = format_args!(
            "--takeover: process {pid} of user {uid} answers for the server that runs, and only \
             this user or root may; it is not asked"
        );
        report::tell(Event::TakeoverRefused.line(text));
        return Ok(None);
    }
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let inherited = Inherited::receive(&stream).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => later(format_args!(
            "process {pid} gives nothing: it belongs to another user, or is being replaced already"
        )),
        ErrorKind::WouldBlock => later(format_args!(
            "process {pid} does not answer within {} s; it goes on",
            PATIENCE.as_secs()
        )),
        _ => failed(format_args!("process {pid} gives nothing: {error}")),
    })?;
    Ok(Some(Old { stream, pid, inherited }))
}

impl Old {
    /// Its process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What it listens on. It goes on.
    pub fn into_inherited(self) -> Inherited {
        self.inherited
    }

    /// Has it end, and waits until it has.
    ///
    /// # Errors
    /// Another process takes over from it, or a stop was requested meanwhile.
    pub fn end(self, stop: &AtomicBool) -> Result<Inherited, ServeError> {
        let Old { stream, pid, inherited } = self;
        (&stream).write_all(STOP).map_err(|_| {
            later(format_args!("process {pid} has given its sockets to another process"))
        })?;
        let text = format_args!("--takeover: process {pid} ends, and this one goes on");
        report::tell(Event::Takeover.line(text));
        wait_for_end(&stream, pid, stop)?;
        Ok(inherited)
    }
}

/// Waits until the other end is closed, which it is when its process has ended.
fn wait_for_end(old: &UnixStream, pid: i32, stop: &AtomicBool) -> Result<(), ServeError> {
    let clock = Clock::start();
    let mut told_s = 0;
    old.set_read_timeout(Some(LOOK)).map_err(failed)?;
    loop {
        match (&mut &*old).read(&mut [0; 16]) {
            Ok(0) => return Ok(()),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        if stop.load(Ordering::Relaxed) {
            return Err(ServeError::Stopped);
        }
        let waited_s = clock.read().uptime_us / 1_000_000;
        if waited_s >= told_s + PATIENCE.as_secs() {
            told_s = waited_s;
            let text = format_args!("--takeover: process {pid} has not ended after {waited_s} s");
            report::tell(Event::Waiting.line(text));
        }
    }
}

/// Gives the listening sockets to whoever may have them and asks, as long as the process lives.
pub(super) fn offer(config: &Config, spares: Arc<Spares>, shared: Arc<Shared>) {
    let Some(name) = name(config) else { return };
    let mut naps = 0;
    let listener = loop {
        match UnixListener::bind_addr(&name) {
            Ok(listener) => break listener,
            // The process that this one has replaced is ending.
            Err(error) if error.kind() == ErrorKind::AddrInUse && naps < NAPS => {
                naps += 1;
                thread::sleep(NAP);
            }
            Err(error) => return cannot_offer(&error),
        }
    };
    let wait = move || {
        for asker in listener.incoming().flatten() {
            if give(&asker, &spares, &shared.clock) {
                if let Ok(peer) = socket_peercred(&asker) {
                    notify::handed_over(peer.pid.as_raw_nonzero().get().unsigned_abs());
                }
                shared.stop_for(Cause::Takeover);
                // Its end tells the other that this process has ended.
                std::mem::forget(asker);
                return;
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("sunder-takeover".to_owned()).spawn(wait) {
        cannot_offer(&error);
    }
}

fn cannot_offer(error: &io::Error) {
    let text = format_args!("no other sunder can take over from this one: {error}");
    report::tell(Event::TakeoverRefused.line(text));
}

/// Whether the asker has the listening sockets and wants this process to end.
fn give(asker: &UnixStream, spares: &Spares, clock: &Clock) -> bool {
    if !is_trusted(asker) {
        static STRANGER: Topic = Topic::new();
        STRANGER.report(clock.read(), || {
            let peer = socket_peercred(asker).ok();
            let who = peer.map_or("a process".to_owned(), |peer| {
                format!("process {} of user {}", peer.pid.as_raw_nonzero(), peer.uid.as_raw())
            });
            let text = format_args!("{who} has asked to take over, and was refused");
            Event::TakeoverRefused.line(text)
        });
        let _ = asker.shutdown(Shutdown::Both);
        return false;
    }
    let mut word = [0; STOP.len()];
    let given = asker
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| asker.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| spares.send(asker))
        .and_then(|()| (&mut &*asker).read_exact(&mut word));
    let is_given = given.is_ok() && word == *STOP;
    if is_given {
        spares.are_sent();
    }
    is_given
}
