//! How far a run is: a bar on a terminal, a plain line every few seconds otherwise; and whether the
//! user has had enough.
//!
//! Writes to standard error, so that what a run prints at its end can be kept.

use crate::base::clock::Clock;
use crate::base::console::complain;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Time between plain lines.
const LINE_EVERY_NS: u64 = 5_000_000_000;

/// How often a bar is drawn, in Hz.
const BAR_HZ: u8 = 10;

/// Exit status of a run that ctrl-C or SIGTERM ended: 128 and SIGINT's number, as shells have it.
pub const EXIT_INTERRUPTED: u8 = 130;

/// From now on ctrl-C (SIGINT) and SIGTERM set `stop`, and a second one ends the process.
///
/// # Errors
/// The operating system's.
pub fn watch_signals(stop: &Arc<AtomicBool>) -> io::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let status = i32::from(EXIT_INTERRUPTED);
        // What is registered first goes first: it looks at what an earlier signal has set.
        signal_hook::flag::register_conditional_shutdown(signal, status, Arc::clone(stop))?;
        signal_hook::flag::register(signal, Arc::clone(stop))?;
    }
    Ok(())
}

/// See the module.
#[derive(Debug)]
pub struct Progress {
    tool: &'static str,
    total: u64,
    bar: Option<ProgressBar>,
    clock: Clock,
    next_line_ns: u64,
    stop: Arc<AtomicBool>,
}

impl Progress {
    /// Of a run of `total` operations, which the operator may end: see [`watch_signals`].
    pub fn start(tool: &'static str, total: u64) -> Progress {
        let stop = Arc::new(AtomicBool::new(false));
        if let Err(error) = watch_signals(&stop) {
            complain(format_args!(
                "sunder {tool}: ctrl-C will end the run without its figures: {error}"
            ));
        }
        let bar = std::io::stderr().is_terminal().then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(BAR_HZ);
            let style = "{bar:40} {percent:>3} %  {human_pos} of {human_len}  {per_sec}  {eta}";
            let style = ProgressStyle::with_template(style).expect("a template that is one");
            ProgressBar::with_draw_target(Some(total), target).with_style(style)
        });
        let clock = Clock::start();
        Progress { tool, total, bar, clock, next_line_ns: LINE_EVERY_NS, stop }
    }

    /// So many are done. Whether to go on.
    pub fn tell(&mut self, done: u64) -> bool {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.clock.read_ns() >= self.next_line_ns {
            self.next_line_ns = self.clock.read_ns() + LINE_EVERY_NS;
            let percent = done * 100 / self.total.max(1);
            complain(format_args!(
                "sunder {}: {done} of {} operations, {percent} %",
                self.tool, self.total
            ));
        }
        !self.is_stopped()
    }

    /// What ctrl-C sets.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.clock.read_ns())
    }

    /// Whether ctrl-C was pressed.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Seconds since the start; takes the bar away.
    pub fn end(&mut self) -> f64 {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.elapsed().as_secs_f64()
    }
}
