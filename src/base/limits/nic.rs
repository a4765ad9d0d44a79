//! DPDK devices: queues, frames and their memory.

/// Frames taken from a device in one burst, and the most one turn receives.
pub const BURST_FRAMES: usize = 32;

/// Receive descriptors of one queue: frames that wait while a worker does its longest turn. At
/// 10 Gb/s of small frames, 70 us.
pub const NIC_RX_DESCRIPTORS: usize = 1024;

/// Transmit descriptors of one queue.
pub const NIC_TX_DESCRIPTORS: usize = 1024;

/// Frames that a worker's port keeps because its device did not take them yet. A full device ring
/// behind it is as much again; beyond, frames count as lost and TCP sends them again.
pub const NIC_TX_QUEUE_FRAMES: usize = 1024;

/// Frames in transit in one direction between the worker that receives and another.
pub const NIC_STEER_FRAMES: usize = 1024;

/// Frames taken from one other worker's ring in one visit, so that none starves another.
pub const NIC_STEER_BUDGET_FRAMES: usize = 4 * BURST_FRAMES;

/// Free frames that the pool keeps at hand for each thread.
pub const NIC_POOL_CACHE_FRAMES: usize = 256;

/// Frames that a driver holds beside its descriptors: net_af_xdp fills a ring of 2,048 at start and
/// lets another 2,048 wait for their completion.
pub const NIC_DRIVER_FRAMES: usize = 2 * 2048;

/// Frames that a worker's stack holds in one turn: the burst, and an answer to each of it.
pub const NIC_STACK_FRAMES: usize = 2 * BURST_FRAMES;

/// Received frames that a worker keeps to send in them: an answer to each of a burst.
pub const NIC_REUSED_FRAMES: usize = BURST_FRAMES;

/// Frames of a device's pool.
pub const fn nic_pool_frames(workers: usize, queues: usize) -> usize {
    // Per queue pair: both rings, and what the driver holds beside them.
    queues * (NIC_RX_DESCRIPTORS + NIC_TX_DESCRIPTORS + NIC_DRIVER_FRAMES)
        // Per worker: output that waits, frames in hand and kept, and the thread's cache, which a
        // mempool lets grow to one and a half times its size.
        + workers * (NIC_TX_QUEUE_FRAMES + NIC_STACK_FRAMES + NIC_REUSED_FRAMES)
        + workers * (NIC_POOL_CACHE_FRAMES * 3 / 2)
        // The caches of two more threads that free frames: the one that opened the device, and one
        // that closes it.
        + 2 * (NIC_POOL_CACHE_FRAMES * 3 / 2)
        // Per worker without a queue pair of its own: frames to it and frames from it.
        + (workers - queues) * 2 * NIC_STEER_FRAMES
}

/// Memory that one frame takes in the pool, in bytes: its data room, the mbuf, and the header and
/// padding of a mempool's object.
pub const NIC_FRAME_BYTES: usize = 2176 + 128 + 128;

/// The same where pages are ordinary ones: a mempool puts no object across two of them.
pub const NIC_FRAME_SMALL_PAGE_BYTES: usize = 4096;

/// Memory that DPDK takes beside the pool, in bytes: device structures and rings, and what its heap
/// loses between them.
pub const NIC_EAL_BYTES: usize = 8 * 1024 * 1024;

/// How often the link is looked at before it counts as down, with 10 ms between.
pub const NIC_LINK_POLLS: usize = 500;

/// How often a device is looked at while it serves, in milliseconds: its link, its MTU, its
/// counters, and whether it is still there.
pub const NIC_WATCH_MS: u64 = 250;
