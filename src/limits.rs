//! Every capacity of the server, as a named, commented sum.
//!
//! Nothing may size a queue, a loop or an allocation by a peer's number without a limit from here.

mod ssd;

pub use ssd::*;

/// Exit status of a wrong command line.
pub const EXIT_USAGE: u8 = 2;

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

/// Longest text beside an error in the binary protocol, in bytes. memcached's longest has 46.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;

/// Longest answer that is accepted when a server's capabilities are probed at start, in bytes: a
/// version, or one byte.
pub const PROBE_REPLY_BYTES_MAX: usize = 1024;

/// Smallest `--max-item-size`, in bytes.
pub const ITEM_BYTES_MAX_FLOOR: usize = 1024;

/// Longest time for an answer that a link can be given, in milliseconds.
pub const LINK_TIMEOUT_MS_MAX: u64 = 60_000;

/// Largest binary body memcached reads before it gives up on the connection, in bytes.
pub const BINARY_BODY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Memory that a worker takes beside its part of L1, in bytes: its slots, tasks, mailboxes and
/// blocks, as measured.
pub const WORKER_BYTES: u64 = 34 * 1024 * 1024;

/// Most workers; worker numbers fit a byte.
pub const WORKERS_MAX: usize = 64;

/// Payload of one pooled block, in bytes: a page less the link to the next block.
pub const BLOCK_BYTES: usize = 4096 - 16;

/// Bytes of pooled blocks that one worker may hold for request bodies still arriving and for values
/// crossing workers. At this point it stops reading, and TCP pushes back. Half is for the latter,
/// three eighths for the former by share, one eighth for the rests of some, so that they end.
pub const BODY_BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// Most that is set aside of it before it has come, in bytes.
pub const BODY_AHEAD_BYTES: usize = 256 * 1024;

/// Most input that is kept of one connection whose output is blocked, in bytes: a get of 200,000
/// keys from a client that writes everything before it reads.
pub const INTAKE_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Such input of all connections of a worker, in bytes.
pub const INTAKE_BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of pooled blocks a worker that values beyond [`BODY_BUDGET_BYTES`] may take: sets whose
/// server is slow, hits of a server's whose client is. With more, no long value begins to arrive,
/// and a connection has one request at a time; with twice as many, a server's hit of more than a
/// block is not gathered, and its get fails.
pub const GATHER_BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that the requests in flight in a worker may be expected to return, if each is as long as
/// the longest recent value; beyond, a connection has one request at a time. It keeps the answers
/// that a link waits for within its time-out.
pub const EXPECTED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Initial estimate of the longest recent value, in bytes.
pub const EXPECTED_BYTES_AT_START: usize = 128 * 1024;

/// The estimate of the longest recent value decreases by this fraction (1/n) with each outcome.
pub const EXPECTED_BYTES_DECAY: usize = 256;

/// Longest value that is copied for another worker's connection immediately, in bytes; a longer one
/// stays with its owner until its reply is next, and is then fetched in pieces.
pub const REMOTE_COPY_BYTES_MAX: usize = 4 * BLOCK_BYTES;

/// A piece of such a value that is fetched when its reply is next takes at most this fraction (1/n)
/// of the free part of half of [`BODY_BUDGET_BYTES`], but never less than
/// [`REMOTE_COPY_BYTES_MAX`], which any reply may hold: a megabyte as long as no client pauses.
pub const FETCH_SHARE: usize = 32;

/// Longest value that is copied for each get of the same key that waited for it, in bytes; of a
/// longer one each get asks the tier.
pub const SHARED_BYTES_MAX: usize = 4 * BLOCK_BYTES;

/// Most gets that share the outcome of another get of their key; as many are examined each time a
/// queued one starts.
pub const SHARERS_MAX: usize = 64;

/// Values that are received directly into their final place hold at most this fraction (1/n) of a
/// tier's memory, so that clients that never finish theirs leave the rest to the others.
pub const DRAFTS_SHARE: u32 = 8;

/// Pieces of such a value: each costs a system call of its own.
pub const DRAFT_EXTENTS_MAX: usize = 8;

/// Blocks that a worker keeps for itself before it gives surplus to the depot.
pub const BLOCK_CACHE_BLOCKS: usize = 512;

/// Blocks that each worker puts into the depot at start, 2 MiB of them. Values cross workers, and
/// blocks pile up where they end: with every other worker's cache full, half a cache for each
/// worker is still left for values in transit. Only more of those than ever before ask the
/// allocator.
pub const BLOCK_STOCK_BLOCKS: usize = BLOCK_CACHE_BLOCKS;

/// Requests in flight in one worker: parsed, and their reply not yet wholly written. Each holds a
/// slot; at this point no more requests are parsed until slots come back.
pub const SLOTS_PER_WORKER: usize = 16 * 1024;

/// Requests in flight on one connection, so that one client cannot take all the slots.
pub const SLOTS_PER_CONNECTION: usize = 1024;

/// Slots that only connections without any may take, so that this many more connections each find
/// one.
pub const SLOTS_RESERVED: usize = SLOTS_PER_WORKER / 4;

/// One connection may have less than this fraction (1/n) of the free operations in a worker, and of
/// those at one other worker.
pub const OPERATIONS_SHARE: usize = 2;

/// Operations that one worker executes concurrently, waiting ones included. Own requests, and those
/// that the other workers sent.
pub const TASKS_PER_WORKER: usize = SLOTS_PER_WORKER;

/// How far apart two tiers may carry out the same delayed flush_all, in seconds: their clocks count
/// whole seconds, and not the same ones.
pub const FLUSH_SKEW_S: u32 = 2;

/// Requests parsed for one connection in one visit, so that a deep pipeline does not starve others.
pub const REQUESTS_PER_VISIT: usize = 128;

/// Messages in one direction between two workers. A worker sends at most one operation a slot and
/// answers at most as many, so half of it is never exceeded in each role.
pub const MAILBOX_MESSAGES: usize = 4096;

/// Operations a worker may have outstanding at one other worker.
pub const REMOTE_OPERATIONS_MAX: usize = MAILBOX_MESSAGES / 2;

/// Messages taken from one mailbox in one turn.
pub const MAILBOX_BUDGET_MESSAGES: usize = 256;

/// Bytes copied for one other worker in one turn, beyond which the rest waits for the next.
pub const MAILBOX_BUDGET_BYTES: usize = 1024 * 1024;

/// What an append, a prepend or a question for statistics counts for among [`REQUESTS_PER_VISIT`]:
/// it copies a whole item, or writes a page.
pub const COST_OF_EXTENDING: usize = REQUESTS_PER_VISIT / 4;

/// Free output that a question about the server needs where no request finds room, in bytes: more
/// than the longest of the answers that are given then, the general statistics.
pub const SERVER_REPLY_ROOM_BYTES: usize = 12 * 1024;

/// How long those who wait for room that others hold are not looked at, where the worker sleeps, in
/// microseconds: a millisecond is what epoll_wait(2) resolves.
pub const ROOM_WAIT_US: u64 = 1_000;

/// Bytes that requests copied or looked through beside their own (`work`) which count as one more
/// request among [`REQUESTS_PER_VISIT`]: about as long as a get takes. A visit ends after 512 KiB
/// of them plus the work of the last request, such as an incr of a long value.
pub const WORK_BYTES_PER_REQUEST: usize = 4096;

/// Such bytes after which operations that other workers or the tiers' servers brought wait for the
/// next turn.
pub const WORK_BYTES_PER_TURN: usize = 1024 * 1024;

/// Longest a server may take to be connected to, and for each step of its greeting, at start, in
/// microseconds.
pub const LINK_OPEN_TIMEOUT_US: u64 = 1_000_000;

/// A server that takes longer than this for a request is taken for frozen, in microseconds. It
/// bounds what an outage costs those who are waiting when it begins; all later requests are
/// answered immediately. A host that has more to run than cores keeps a healthy memcached from
/// running for a tenth of a second now and then, and a server taken for frozen then serves no
/// request for as long: hence several times that, and less than what clients wait for as a rule, a
/// second.
pub const LINK_TIMEOUT_US: u64 = 500_000;

/// How long a server has from being taken for frozen until the connection to it is ended, in
/// microseconds, not counting large answers in transit: an answer that was lost never comes.
pub const LINK_SUSPENDED_US: u64 = 1_000_000;

/// How long a server has to close a connection that we have ended, in microseconds. One that is
/// frozen closes it as soon as it goes on, which is the better end; where nothing comes after this,
/// it is reset.
pub const LINK_CLOSING_US: u64 = 30_000_000;

/// How long a server has to live on a new connection before it has surely read what it had received
/// on one that was reset, in microseconds.
pub const LINK_PROOF_US: u64 = 10_000_000;

/// How long a server has for the greeting of a connection that is made again, in microseconds; it
/// doubles.
pub const LINK_GREETING_US: u64 = 1_000_000;

/// Longest time for that, in microseconds.
pub const LINK_GREETING_MAX_US: u64 = 64_000_000;

/// A link serves again at the latest this long after a healthy server failed it, beside the
/// time-out itself, in microseconds: whatever single answer was lost on the way.
#[cfg(feature = "internals")]
pub const LINK_RECOVERY_US: u64 = LINK_SUSPENDED_US + LINK_GREETING_US + LINK_RETRY_MAX_US;

/// A server that sends is not frozen: as long as one input buffer full comes in each
/// [`LINK_TIMEOUT_US`], a request behind large answers may take this many times as long.
pub const LINK_PATIENCE: u64 = 16;

/// Input buffer of a link, in bytes: small answers of hundreds of clients in one read, and small
/// enough to stay in the core's own cache.
pub const LINK_INPUT_BYTES: usize = 64 * 1024;

/// Reads in one turn, so that a stream of large values does not starve the clients: 1 MiB.
pub const LINK_READS_PER_TURN: usize = 16;

/// Output that a link holds before requests have to wait for room, in bytes. One request may be
/// larger, if it is alone.
pub const LINK_OUTPUT_BYTES: usize = 1024 * 1024;

/// Longest lookup of many keys in one request, in bytes: what a hundred and fifty usual keys take.
/// The server sends nothing before it has found all; four such requests fit the 16 KiB that
/// memcached reads at once.
pub const LINK_LOOKUP_BYTES: usize = 4096;

/// Longest value that a server is believed, in bytes.
pub const LINK_VALUE_BYTES_MAX: usize = ITEM_BYTES_MAX_LIMIT;

/// Longest greeting of a server, in bytes.
pub const LINK_GREETING_BYTES_MAX: usize = 1024;

/// Appends, prepends, incrs and decrs in flight on one link where values are kept as they are. The
/// server copies or reads a whole item for a few bytes of request, and whatever is asked behind
/// them waits. memcached itself does 20 requests of one client before it looks at another.
pub const LINK_REWRITES_MAX: usize = 16;

/// Batches that have room in a link from the start; more make it grow.
pub const LINK_BATCHES: usize = 1024;

/// Batches in flight on one link: each task waits for one, or for a few concurrently.
pub const LINK_BATCHES_MAX: usize = 4 * TASKS_PER_WORKER;

/// Keys that a link remembers to delete as soon as its server is back, 1 MiB of them. One more, and
/// everything is flushed instead.
pub const LINK_INVALIDATIONS_MAX: usize = 4096;

/// Time between the first and the second attempt to connect again, in microseconds; it doubles. The
/// very first attempt is made immediately.
pub const LINK_RETRY_US: u64 = 1_000;

/// Longest time between two attempts, in microseconds.
pub const LINK_RETRY_MAX_US: u64 = 100_000;

/// An attempt to connect is given up after this, in microseconds.
pub const LINK_CONNECT_TIMEOUT_US: u64 = 1_000_000;

/// How often a link without work looks whether its server is still there, in microseconds.
pub const LINK_PROBE_US: u64 = 50_000;

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

/// Shortest interval between two lines about the same kind of event, in seconds.
pub const REPORT_INTERVAL_S: u32 = 10;

/// Lines for the operator that wait to be written; further ones are counted and dropped.
pub const REPORT_LINES: usize = 1024;

/// Longest that a worker is away between two turns of its own doing, in microseconds: it sleeps for
/// a tenth of it. Beyond, the process was stopped or its machine frozen, and that time does not
/// count as anybody's silence.
pub const TURN_GAP_US: u64 = 1_000_000;

/// How long a server that was asked to stop continues to send pending replies, in microseconds.
pub const DRAIN_US: u64 = 5_000_000;

/// Longest a worker sleeps meanwhile, in microseconds: another may have finished.
pub const DRAIN_NAP_US: u64 = 5_000;

/// A request that is half sent, or a reply that is not read, for this long closes its connection.
/// Microseconds. A connection that is merely idle is kept, as memcached keeps it.
pub const STALL_TIMEOUT_US: u64 = 60 * 1_000_000;

/// Slowest that a long value may arrive, in bytes a second, on top of [`STALL_TIMEOUT_US`]: a
/// client that trickles one must not hold its share of [`BODY_BUDGET_BYTES`] for long.
pub const BODY_BYTES_PER_S_MIN: u64 = 64 * 1024;

/// While others wait for room for values, a long value of which nothing has arrived, or a reply of
/// which nothing was read, for this long closes its connection, in microseconds: room is for those
/// who use it.
pub const BODY_PAUSE_US: u64 = 3 * 1_000_000;

/// Who has room for the rest of its long value and sends nothing of it for this long loses it, and
/// the store, when another needs it, in microseconds: longer than a network between a client and
/// its cache takes for a round trip, and short enough that the other is served in a tenth of a
/// second.
pub const REST_PAUSE_US: u64 = 50_000;

/// For how long from its first byte on a long value may use the room that is kept for rests of new
/// ones, in microseconds.
pub const REST_NEW_US: u64 = 1_000_000;

/// How long the budget counts as contended after a request found it used up, in microseconds:
/// longer than it takes to look at every connection once.
pub const CONTENTION_US: u64 = 6 * 1_000_000;

/// Longest head of one reply: `VALUE `, a key, three numbers and their separators; a binary header
/// with extras and a key is shorter.
pub const REPLY_HEAD_BYTES_MAX: usize = 6 + KEY_BYTES_MAX + 1 + 10 + 1 + 10 + 1 + 20 + 2 + 32;

/// Bytes that one connection over a kernel socket holds unconsumed at most, and as many unsent: one
/// read's or one write's worth. A connection that has neither holds no buffer.
pub const KERNEL_BUFFER_BYTES: usize = 64 * 1024;

/// Size of the buffer that a short remainder is kept in, such as half a command line, in bytes.
pub const KERNEL_SMALL_BUFFER_BYTES: usize = 4096;

/// Buffers of each size that a worker keeps for the next connection that needs one, before it gives
/// them back to the allocator: 1 MiB of small ones and 4 MiB of large ones.
pub const KERNEL_SMALL_BUFFERS_KEPT: usize = 256;
/// As [`KERNEL_SMALL_BUFFERS_KEPT`], of [`KERNEL_BUFFER_BYTES`] each.
pub const KERNEL_BUFFERS_KEPT: usize = 64;

/// Output gathered in a visit is sent early when less room than this is left, in bytes, so that
/// the longest reply head always finds room until the kernel itself is full.
pub const KERNEL_OUTPUT_ROOM_BYTES: usize = 16 * 1024;

/// A value of this many bytes or more is sent to the kernel from where it lies, not copied to the
/// rest of the output: for a short one a copy costs little.
pub const KERNEL_SEND_PIECES_BYTES: usize = 4 * 1024;

/// Pieces that one such system call sends: 256 KiB of blocks.
pub const KERNEL_SEND_PIECES: usize = 64;

/// A connection whose last value was received where it is kept reads so much, in bytes, to find the
/// next head: what comes with the head is copied, the rest of the value is not.
pub const KERNEL_HEAD_READ_BYTES: usize = KERNEL_SMALL_BUFFER_BYTES;

/// Pieces that one system call receives a value into: 256 KiB of blocks.
pub const RECEIVE_PIECES: usize = 64;

/// Bytes that one visit to a connection receives before the others have their turn, except that the
/// system call that reaches this is completed; as [`KERNEL_SEND_BYTES_PER_VISIT`].
pub const KERNEL_RECEIVE_BYTES_PER_VISIT: usize = 256 * 1024;

/// Bytes that one visit to a connection sends before the others have their turn, except that the
/// system call that reaches this is completed: a client that reads as fast as it is sent to would
/// otherwise keep the worker for as long as it has replies. A tenth of a millisecond's work.
pub const KERNEL_SEND_BYTES_PER_VISIT: usize = 256 * 1024;

/// Readiness events taken from the kernel in one turn, and the most connections left over from
/// earlier turns that are visited again in one turn.
pub const KERNEL_EVENTS_PER_TURN: usize = 256;

/// Connections accepted from one listener in one turn.
pub const ACCEPTS_PER_TURN: usize = 32;

/// Connections accepted in one turn from a listener that all workers share: few, so that they
/// spread.
pub const ACCEPTS_PER_TURN_SHARED: usize = 1;

/// Connections that the kernel holds for us before they are accepted (memcached's default, `-b`).
pub const LISTEN_BACKLOG: i32 = 1024;

/// How long accepting pauses when the host has no descriptor for one more, in microseconds. It
/// resumes earlier if a connection closes.
pub const ACCEPT_PAUSE_US: u64 = 100_000;

/// How long a connection that we closed may take to close its own side, in microseconds. What it
/// sends in that time is dropped; closing immediately would reset it, and it might lose our last
/// reply.
pub const LINGER_US: u64 = 2_000_000;

/// Time between two rounds that look for stalled connections, in microseconds.
pub const SWEEP_INTERVAL_US: u64 = 2_000_000;

/// Places in the connection table that one turn of such a round looks at.
pub const SWEEP_PLACES_PER_TURN: usize = 64;

const _: () = assert!(KERNEL_SMALL_BUFFER_BYTES >= LINE_BYTES_MAX);
const _: () = assert!(KERNEL_OUTPUT_ROOM_BYTES >= REPLY_HEAD_BYTES_MAX);
const _: () = assert!(KERNEL_OUTPUT_ROOM_BYTES < KERNEL_BUFFER_BYTES);
/// Bytes that one TCP connection can receive before its worker reads them, and the most it can have
/// unacknowledged. A power of two. With both rings wholly touched and its state, an idle connection
/// stays below 40 KiB.
pub const TCP_RX_RING_BYTES: usize = 16 * 1024;

/// Bytes that one TCP connection can have written and not yet acknowledged.
pub const TCP_TX_RING_BYTES: usize = 16 * 1024;

/// The rings of a connection start this much further than a power of two apart, so that the first
/// lines of all rings do not fall into the same few sets of the cache. Whole cache lines.
pub const TCP_RING_STAGGER_BYTES: usize = 5 * 64;

/// Connections whose rings are mapped in one step, 8 MiB or four huge pages of them.
pub const TCP_RING_SLAB: usize = 256;

/// The stack's clock runs this many times as fast as the wall: smoltcp's smallest retransmission
/// time-out of 1 s becomes 50 ms.
pub const TCP_CLOCK_RATE: u64 = 20;

/// Longest an acknowledgement waits for a reply to ride on, in microseconds. RFC 9293, 3.8.6.3
/// allows 500 ms; a client with Nagle's algorithm on waits for this, so it is short.
pub const TCP_ACK_DELAY_US: u64 = 2_000;

/// A silent connection is probed this often, in microseconds.
pub const TCP_KEEP_ALIVE_US: u64 = 30 * 1_000_000;

/// A peer that answers neither data nor probes for this long is gone, in microseconds (RFC 5482).
pub const TCP_PEER_TIMEOUT_US: u64 = 100 * 1_000_000;

/// A connection that we closed and whose peer does not close is aborted after this, in
/// microseconds. It covers sending what was still queued.
pub const TCP_LINGER_US: u64 = 30 * 1_000_000;

/// Most half-open connections; one more and the oldest is dropped.
pub const TCP_HALF_OPEN_MAX: usize = 1024;

/// A handshake that takes longer than this is given up, in microseconds.
pub const TCP_HALF_OPEN_TIMEOUT_US: u64 = 10 * 1_000_000;

/// Connections over the limit that get an error reply before they are closed; more of them get a
/// RST.
pub const TCP_REFUSALS_MAX: usize = 64;

/// Closed connections whose tuple is remembered; one more and the oldest goes.
pub const TCP_TIME_WAIT_MAX: usize = 16 * 1024;

/// How long a tuple is remembered, in microseconds: twice the life of a segment inside one data
/// centre, not RFC 9293's two minutes.
pub const TCP_TIME_WAIT_US: u64 = 10 * 1_000_000;

/// Answers to segments of no connection that a group of addresses has in one interval of
/// [`TCP_STRAY_INTERVAL_US`]: at least so many, and a number that nobody can know. All groups
/// together: 16,384 at most, each no longer than what it answers.
pub const TCP_STRAY_REPLIES_MIN: u16 = 128;
/// As [`TCP_STRAY_REPLIES_MIN`]: at most.
pub const TCP_STRAY_REPLIES_MAX: u16 = 256;

/// Groups that addresses without a connection are divided into, anew in each interval.
pub const TCP_STRAY_GROUPS: usize = 64;

/// Challenges that one connection answers to in one interval of [`TCP_STRAY_INTERVAL_US`] (RFC
/// 5961, 7), and acknowledgements that a tuple in TIME-WAIT gets.
pub const TCP_CHALLENGES_MAX: u8 = 8;

/// Interval of [`TCP_STRAY_REPLIES_MAX`] and [`TCP_CHALLENGES_MAX`], in microseconds.
pub const TCP_STRAY_INTERVAL_US: u64 = 100_000;

/// Slots of the timer wheel; a power of two.
pub const TCP_WHEEL_SLOTS: usize = 4096;

/// One slot of the timer wheel, in microseconds; a power of two.
pub const TCP_WHEEL_TICK_US: u64 = 1024;

/// Timers that one turn runs.
pub const TCP_TIMERS_PER_TURN: usize = 64;

/// Segments that one visit to a connection sends, whatever it says it still has to send; the rest
/// leaves with the next tick of the wheel. A ring of full segments is a dozen; of a peer that wants
/// the smallest ones, 342.
pub const TCP_SEGMENTS_PER_VISIT: u32 = 64;

/// Every connection is asked once in this time whether it is overdue, in microseconds.
pub const TCP_SWEEP_PERIOD_US: u64 = 4 * 1_000_000;

/// Connections that one turn asks.
pub const TCP_SWEEP_PER_TURN: usize = 64;

/// Longest a worker sleeps that may sleep and has a device, in microseconds: what a frame may have
/// to wait.
pub const TCP_NAP_US: u64 = 50;
/// With fewer flows than this, all of them are in the core's own cache and prefetching is wasted.
pub const TCP_PREFETCH_FLOWS_MIN: usize = 256;

/// How many segments ahead of the current one the memory of flows is prefetched.
pub const TCP_PREFETCH_LEAD: usize = 6;

/// smoltcp's smallest retransmission time-out, on the wall, in microseconds: nothing that a wholly
/// acknowledged and answered connection waits for comes earlier.
pub const TCP_RTO_MIN_US: u64 = 1_000_000 / TCP_CLOCK_RATE;

/// Frames that a port with faults holds back at the same time, each way.
pub const FAULT_HELD_FRAMES: usize = 64;

/// Neighbours that connections opened by us need at the same time.
pub const TCP_NEIGHBORS_MAX: usize = 64;

/// How long a neighbour's answer holds, in microseconds.
pub const TCP_NEIGHBOR_LIFE_US: u64 = 60 * 1_000_000;

/// A neighbour that does not answer is asked again after this, in microseconds (RFC 4861, 10,
/// RETRANS_TIMER).
pub const TCP_NEIGHBOR_RETRY_US: u64 = 1_000_000;

/// How often a neighbour is asked (RFC 4861, 10, MAX_MULTICAST_SOLICIT).
pub const TCP_NEIGHBOR_TRIES: u32 = 3;

/// Addresses of this network of which it is remembered where they are.
pub const TCP_NEIGHBORS_KNOWN: usize = 1024;

/// MACs of which it is remembered which address they have.
pub const TCP_ROUTERS_KNOWN: usize = 256;

/// A connection that hears nothing for so long while it waits may have lost its neighbour, in
/// microseconds: a few of the shortest retransmission time-outs.
pub const TCP_SILENCE_US: u64 = 200_000;

/// So long a neighbour's word stands against what a connection hears, in microseconds.
pub const TCP_NEIGHBOR_FRESH_US: u64 = 2_000_000;

/// Neighbours that a group of connections' peers may have asked for in one interval of
/// [`TCP_STRAY_INTERVAL_US`]: at least so many, and a number that nobody can know. All groups
/// together: 48 at most.
pub const TCP_SEEKS_MIN: u16 = 1;
/// As [`TCP_SEEKS_MIN`]: at most.
pub const TCP_SEEKS_MAX: u16 = 3;

/// Groups that these peers are divided into, anew in each interval.
pub const TCP_SEEK_GROUPS: usize = 16;

/// Longest packet whose frame every port has room for, in bytes: Ethernet's own.
pub const TCP_MTU_MAX_BYTES: usize = 1500;

/// Shortest MTU of a device that is followed, in bytes: headers, and something behind them.
pub const TCP_MTU_MIN_BYTES: usize = 128;

/// Shortest path that a router is believed, in bytes: what Linux believes too. Anything less only
/// serves to make us send many small frames (RFC 5927, 7).
pub const TCP_MTU_V4_MIN_BYTES: u16 = 552;

/// The same for IPv6, where every link takes so much (RFC 8200, 5).
pub const TCP_MTU_V6_MIN_BYTES: u16 = 1280;

/// Lengths of packets that are told apart on narrow paths are so far from each other, in bytes:
/// there are fewer than 100 of them, and at most 1 % is given away.
pub const TCP_PATH_STEP_BYTES: u16 = 16;

/// How long it is remembered that a path is narrow, in microseconds (RFC 1191, 6.3; RFC 8201, 4).
pub const TCP_PATH_LIFE_US: u64 = 600 * 1_000_000;

/// Destinations of which that is remembered.
pub const TCP_PATHS_KNOWN: usize = 1024;

/// Reports of narrow paths that are looked at in one interval of [`TCP_STRAY_INTERVAL_US`].
pub const TCP_PATH_REPORTS_MAX: u32 = 128;

/// Reports about the flows of other workers that wait to be read.
pub const TCP_BOARD_REPORTS: usize = 64;

/// How often it is asked at start whether an address is taken, and how long an answer is waited for
/// each time, in microseconds: 300 ms together. RFC 5227 waits for 4 to 9 s, for networks of 1985.
pub const TCP_PROBES: u32 = 3;
/// As [`TCP_PROBES`].
pub const TCP_PROBE_US: u64 = 100_000;

/// Addresses are announced once more so long after the link came up, in microseconds (RFC 5227,
/// 1.1, ANNOUNCE_INTERVAL).
pub const TCP_ANNOUNCE_US: u64 = 2_000_000;

/// An address is defended once in this time, in microseconds (RFC 5227, 1.1, DEFEND_INTERVAL).
pub const TCP_DEFEND_US: u64 = 10_000_000;

/// Longest that an answer to a query for listeners waits for more of them, in microseconds.
pub const TCP_GROUP_REPORT_US: u64 = 100_000;

/// Queries for listeners are answered once in this time, in microseconds: answers may be merged
/// (RFC 3810, 6.2), and an honest querier waits for two seconds (9.10).
pub const TCP_GROUP_REPORTS_US: u64 = 1_000_000;

/// How often a device is looked at while it serves, in milliseconds: its link, its MTU, its
/// counters, and whether it is still there.
pub const NIC_WATCH_MS: u64 = 250;

/// Own addresses of a device: as many as smoltcp is built for.
pub const TCP_ADDRESSES_MAX: usize = 8;

/// Ports listened on.
pub const TCP_LISTENERS_MAX: usize = 8;

const _: () = assert!(TCP_RX_RING_BYTES.is_power_of_two());
const _: () = assert!(TCP_RING_STAGGER_BYTES.is_multiple_of(64));
const _: () = assert!(TCP_WHEEL_SLOTS.is_power_of_two() && TCP_WHEEL_TICK_US.is_power_of_two());
const _: () = assert!(TCP_KEEP_ALIVE_US * 3 <= TCP_PEER_TIMEOUT_US);
const _: () = assert!(REMOTE_OPERATIONS_MAX * 2 <= MAILBOX_MESSAGES);
const _: () = assert!(SLOTS_PER_CONNECTION <= SLOTS_PER_WORKER);
const _: () = assert!(REPLY_HEAD_BYTES_MAX < BLOCK_BYTES);
const _: () = assert!(NIC_STEER_FRAMES.is_power_of_two() && NIC_TX_QUEUE_FRAMES.is_power_of_two());
const _: () = assert!(NIC_TX_QUEUE_FRAMES >= BURST_FRAMES);
const _: () = assert!(NIC_FRAME_BYTES <= NIC_FRAME_SMALL_PAGE_BYTES);

/// Default of `chunk=`, in bytes: what one chunk takes in memcached, header and key counted (Rend's
/// number, which fills an item of memcached's twelfth slab class).
pub const CHUNK_BYTES_DEFAULT: usize = 1184;

/// Smallest `chunk=`, in bytes.
pub const CHUNK_BYTES_MIN: usize = 512;

/// Largest `chunk=`, in bytes: from here on memcached itself keeps an item in pieces.
pub const CHUNK_BYTES_MAX: usize = 512 * 1024;

/// Most bytes of a value that a chunk may say it holds: memcached takes no larger item by default.
pub const CHUNK_DATA_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one value's chunks that are requested or in transit at the same time, so that a large
/// value holds up neither the other operations of its link nor its memory.
pub const CHUNK_WINDOW_BYTES: usize = 256 * 1024;

/// Chunks of one value that are requested at the same time.
pub const CHUNK_WINDOW_CHUNKS: usize = 256;

/// Items that are read before it is decided anew how many chunks the next ones are asked for
/// together with their metadata: as many as the smallest of these had.
pub const CHUNK_FORESIGHT_ITEMS: u32 = 8;

/// How often an incr or decr is retried because another client wrote the same item in between.
pub const CHUNK_CONFLICTS_MAX: usize = 4;

/// Longest value that is looked at for a number, in bytes; memcached keeps longer ones in pieces
/// and takes them for none.
pub const NUMBER_ITEM_BYTES_MAX: usize = 512 * 1024;

/// Longest file that is read as a measurement's result, in bytes: an hour at ten intervals a second
/// takes 4 MiB.
pub const RESULT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Connections that the load client on a device has half open at the same time: half of what a
/// server of ours keeps, and as many SYNs as no receive ring loses.
pub const BENCH_HALF_OPEN_MAX: usize = 512;

const _: () = assert!(BENCH_HALF_OPEN_MAX <= TCP_HALF_OPEN_MAX / 2);

/// Between two attempts to have what a start waits for, in milliseconds: short beside what a
/// server takes to come up, long beside what an attempt costs.
pub const WAIT_RETRY_MS: u64 = 50;
