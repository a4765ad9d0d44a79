//! Writes that failed: when they are tried again, and when a place is given up.
//!
//! Nothing here may write: it says what is due.

use super::disk::Io;
use crate::base::clock::Now;
use crate::base::limits::{SSD_RETRY_MAX_US, SSD_RETRY_US, SSD_WRITE_TRIES};

/// A write to an open segment that failed.
pub(super) struct FailedWrite {
    /// None: it is under way again.
    io: Option<Io>,
    token: u64,
    offset_bytes: u64,
    tries: usize,
    /// How many writes had succeeded when it failed for the first time.
    writes_done: u64,
}

/// What failed, and how long nothing is written for it.
#[derive(Default)]
pub(super) struct Retries {
    /// Nothing is written before.
    at_us: u64,
    /// How long it is quiet after the next failure, and what was written when that was decided.
    quiet: (u64, u64),
    /// Writes to open segments that are to be tried again.
    failed: Vec<FailedWrite>,
    /// Writes that succeeded.
    writes_done: u64,
}

impl Retries {
    /// Whether nothing is written now.
    pub(super) fn is_quiet(&self, now: Now) -> bool {
        now.uptime_us < self.at_us
    }

    /// Until when nothing is written, as an uptime in microseconds.
    pub(super) fn at_us(&self) -> u64 {
        self.at_us
    }

    /// After a failure nothing is written for a while; longer each time, as long as nothing can be
    /// written at all: to find out costs as much as what waits to be written.
    pub(super) fn back_off(&mut self, now: Now) {
        let (quiet_us, writes_done) = self.quiet;
        if writes_done != self.writes_done || quiet_us == 0 {
            self.quiet = (SSD_RETRY_US, self.writes_done);
        } else if !self.is_quiet(now) {
            // The first failure since.
            self.quiet.0 = (2 * quiet_us).min(SSD_RETRY_MAX_US);
        }
        self.at_us = now.uptime_us + self.quiet.0;
    }

    /// A write succeeded.
    pub(super) fn succeeded(&mut self) {
        self.writes_done += 1;
    }

    /// Writes that succeeded.
    pub(super) fn writes_done(&self) -> u64 {
        self.writes_done
    }

    /// The writes that are to be tried again now.
    pub(super) fn due(&mut self) -> impl Iterator<Item = Io> {
        self.failed.iter_mut().filter_map(|failed| failed.io.take())
    }

    /// A write to an open segment is done: what was known of it, if it had failed before.
    pub(super) fn take(&mut self, token: u64, offset_bytes: u64) -> Option<FailedWrite> {
        let is_it = |it: &FailedWrite| it.token == token && it.offset_bytes == offset_bytes;
        let at = self.failed.iter().position(is_it)?;
        Some(self.failed.swap_remove(at))
    }

    /// A write to an open segment has failed, `before` too if that was known. False: its place is
    /// given up. While nothing at all can be written it is no worse than any other.
    pub(super) fn failed(
        &mut self,
        io: Io,
        offset_bytes: u64,
        before: Option<FailedWrite>,
    ) -> bool {
        let tries = before.as_ref().map_or(1, |it| it.tries + 1);
        let writes_done = before.map_or(self.writes_done, |it| it.writes_done);
        if tries >= SSD_WRITE_TRIES && self.writes_done > writes_done {
            return false;
        }
        let token = io.token;
        self.failed.push(FailedWrite { io: Some(io), token, offset_bytes, tries, writes_done });
        true
    }
}
