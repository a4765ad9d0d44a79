//! Chunked values, in Rend's layout.

/// Default of `chunk=`, in bytes: the size of one chunk in memcached, including header and key
/// (Rend's number, which fills an item of memcached's twelfth slab class).
pub const CHUNK_BYTES_DEFAULT: usize = 1184;

/// Smallest `chunk=`, in bytes.
pub const CHUNK_BYTES_MIN: usize = 512;

/// Largest `chunk=`, in bytes: memcached itself splits larger items.
pub const CHUNK_BYTES_MAX: usize = 512 * 1024;

/// Most bytes of a value in one chunk: memcached accepts no larger item by default.
pub const CHUNK_DATA_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of one value's chunks that are requested or in transit at the same time, so that a large
/// value delays neither the other operations of its link nor uses its memory up.
pub const CHUNK_WINDOW_BYTES: usize = 256 * 1024;

/// Chunks of one value that are requested at the same time.
pub const CHUNK_WINDOW_CHUNKS: usize = 256;

/// Items that are read before the estimate is made again of how many chunks to request together
/// with an item's metadata: the number of chunks of the smallest of them.
pub const CHUNK_FORESIGHT_ITEMS: u32 = 8;

/// How often an incr or decr is retried because another client wrote the same item in between.
pub const CHUNK_CONFLICTS_MAX: usize = 4;
