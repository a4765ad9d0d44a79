//! An upgrade in place: on SIGUSR2 this process starts its own binary, which may be a newer one by
//! now, with the same arguments and `--takeover`. A service manager sees one service go on. If the
//! new process does not take over, this one goes on as if nothing had happened.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::config::Config;
use crate::report::{self, Event};

/// What the kernel adds to the path of a binary that was replaced (proc_pid_exe(5)).
const DELETED: &[u8] = b" (deleted)";

const TAKEOVER: &str = "--takeover";

/// Starts the next process on each SIGUSR2, as long as this one lives. A second SIGTERM or SIGINT
/// sets `hurry`.
///
/// # Errors
/// The kernel's.
pub(super) fn on_signal(config: &Config, hurry: Arc<AtomicBool>) -> io::Result<()> {
    let has_device = config.has_devices();
    let mut signals = Signals::new([SIGUSR2, SIGTERM, SIGINT])?;
    let is_under_way = Arc::new(AtomicBool::new(false));
    let mut is_ending = false;
    let wait = move || {
        for signal in signals.forever() {
            let line = if signal != SIGUSR2 {
                hurry.fetch_or(std::mem::replace(&mut is_ending, true), Ordering::Relaxed);
                continue;
            } else if has_device {
                "SIGUSR2: no other process can take over a device; restart".to_owned()
            } else if is_under_way.swap(true, Ordering::Relaxed) {
                "SIGUSR2: another process is about to take over".to_owned()
            } else if let Err(error) = begin(&is_under_way) {
                is_under_way.store(false, Ordering::Relaxed);
                format!("SIGUSR2: no other process can start: {error}")
            } else {
                continue;
            };
            report::tell(Event::TakeoverRefused.line(line));
        }
    };
    thread::Builder::new().name("sunder-upgrade".into()).spawn(wait).map(drop)
}

/// Starts it, and a thread that waits for its end.
fn begin(is_under_way: &Arc<AtomicBool>) -> io::Result<()> {
    let path = binary(std::env::current_exe()?);
    let mut command = Command::new(&path);
    command.args(arguments(std::env::args_os().skip(1))).stdin(Stdio::null());
    // It says whose watchdog it is: this process's.
    command.env_remove("WATCHDOG_PID");
    let child = command.spawn()?;
    let text = format!("SIGUSR2: process {} takes over with {}", child.id(), path.display());
    report::tell(Event::Takeover.line(text));
    let is_under_way = Arc::clone(is_under_way);
    let wait = move || {
        await_end(child);
        is_under_way.store(false, Ordering::Relaxed);
    };
    thread::Builder::new().name("sunder-upgrade".into()).spawn(wait).map(drop)
}

/// Waits for its end, which this process sees only if it was not replaced.
fn await_end(mut child: Child) {
    let id = child.id();
    if let Ok(status) = child.wait() {
        let text = format_args!(
            "process {id} was to take over and has ended ({status}); its lines say why, and this \
             process goes on"
        );
        report::tell(Event::TakeoverRefused.line(text));
    }
}

/// The path of this program's binary, whatever file is there now.
fn binary(path: PathBuf) -> PathBuf {
    match path.as_os_str().as_bytes().strip_suffix(DELETED) {
        Some(path) => OsStr::from_bytes(path).into(),
        None => path,
    }
}

/// The arguments of the next process.
fn arguments(own: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = own.collect();
    if !all.iter().any(|word| word == TAKEOVER) {
        all.push(OsString::from_vec(TAKEOVER.into()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_has_the_same_path_and_arguments() {
        for path in ["/usr/bin/sunder", "/usr/bin/sunder (deleted)"] {
            assert_eq!(binary(path.into()), PathBuf::from("/usr/bin/sunder"));
        }
        let words = |words: &[&str]| arguments(words.iter().map(OsString::from));
        assert_eq!(words(&["serve", "-p", "1"]), ["serve", "-p", "1", "--takeover"]);
        assert_eq!(words(&["serve", "--takeover", "-v"]), ["serve", "--takeover", "-v"]);
    }
}
