//! Values in chunks, as Rend keeps them.

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
