//! Puts replies into a stream's output, as far as there is room, and goes on where it stopped.
//!
//! A value goes from where it is kept straight into the output ring: one copy. A long one in blocks
//! goes to the kernel from there, where the stream is the kernel's.

use crate::buffer::{Chain, Key};
use crate::limits::{KERNEL_SEND_PIECES_BYTES, REPLY_HEAD_BYTES_MAX};
use crate::net::Stream;
use crate::protocol::{self, Direct, Form, Head, Sink, TAIL_BYTES_MAX};
use crate::tier::{Hit, Outcome, Value};

/// Writes the reply to one operation from byte `written` on. Returns whether it is all out.
pub fn write_outcome<S: Stream, V: Value>(
    stream: &mut S,
    form: Form,
    key: Option<&Key>,
    outcome: &Outcome<V>,
    written: &mut usize,
) -> bool {
    let value = match outcome {
        Outcome::Hit(hit) => Some(&hit.value),
        _ => None,
    };
    let value_bytes = value.map_or(0, Value::len);
    let mut head = Head::new();
    let key = key.map_or(&b""[..], Key::as_bytes);
    let encoded = protocol::encode(form, key, outcome, value_bytes, &mut head);
    let value = value.filter(|_| encoded.with_value);
    write_parts(stream, &head, value, encoded.tail, written)
}

/// Writes the reply to a get, a hit or a miss, if there is room for all of it in one piece. Returns
/// whether it is out; if not, nothing is.
#[inline(always)]
pub fn write_at_once<S: Stream>(
    stream: &mut S,
    form: Form,
    key: &[u8],
    hit: Option<Hit<&[u8]>>,
) -> bool {
    let value = hit.as_ref().map_or(&b""[..], |hit| hit.value);
    let outcome = hit.map_or(Outcome::Miss, Outcome::Hit);
    let mut is_out = false;
    stream.write_with(|out| {
        if out.len() < REPLY_HEAD_BYTES_MAX + value.len() + TAIL_BYTES_MAX {
            return 0;
        }
        let mut reply = Direct::new(out);
        let encoded = protocol::encode(form, key, &outcome, value.len(), &mut reply);
        if encoded.with_value {
            reply.put(value);
        }
        reply.put(encoded.tail);
        is_out = true;
        reply.len
    });
    is_out
}

/// Writes a head, a value and a tail from byte `written` on. Returns whether it is all out.
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
    if value_bytes >= KERNEL_SEND_PIECES_BYTES
        && let Some(chain) = value.and_then(V::as_chain)
    {
        send_parts(stream, head, chain, tail, written);
    }
    while *written < total {
        let n = stream.write_with(|out| {
            if *written == 0 && out.len() >= total {
                let (front, rest) = out.split_at_mut(head.len());
                front.copy_from_slice(head);
                let (middle, rest) = rest.split_at_mut(value_bytes);
                let copied = value.map_or(0, |value| value.copy_to(0, middle));
                assert_eq!(copied, value_bytes, "a value is as long as it says");
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

/// Sends a head, a value and a tail from byte `written` on, as far as that goes without a copy.
#[inline(never)]
fn send_parts<S: Stream>(
    stream: &mut S,
    head: &[u8],
    value: &Chain,
    tail: &[u8],
    written: &mut usize,
) {
    let total = head.len() + value.len() + tail.len();
    while *written < total {
        let mut skip = *written;
        let parts = [head].into_iter().chain(value.pieces()).chain([tail]);
        let n = stream.send_pieces(parts.filter_map(|part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            part.get(skipped..).filter(|rest| !rest.is_empty())
        }));
        if n == 0 {
            return;
        }
        *written += n;
    }
}

/// Copies of head, value and tail what follows byte `written`, as far as it fits into `out`.
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

/// Writes `bytes` from byte `written` on. Returns whether it is all out.
pub fn write_bytes<S: Stream>(stream: &mut S, bytes: &[u8], written: &mut usize) -> bool {
    *written += stream.write(&bytes[*written..]);
    *written == bytes.len()
}

/// Writes a chain from byte `written` on. Returns whether it is all out.
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
