//! Watches the device while it serves: its link, its MTU, lost frames, its removal. Operators get a
//! log line, `stats` shows the numbers, and the stacks are notified of what concerns them. It runs
//! on a thread of its own, because a driver may take long to answer, and never touches a frame.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::base::limits::NIC_WATCH_MS;
use crate::base::stats::Counter;
use crate::net::nic::NicMonitor;
use crate::net::tcp::Board;
use crate::report::{self, Event, Topic};
use crate::worker::Shared;

static LOST: Topic = Topic::new();
static HANDSHAKES: Topic = Topic::new();

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

/// What was seen of a device so far.
pub(super) struct Watch<'w> {
    monitor: &'w NicMonitor,
    device: &'w str,
    shared: &'w Shared,
    board: &'w Board,
    is_up: bool,
    lost: u64,
    handshakes_dropped: u64,
}

impl<'w> Watch<'w> {
    /// `board`: where the stacks look for what concerns them.
    pub(super) fn new(
        monitor: &'w NicMonitor,
        device: &'w str,
        shared: &'w Shared,
        board: &'w Board,
    ) -> Watch<'w> {
        let is_up = monitor.has_carrier();
        Watch { monitor, device, shared, board, is_up, lost: 0, handshakes_dropped: 0 }
    }

    /// Watches while `serve` runs. If the device is gone, the server is stopped.
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

    /// Looks once. False: the device is gone.
    fn look(&mut self) -> bool {
        let Watch { monitor, device, shared, .. } = *self;
        if monitor.is_gone() {
            // No client can be reached, so there is no point in waiting for them to read their
            // replies.
            shared.unreachable.store(true, Ordering::Relaxed);
            shared.stop.store(true, Ordering::Relaxed);
            return false;
        }
        let is_up = monitor.has_carrier();
        if is_up != std::mem::replace(&mut self.is_up, is_up) {
            if is_up {
                self.board.link_came_up();
                let text = format_args!("the link of {device} is up again");
                report::tell(Event::LinkUp.line(text).device(device));
            } else {
                let text = format_args!(
                    "the link of {device} is down and no client is served: check its cable and \
                     switch, or the other end of a virtual wire; service resumes when it is up"
                );
                report::tell(Event::LinkDown.line(text).device(device));
            }
        }
        if let Some(bytes) = monitor.mtu_bytes() {
            self.board.set_mtu(bytes);
        }
        let seen = monitor.statistics();
        // Worker 0 does not write these.
        let stats = &shared.stats[0];
        stats.set(Counter::DeviceLinkUp, is_up.into());
        stats.set(Counter::DeviceRxMissed, seen.receive_missed);
        stats.set(Counter::DeviceRxErrors, seen.receive_errors);
        stats.set(Counter::DeviceRxNoBuffer, seen.receive_no_buffer);
        stats.set(Counter::DeviceTxErrors, seen.send_errors);
        let lost = seen.receive_missed.saturating_add(seen.receive_no_buffer);
        if lost > std::mem::replace(&mut self.lost, lost) {
            LOST.report(shared.clock.read(), || {
                let text = format_args!(
                    "{device} has lost {lost} frames because its workers were too slow: give it \
                     more of them, or cores of their own (device_rx_missed of stats)"
                );
                Event::FramesLost.line(text).device(device).count(lost)
            });
        }
        self.look_at_handshakes();
        true
    }

    /// Workers only count these: a flood of them must cost as little as it can.
    fn look_at_handshakes(&mut self) {
        let dropped = self.shared.sum(Counter::HalfOpenDropped);
        if dropped > std::mem::replace(&mut self.handshakes_dropped, dropped) {
            HANDSHAKES.report(self.shared.clock.read(), || {
                let text = format_args!(
                    "{dropped} handshakes were dropped, because more are open than there is room \
                     for: a SYN flood, if their addresses answer nothing; --allow lets only your \
                     clients' networks connect (half_open_dropped of stats)"
                );
                Event::HandshakesDropped.line(text).device(self.device).count(dropped)
            });
        }
    }
}
