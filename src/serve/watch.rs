//! Watches the devices while they serve: their links, MTUs, lost frames, their removal. Operators
//! get a log line, `stats` shows the numbers, and the stacks are notified of what concerns them.
//! Runs on a thread of its own, because a driver may take long to answer; never touches a frame.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::base::clock::Now;
use crate::base::limits::{NIC_WATCH_MS, REPORT_INTERVAL_S};
use crate::base::stats::{Counter, DeviceStats};
use crate::net::nic::NicMonitor;
use crate::net::tcp::Board;
use crate::report::{self, Event};
use crate::worker::Shared;

/// Ends the watch, also when what runs beside it has panicked.
struct End<'w> {
    is_over: &'w AtomicBool,
    watcher: Thread,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.watcher.unpark();
    }
}

/// What was seen of the devices so far.
pub(super) struct Watch<'w> {
    devices: Vec<Watched<'w>>,
    shared: &'w Shared,
    handshakes_dropped: Growth,
}

/// What was seen of one.
pub(super) struct Watched<'w> {
    monitor: NicMonitor,
    board: &'w Board,
    stats: &'w DeviceStats,
    is_up: bool,
    is_gone: bool,
    lost: Growth,
}

/// A counter of which a line tells that it has grown: the whole of it, and not too often.
#[derive(Debug, Default)]
struct Growth {
    told: u64,
    told_s: u32,
}

impl Growth {
    /// Whether it is time to tell that it is `count` now.
    fn is_due(&mut self, count: u64, now: Now) -> bool {
        let is_due = count > self.told && now.unix_s >= self.told_s + REPORT_INTERVAL_S;
        if is_due {
            *self = Growth { told: count, told_s: now.unix_s };
        }
        is_due
    }
}

impl<'w> Watched<'w> {
    /// `board`: where the stacks look for what concerns them. `stats`: where its counters go.
    pub(super) fn new(
        monitor: NicMonitor,
        board: &'w Board,
        stats: &'w DeviceStats,
    ) -> Watched<'w> {
        let is_up = monitor.has_carrier();
        Watched { monitor, board, stats, is_up, is_gone: false, lost: Growth::default() }
    }

    /// Looks once.
    fn look(&mut self, now: Now) {
        let device = self.stats.given();
        if !self.is_gone && self.monitor.is_gone() {
            self.is_gone = true;
            self.stats.set(Counter::DeviceLinkUp, 0);
            let text = format_args!("{device} is gone, unplugged or its interface deleted");
            report::tell(Event::LinkDown.line(text).device(device));
        }
        if self.is_gone {
            return;
        }
        let is_up = self.monitor.has_carrier();
        if is_up != std::mem::replace(&mut self.is_up, is_up) {
            self.tell_link(is_up);
        }
        if let Some(bytes) = self.monitor.mtu_bytes() {
            self.board.set_mtu(bytes);
        }
        let seen = self.monitor.statistics();
        self.stats.set(Counter::DeviceLinkUp, is_up.into());
        self.stats.set(Counter::DeviceRxMissed, seen.receive_missed);
        self.stats.set(Counter::DeviceRxErrors, seen.receive_errors);
        self.stats.set(Counter::DeviceRxNoBuffer, seen.receive_no_buffer);
        self.stats.set(Counter::DeviceTxErrors, seen.send_errors);
        let lost = seen.receive_missed.saturating_add(seen.receive_no_buffer);
        if self.lost.is_due(lost, now) {
            let text = format_args!(
                "{device} has lost {lost} frames because its workers were too slow: give it more \
                 of them, or cores of their own (device_rx_missed of stats)"
            );
            report::tell(Event::FramesLost.line(text).device(device).count(lost));
        }
    }

    fn tell_link(&self, is_up: bool) {
        let device = self.stats.given();
        if is_up {
            self.board.link_came_up();
            let text = format_args!("the link of {device} is up again");
            report::tell(Event::LinkUp.line(text).device(device));
        } else {
            let text = format_args!(
                "the link of {device} is down and no client is served through it: check its cable \
                 and switch, or the other end of a virtual wire; service resumes when it is up"
            );
            report::tell(Event::LinkDown.line(text).device(device));
        }
    }
}

impl<'w> Watch<'w> {
    pub(super) fn new(devices: Vec<Watched<'w>>, shared: &'w Shared) -> Watch<'w> {
        Watch { devices, shared, handshakes_dropped: Growth::default() }
    }

    /// Watches while `serve` runs. If all devices are gone, the server is stopped.
    pub(super) fn beside<R>(mut self, serve: impl FnOnce() -> R) -> R {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) && self.look() {
                    thread::park_timeout(Duration::from_millis(NIC_WATCH_MS));
                }
            });
            let _end = End { is_over: &is_over, watcher: watcher.thread().clone() };
            serve()
        })
    }

    /// Looks once. False: all devices are gone.
    fn look(&mut self) -> bool {
        let shared = self.shared;
        let now = shared.clock.read();
        self.devices.iter_mut().for_each(|device| device.look(now));
        // Worker 0 does not write these.
        DeviceStats::sum(&shared.devices, &shared.stats[0]);
        if self.devices.iter().all(|device| device.is_gone) {
            // No client can be reached, so there is no point in waiting for them to read their
            // replies.
            shared.unreachable.store(true, Ordering::Relaxed);
            shared.stop.store(true, Ordering::Relaxed);
            return false;
        }
        // Workers only count these: a flood of them must cost as little as it can.
        let dropped = shared.sum(Counter::HalfOpenDropped);
        if self.handshakes_dropped.is_due(dropped, now) {
            let text = format_args!(
                "{dropped} handshakes were dropped, because more were open than there is room \
                 for: a SYN flood, if their addresses answer nothing; --allow lets only your \
                 clients' networks connect (half_open_dropped of stats)"
            );
            report::tell(Event::HandshakesDropped.line(text).count(dropped));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_told_when_it_begins_and_once_it_is_over() {
        let mut growth = Growth::default();
        let mut told = |count, unix_s| growth.is_due(count, Now { uptime_us: 0, unix_s });
        assert!(!told(0, 1_000), "nothing has grown");
        assert!(told(5, 1_000));
        assert!(!told(900, 1_001) && !told(900, 999 + REPORT_INTERVAL_S), "not so often");
        assert!(told(900, 1_000 + REPORT_INTERVAL_S), "the rest of it");
        assert!(!told(900, 5_000));
    }
}
