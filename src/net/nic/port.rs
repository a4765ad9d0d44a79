//! A worker's end of the device: receiving and sending bursts, and queues in between.
//!
//! With a queue pair per worker, a port is one of them. With one queue pair worker 0's port has it
//! and serves the others through rings; see `steer`. Nothing here waits.

use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys as dpdk;

use super::eal::KnownThread;
use super::ethdev::Device;
use super::frame::NicFrame;
use super::queue::TxQueue;
use super::steer::{Hub, Lane, Steered};
use crate::base::limits::{
    BURST_FRAMES, NIC_REUSED_FRAMES, NIC_TX_QUEUE_FRAMES, TCP_MTU_MAX_BYTES,
};
use crate::base::stats::{Counter, WorkerStats};
use crate::net::tcp::device::{Capabilities, Frame, Port};
use crate::net::tcp::headers::ETHERNET_BYTES;

/// A queue pair, with the output that its device did not accept yet.
struct QueuePair {
    device: Arc<Device>,
    queue: u16,
    pending: TxQueue<NonNull<dpdk::rte_mbuf>>,
}

impl QueuePair {
    /// Receives up to a burst and passes each frame to `each`.
    fn receive(&mut self, room: usize, stats: &WorkerStats, mut each: impl FnMut(NicFrame)) {
        if room == 0 {
            return;
        }
        // Most turns receive nothing: clearing this would be a good part of their work.
        let mut frames = [const { MaybeUninit::<dpdk::shim_frame>::uninit() }; BURST_FRAMES];
        let room = room.min(BURST_FRAMES) as u16;
        let mut malformed = 0;
        // SAFETY: the port is started and the queue is this value's alone, which is borrowed
        // mutably; the pool is never freed; there is room for as many as requested.
        let received = unsafe {
            let frames = frames.as_mut_ptr().cast();
            let (port, pool) = (self.device.port(), self.device.pool().as_ptr());
            dpdk::shim_rx_burst(port, self.queue, pool, frames, room, &mut malformed)
        };
        for frame in &frames[..usize::from(received)] {
            // SAFETY: filled by the shim just now, as far as it says, and visited once.
            each(unsafe { NicFrame::from_shim(frame.assume_init_ref()) });
        }
        let total = u64::from(received) + u64::from(malformed);
        if total > 0 {
            stats.add(Counter::RxBursts, 1);
            stats.add(Counter::FramesReceived, total);
            stats.add(Counter::FramesMalformed, u64::from(malformed));
        }
    }

    fn push(&mut self, frame: NicFrame) {
        self.pending.push(frame.into_mbuf());
    }

    /// Offers queued frames to the device, once.
    fn transmit(&mut self, stats: &WorkerStats) {
        if self.pending.len() == 0 {
            return;
        }
        let (port, queue) = (self.device.port(), self.queue);
        let offer = self.pending.offer(|frames| {
            let mbufs = frames.as_mut_ptr().cast::<*mut dpdk::rte_mbuf>();
            // SAFETY: an Option of a NonNull is a pointer, and all of these are Some: frames made
            // ready to be sent, without another owner. Those the device takes are its own from here
            // on, and are forgotten by the queue. The queue is this value's alone.
            let taken = unsafe { dpdk::shim_tx_burst(port, queue, mbufs, frames.len() as u16) };
            usize::from(taken)
        });
        stats.add(Counter::FramesSent, offer.taken as u64);
        if offer.is_partial {
            stats.add(Counter::TxPartialBursts, 1);
        }
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        while let Some(mbuf) = self.pending.pop() {
            // SAFETY: what waits was not taken by the device.
            unsafe { NicFrame::free(mbuf) };
        }
    }
}

/// A frame that the shim has yet to fill.
const EMPTY: dpdk::shim_frame = dpdk::shim_frame {
    mbuf: std::ptr::null_mut(),
    data: std::ptr::null_mut(),
    rss_hash: 0,
    len: 0,
    capacity: 0,
    flags: 0,
};

/// The way of a worker's frames.
enum Path {
    /// Its own queue pair.
    Own(QueuePair),
    /// The only queue pair, and rings to the workers without one.
    Shared(QueuePair, Hub<NicFrame>),
    /// Rings to worker 0.
    Steered(Lane<NicFrame>),
}

/// One worker's port. Created before the threads start; from its first use on it belongs to the
/// thread that used it.
pub struct WorkerPort {
    // Before the device: frames queued in them are from the device's pool.
    path: Path,
    /// Received frames that are no longer needed, the newest last: they are reused for sending. So
    /// a request does not access the pool twice, and the newest is in the core's cache.
    reused: ArrayVec<NicFrame, NIC_REUSED_FRAMES>,
    /// Buffer size of the longest frame to send.
    frame_bytes: usize,
    thread: Option<KnownThread>,
    is_entered: bool,
    forwarded: usize,
    stats: Arc<WorkerStats>,
    device: Arc<Device>,
}

// SAFETY: the raw pointers inside are mbufs that wait to be sent, which are this value's alone and
// may be freed or sent by any thread, one at a time.
unsafe impl Send for WorkerPort {}

impl WorkerPort {
    pub(super) fn own(device: &Arc<Device>, queue: u16, stats: Arc<WorkerStats>) -> WorkerPort {
        WorkerPort::new(device, Path::Own(QueuePair::new(device, queue)), stats)
    }

    pub(super) fn shared(
        device: &Arc<Device>,
        hub: Hub<NicFrame>,
        stats: Arc<WorkerStats>,
    ) -> WorkerPort {
        WorkerPort::new(device, Path::Shared(QueuePair::new(device, 0), hub), stats)
    }

    pub(super) fn steered(
        device: &Arc<Device>,
        lane: Lane<NicFrame>,
        stats: Arc<WorkerStats>,
    ) -> WorkerPort {
        WorkerPort::new(device, Path::Steered(lane), stats)
    }

    fn new(device: &Arc<Device>, path: Path, stats: Arc<WorkerStats>) -> WorkerPort {
        let device = Arc::clone(device);
        WorkerPort {
            path,
            reused: ArrayVec::new(),
            frame_bytes: ETHERNET_BYTES + TCP_MTU_MAX_BYTES,
            thread: None,
            is_entered: false,
            forwarded: 0,
            stats,
            device,
        }
    }

    /// Registers this thread with DPDK, once, so that it has a cache of free frames.
    #[cold]
    fn enter(&mut self) {
        self.is_entered = true;
        self.thread = KnownThread::register();
    }

    /// An empty frame of the pool.
    fn allocate_new(&mut self) -> Option<NicFrame> {
        if !self.is_entered {
            self.enter();
        }
        let mut frame = EMPTY;
        // SAFETY: the pool lives as long as the device, which self holds; the frame is taken over
        // once.
        unsafe {
            dpdk::shim_alloc(self.device.pool().as_ptr(), &mut frame)
                .then(|| NicFrame::from_shim(&frame))
        }
    }

    /// Moves the other workers' output to the queue, as far as there is room.
    fn relay(pair: &mut QueuePair, hub: &mut Hub<NicFrame>) -> usize {
        let room = NIC_TX_QUEUE_FRAMES - pair.pending.len();
        hub.collect(room, |frame| pair.push(frame))
    }
}

impl QueuePair {
    fn new(device: &Arc<Device>, queue: u16) -> QueuePair {
        let pending = TxQueue::new(NIC_TX_QUEUE_FRAMES);
        QueuePair { device: Arc::clone(device), queue, pending }
    }
}

impl Port for WorkerPort {
    type Frame = NicFrame;

    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn receive(&mut self, burst: &mut ArrayVec<NicFrame, BURST_FRAMES>) {
        if !self.is_entered {
            self.enter();
        }
        let stats = &self.stats;
        match &mut self.path {
            Path::Own(pair) => {
                pair.receive(burst.remaining_capacity(), stats, |frame| burst.push(frame));
            }
            Path::Shared(pair, hub) => {
                let (mut sent, mut dropped) = (0, 0);
                pair.receive(burst.remaining_capacity(), stats, |frame| {
                    match hub.steer(frame, |frame| frame.bytes()) {
                        Steered::Own(frame) => burst.push(frame),
                        Steered::Sent => sent += 1,
                        Steered::Full(frame) => {
                            drop(frame);
                            dropped += 1;
                        }
                    }
                });
                if sent + dropped > 0 {
                    stats.add(Counter::FramesSteered, sent);
                    stats.add(Counter::FramesSteerDropped, dropped);
                    self.forwarded += (sent + dropped) as usize;
                }
            }
            Path::Steered(lane) => {
                while !burst.is_full() {
                    let Some(frame) = lane.receive() else { break };
                    burst.push(frame);
                }
            }
        }
    }

    #[inline]
    fn recycle(&mut self, frame: NicFrame) {
        if !self.reused.is_full()
            && let Some(frame) = frame.renewed(self.frame_bytes)
        {
            self.reused.push(frame);
        }
    }

    #[inline]
    fn allocate(&mut self) -> Option<NicFrame> {
        self.reused.pop().or_else(|| self.allocate_new())
    }

    fn send(&mut self, frame: NicFrame) -> Result<(), NicFrame> {
        match &mut self.path {
            Path::Own(pair) | Path::Shared(pair, _) => {
                if pair.pending.is_full() {
                    return Err(frame);
                }
                pair.push(frame);
                Ok(())
            }
            Path::Steered(lane) => lane.send(frame),
        }
    }

    fn flush(&mut self) {
        match &mut self.path {
            Path::Own(pair) => pair.transmit(&self.stats),
            Path::Shared(pair, hub) => {
                self.forwarded += WorkerPort::relay(pair, hub);
                pair.transmit(&self.stats);
            }
            // Worker 0 reads the ring, each turn.
            Path::Steered(_) => {}
        }
    }

    fn take_forwarded(&mut self) -> usize {
        std::mem::take(&mut self.forwarded)
    }
}
