//! The protocols: limits of a single request.

/// Longest key, in bytes (protocol.txt, "Keys").
pub const KEY_BYTES_MAX: usize = 250;

/// Longest command line without its value, in bytes, before the connection is closed; only a
/// `get ` or `gets ` line may be longer (memcached 1.6, try_read_command_ascii).
pub const LINE_BYTES_MAX: usize = 2048;

/// Bytes that memcached adds to key and value for an item's size: item header 48, CAS 8.
pub const ITEM_HEADER_BYTES: usize = 56;

/// An item's size in bytes as memcached counts it (item_make_header in its items.c: header and cas,
/// key and a NUL, flags unless they are 0, value and `\r\n`). The limit on items is on this, so
/// that the largest storable value is exactly the same.
#[inline]
pub const fn item_bytes(key_bytes: usize, flags: u32, value_bytes: usize) -> usize {
    let flags_bytes = if flags == 0 { 0 } else { size_of::<u32>() };
    ITEM_HEADER_BYTES + key_bytes + 1 + flags_bytes + value_bytes + 2
}

/// Default of `--max-item-size`, in bytes.
pub const ITEM_BYTES_MAX_DEFAULT: usize = 1024 * 1024;

/// Largest `--max-item-size`, in bytes (memcached's `-I` ends here too).
pub const ITEM_BYTES_MAX_LIMIT: usize = 1024 * 1024 * 1024;

/// Longest error text in the binary protocol, in bytes. memcached's longest has 46.
pub const ERROR_TEXT_BYTES_MAX: usize = 1024;

/// Longest answer accepted when a server's capabilities are probed at start, in bytes: a version,
/// or one byte.
pub const PROBE_REPLY_BYTES_MAX: usize = 1024;

/// Smallest `--max-item-size`, in bytes.
pub const ITEM_BYTES_MAX_FLOOR: usize = 1024;

/// Largest binary body that memcached reads before it closes the connection, in bytes.
pub const BINARY_BODY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Output room required for requests about the server when no slot is free, in bytes: more than the
/// longest of their replies, the general statistics.
pub const SERVER_REPLY_ROOM_BYTES: usize = 12 * 1024;

/// Longest opaque of a meta command, in bytes (memcached allows 32 with its flag).
pub const OPAQUE_BYTES_MAX: usize = 31;

/// Longest head of one reply, that to a meta command: status and length of the value, key in base64
/// with its flag, opaque, cas, seven other flags with numbers of up to ten digits, marks, and the
/// number of `ma`. That to a get, and a binary header with extras and a key, are shorter.
pub const REPLY_HEAD_BYTES_MAX: usize =
    13 + (KEY_BYTES_MAX + 2) + 4 + (2 + OPAQUE_BYTES_MAX) + 22 + 7 * 12 + 6 + 2 + 22;

/// Longest value that is scanned for a number, in bytes; memcached stores longer values in pieces
/// and does not treat them as numbers.
pub const NUMBER_ITEM_BYTES_MAX: usize = 512 * 1024;
