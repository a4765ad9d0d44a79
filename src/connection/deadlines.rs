//! Deadlines: what a connection with incomplete work waits for, and for how long.
//!
//! Only times are compared here, and only those that the caller read. Nothing is closed here: the
//! transport asks which connections are overdue.

use super::slots::Content;
use super::{Connection, Engine, InputState};
use crate::base::clock::Now;
use crate::base::limits::{BODY_BYTES_PER_S_MIN, BODY_PAUSE_US, STALL_TIMEOUT_US};
use crate::tier::{Outcome, Value};

/// What a connection with incomplete work waits for; never for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stall {
    None,
    Input,
    Body,
    /// Bytes to discard, which use no memory.
    Skip,
    Output,
}

/// The progress of a visit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    /// A complete request, or a key of one, was taken from the input.
    pub input: bool,
    /// A part of a reply that had waited was written.
    pub output: bool,
}

impl Connection {
    /// Whether its work has been incomplete for too long.
    ///
    /// `is_contended`: others wait for the room that values take.
    pub fn is_overdue(&self, is_contended: bool, now: Now) -> bool {
        let has_paused = is_contended
            && matches!(self.stall, Stall::Body | Stall::Output)
            && now.uptime_us.saturating_sub(self.progress_us) >= BODY_PAUSE_US;
        if has_paused {
            return true;
        }
        now.uptime_us >= self.deadline_us
    }

    /// Whether it has made no request for `idle_us` microseconds; 0: it may.
    pub fn is_idle(&self, idle_us: u64, now: Now) -> bool {
        let is_watching = matches!(self.state, InputState::Watch);
        idle_us > 0 && !is_watching && now.uptime_us.saturating_sub(self.driven_us) >= idle_us
    }

    /// Why it ends, by memcached's names.
    pub fn reason(&self, idle_us: u64, is_reset: bool, now: Now) -> &'static str {
        match is_reset {
            true => "error",
            false if !self.is_closing && self.is_idle(idle_us, now) => "idle_timeout",
            false => "normal",
        }
    }

    /// Extends the deadline: bytes were transferred that may take `us` at the slowest. A client
    /// that sends or reads less makes less progress.
    pub(super) fn earn_us(&mut self, us: u64, now: Now) {
        self.progress_us = (self.progress_us + us).min(now.uptime_us);
    }

    /// Notes what the connection waits for, and until when; `moved` is the progress of the visit.
    #[inline(always)]
    pub(super) fn set_deadline<E: Engine>(
        &mut self,
        is_blocked: bool,
        moved: Moved,
        engine: &mut E,
        now: Now,
    ) {
        let stall = if is_blocked {
            Stall::Output
        } else if matches!(self.state, InputState::Body { .. }) {
            Stall::Body
        } else if matches!(self.state, InputState::Skip { .. }) {
            Stall::Skip
        } else if self.is_partial || !matches!(self.state, InputState::Command | InputState::Watch)
        {
            Stall::Input
        } else {
            Stall::None
        };
        // It waits for something new if a request was taken or a reply made progress.
        let is_new = stall != self.stall
            || (stall == Stall::Output && moved.output)
            || (stall == Stall::Input && moved.input);
        let is_unread = stall == Stall::Output;
        if is_unread && is_new {
            self.progress_us = now.uptime_us;
        }
        if is_unread != (self.stall == Stall::Output) {
            engine.note_unread(is_unread);
        }
        self.stall = stall;
        match stall {
            Stall::None => self.deadline_us = u64::MAX,
            // Set for the whole value when it began; while nothing was read its time was stopped.
            Stall::Body | Stall::Skip if is_new => {
                self.deadline_us = deadline_us(self.bytes_left(engine), now);
            }
            Stall::Body | Stall::Skip => {}
            Stall::Input if is_new => self.deadline_us = deadline_us(0, now),
            Stall::Output if is_new => {
                self.deadline_us = deadline_us(self.front_bytes(engine), now);
            }
            Stall::Input | Stall::Output => {}
        }
    }

    /// Length of the value in the reply that is next.
    fn front_bytes<E: Engine>(&self, engine: &mut E) -> usize {
        match self.queue.first().map(|slot| engine.slots().content(slot)) {
            Some(Content::Ready { outcome: Outcome::Hit(hit), .. }) => hit.value.len(),
            Some(Content::Encoded { value: Some(value), .. }) => value.len(),
            Some(&Content::Waiting { left_bytes, .. }) => left_bytes,
            _ => 0,
        }
    }
}

/// How long `bytes` bytes may take to arrive at the slowest, in microseconds.
pub(super) fn allowance_us(bytes: usize) -> u64 {
    bytes as u64 * 1_000_000 / BODY_BYTES_PER_S_MIN
}

/// The deadline of a transfer of `bytes` bytes that makes no progress.
pub(super) fn deadline_us(bytes: usize, now: Now) -> u64 {
    now.uptime_us + STALL_TIMEOUT_US + allowance_us(bytes)
}
