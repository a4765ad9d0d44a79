//! Memory for values that arrive, wait to be sent, or are copied between workers.

/// Payload of one pooled block, in bytes: a page minus the link to the next block.
pub const BLOCK_BYTES: usize = 4096 - 16;

/// Pooled blocks that one worker may hold for incomplete request bodies and for values crossing
/// workers, in bytes. When they are used up it stops reading, and TCP's flow control stops the
/// clients. Half is for the latter, three eighths for the former in shares, one eighth to complete
/// some of the former.
pub const BODY_BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// Most of it that is reserved for a value before the value arrives, in bytes.
pub const BODY_AHEAD_BYTES: usize = 256 * 1024;

/// Most input that is kept of one connection whose output is blocked, in bytes: a get of 200,000
/// keys from a client that writes everything before it reads.
pub const INTAKE_BYTES_MAX: usize = 6 * 1024 * 1024;

/// Such input of all connections of a worker, in bytes.
pub const INTAKE_BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// Pooled blocks per worker, in bytes, for values beyond [`BODY_BUDGET_BYTES`]: sets to a slow
/// server, hits from a server for a slow client. Above this, no long value is accepted and a
/// connection has one request at a time; above twice this, a hit of more than a block is not
/// gathered, and its get fails.
pub const GATHER_BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that the requests in flight in a worker may be expected to return, if each is as long as
/// the longest recent value; above this, a connection has one request at a time. It keeps the
/// answers that a link waits for within its time-out.
pub const EXPECTED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Initial estimate of the longest recent value, in bytes.
pub const EXPECTED_BYTES_AT_START: usize = 128 * 1024;

/// The estimate of the longest recent value decreases by this fraction (1/n) with each outcome.
pub const EXPECTED_BYTES_DECAY: usize = 256;

/// Longest value that is copied for another worker's connection immediately, in bytes; a longer one
/// stays with its owner until its reply is next, and is then fetched in pieces.
pub const REMOTE_COPY_BYTES_MAX: usize = 4 * BLOCK_BYTES;

/// A piece of such a value takes at most this fraction (1/n) of the free part of half of
/// [`BODY_BUDGET_BYTES`], and at least [`REMOTE_COPY_BYTES_MAX`], which any reply may hold: a
/// megabyte as long as no client pauses.
pub const FETCH_SHARE: usize = 32;

/// Longest value that is copied for each queued get of the same key, in bytes; for a longer one
/// each get asks the tier.
pub const SHARED_BYTES_MAX: usize = 4 * BLOCK_BYTES;

/// Most gets that share the outcome of another get of their key; as many are examined each time a
/// queued one starts.
pub const SHARERS_MAX: usize = 64;

/// Values that are received directly into their final place use at most this fraction (1/n) of a
/// tier's memory, so that clients that never complete theirs leave the rest to others.
pub const DRAFTS_SHARE: usize = 8;

/// Most such values of a worker at a time.
pub const DRAFTS_MAX: usize = 1024;

/// Replies that wait to leave may hold this fraction (1/n) of a tier's memory for as long as they
/// like. Of more, what is needed goes whose readers have paused.
pub const KEPT_SHARE: u32 = 2;

/// Who has read nothing for this long loses the item that it holds, in microseconds, where replies
/// hold all memory, or more than [`KEPT_SHARE`]. Longer than the retransmission of a lost segment
/// takes.
pub const READER_PAUSE_US: u64 = 250_000;

/// As [`READER_PAUSE_US`], once a store has waited for memory for as long.
pub const READER_PAUSE_PRESSED_US: u64 = 50_000;

/// How long a store waits for memory that is held for readers before it fails, in microseconds.
pub const ROOM_PATIENCE_US: u64 = 100_000;

/// Pieces of a value that is received directly into its final place: each costs a system call.
pub const DRAFT_PIECES_MAX: usize = 8;

/// Bytes of a piece, on average, that are worth one where there are more.
pub const DRAFT_PIECE_BYTES_MIN: usize = 4096;

/// Free blocks in a thread's cache before it moves surplus to the depot.
pub const BLOCK_CACHE_BLOCKS: usize = 512;

/// Blocks that each worker puts into the depot at start, 2 MiB of them. Values cross workers, and
/// free blocks accumulate where values are freed: with all other workers' caches full, half a cache
/// per worker is still left for values in transit. The allocator is called only when more of them
/// are in transit than ever before.
pub const BLOCK_STOCK_BLOCKS: usize = BLOCK_CACHE_BLOCKS;
