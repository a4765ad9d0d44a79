//! Reports to the operator while the server runs: one line on standard error for each event that
//! may need action.
//!
//! A worker must never wait for the reader of standard error, so lines go through a bounded queue
//! to a separate thread, and are counted when the queue is full. A repeated event is reported once
//! in [`REPORT_INTERVAL_S`], with the number of occurrences in between. Only rare paths report: a
//! line allocates. What needs no action is told only at a higher level ([`tell_at`]): like the
//! lines, there is one level in a process.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::thread::{JoinHandle, Thread};

use crossbeam_queue::ArrayQueue;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::base::clock::Now;
use crate::base::console::complain;
use crate::base::limits::{REPORT_INTERVAL_S, REPORT_LINES};

/// One kind of event. All workers share its topic, so that it is reported once.
#[derive(Debug)]
pub struct Topic {
    /// The second of Unix time in which it was last reported; 0 = never. Not an uptime, because
    /// workers may differ in those.
    told_s: AtomicU32,
    /// How often it happened since then without being reported.
    held: AtomicU32,
}

impl Default for Topic {
    fn default() -> Topic {
        Topic::new()
    }
}

impl Topic {
    /// An event that has not happened yet.
    pub const fn new() -> Topic {
        Topic { told_s: AtomicU32::new(0), held: AtomicU32::new(0) }
    }

    /// Reports an event, unless one was reported recently: then it is counted, and the next line
    /// includes the count. `line` is one sentence that includes the remedy; it is formatted only if
    /// it is reported.
    pub fn report<D: Display>(&self, now: Now, line: impl FnOnce() -> D) {
        match self.admit(now) {
            None => (),
            Some(0) => tell(line()),
            Some(held) => tell(format_args!("{} ({held} more since the last such line)", line())),
        }
    }

    /// None: do not report now. Else the number of events since the last report.
    fn admit(&self, now: Now) -> Option<u32> {
        let told_s = self.told_s.load(Ordering::Relaxed);
        let now_s = now.unix_s.max(1);
        let is_due = told_s == 0 || now_s >= told_s.saturating_add(REPORT_INTERVAL_S);
        // If several workers get here at the same time, one of them reports it.
        let is_ours = is_due
            && self
                .told_s
                .compare_exchange(told_s, now_s, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_ours {
            Some(self.held.swap(0, Ordering::Relaxed))
        } else {
            self.held.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// One topic for each of a few reasons, so that none hides another.
#[derive(Debug)]
pub struct Topics<const REASONS: usize>([(OnceLock<&'static str>, Topic); REASONS]);

impl<const REASONS: usize> Topics<REASONS> {
    /// Events that have not happened yet.
    pub const fn new() -> Topics<REASONS> {
        Topics([const { (OnceLock::new(), Topic::new()) }; REASONS])
    }

    /// The topic of a reason. Reasons beyond the room that there is share the last one.
    pub fn of(&self, reason: &'static str) -> &Topic {
        let is_its =
            |(own, _): &&(OnceLock<&'static str>, Topic)| *own.get_or_init(|| reason) == reason;
        let found = self.0.iter().find(is_its);
        found.or(self.0.last()).map(|(_, topic)| topic).expect("there is room for one")
    }
}

impl<const REASONS: usize> Default for Topics<REASONS> {
    fn default() -> Topics<REASONS> {
        Topics::new()
    }
}

/// How much is told: what was set last.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// The level from which commands that concern the whole server are told.
pub const COMMANDS: u8 = 1;

/// The level from which connections are told; the highest there is.
pub const CONNECTIONS: u8 = 2;

/// The level.
#[inline]
pub fn level() -> u8 {
    LEVEL.load(Ordering::Relaxed)
}

/// Sets the level; one that is too high is the highest. Returns what it was.
pub fn set_level(level: u32) -> u8 {
    let level = u8::try_from(level).unwrap_or(CONNECTIONS).min(CONNECTIONS);
    LEVEL.swap(level, Ordering::Relaxed)
}

/// [`tell`], if the level is `least` or higher; `line` is formatted only then.
#[inline]
pub fn tell_at<D: Display>(least: u8, line: impl FnOnce() -> D) {
    if level() >= least {
        tell(line());
    }
}

struct Desk {
    lines: ArrayQueue<String>,
    lost: AtomicU32,
    is_open: AtomicBool,
    writer: Mutex<Option<Thread>>,
}

fn desk() -> &'static Desk {
    static DESK: OnceLock<Desk> = OnceLock::new();
    DESK.get_or_init(|| Desk {
        lines: ArrayQueue::new(REPORT_LINES),
        lost: AtomicU32::new(0),
        is_open: AtomicBool::new(false),
        writer: Mutex::new(None),
    })
}

/// Writes `sunder: LINE` to standard error, without waiting and without a rate limit. Without a
/// [`Reporter`] the server is not running, and nothing is written.
pub fn tell(line: impl Display) {
    let desk = desk();
    if !desk.is_open.load(Ordering::Acquire) {
        return;
    }
    if desk.lines.push(format!("sunder: {line}")).is_err() {
        desk.lost.fetch_add(1, Ordering::Relaxed);
    }
    // Held for the length of a load and a wake-up; events are rare.
    if let Some(writer) = &*desk.writer.lock().unwrap_or_else(PoisonError::into_inner) {
        writer.unpark();
    }
}

/// The thread that writes the lines, for as long as this value lives; lines queued before it is
/// dropped are written.
#[derive(Debug)]
pub struct Reporter(Option<JoinHandle<()>>);

impl Reporter {
    /// Starts the thread. There is one per process: a second server in the process uses the first
    /// one's, and reports nothing after that has ended.
    ///
    /// # Errors
    /// If the host cannot create a thread.
    pub fn start() -> std::io::Result<Reporter> {
        let desk = desk();
        let mut writer = desk.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_some() {
            return Ok(Reporter(None));
        }
        desk.is_open.store(true, Ordering::Release);
        let thread = std::thread::Builder::new().name("sunder-report".into()).spawn(write)?;
        *writer = Some(thread.thread().clone());
        Ok(Reporter(Some(thread)))
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let Some(thread) = self.0.take() else { return };
        let desk = desk();
        desk.is_open.store(false, Ordering::Release);
        thread.thread().unpark();
        // It panics only if standard error does.
        let _ = thread.join();
        *desk.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn write() {
    let desk = desk();
    loop {
        let is_open = desk.is_open.load(Ordering::Acquire);
        while let Some(line) = desk.lines.pop() {
            complain(line);
        }
        match desk.lost.swap(0, Ordering::Relaxed) {
            0 => (),
            lost => {
                complain(format_args!("sunder: {lost} lines were dropped here: the queue was full"))
            }
        }
        if !is_open {
            return;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_s: u32) -> Now {
        Now { uptime_us: 0, unix_s }
    }

    #[test]
    fn an_event_is_reported_once_in_the_interval_with_its_count() {
        let topic = Topic::new();
        assert_eq!(topic.admit(at(0)), Some(0), "the first, though the process has just begun");
        for s in 1..5 {
            assert_eq!(topic.admit(at(s)), None);
        }
        assert_eq!(topic.admit(at(REPORT_INTERVAL_S + 1)), Some(4));
        assert_eq!(topic.admit(at(REPORT_INTERVAL_S + 2)), None);
        assert_eq!(topic.admit(at(3 * REPORT_INTERVAL_S)), Some(1));
    }

    #[test]
    fn a_reason_hides_no_other() {
        let topics = Topics::<2>::new();
        assert_eq!(topics.of("one").admit(at(1)), Some(0));
        assert_eq!(topics.of("one").admit(at(2)), None);
        assert_eq!(topics.of("other").admit(at(2)), Some(0));
        assert_eq!(topics.of("third").admit(at(2)), None, "there is no room for it");
    }

    #[test]
    fn a_level_above_the_highest_is_the_highest() {
        for (given, level) in [(1, 1), (3, 2), (u32::MAX, 2), (0, 0)] {
            set_level(given);
            assert_eq!(super::level(), level);
        }
        tell_at(COMMANDS, || -> &str { panic!("not formatted at a lower level") });
    }

    #[test]
    fn a_line_that_is_not_reported_is_not_formatted() {
        let topic = Topic::new();
        let mut made = 0;
        for s in 0..10 {
            topic.report(at(s), || {
                made += 1;
                "an event"
            });
        }
        assert_eq!(made, 1);
    }
}
