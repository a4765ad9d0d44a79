//! Tells a service manager (sd_notify(3)) that the server is ready, reloads, stops, and that its
//! workers turn. Without one, which `NOTIFY_SOCKET` names, nothing is done. It must never feed the
//! watchdog for a worker that hangs: a service manager then restarts the server.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sd_notify::NotifyState;

use super::Handle;
use crate::base::stats::Counter;
use crate::report::{self, Event};

/// How often the server is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Looks between two changes of the status.
const STATUS_LOOKS: u32 = 100;

/// Whether there is a service manager that wants to know.
pub(super) fn is_wanted() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// A reload begins.
pub(super) fn reloading() {
    // Without the time, systemd would wait for another reload.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// A reload is over.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Another process goes on in this one's place. Only this one may say so.
pub(super) fn handed_over(pid: u32) {
    tell(&[NotifyState::MainPid(pid), NotifyState::Status("another process takes over")]);
}

fn tell(state: &[NotifyState<'_>]) {
    // Who asked to be told may have gone, and there is nobody else to tell.
    let _ = sd_notify::notify(state);
}

/// The thread that tells, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Notifier {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Notifier {
    /// Starts it, if somebody is to be told.
    ///
    /// # Errors
    /// If the host cannot create a thread.
    pub fn start(server: Handle) -> io::Result<Notifier> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut watch = Watch::new(server, sd_notify::watchdog_enabled(), Arc::clone(&is_over));
        let name = || thread::Builder::new().name("sunder-notify".into());
        let thread = is_wanted().then(|| name().spawn(move || watch.run())).transpose()?;
        Ok(Notifier { is_over, thread })
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.is_over.store(true, Ordering::Relaxed);
        thread.thread().unpark();
        // It panics only if standard error does.
        let _ = thread.join();
    }
}

/// What is known of the server.
struct Watch {
    server: Handle,
    is_over: Arc<AtomicBool>,
    /// Looks between two feeds of the watchdog; None: there is none.
    feed_looks: Option<u32>,
    /// The turns that each worker had made at the last feed.
    fed_turns: Vec<u64>,
    /// Looks since then.
    looks: u32,
    is_hanging: bool,
}

impl Watch {
    fn new(server: Handle, watchdog: Option<Duration>, is_over: Arc<AtomicBool>) -> Watch {
        // Four times in its time, so that three may be late.
        let looks = |limit: Duration| (limit.as_millis() / 4 / LOOK.as_millis()).max(1) as u32;
        Watch {
            server,
            is_over,
            feed_looks: watchdog.map(looks),
            fed_turns: Vec::new(),
            looks: 0,
            is_hanging: false,
        }
    }

    fn run(&mut self) {
        tell(&[NotifyState::Status("starting")]);
        let mut naps = 0;
        while !self.server.is_ready() && !self.is_at_end() {
            // A process that takes over is watched from the moment that it is the service's.
            if self.feed_looks.is_some() && naps % 10 == 0 {
                tell(&[NotifyState::Watchdog]);
            }
            naps += 1;
            thread::park_timeout(LOOK / 10);
        }
        if !self.is_at_end() {
            tell(&[NotifyState::Ready, NotifyState::Status(&self.status())]);
        }
        let mut looks = 0;
        while !self.is_at_end() {
            self.look();
            looks += 1;
            if looks % STATUS_LOOKS == 0 && !self.is_hanging {
                tell(&[NotifyState::Status(&self.status())]);
            }
            thread::park_timeout(LOOK);
        }
        if self.server.is_replaced() {
            return;
        }
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
        // Its own time limit holds for that.
        while !self.is_over.load(Ordering::Relaxed) {
            tell(&[NotifyState::Watchdog]);
            thread::park_timeout(LOOK);
        }
    }

    fn is_at_end(&self) -> bool {
        self.server.is_stopping() || self.is_over.load(Ordering::Relaxed)
    }

    /// Feeds the watchdog if every worker has made a turn since the last time.
    fn look(&mut self) {
        let Some(feed_looks) = self.feed_looks else { return };
        self.looks += 1;
        if self.looks < feed_looks {
            return;
        }
        let turns = self.server.turns();
        let idle = turns.iter().zip(&self.fed_turns).position(|(now, before)| now == before);
        match idle {
            None => {
                tell(&[NotifyState::Watchdog]);
                if std::mem::take(&mut self.is_hanging) {
                    tell(&[NotifyState::Status(&self.status())]);
                }
                (self.fed_turns, self.looks) = (turns, 0);
            }
            Some(worker) if self.looks >= 2 * feed_looks && !self.is_hanging => {
                self.is_hanging = true;
                let line = format!("worker {worker} hangs: the watchdog is not fed");
                tell(&[NotifyState::Status(&line)]);
                report::tell(Event::WorkerHangs.line(line).worker(worker));
            }
            Some(_) => {}
        }
    }

    fn status(&self) -> String {
        let workers = self.server.turns().len();
        let connections = self.server.count(Counter::CurrConnections);
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        format!(
            "serving: {workers} worker{}, {connections} connection{}",
            plural(workers as u64),
            plural(connections)
        )
    }
}
