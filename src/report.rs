//! Reports to the operator while the server runs: one line for each event that may need action.
//!
//! A worker must never wait for the reader of the lines, so they go through a bounded queue to a
//! separate thread, and are counted when the queue is full. That thread alone emits them, as events
//! of `tracing` ([`sink`]). A repeated event is reported once in [`REPORT_INTERVAL_S`], with the
//! number of occurrences in between; the last of them are told when it is over. Only rare paths
//! report: a line allocates. What needs no action is told only at a higher verbosity ([`tell_at`])
//! or at the level debug: like the lines, there is one of each in a process.

mod journal;
mod line;
mod sink;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use crate::base::clock::{Clock, Now};
use crate::base::limits::{REPORT_END_MS, REPORT_INTERVAL_S, REPORT_LINES};
pub use line::{Event, Level, Line};
pub use sink::{Format, LogError, Target};

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
    /// includes the count, or one that is written when the interval is over. `line` includes the
    /// remedy; it is made only if it is reported.
    pub fn report(&'static self, now: Now, line: impl FnOnce() -> Line) {
        if let Some(held) = self.admit(now) {
            let line = line();
            if is_told(line.event) {
                queue(Entry { line, held, topic: Some(self) });
            }
        }
    }

    /// Events that were held back in an interval that is over at `now_s`: there may be none. None:
    /// it is not over, and this is not the end of all.
    fn settle(&self, now_s: u32, is_end: bool) -> Option<u32> {
        let told_s = self.told_s.load(Ordering::Relaxed);
        if !is_end && now_s < told_s.saturating_add(REPORT_INTERVAL_S) {
            return None;
        }
        if self.held.load(Ordering::Relaxed) == 0 {
            return Some(0);
        }
        // Else a worker is about to tell them.
        self.told_s.compare_exchange(told_s, now_s, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some(self.held.swap(0, Ordering::Relaxed))
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

/// The verbosity that was set last, as memcached's.
static VERBOSITY: AtomicU8 = AtomicU8::new(0);

/// The verbosity from which commands that concern the whole server are told.
pub const COMMANDS: u8 = 1;

/// The verbosity from which connections are told; the highest there is.
pub const CONNECTIONS: u8 = 2;

/// The verbosity.
#[inline]
pub fn verbosity() -> u8 {
    VERBOSITY.load(Ordering::Relaxed)
}

/// Sets the verbosity; one that is too high is the highest. Returns what it was.
pub fn set_verbosity(verbosity: u32) -> u8 {
    let verbosity = u8::try_from(verbosity).unwrap_or(CONNECTIONS).min(CONNECTIONS);
    VERBOSITY.swap(verbosity, Ordering::Relaxed)
}

/// The lowest level that is told.
static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Has lines of this level and above told.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

#[inline]
fn is_level(level: Level) -> bool {
    LEVEL.load(Ordering::Relaxed) >= level as u8
}

fn is_told(event: Event) -> bool {
    is_level(event.level())
}

/// Tells a line of the level debug, also if the verbosity is `least` or higher; it is made only
/// then.
#[inline]
pub fn tell_at(least: u8, line: impl FnOnce() -> Line) {
    if verbosity() >= least || is_level(Level::Debug) {
        queue(Entry::new(line()));
    }
}

/// Tells that a client has changed the verbosity, whatever the level is if there are lines at
/// either verbosity. A client may do so as often as it likes, and must not fill a disk with it.
pub fn tell_verbosity(old: u8, new: u8, now: Now) {
    static CHANGED: Topic = Topic::new();
    if old == new || old.max(new) < COMMANDS {
        return;
    }
    if let Some(held) = CHANGED.admit(now) {
        let text = format_args!("a client has set the verbosity to {new}; it was {old}");
        queue(Entry { line: Event::Verbosity.line(text), held, topic: Some(&CHANGED) });
    }
}

/// Writes a line where lines go, if its level is told, without waiting and without a rate limit.
/// Without a [`Reporter`] the server is not running, and nothing is written.
pub fn tell(line: Line) {
    if is_told(line.event) {
        queue(Entry::new(line));
    }
}

/// A line on its way.
struct Entry {
    line: Line,
    /// How often the same was not told before.
    held: u32,
    /// Whose it is.
    topic: Option<&'static Topic>,
}

impl Entry {
    fn new(line: Line) -> Entry {
        Entry { line, held: 0, topic: None }
    }
}

struct Desk {
    lines: ArrayQueue<Entry>,
    is_open: AtomicBool,
    writer: Mutex<Option<Thread>>,
}

/// Lines that found no room in the queue, and that is not told yet.
static LOST: AtomicU32 = AtomicU32::new(0);

/// Lines that could not be written, and that is not told yet.
static UNWRITTEN: AtomicU32 = AtomicU32::new(0);

fn desk() -> &'static Desk {
    static DESK: OnceLock<Desk> = OnceLock::new();
    DESK.get_or_init(|| Desk {
        lines: ArrayQueue::new(REPORT_LINES),
        is_open: AtomicBool::new(false),
        writer: Mutex::new(None),
    })
}

fn queue(entry: Entry) {
    let desk = desk();
    if !desk.is_open.load(Ordering::Acquire) {
        return;
    }
    if desk.lines.push(entry).is_err() {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
    // Held for the length of a load and a wake-up; events are rare.
    if let Some(writer) = &*desk.writer.lock().unwrap_or_else(PoisonError::into_inner) {
        writer.unpark();
    }
}

/// The thread that writes the lines, for as long as this value lives; lines queued before it is
/// dropped are written, as long as they are taken.
#[derive(Debug)]
pub struct Reporter(Option<JoinHandle<()>>);

impl Reporter {
    /// Starts the thread. There is one per process: a second server in the process uses the first
    /// one's, and reports nothing after that has ended.
    ///
    /// # Errors
    /// If the host cannot create a thread, or there is no journal.
    pub fn start(format: Format, target: &Target) -> Result<Reporter, LogError> {
        let desk = desk();
        let mut writer = desk.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_some() {
            return Ok(Reporter(None));
        }
        let dispatch = sink::subscriber(format, target, &UNWRITTEN)?;
        desk.is_open.store(true, Ordering::Release);
        let write = move || tracing::dispatcher::with_default(&dispatch, || Writer::new().run());
        let thread = std::thread::Builder::new().name("sunder-report".into()).spawn(write);
        let thread = thread.map_err(LogError::Thread)?;
        *writer = Some(thread.thread().clone());
        Ok(Reporter(Some(thread)))
    }
}

/// Lines written so far.
static WRITTEN: AtomicU32 = AtomicU32::new(0);

impl Drop for Reporter {
    fn drop(&mut self) {
        let Some(thread) = self.0.take() else { return };
        let desk = desk();
        desk.is_open.store(false, Ordering::Release);
        thread.thread().unpark();
        // A reader that reads no more must not keep the process from its end.
        let mut written = WRITTEN.load(Ordering::Relaxed);
        let mut waited_ms = 0;
        while !thread.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
            waited_ms += 1;
            let now_written = WRITTEN.load(Ordering::Relaxed);
            if std::mem::replace(&mut written, now_written) != now_written {
                waited_ms = 0;
            } else if waited_ms >= REPORT_END_MS {
                return;
            }
        }
        *desk.writer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The thread's own.
struct Writer {
    clock: Clock,
    /// The last line of each topic whose interval is not over.
    recent: Vec<(&'static Topic, Line)>,
}

impl Writer {
    fn new() -> Writer {
        Writer { clock: Clock::start(), recent: Vec::new() }
    }

    fn run(mut self) {
        let desk = desk();
        loop {
            let is_open = desk.is_open.load(Ordering::Acquire);
            while let Some(Entry { line, held, topic }) = desk.lines.pop() {
                if let Some(topic) = topic {
                    self.recent.retain(|(it, _)| !std::ptr::eq(*it, topic));
                    self.recent.push((topic, line.clone()));
                }
                write(line.suppressed(held));
            }
            self.settle(!is_open);
            tell_lost();
            if !is_open {
                return;
            }
            if self.recent.is_empty() {
                std::thread::park();
            } else {
                std::thread::park_timeout(Duration::from_secs(1));
            }
        }
    }

    /// Tells what was held back in intervals that are over, or all of it.
    fn settle(&mut self, is_end: bool) {
        let now_s = self.clock.read().unix_s.max(1);
        self.recent.retain(|(topic, line)| match topic.settle(now_s, is_end) {
            None => true,
            Some(0) => false,
            Some(held) => {
                write(line.again().suppressed(held));
                true
            }
        });
    }
}

fn tell_lost() {
    for (lines, why) in [
        (&LOST, "lines were dropped here: the queue was full"),
        (&UNWRITTEN, "lines could not be written here"),
    ] {
        let lines = lines.swap(0, Ordering::Relaxed);
        if lines > 0 {
            write(Event::LinesLost.line(format_args!("{lines} {why}")).count(lines.into()));
        }
    }
}

fn write(line: Line) {
    sink::emit(&line);
    WRITTEN.fetch_add(1, Ordering::Relaxed);
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
    fn a_verbosity_above_the_highest_is_the_highest() {
        for (given, verbosity) in [(1, 1), (3, 2), (u32::MAX, 2), (0, 0)] {
            set_verbosity(given);
            assert_eq!(super::verbosity(), verbosity);
        }
        tell_at(COMMANDS, || panic!("not made at a lower verbosity"));
    }

    #[test]
    fn what_an_interval_held_back_is_told_at_its_end() {
        let topic = Topic::new();
        assert_eq!(topic.admit(at(100)), Some(0));
        assert_eq!(topic.settle(100 + REPORT_INTERVAL_S, false), Some(0));
        assert_eq!((topic.admit(at(101)), topic.admit(at(102))), (None, None));
        assert_eq!(topic.settle(99 + REPORT_INTERVAL_S, false), None, "not yet");
        assert_eq!(topic.settle(100 + REPORT_INTERVAL_S, false), Some(2));
        assert_eq!(topic.admit(at(101 + REPORT_INTERVAL_S)), None, "that was a line");
        assert_eq!(topic.admit(at(100 + 2 * REPORT_INTERVAL_S)), Some(1));
    }

    #[test]
    fn a_line_that_is_not_reported_is_not_made() {
        static TOPIC: Topic = Topic::new();
        let mut made = 0;
        for s in 0..10 {
            TOPIC.report(at(s), || {
                made += 1;
                Event::TierDown.line("an event")
            });
        }
        assert_eq!(made, 1);
    }
}
