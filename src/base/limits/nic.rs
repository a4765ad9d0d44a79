//! DPDK devices: queues, frames and their memory.

/// Frames received from a device in one burst, and in one turn.
pub const BURST_FRAMES: usize = 32;

/// Receive descriptors of one queue: they hold frames that arrive during a worker's longest turn.
/// At 10 Gb/s of small frames, 70 us.
pub const NIC_RX_DESCRIPTORS: usize = 1024;

/// Transmit descriptors of one queue.
pub const NIC_TX_DESCRIPTORS: usize = 1024;

/// Frames queued by a worker because its device did not accept them yet. A full device ring holds
/// as many again; further frames are dropped and TCP retransmits them.
pub const NIC_TX_QUEUE_FRAMES: usize = 1024;

/// Frames in transit in one direction between the worker that receives and another.
pub const NIC_STEER_FRAMES: usize = 1024;

/// Frames taken from one other worker's ring in one visit, so that none starves another.
pub const NIC_STEER_BUDGET_FRAMES: usize = 4 * BURST_FRAMES;

/// Free frames in the pool's cache of each thread.
pub const NIC_POOL_CACHE_FRAMES: usize = 256;

/// Frames that a driver holds besides its descriptors: net_af_xdp fills a ring of 2,048 at start
/// and up to 2,048 others wait for their completion.
pub const NIC_DRIVER_FRAMES: usize = 2 * 2048;

/// Frames that a worker's stack holds in one turn: the burst, and one answer to each frame.
pub const NIC_STACK_FRAMES: usize = 2 * BURST_FRAMES;

/// Received frames that a worker reuses for sending: one answer to each frame of a burst.
pub const NIC_REUSED_FRAMES: usize = BURST_FRAMES;

/// Frames of a device's pool.
pub const fn nic_pool_frames(workers: usize, queues: usize) -> usize {
    // Per queue pair: both rings, and what the driver holds besides.
    queues * (NIC_RX_DESCRIPTORS + NIC_TX_DESCRIPTORS + NIC_DRIVER_FRAMES)
        // Per worker: queued output, frames in use and reused, and the thread's cache, which a
        // mempool lets grow to one and a half times its size.
        + workers * (NIC_TX_QUEUE_FRAMES + NIC_STACK_FRAMES + NIC_REUSED_FRAMES)
        + workers * (NIC_POOL_CACHE_FRAMES * 3 / 2)
        // The caches of two more threads that free frames: the one that opened the device, and the
        // one that closes it.
        + 2 * (NIC_POOL_CACHE_FRAMES * 3 / 2)
        // Per worker without its own queue pair: frames to it and from it.
        + (workers - queues) * 2 * NIC_STEER_FRAMES
}

/// Memory of one frame in the pool, in bytes: its data room, the mbuf, and the header and padding
/// of a mempool object.
pub const NIC_FRAME_BYTES: usize = 2176 + 128 + 128;

/// The same without huge pages: a mempool object never crosses a page.
pub const NIC_FRAME_SMALL_PAGE_BYTES: usize = 4096;

/// Memory that DPDK uses besides the pool, in bytes: device structures and rings, and fragmentation
/// of its heap.
pub const NIC_EAL_BYTES: usize = 8 * 1024 * 1024;

/// How often the link is checked before it counts as down, every 10 ms.
pub const NIC_LINK_POLLS: usize = 500;

/// How often a device is checked while the server runs, in milliseconds: its link, its MTU, its
/// counters, and whether it still exists.
pub const NIC_WATCH_MS: u64 = 250;
