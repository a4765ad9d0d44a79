//! The text protocol, as a client speaks it (memcached's doc/protocol.txt).
//!
//! Never sends `noreply`: a client that checks wants to know.

use super::{
    ClientRequest, Decoded, Garbage, Item, Reply, Step, Verb, line, number, put_number, value,
};
use memchr::memchr;

/// Adds the request's bytes to `out`.
#[inline]
pub fn encode(request: &ClientRequest<'_>, out: &mut Vec<u8>) {
    let ClientRequest { verb, key, exptime, .. } = *request;
    out.extend_from_slice(verb.name().as_bytes());
    if matches!(verb, Verb::Gat | Verb::Gats) {
        put(out, exptime);
    }
    if verb != Verb::Flush {
        out.push(b' ');
        out.extend_from_slice(key);
    }
    if verb.is_store() {
        put(out, request.flags);
        put(out, exptime);
        put(out, request.value.len());
    }
    match verb {
        Verb::Cas => put(out, request.unique),
        Verb::Incr | Verb::Decr => put(out, 1),
        Verb::Touch => put(out, exptime),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
    if verb.is_store() {
        out.extend_from_slice(request.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// See [`super::encode_many`].
#[inline]
pub fn encode_many<'a>(verb: Verb, keys: impl IntoIterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(verb.name().as_bytes());
    for key in keys {
        out.push(b' ');
        out.extend_from_slice(key);
    }
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn put(out: &mut Vec<u8>, word: impl itoa::Integer) {
    out.push(b' ');
    put_number(out, word);
}

/// Reads the reply at the start of `input`.
///
/// # Errors
/// It is none.
#[inline]
pub fn decode(input: &[u8]) -> Decoded<'_> {
    let Some(line) = line(input)? else { return Ok(Step::NeedMore(1)) };
    let consumed = line.len() + 2;
    let reply = match line {
        [b'V', b'A', b'L', b'U', b'E', b' ', head @ ..] => return item(input, consumed, head),
        b"END" => Reply::End,
        b"STORED" => Reply::Stored,
        b"NOT_STORED" => Reply::NotStored,
        b"EXISTS" => Reply::Exists,
        b"NOT_FOUND" => Reply::NotFound,
        b"DELETED" => Reply::Deleted,
        b"TOUCHED" => Reply::Touched,
        _ => match number(line) {
            Some((number, b"")) => Reply::Number(number),
            _ => super::word(line)?,
        },
    };
    Ok(Step::Reply { reply, opaque: None, consumed })
}

/// An item whose line is `VALUE ` and then `KEY FLAGS BYTES[ UNIQUE]`.
#[inline]
fn item<'a>(input: &'a [u8], head_bytes: usize, head: &'a [u8]) -> Decoded<'a> {
    let (key, flags, bytes, unique) = item_head(head).ok_or(Garbage("a head of a value"))?;
    let value = match value(input, head_bytes, bytes)? {
        Ok(value) => value,
        Err(missing_bytes) => return Ok(Step::NeedMore(missing_bytes)),
    };
    let consumed = head_bytes + value.len() + 2;
    let reply = Reply::Item(Item { key, flags, value, unique });
    Ok(Step::Reply { reply, opaque: None, consumed })
}

#[inline]
fn item_head(head: &[u8]) -> Option<(&[u8], u32, u64, u64)> {
    let key_end = memchr(b' ', head).filter(|&end| end > 0)?;
    let (flags, rest) = number(&head[key_end + 1..])?;
    let (bytes, rest) = number(rest.strip_prefix(b" ")?)?;
    let (unique, rest) = match rest.strip_prefix(b" ") {
        Some(rest) => number(rest)?,
        None => (0, rest),
    };
    rest.is_empty().then_some((&head[..key_end], u32::try_from(flags).ok()?, bytes, unique))
}
