//! The TCP stack on a device, its neighbours and paths.

use super::{
    BLOCK_BYTES, BURST_FRAMES, MAILBOX_MESSAGES, NIC_FRAME_BYTES, NIC_FRAME_SMALL_PAGE_BYTES,
    NIC_STEER_FRAMES, NIC_TX_QUEUE_FRAMES, REMOTE_OPERATIONS_MAX, REPLY_HEAD_BYTES_MAX,
    SLOTS_PER_CONNECTION, SLOTS_PER_WORKER, TCP_RX_RING_BYTES,
};

/// Bytes of one TCP connection that are written and not yet acknowledged.
pub const TCP_TX_RING_BYTES: usize = 16 * 1024;

/// Extra distance between the rings of connections, so that the first lines of all rings do not map
/// to the same few cache sets. Whole cache lines.
pub const TCP_RING_STAGGER_BYTES: usize = 5 * 64;

/// Connections whose rings are mapped together: 8 MiB, four huge pages.
pub const TCP_RING_SLAB: usize = 256;

/// The stack's clock runs this many times as fast as real time: smoltcp's minimum retransmission
/// time-out of 1 s becomes 50 ms.
pub const TCP_CLOCK_RATE: u64 = 20;

/// Longest delay of an acknowledgement that waits to be sent with a reply, in microseconds. RFC
/// 9293, 3.8.6.3 allows 500 ms; a client with Nagle's algorithm waits for it, so it is short.
pub const TCP_ACK_DELAY_US: u64 = 2_000;

/// Keep-alive interval of an idle connection, in microseconds.
pub const TCP_KEEP_ALIVE_US: u64 = 30 * 1_000_000;

/// After this long without an answer to data or probes a connection is closed, in microseconds (RFC
/// 5482).
pub const TCP_PEER_TIMEOUT_US: u64 = 100 * 1_000_000;

/// A connection that we closed is aborted if its peer does not close it in this time, in
/// microseconds. It includes sending queued data.
pub const TCP_LINGER_US: u64 = 30 * 1_000_000;

/// Most half-open connections; for a new one the oldest is dropped.
pub const TCP_HALF_OPEN_MAX: usize = 1024;

/// Time-out of a handshake, in microseconds.
pub const TCP_HALF_OPEN_TIMEOUT_US: u64 = 10 * 1_000_000;

/// Connections over the limit that get an error reply before they are closed; further ones get a
/// RST.
pub const TCP_REFUSALS_MAX: usize = 64;

/// Closed connections whose tuple is remembered; for a new one the oldest is forgotten.
pub const TCP_TIME_WAIT_MAX: usize = 16 * 1024;

/// How long a tuple is remembered, in microseconds: twice the lifetime of a segment within a data
/// centre, not RFC 9293's two minutes.
pub const TCP_TIME_WAIT_US: u64 = 10 * 1_000_000;

/// Minimum of the answers to segments of no connection that a group of addresses gets per
/// [`TCP_STRAY_INTERVAL_US`]; the actual number is random, so that nobody can know it. All groups
/// together: at most 16,384 answers, none longer than the segment.
pub const TCP_STRAY_REPLIES_MIN: u16 = 128;
/// The maximum of that; see [`TCP_STRAY_REPLIES_MIN`].
pub const TCP_STRAY_REPLIES_MAX: u16 = 256;

/// Groups into which addresses without a connection are divided, at random in each interval.
pub const TCP_STRAY_GROUPS: usize = 64;

/// Challenges that one connection answers per [`TCP_STRAY_INTERVAL_US`] (RFC 5961, 7), and
/// acknowledgements that a tuple in TIME-WAIT gets.
pub const TCP_CHALLENGES_MAX: u8 = 8;

/// Interval of [`TCP_STRAY_REPLIES_MAX`] and [`TCP_CHALLENGES_MAX`], in microseconds.
pub const TCP_STRAY_INTERVAL_US: u64 = 100_000;

/// Slots of the timer wheel; a power of two.
pub const TCP_WHEEL_SLOTS: usize = 4096;

/// One slot of the timer wheel, in microseconds; a power of two.
pub const TCP_WHEEL_TICK_US: u64 = 1024;

/// Timers that one turn runs.
pub const TCP_TIMERS_PER_TURN: usize = 64;

/// Segments that one visit to a connection sends; the rest is sent with the next tick of the wheel.
/// A ring of full segments is a dozen; for a peer with the smallest MSS, 342.
pub const TCP_SEGMENTS_PER_VISIT: u32 = 64;

/// Interval at which every connection is checked for overdue timers, in microseconds.
pub const TCP_SWEEP_PERIOD_US: u64 = 4 * 1_000_000;

/// Connections checked per turn.
pub const TCP_SWEEP_PER_TURN: usize = 64;

/// Longest sleep of a worker that has a device and may sleep, in microseconds: the delay that a
/// frame may have.
pub const TCP_NAP_US: u64 = 50;
/// With fewer flows than this, all are in the core's own cache and prefetching is useless.
pub const TCP_PREFETCH_FLOWS_MIN: usize = 256;

/// How many segments ahead the memory of flows is prefetched.
pub const TCP_PREFETCH_LEAD: usize = 6;

/// smoltcp's minimum retransmission time-out, in real microseconds: an idle connection with
/// everything acknowledged has no earlier timer.
pub const TCP_RTO_MIN_US: u64 = 1_000_000 / TCP_CLOCK_RATE;

/// Frames that a port with faults delays at the same time, in each direction.
pub const FAULT_HELD_FRAMES: usize = 64;

/// Neighbours that connections opened by us need at the same time.
pub const TCP_NEIGHBORS_MAX: usize = 64;

/// How long the answer of a neighbour is valid, in microseconds.
pub const TCP_NEIGHBOR_LIFE_US: u64 = 60 * 1_000_000;

/// Interval at which requests to a neighbour are repeated, in microseconds (RFC 4861, 10,
/// RETRANS_TIMER).
pub const TCP_NEIGHBOR_RETRY_US: u64 = 1_000_000;

/// How many requests are sent to a neighbour (RFC 4861, 10, MAX_MULTICAST_SOLICIT).
pub const TCP_NEIGHBOR_TRIES: u32 = 3;

/// Addresses of this network whose MAC is remembered.
pub const TCP_NEIGHBORS_KNOWN: usize = 1024;

/// MACs whose address is remembered.
pub const TCP_ROUTERS_KNOWN: usize = 256;

/// A connection that receives nothing for this long while it waits may have lost its neighbour, in
/// microseconds: a few of the shortest retransmission time-outs.
pub const TCP_SILENCE_US: u64 = 200_000;

/// How long a neighbour's announcement takes precedence over a connection's segments, in
/// microseconds.
pub const TCP_NEIGHBOR_FRESH_US: u64 = 2_000_000;

/// Minimum of the neighbour requests that a group of connections' peers may cause per
/// [`TCP_STRAY_INTERVAL_US`]; the actual number is random, so that nobody can know it. All groups
/// together: at most 48.
pub const TCP_SEEKS_MIN: u16 = 1;
/// The maximum of that; see [`TCP_SEEKS_MIN`].
pub const TCP_SEEKS_MAX: u16 = 3;

/// Groups into which these peers are divided, at random in each interval.
pub const TCP_SEEK_GROUPS: usize = 16;

/// Longest packet whose frame fits every port, in bytes: that of Ethernet.
pub const TCP_MTU_MAX_BYTES: usize = 1500;

/// Smallest MTU accepted from a device, in bytes: headers, and some payload.
pub const TCP_MTU_MIN_BYTES: usize = 128;

/// Smallest path MTU accepted from a router, in bytes, as in Linux. A smaller one would only make
/// us send many small frames (RFC 5927, 7).
pub const TCP_MTU_V4_MIN_BYTES: u16 = 552;

/// The same for IPv6, where every link supports this much (RFC 8200, 5).
pub const TCP_MTU_V6_MIN_BYTES: u16 = 1280;

/// Granularity of packet lengths on narrow paths, in bytes: fewer than 100 lengths, and at most 1 %
/// is lost.
pub const TCP_PATH_STEP_BYTES: u16 = 16;

/// How long a narrow path is remembered, in microseconds (RFC 1191, 6.3; RFC 8201, 4).
pub const TCP_PATH_LIFE_US: u64 = 600 * 1_000_000;

/// Destinations whose narrow path is remembered.
pub const TCP_PATHS_KNOWN: usize = 1024;

/// Reports of narrow paths processed per [`TCP_STRAY_INTERVAL_US`].
pub const TCP_PATH_REPORTS_MAX: u32 = 128;

/// Queued reports about the flows of other workers.
pub const TCP_BOARD_REPORTS: usize = 64;

/// At start, how often an address is probed, and how long an answer is waited for each time, in
/// microseconds: 300 ms together. RFC 5227 waits for 4 to 9 s, for networks of 1985.
pub const TCP_PROBES: u32 = 3;
/// As [`TCP_PROBES`].
pub const TCP_PROBE_US: u64 = 100_000;

/// Addresses are announced again this long after the link came up, in microseconds (RFC 5227, 1.1,
/// ANNOUNCE_INTERVAL).
pub const TCP_ANNOUNCE_US: u64 = 2_000_000;

/// An address is defended at most once in this time, in microseconds (RFC 5227, 1.1,
/// DEFEND_INTERVAL).
pub const TCP_DEFEND_US: u64 = 10_000_000;

/// Longest delay of an answer to a query for listeners, in which more queries may arrive, in
/// microseconds.
pub const TCP_GROUP_REPORT_US: u64 = 100_000;

/// Queries for listeners are answered at most once in this time, in microseconds: answers may be
/// merged (RFC 3810, 6.2), and an honest querier waits for two seconds (9.10).
pub const TCP_GROUP_REPORTS_US: u64 = 1_000_000;

/// Own addresses of a device: as many as smoltcp supports in this build.
pub const TCP_ADDRESSES_MAX: usize = 8;

/// Listening ports.
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
