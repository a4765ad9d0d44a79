//! Every capacity of the server, as a named, commented sum.
//!
//! Nothing may size a queue, a loop or an allocation by a peer's number without a limit from here.

/// Longest key, in bytes (protocol.txt, "Keys").
pub const KEY_BYTES_MAX: usize = 250;

/// Longest command line without its value, in bytes, before the connection is closed; only a
/// `get ` or `gets ` line may be longer (memcached 1.6, try_read_command_ascii).
pub const LINE_BYTES_MAX: usize = 2048;

/// What memcached counts beyond key and value towards an item's size: item header 48, CAS 8.
/// We count the same, so that the largest storable value is the same to the byte.
pub const ITEM_HEADER_BYTES: usize = 56;

/// Default of `--max-item-size`, in bytes.
pub const ITEM_BYTES_MAX_DEFAULT: usize = 1024 * 1024;

/// Largest `--max-item-size`, in bytes (memcached's `-I` ends here too).
pub const ITEM_BYTES_MAX_LIMIT: usize = 1024 * 1024 * 1024;

/// Smallest `--max-item-size`, in bytes.
pub const ITEM_BYTES_MAX_FLOOR: usize = 1024;

/// Largest binary body memcached reads before it gives up on the connection, in bytes.
pub const BINARY_BODY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Most workers; worker numbers fit a byte.
pub const WORKERS_MAX: usize = 64;

/// Payload of one pooled block, in bytes: a page less the link to the next block.
pub const BLOCK_BYTES: usize = 4096 - 16;

/// Bytes of pooled blocks that one worker may hold for request bodies still arriving and for values
/// crossing workers. At this point it stops reading, and TCP pushes back.
pub const BODY_BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// Blocks that a worker keeps for itself before it gives surplus to the depot.
pub const BLOCK_CACHE_BLOCKS: usize = 512;

/// Requests under way in one worker: parsed, and their reply not yet wholly written.
/// Each holds a slot; at this point no more requests are parsed until slots come back.
pub const SLOTS_PER_WORKER: usize = 16 * 1024;

/// Requests under way on one connection, so that one client cannot take all the slots.
pub const SLOTS_PER_CONNECTION: usize = 1024;

/// Operations that one worker executes at once, waiting ones included.
/// Own requests, and those that the other workers sent.
pub const TASKS_PER_WORKER: usize = SLOTS_PER_WORKER;

/// Requests parsed for one connection in one visit, so that a deep pipeline does not starve others.
pub const REQUESTS_PER_VISIT: usize = 128;

/// Messages in one direction between two workers. A worker sends at most one operation a slot and
/// answers at most as many, so half of it is never exceeded in each role.
pub const MAILBOX_MESSAGES: usize = 4096;

/// Operations a worker may have outstanding at one other worker.
pub const REMOTE_OPERATIONS_MAX: usize = MAILBOX_MESSAGES / 2;

/// Messages taken from one mailbox in one turn.
pub const MAILBOX_BUDGET_MESSAGES: usize = 256;

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

/// Frames under way in one direction between the worker that receives and another.
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

/// Frames of a device's pool.
pub const fn nic_pool_frames(workers: usize, queues: usize) -> usize {
    // Per queue pair: both rings, and what the driver holds beside them.
    queues * (NIC_RX_DESCRIPTORS + NIC_TX_DESCRIPTORS + NIC_DRIVER_FRAMES)
        // Per worker: output that waits, frames in hand, and the thread's cache, which a mempool
        // lets grow to one and a half times its size.
        + workers * (NIC_TX_QUEUE_FRAMES + NIC_STACK_FRAMES + NIC_POOL_CACHE_FRAMES * 3 / 2)
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

/// A request that is half sent, or a reply that is not read, for this long closes its connection.
/// Microseconds. A connection that is merely idle is kept, as memcached keeps it.
pub const STALL_TIMEOUT_US: u64 = 60 * 1_000_000;

/// Longest head of one reply: `VALUE `, a key, three numbers and their separators; a binary header
/// with extras and a key is shorter.
pub const REPLY_HEAD_BYTES_MAX: usize = 6 + KEY_BYTES_MAX + 1 + 10 + 1 + 10 + 1 + 20 + 2 + 32;

const _: () = assert!(REMOTE_OPERATIONS_MAX * 2 <= MAILBOX_MESSAGES);
const _: () = assert!(SLOTS_PER_CONNECTION <= SLOTS_PER_WORKER);
const _: () = assert!(REPLY_HEAD_BYTES_MAX < BLOCK_BYTES);
const _: () = assert!(NIC_STEER_FRAMES.is_power_of_two() && NIC_TX_QUEUE_FRAMES.is_power_of_two());
const _: () = assert!(NIC_TX_QUEUE_FRAMES >= BURST_FRAMES);
const _: () = assert!(NIC_FRAME_BYTES <= NIC_FRAME_SMALL_PAGE_BYTES);
