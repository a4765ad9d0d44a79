//! How far a run is: a bar on a terminal, a plain line every few seconds otherwise; and whether the
//! user has had enough.
//!
//! Writes to standard error, so that what a run prints at its end can be kept.

use crate::clock::Clock;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Time between plain lines.
const LINE_EVERY_NS: u64 = 5_000_000_000;

/// How often a bar is drawn, in Hz.
const BAR_HZ: u8 = 10;

/// Exit status of a run that ctrl-C ended: 128 and the signal's number, as shells have it.
pub const EXIT_INTERRUPTED: u8 = 130;

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
    /// Of a run of `total` operations. From now on ctrl-C sets a flag, and a second one ends the
    /// process.
    pub fn start(tool: &'static str, total: u64) -> Progress {
        let stop = Arc::new(AtomicBool::new(false));
        let signal = signal_hook::consts::SIGINT;
        let status = i32::from(EXIT_INTERRUPTED);
        // The second handler goes first: it looks at what an earlier signal has set.
        let both =
            signal_hook::flag::register_conditional_shutdown(signal, status, Arc::clone(&stop))
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        if let Err(error) = both {
            eprintln!("sunder {tool}: ctrl-C will end the run without its figures: {error}");
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
            eprintln!("sunder {}: {done} of {} operations, {percent} %", self.tool, self.total);
        }
        !self.is_stopped()
    }

    /// What ctrl-C sets.
    pub fn stop(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
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
        self.clock.read_ns() as f64 / 1e9
    }
}
