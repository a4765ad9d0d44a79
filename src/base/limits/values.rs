//! Memory for values: those that arrive, wait to be sent, or are copied between workers.

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
