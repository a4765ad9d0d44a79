//! The TCP stack on a device, and what it knows of its neighbours and paths.

use super::{
    BLOCK_BYTES, BURST_FRAMES, MAILBOX_MESSAGES, NIC_FRAME_BYTES, NIC_FRAME_SMALL_PAGE_BYTES,
    NIC_STEER_FRAMES, NIC_TX_QUEUE_FRAMES, REMOTE_OPERATIONS_MAX, REPLY_HEAD_BYTES_MAX,
    SLOTS_PER_CONNECTION, SLOTS_PER_WORKER, TCP_RX_RING_BYTES,
};

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
