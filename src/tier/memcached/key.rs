//! Which keys memcached accepts, and how a text line carries them.

use crate::base::limits::KEY_BYTES_MAX;

/// Longest key that can be sent in base64, in bytes: memcached refuses an encoded key that is
/// longer than a key may be.
pub const ENCODED_KEY_BYTES_MAX: usize = KEY_BYTES_MAX / 4 * 3;

/// Whether a request can carry this key: a text line can, or it is short enough to be encoded.
#[inline]
pub fn can_carry(key: &[u8]) -> bool {
    let bytes_max = if is_text(key) { KEY_BYTES_MAX } else { ENCODED_KEY_BYTES_MAX };
    (1..=bytes_max).contains(&key.len())
}

/// Whether a line can contain `key` unencoded. Only spaces and the line's end separate tokens, and
/// a NUL ends memcached's strings.
#[inline]
pub(super) fn is_text(key: &[u8]) -> bool {
    !key.iter().fold(false, |found, &byte| found | matches!(byte, 0 | b'\n' | b'\r' | b' '))
}
