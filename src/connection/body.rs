//! A value's bytes in a stream, and what stands behind them.
//!
//! Nothing here may wait: the caller has seen that the bytes are there.

use crate::buffer::Gather;
use crate::net::Stream;

/// How many bytes stand behind a value.
pub(super) fn terminator_bytes(is_text: bool) -> usize {
    if is_text { 2 } else { 0 }
}

/// Moves `bytes` received bytes, which are there, into `gather`.
pub(super) fn take_into<S: Stream>(gather: &mut Gather, bytes: usize, stream: &mut S) {
    let mut left = bytes;
    while left > 0 {
        let piece = stream.received();
        let n = piece.len().min(left);
        gather.extend(&piece[..n]);
        stream.consume(n);
        left -= n;
    }
}

/// Takes the two bytes behind a value, which are there; whether they are `\r\n`.
pub(super) fn take_terminator<S: Stream>(stream: &mut S) -> bool {
    let mut terminator = [0; 2];
    stream.peek(&mut terminator);
    stream.consume(2);
    terminator == *b"\r\n"
}
