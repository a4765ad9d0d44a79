//! `sunder top` on a terminal, which it leaves as it found it: at its end, on an error, on a
//! signal. Another thread asks the server, so that a key is obeyed while the server hangs.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::fail;
use super::screen::{Shown, draw};
use super::source::{Lost, Source};
use crate::admin::Feed;
use crate::base::clock::Clock;

/// Time between two questions.
const EVERY: Duration = Duration::from_secs(1);

/// Longest time until a signal or an answer is noticed.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Seconds that are kept.
const ROWS: usize = 600;

/// Shows a server until a key or a signal ends it.
pub fn top(address: String) -> ExitCode {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return fail("top", "needs a terminal; sunder stat prints lines");
    }
    let mut source = Source::new(address.clone());
    let feed = match source.ask() {
        Ok(feed) => feed,
        Err(lost) => return fail("top", lost),
    };
    let mut shown = Shown { address, ..Shown::default() };
    take(&mut shown, feed);
    // A signal is noticed by the loop, which then restores the terminal.
    let is_over = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&is_over)) {
            return fail("top", format_args!("signals: {error}"));
        }
    }
    // Without room: the next question waits until the last answer is taken.
    let (answers, taken) = sync_channel(0);
    let asker = thread::Builder::new().name("ask".to_owned()).spawn(move || ask(source, &answers));
    if let Err(error) = asker {
        return fail("top", format_args!("cannot start a thread: {error}"));
    }
    // This also restores the terminal if the process panics.
    let ended = match ratatui::try_init() {
        Ok(mut terminal) => show(&mut terminal, &mut shown, &taken, &is_over),
        Err(error) => Err(error),
    };
    let restored = ratatui::try_restore();
    match ended.and(restored) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("top", format_args!("terminal: {error}")),
    }
}

fn ask(mut source: Source, answers: &SyncSender<Result<Feed, Lost>>) {
    loop {
        thread::sleep(EVERY);
        if answers.send(source.ask()).is_err() {
            return;
        }
    }
}

fn take(shown: &mut Shown, mut feed: Feed) {
    if feed.pid != shown.feed.pid {
        shown.rows.clear();
    }
    shown.rows.append(&mut feed.seconds);
    let forgotten = shown.rows.len().saturating_sub(ROWS);
    shown.rows.drain(..forgotten);
    shown.feed = feed;
    shown.lost = None;
}

fn show(
    terminal: &mut DefaultTerminal,
    shown: &mut Shown,
    taken: &Receiver<Result<Feed, Lost>>,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let clock = Clock::start();
    let mut heard_us = 0;
    while !is_over.load(Relaxed) {
        terminal.draw(|frame| draw(frame, shown))?;
        wait_for_input()?;
        while event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()?
                && is_end(key)
            {
                return Ok(());
            }
        }
        let now_us = clock.read().uptime_us;
        match taken.try_recv() {
            Ok(Ok(feed)) => {
                heard_us = now_us;
                take(shown, feed);
            }
            Ok(Err(lost)) => shown.lost = Some((lost.to_string(), 0)),
            Err(_) => (),
        }
        if let Some((_, seconds)) = &mut shown.lost {
            *seconds = (now_us - heard_us) / 1_000_000;
        }
    }
    Ok(())
}

/// Waits for a key, a new size, or [`LOOK`].
///
/// # Errors
/// The terminal is gone: the library that reads keys would read its end for ever.
fn wait_for_input() -> io::Result<()> {
    let stdin = io::stdin();
    let mut events = [PollFd::new(&stdin, PollFlags::IN)];
    match poll(&mut events, Some(&LOOK)) {
        // A new size is told by a signal.
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    match events[0].revents().intersects(gone) {
        true => Err(io::Error::new(io::ErrorKind::BrokenPipe, "it is gone")),
        false => Ok(()),
    }
}

fn is_end(key: KeyEvent) -> bool {
    let is_interrupt = key.modifiers.contains(KeyModifiers::CONTROL);
    matches!(key.code, KeyCode::Char('q' | 'Q') | KeyCode::Esc)
        || (is_interrupt && key.code == KeyCode::Char('c'))
}
