//! Puts replies into a stream's output, as far as there is room, and goes on where it stopped.
//!
//! A value goes from where it is kept straight into the output ring: one copy. A long one goes to
//! the kernel from where it is kept, where the stream is the kernel's.

use super::slots::Repeated;
use crate::base::buffer::Chain;
use crate::base::limits::{KERNEL_SEND_PIECES_BYTES, REPLY_HEAD_BYTES_MAX};
use crate::net::Stream;
use crate::protocol::text::{self, MetaForm, MetaReply};
use crate::protocol::{self, Direct, Encoded, Form, Head, Sink, TAIL_BYTES_MAX};
use crate::tier::{Hit, Outcome, Value};

/// Writes the reply to one operation from byte `written` on. Returns whether it is all out.
pub fn write_outcome<S: Stream, V: Value>(
    stream: &mut S,
    form: Form,
    repeated: Option<&Repeated>,
    outcome: &Outcome<V>,
    written: &mut usize,
) -> bool {
    let value = match outcome {
        Outcome::Hit(hit) => Some(&hit.value),
        _ => None,
    };
    let value_bytes = value.map_or(0, Value::len);
    let mut head = Head::new();
    let key = repeated.map_or(&b""[..], |repeated| repeated.key.as_bytes());
    let encoded = match repeated.and_then(|repeated| repeated.meta.as_ref()) {
        Some(MetaReply { form, opaque }) => {
            text::encode_meta(*form, key, opaque, outcome, value_bytes, &mut head)
        }
        None => protocol::encode(form, key, outcome, value_bytes, &mut head),
    };
    let value = value.filter(|_| encoded.with_value);
    write_parts(stream, &head, value, encoded.tail, written)
}

/// Writes the reply to a get, a hit or a miss, if it fits completely into one contiguous piece.
/// Returns whether it was written; if not, nothing was.
#[inline(always)]
pub fn write_at_once<S: Stream>(
    stream: &mut S,
    form: Form,
    key: &[u8],
    hit: Option<Hit<&[u8]>>,
) -> bool {
    let value = hit.as_ref().map_or(&b""[..], |hit| hit.value);
    if S::SENDS_PIECES && value.len() >= KERNEL_SEND_PIECES_BYTES {
        return false;
    }
    write_whole(stream, form, key, &hit.map_or(Outcome::Miss, Outcome::Hit), value)
}

/// Like [`write_at_once`], for a meta command with an opaque.
#[inline(always)]
pub fn write_meta_at_once<S: Stream>(
    stream: &mut S,
    form: MetaForm,
    (key, opaque): (&[u8], &[u8]),
    hit: Option<Hit<&[u8]>>,
) -> bool {
    let value = hit.as_ref().map_or(&b""[..], |hit| hit.value);
    if S::SENDS_PIECES && value.len() >= KERNEL_SEND_PIECES_BYTES {
        return false;
    }
    let outcome = hit.map_or(Outcome::Miss, Outcome::Hit);
    write_reply(stream, value, |reply| {
        text::encode_meta(form, key, opaque, &outcome, value.len(), reply)
    })
}

/// Writes the reply to an operation, with `value` as that of a hit, if there is room for all of it
/// in one piece. Returns whether it is out; if not, nothing is.
#[inline(always)]
pub fn write_whole<S: Stream, V>(
    stream: &mut S,
    form: Form,
    key: &[u8],
    outcome: &Outcome<V>,
    value: &[u8],
) -> bool {
    write_reply(stream, value, |reply| protocol::encode(form, key, outcome, value.len(), reply))
}

/// Writes a reply whose head `encode` writes, and maybe `value` behind it, if there is room for all
/// of it in one piece. Returns whether it is out; if not, nothing is.
#[inline(always)]
fn write_reply<S: Stream>(
    stream: &mut S,
    value: &[u8],
    encode: impl FnOnce(&mut Direct<'_>) -> Encoded,
) -> bool {
    let mut is_out = false;
    stream.write_with(|out| {
        if out.len() < REPLY_HEAD_BYTES_MAX + value.len() + TAIL_BYTES_MAX {
            return 0;
        }
        let mut reply = Direct::new(out);
        let encoded = encode(&mut reply);
        if encoded.with_value {
            reply.put(value);
        }
        reply.put(encoded.tail);
        is_out = true;
        reply.len
    });
    is_out
}

/// Writes a head, a value and a tail from byte `written` on, as far as there is room and the value
/// is here ([`Value::copy_to`]). Returns whether everything was written.
#[inline(always)]
pub fn write_parts<S: Stream, V: Value>(
    stream: &mut S,
    head: &[u8],
    value: Option<&V>,
    tail: &'static [u8],
    written: &mut usize,
) -> bool {
    let value_bytes = value.map_or(0, Value::len);
    let total = head.len() + value_bytes + tail.len();
    if S::SENDS_PIECES
        && value_bytes >= KERNEL_SEND_PIECES_BYTES
        && let Some(value) = value
    {
        send_parts(stream, head, value, tail, written);
    }
    while *written < total {
        let n = stream.write_with(|out| {
            if *written == 0 && out.len() >= total {
                let (front, rest) = out.split_at_mut(head.len());
                front.copy_from_slice(head);
                let (middle, rest) = rest.split_at_mut(value_bytes);
                let copied = value.map_or(0, |value| value.copy_to(0, middle));
                if copied < value_bytes {
                    return head.len() + copied;
                }
                rest[..tail.len()].copy_from_slice(tail);
                return total;
            }
            copy_parts(head, value, tail, *written, out)
        });
        if n == 0 {
            return false;
        }
        *written += n;
    }
    true
}

/// Sends a head, a value and a tail from byte `written` on, as far as possible without copying.
#[inline(never)]
fn send_parts<S: Stream, V: Value>(
    stream: &mut S,
    head: &[u8],
    value: &V,
    tail: &[u8],
    written: &mut usize,
) {
    let value_end = head.len() + value.len();
    while *written < value_end {
        let head_left = &head[head.len().min(*written)..];
        let offset = written.saturating_sub(head.len());
        let n = value.show(offset, &mut |pieces| {
            let pieces = std::iter::from_fn(|| pieces.next());
            let parts = [head_left].into_iter().chain(pieces).chain([tail]);
            stream.send_pieces(parts.filter(|part| !part.is_empty()))
        });
        if n == 0 {
            return;
        }
        *written += n;
    }
}

/// Copies the part of head, value and tail after byte `written` that fits into `out`.
#[inline(never)]
fn copy_parts<V: Value>(
    head: &[u8],
    value: Option<&V>,
    tail: &[u8],
    written: usize,
    out: &mut [u8],
) -> usize {
    let value_bytes = value.map_or(0, Value::len);
    let mut done = copy_from(head, written, out);
    if let Some(value) = value
        && written + done >= head.len()
    {
        done += value.copy_to(written + done - head.len(), &mut out[done..]);
    }
    if written + done >= head.len() + value_bytes {
        let offset = written + done - head.len() - value_bytes;
        done += copy_from(tail, offset, &mut out[done..]);
    }
    done
}

/// Writes `bytes` from byte `written` on. Returns whether everything was written.
pub fn write_bytes<S: Stream>(stream: &mut S, bytes: &[u8], written: &mut usize) -> bool {
    *written += stream.write(&bytes[*written..]);
    *written == bytes.len()
}

/// Writes a chain from byte `written` on. Returns whether everything was written.
pub fn write_chain<S: Stream>(stream: &mut S, chain: &Chain, written: &mut usize) -> bool {
    while *written < chain.len() {
        let n = stream.write_with(|out| chain.copy_to(*written, out));
        if n == 0 {
            return false;
        }
        *written += n;
    }
    true
}

fn copy_from(bytes: &[u8], offset: usize, out: &mut [u8]) -> usize {
    let Some(rest) = bytes.get(offset..) else { return 0 };
    let n = rest.len().min(out.len());
    out[..n].copy_from_slice(&rest[..n]);
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::Gather;

    /// Accepts a few bytes at a time, alternately with and without a copy, until it is full.
    #[derive(Default)]
    struct Fickle {
        taken: Vec<u8>,
        calls: usize,
        room: usize,
    }

    impl Fickle {
        /// How many bytes the next call accepts.
        fn next(&mut self) -> usize {
            self.calls += 1;
            let n = [1, 5, 4096, 0, 3, 12_000][self.calls % 6];
            let n = n.min(self.room);
            self.room -= n;
            n
        }
    }

    impl Stream for Fickle {
        const SENDS_PIECES: bool = true;

        fn received(&mut self) -> &[u8] {
            &[]
        }
        fn received_bytes(&self) -> usize {
            0
        }
        fn receive_capacity_bytes(&self) -> usize {
            0
        }
        fn peek(&mut self, _: &mut [u8]) -> usize {
            0
        }
        fn consume(&mut self, _: usize) {}
        fn is_peer_finished(&self) -> bool {
            false
        }
        fn room_bytes(&self) -> usize {
            self.room
        }
        fn close(&mut self) {}
        fn abort(&mut self) {}

        fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
            let mut out = vec![0; self.next()];
            let n = fill(&mut out);
            self.taken.extend_from_slice(&out[..n]);
            n
        }

        fn send_pieces<'p>(&mut self, pieces: impl Iterator<Item = &'p [u8]>) -> usize {
            let room = self.next();
            let before = self.taken.len();
            for piece in pieces {
                assert!(!piece.is_empty(), "no piece is empty");
                let n = piece.len().min(room - (self.taken.len() - before));
                self.taken.extend_from_slice(&piece[..n]);
            }
            self.taken.len() - before
        }
    }

    #[test]
    fn a_long_reply_is_written_completely_in_small_parts() {
        let value: Vec<u8> = (0..100_000_u32).map(|i| (i * 7 / 5) as u8).collect();
        let mut gather = Gather::new();
        gather.extend(&value);
        let chain = gather.finish();
        let mut stream = Fickle::default();
        let mut written = 0;
        let mut is_out = false;
        for _ in 0..10_000 {
            stream.room += 11;
            is_out = write_parts(&mut stream, b"HEAD", Some(&chain), b"\r\nTAIL", &mut written);
            assert_eq!(written, stream.taken.len(), "accepted bytes are counted");
            if is_out {
                break;
            }
            stream.room += 20_000 * usize::from(written > 50_000);
        }
        assert!(is_out);
        assert_eq!(stream.taken, [b"HEAD", &value[..], b"\r\nTAIL"].concat());
    }
}
