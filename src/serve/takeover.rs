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
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use super::{ServeError, listeners, notify};
use crate::base::clock::Clock;
use crate::base::files;
use crate::config::Config;
use crate::net::kernel::{Inherited, Spares};
use crate::report::{self, Event};
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

/// Whether a server waits there to be asked, on a host whose files are below `root`. It is not
/// asked.
pub(super) fn is_offered(config: &Config, root: &Path) -> bool {
    let (Some(name), Some(list)) = (name_text(config), files::text(&root.join("proc/net/unix")))
    else {
        return false;
    };
    // The kernel shows an abstract name behind an @ (proc_pid_net(5)).
    list.lines().any(|line| line.ends_with(&format!(" @{name}")))
}

/// Whether the process at the other end is of this user, or root.
fn is_trusted(stream: &UnixStream) -> bool {
    socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == geteuid())
}

fn failed(what: impl fmt::Display) -> ServeError {
    ServeError::Takeover(what.to_string())
}

/// Takes the listening sockets of the server that runs with the same first address, and waits for
/// its end. Nothing if there is none.
///
/// # Errors
/// It is another user's, or does not give them; or a stop was requested meanwhile.
pub(super) fn take(config: &Config, stop: &AtomicBool) -> Result<Inherited, ServeError> {
    let Some(name) = name(config) else { return Ok(Inherited::default()) };
    let old = match UnixStream::connect_addr(&name) {
        Ok(old) => old,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            let text = "--takeover: no sunder serves there; this is an ordinary start";
            report::tell(Event::Takeover.line(text));
            return Ok(Inherited::default());
        }
        Err(error) => return Err(failed(error)),
    };
    if !is_trusted(&old) {
        return Err(failed("the server there is another user's"));
    }
    old.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    let inherited = Inherited::receive(&old)
        .map_err(|error| failed(format_args!("the server there gives nothing: {error}")))?;
    (&old).write_all(STOP).map_err(failed)?;
    let pid = socket_peercred(&old).map_or(0, |peer| peer.pid.as_raw_nonzero().get());
    let text = format_args!("--takeover: process {pid} ends, and this one goes on");
    report::tell(Event::Takeover.line(text));
    wait_for_end(&old, pid, stop)?;
    Ok(inherited)
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
            if give(&asker, &spares) {
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
fn give(asker: &UnixStream, spares: &Spares) -> bool {
    if !is_trusted(asker) {
        let text = "a process of another user has asked to take over, and was refused";
        report::tell(Event::TakeoverRefused.line(text));
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
